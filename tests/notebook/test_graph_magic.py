"""``%%graph``: how a cell becomes a graph, what it shows, and how everything that is wrong with it is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.graphs.catalog import NODE_KINDS
from tests.notebook.shells import Shell

KIND = """
import ironflow_nb as iron

broken = []

@iron.node("say")
def say(text: str, times: int = 1) -> str:
    if text in broken:
        raise ValueError(text)
    return text * times
"""

TRIAGE = """%%graph triage
# What comes in is told.
nodes:
  - id: alert
    say: {text: "{{ input.message }}", times: 2}
  - {id: told, say: "{{ alert }}!"}
"""


@pytest.fixture
def ready(shell: Shell) -> Iterator[Shell]:
    """A shell with the extension and a kind of node."""
    shell.fine("%load_ext ironflow_nb")
    shell.fine(KIND)
    yield shell
    REGISTRY.registered[NODE_KINDS].pop("say", None)
    for known in REGISTRY.definitions("graph"):
        REGISTRY.forget("graph", known.name)


def test_the_cell_is_a_graph_that_the_next_one_calls(ready: Shell) -> None:
    ready.fine(TRIAGE)
    assert ready.fine('triage(message="hi")').value == "hihi!"
    assert iron.runs()["name"].tolist() == ["triage"]


def test_it_shows_its_diagram_and_says_nothing(ready: Shell) -> None:
    shown = ready.fine(TRIAGE)
    assert (shown.value, shown.text, shown.warnings) == (None, "", "")
    (bundle,) = shown.bundles
    assert "alert" in bundle["image/svg+xml"]
    assert bundle["text/plain"].startswith("triage")


@pytest.mark.parametrize(
    "body",
    [
        "graph: triage\nnodes: [{id: a, say: x}]\n",
        "nodes: [{id: a, say: x}]\n",
        "---\nnodes: [{id: a, say: x}]\n",
        '{"nodes": [{"id": "a", "say": "x"}]}\n',
        "  nodes:\n    - {id: a, say: x}\n",
    ],
)
def test_the_key_graph_may_be_left_out_however_the_yaml_is_written(ready: Shell, body: str) -> None:
    ready.fine(f"%%graph triage\n{body}")
    assert ready.fine("triage()").value == "x"
    whole = ready.space["triage"].to_yaml()
    assert iron.Graph.from_yaml(whole).data == {"graph": "triage", "nodes": [{"id": "a", "say": "x"}]}


def test_what_the_journal_keeps_is_what_was_written(ready: Shell) -> None:
    ready.fine(TRIAGE)
    assert ready.space["triage"].to_yaml() == TRIAGE.replace("%%graph triage", "graph: triage")


def test_a_name_that_is_no_identifier_is_known_and_not_bound(ready: Shell) -> None:
    ready.fine("%%graph nightly-report\nnodes: [{id: a, say: x}]")
    assert REGISTRY.find("graph", "nightly-report") is not None
    assert not any("nightly" in name for name in ready.space)


def told(text: str) -> list[str]:
    """Return the lines of the message, without what stands before it."""
    return text.strip().removeprefix("UsageError: ").splitlines()


def test_all_mistakes_are_told_together_each_with_its_line_of_the_cell_and_a_sign_below_its_column(
    ready: Shell,
) -> None:
    lines = told(
        ready.run("""%%graph triage
nodes:
  - id: alert
    say: {text: "{{ input.message }}"}
  - id: told
    sai: hello
  - {id: more, say: "{{ later }}"}
""").refused()
    )
    assert lines[0] == "%%graph triage: 2 things are wrong"
    assert lines[1].startswith("line 6, column ")
    assert "did you mean say?" in lines[1]
    assert lines[2] == "        sai: hello"
    assert lines[2][lines[3].index("^") :] in {"sai: hello", "hello"}
    assert lines[4].startswith("line 7, column ")
    assert "later" in lines[4]
    assert lines[5] == '      - {id: more, say: "{{ later }}"}'
    assert lines[6].strip() == "^"
    assert "triage" not in ready.space
    assert REGISTRY.find("graph", "triage") is None


def test_another_name_in_the_cell_is_told_with_all_else_that_is_wrong(ready: Shell) -> None:
    lines = told(ready.run("%%graph triage\n# mine\ngraph:  other\nnodes: [{id: a, sai: x}]").refused())
    assert lines[0] == "%%graph triage: 2 things are wrong"
    assert lines[1].startswith("line 3, column 9: graph: the cell is %%graph triage, and the graph other")
    assert lines[2][lines[3].index("^") :] == "other"
    assert lines[4].startswith("line 4, ")


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("%%graph\nnodes: []", "give the graph a name: %%graph triage"),
        ("%%graph 7up\nnodes: []", "'7up' can't be the name of a graph"),
        ("%%graph a b\nnodes: []", "takes a name and nothing else, not b"),
        ("%%graph a --allow x\nnodes: []", "not --allow; what the graph may touch stands in the cell"),
        ("%%graph a\n# nothing", "the text is empty"),
        ("%%graph a\nnodes: [\n  a: b: c", "line 3, column 7: this is not valid YAML"),
        ("%%graph a\nnodes: [{id: b, say: x}]\nnodes: []", "nodes is repeated"),
        ("%%graph a\n- b", "line 2"),
        ("%%graph a\njust words", "line 2"),
    ],
)
def test_what_is_no_graph_is_refused(ready: Shell, cell: str, message: str) -> None:
    assert message in ready.run(cell).refused()


def test_of_a_long_line_the_part_around_the_column_is_shown(ready: Shell) -> None:
    body = f'nodes: [{{id: a, description: "{"x" * 200}", sai: 7}}]'
    _, _, shown, sign = told(ready.run(f"%%graph triage\n{body}").refused())
    assert len(shown) < 120
    assert shown[sign.index("^") :].startswith(("sai: 7", "7"))


def test_a_refused_cell_leaves_the_graph_of_before(ready: Shell) -> None:
    ready.fine(TRIAGE)
    before = ready.space["triage"]
    ready.run("%%graph triage\nnodes: [{id: a, sai: x}]").refused()
    assert ready.space["triage"] is before
    assert REGISTRY.find("graph", "triage") is before


def test_an_edit_says_what_a_call_would_do_with_an_unfinished_run(
    ready: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # under pytest nothing is continued by itself
    ready.fine(TRIAGE)
    ready.fine("broken.append('hihi!')")
    assert ready.run('triage(message="hi")').error is not None
    shown = ready.fine(TRIAGE.replace("!", "?"))
    (line,) = shown.text.splitlines()
    run_id = iron.runs()["run_id"][0]
    assert line.startswith(f"triage: run {run_id} (failed ")
    assert "1 reused" in line
    assert "1 tried again" in line
    assert ready.fine("result = triage(message='hi')\nresult").value == "hihi?"
    assert iron.runs()["run_id"].tolist() == [run_id]
    assert ready.fine(TRIAGE).text == ""


def test_the_help_says_how_it_is_used_and_what_comes_after(ready: Shell) -> None:
    found: Any = ready.ipython.object_inspect("%%graph")
    assert "%%graph NAME" in found["docstring"]
    assert 'NAME(message="hi")' in found["docstring"]


def test_unloading_takes_the_magic_away(ready: Shell) -> None:
    def own_matchers() -> list[str]:
        kinds = [type(matcher) for matcher in ready.ipython.Completer.custom_matchers]
        return sorted(kind.__name__ for kind in kinds if kind.__module__.startswith("ironflow_nb."))

    assert own_matchers() == ["GraphMatcher", "RunMatcher"]
    ready.fine("%unload_ext ironflow_nb")
    assert "graph" not in ready.ipython.magics_manager.magics["cell"]
    assert own_matchers() == []


def test_a_text_that_reads_like_an_expression_is_told(shell: Shell) -> None:
    shell.fine("%load_ext ironflow_nb")
    cell = """%%graph bills
input: {orders: list}
nodes:
  - id: big
    transform: "input.orders[?total > `100`]"
  - id: state
    transform: {way: [busy, "{{ big }}"]}
output: state
"""
    first, second = shell.fine(cell).text.strip().splitlines()
    assert "transform of node big has the text 'input.orders[?total > `100`]'; as an expression it is" in first
    assert second.endswith("output has the text 'state'; as an expression it is \"{{ state }}\"")
