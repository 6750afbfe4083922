"""What Tab offers in a ``%%graph`` cell, whose YAML is never whole while it is written."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from IPython.core.completer import provisionalcompleter

import ironflow_nb as iron
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.graphs.catalog import NODE_KINDS
from tests.notebook.shells import Shell

KINDS = {way["required"][0] for way in iron.Graph.schema()["$defs"]["node"]["oneOf"]}

BEFORE = """%%graph triage
allow: {http: [a.org]}
secrets: {k: {env: K}}
nodes:
  - id: alert
    say: {text: "a"}
"""


@pytest.fixture
def ready(shell: Shell) -> Iterator[Shell]:
    shell.fine("%load_ext ironflow_nb")
    shell.fine("""
import ironflow_nb as iron
from typing import Literal

@iron.node("say")
def say(text: str, times: int = 1, mode: Literal["loud", "low"] = "low") -> str:
    return text * times

@iron.step
def notify(team):
    return team
""")
    yield shell
    REGISTRY.registered[NODE_KINDS].pop("say", None)


def offered(shell: Shell, text: str) -> set[str]:
    with provisionalcompleter():
        return {found.text for found in shell.ipython.Completer.completions(text, len(text))}


def test_the_keys_of_a_graph_are_offered(ready: Shell) -> None:
    assert offered(ready, "%%graph triage\n") == set(iron.Graph.schema()["properties"])
    assert offered(ready, "%%graph triage\nno") == {"nodes"}
    assert "nodes" not in offered(ready, BEFORE)


@pytest.mark.parametrize("opening", ["allow: {", "allow:\n  ", "allow:\n  http: [a]\n  "])
def test_what_can_be_granted_is_offered(ready: Shell, opening: str) -> None:
    assert {"files", "shell", "env"} <= offered(ready, f"%%graph triage\n{opening}")


@pytest.mark.parametrize("opening", ["  - ", "  - {", "  - id: b\n    ", "  - {id: b, "])
def test_a_node_has_a_kind_and_what_all_nodes_have(ready: Shell, opening: str) -> None:
    found = offered(ready, BEFORE + opening)
    assert KINDS | {"say", "retry", "when"} <= found
    assert ("id" in found) == ("id" not in opening)


@pytest.mark.parametrize("opening", ["  - id: b\n    loop: x\n    ", "  - {id: b, loop: x, "])
def test_a_node_with_a_kind_has_the_keys_of_that_kind(ready: Shell, opening: str) -> None:
    found = offered(ready, BEFORE + opening)
    assert {"as", "do", "concurrency", "when", "on_error", "depends_on"} <= found
    assert not found & (KINDS | {"id", "then", "with", "cases"})
    assert "retry" not in found  # it means nothing there


@pytest.mark.parametrize("opening", ["    say: {", "    say:\n      "])
def test_the_options_of_a_kind_are_offered_and_those_that_are_there_are_not(ready: Shell, opening: str) -> None:
    assert offered(ready, f"{BEFORE}  - id: b\n{opening}") == {"text", "times", "mode"}
    more = "text: x, " if "{" in opening else "text: x\n      "
    assert offered(ready, f"{BEFORE}  - id: b\n{opening}{more}") == {"times", "mode"}


@pytest.mark.parametrize(
    ("opening", "some"),
    [
        ("retry: {", {"attempts", "delay_s"}),
        ("retry:\n      del", {"delay_s"}),
        ("branch:\n      mail: {", {"when", "do"}),
        ("assert: [{", {"equals", "holds", "matches", "message", "not_equals"}),
        ("assert:\n      - ho", {"holds"}),
        ("loop: {", {"while", "max_rounds"}),
        ("say: {mode: ", {"loud", "low"}),
        ("once: ", {"true", "false"}),
        ("on_error: con", {"continue"}),
        ("python: ", {"notify", "say"}),
        ("workflow: ", {"sub"}),
        ("depends_on: [", {"alert"}),
    ],
)
def test_what_may_stand_in_a_place_is_offered(ready: Shell, opening: str, some: set[str]) -> None:
    ready.fine("%%graph sub\nnodes: [{id: a, say: x}]")
    found = offered(ready, f"{BEFORE}  - id: b\n    {opening}")
    assert some <= found
    assert not found & {"abs", "print", "%%graph"}


def test_an_expression_sees_the_nodes_before_it_what_is_around_it_and_the_functions(ready: Shell) -> None:
    found = offered(ready, f'{BEFORE}  - id: b\n    say: "{{{{ ')
    assert {"alert", "input", "env", "secrets", "length", "join"} <= found
    assert not found & {"b", "say", "text", "index"}
    assert offered(ready, f'{BEFORE}  - id: b\n    say: "told: {{{{ al') == {"alert"}
    inside = f'{BEFORE}  - id: b\n    loop: "{{{{ alert }}}}"\n    as: team\n    do:\n      - {{id: c, say: x}}\n'
    assert {"team", "index", "alert", "c"} <= offered(ready, f'{inside}      - {{id: d, say: "{{{{ ')
    after = offered(ready, f'{inside}  - id: e\n    say: "{{{{ ')
    assert {"alert", "b"} <= after
    assert not after & {"c", "team", "index"}
    assert "error" in offered(ready, f'{BEFORE}  - id: b\n    say: x\n    on_error: [{{id: f, say: "{{{{ er')


def test_what_a_graph_declares_as_its_input_is_offered(ready: Shell) -> None:
    assert {"list", "boolean", "text"} <= offered(ready, "%%graph triage\ninput:\n  teams: {type: ")
    assert {"type", "default", "items"} <= offered(ready, "%%graph triage\ninput:\n  teams: {")
    for declared in (
        "input: {teams: list, mail: {type: boolean}}",
        "input:\n  teams: list\n  mail:\n    type: boolean",
    ):
        before = f"%%graph triage\n{declared}\nnodes:\n  - id: b\n    say: "
        assert offered(ready, before + '"{{ length(input.') == {"teams", "mail"}
        assert offered(ready, before + '"{{ input.te') == {"teams"}


def test_an_expression_that_is_closed_is_none_any_more(ready: Shell) -> None:
    assert "alert" not in offered(ready, f'{BEFORE}  - id: b\n    say: {{text: "{{{{ alert }}}}", ')


@pytest.mark.slow
@pytest.mark.parametrize("text", ["nodes: }}]{", "nodes: [}\n ]: {", "- - -\n   - :\n\t- {{{", "\"\n'\n{[", ": :\n -"])
def test_whatever_was_written_before_nothing_breaks(
    ready: Shell, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for end in range(len(text) + 1):
        offered(ready, f"%%graph triage\n{text[:end]}")
    assert "ironflow_nb" not in capsys.readouterr().err  # IPython's own matchers are not made for YAML


def test_other_cells_complete_as_ever(ready: Shell) -> None:
    assert "nodes" not in offered(ready, "no")
    assert "print" in offered(ready, "x = 1\npri")
