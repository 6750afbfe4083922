"""No failure, input, child or other process of a run with secrets leaves one in the journal: its bytes tell."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.errors import ValueNotStorable
from tests.graphs.hidden import PIN, RESULTS, TOKEN, Plain, calling, journal, secretly, secrets_in, shown
from tests.graphs.playing import graph_of

__all__ = ["journal"]


class Carrying(Exception):
    """Carries what it is given where exceptions of libraries do."""

    __slots__ = ("slot",)

    def __init__(self, message: str, given: Any) -> None:
        super().__init__(message)
        self.given, self.slot = given, given


class Telling(Exception):
    def __init__(self, given: Any) -> None:
        super().__init__()
        self.given = given

    def __str__(self) -> str:
        return f"told {self.given.token}"


@pytest.mark.parametrize("result", [*RESULTS, "generator", "lock"])
def test_no_error_carries_a_secret(journal: Path, result: str) -> None:
    import threading

    made = {**RESULTS, "generator": lambda s: (s for _ in "a"), "lock": lambda s: [threading.Lock(), s]}[result]

    def f(token: str) -> None:
        try:
            raise KeyError(token, made(token))
        except KeyError as error:
            carrying = Carrying(f"refused {token}", made(token))
            carrying.add_note(f"note {token}")
            raise carrying from error

    graph = calling(f, "{{ secrets.token }}")
    with pytest.raises(Exception) as caught:  # noqa: PT011 -- any of several
        graph()
    error: BaseException | None = caught.value
    told = []
    while error is not None:
        told += [repr(error), str(error), repr(vars(error)), repr(error.args), repr(getattr(error, "slot", None))]
        error = error.__cause__ or error.__context__
    assert secrets_in(journal, *(each for each in told if "<shown" not in each), *shown(graph)) == []


def test_an_error_that_tells_what_it_carries_is_told_without(journal: Path) -> None:
    def f(token: str) -> None:
        raise Telling(Plain(token))

    graph = calling(f, "{{ secrets.token }}")
    with pytest.raises(iron.errors.NodeFailed, match=r"Telling: told \*\*\*"):
        graph()
    assert secrets_in(journal, *shown(graph)) == []


def test_a_group_and_a_retried_failure_have_no_secret(journal: Path) -> None:
    def f(token: str) -> None:
        raise ExceptionGroup(token, [ValueError({token}), ExceptionGroup("x", [Carrying("x", Plain(token))])])

    graph = calling(f, "{{ secrets.token }}", retry={"attempts": 3, "delay_s": 0})
    with pytest.raises(ExceptionGroup) as caught:
        graph()
    assert secrets_in(journal, repr(caught.value), *shown(graph)) == []


# -- places ------------------------------------------------------------------------------------------------------


def test_inputs_of_steps_have_no_secret_that_came_in_another_way(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALIAS", TOKEN)
    graph = secretly(
        {"id": "a", "python": "f", "with": ["{{ env.ALIAS }}"]},
        output="{{ env.ALIAS }}",
        functions={"f": lambda value: value},
    )
    assert graph() == "***"
    assert secrets_in(journal, *shown(graph)) == []


def test_a_secret_in_the_input_the_key_or_the_text_is_refused_before_anything_is_kept(journal: Path) -> None:
    node = {"id": "a", "python": "f", "with": ["{{ input.x }}"]}
    functions = {"f": lambda value: value}
    graph = secretly(node, functions=functions)
    for call in (
        lambda: graph(x=TOKEN),
        lambda: graph.start(x=[{"a": f"Bearer {TOKEN}"}]),
        lambda: graph.options(key=TOKEN)(x=1),
        lambda: secretly({**node, "description": f"uses {TOKEN}"}, functions=functions)(x=1),
    ):
        with pytest.raises(ValueNotStorable, match=r"a secret is in the .* of graph g, which is stored in the clear"):
            call()
    assert len(iron.runs()) == 0


def test_the_code_of_functions_is_kept_without_a_secret_that_stands_in_it(journal: Path, tmp_path: Path) -> None:
    source = tmp_path / "with_a_token.py"
    source.write_text(f"def f(value):\n    token = {PIN!r}\n    return len(token)\n")
    namespace: dict[str, Any] = {"__name__": "with_a_token", "__file__": str(source)}
    exec(compile(source.read_text(), str(source), "exec"), namespace)
    graph = calling(namespace["f"], "{{ secrets.token }}")
    assert graph() == len(PIN)
    assert secrets_in(journal) == []


def test_children_have_no_secret_of_their_parent(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIAS", TOKEN)

    @iron.step
    def leak() -> Any:
        return {os.environ["ALIAS"]}

    @iron.step
    def refuse() -> None:
        raise Carrying(os.environ["ALIAS"], Plain(os.environ["ALIAS"]))

    @iron.flow(name="leaking")
    def leaking() -> Any:
        try:
            refuse()
        except Exception as error:
            return [str(error), leak(), os.environ["ALIAS"]]

    @iron.flow(name="async_leaking")
    async def async_leaking() -> Any:
        raise ValueError(os.environ["ALIAS"])

    graph_of({"id": "b", "python": "g"}, name="inner", functions={"g": lambda: os.environ["ALIAS"]})
    graph = secretly(
        {"id": "a", "workflow": "leaking"},
        {"id": "b", "workflow": "async_leaking", "on_error": "continue", "depends_on": []},
        {"id": "c", "workflow": "inner", "depends_on": []},
        output="{{ [a, b, c] }}",
    )
    from ironflow_nb.execution.registry import REGISTRY

    assert REGISTRY.find("graph", "inner")
    told = graph()
    assert told[2] == "***"
    assert secrets_in(journal, told, *shown(graph)) == []


def test_a_child_graph_keeps_its_own_secret_from_its_parent(journal: Path) -> None:
    functions = {"g": lambda token: {token}}
    graph_of(
        {"id": "b", "python": "g", "with": ["{{ secrets.mine }}"]}, name="inner", functions=functions,
        secrets={"mine": {"env": "MY_TOKEN"}},
    )  # fmt: skip
    outer = graph_of({"id": "a", "workflow": "inner"})
    outer()
    assert secrets_in(journal, *shown(outer)) == []


def test_the_input_of_a_child_has_no_secret(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIAS", TOKEN)
    graph_of({"id": "b", "transform": "{{ input.x }}"}, name="inner")
    graph = secretly({"id": "a", "workflow": "inner", "input": {"x": "{{ env.ALIAS }}"}})
    with pytest.raises(ValueNotStorable, match="the input of inner, the child of node a"):
        graph()
    assert secrets_in(journal, *shown(graph)) == []


RESUMED = """
import os, sys, ironflow_nb as iron
from ironflow_nb.graphs.graph import Graph

def f():
    if os.environ.get("IS_BROKEN"):
        raise RuntimeError("stop")
    return {os.environ["ALIAS"], "x"}

def g():
    raise ValueError(os.environ["ALIAS"])

graph = Graph.from_dict(
    {"graph": "g", "allow": True, "secrets": {"token": {"env": "MY_TOKEN"}},
     "nodes": [{"id": "a", "python": "f"}, {"id": "b", "python": "g"}]},
    functions={"f": f, "g": g},
)
iron.use(sys.argv[1])
try:
    graph() if os.environ.get("IS_BROKEN") else graph.resume().result(timeout_s=60)
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.slow
def test_a_run_that_another_process_continues_has_no_secret(journal: Path, tmp_path: Path) -> None:
    script = tmp_path / "resumed.py"
    script.write_text(RESUMED)
    said = ""
    for broken in ({"IS_BROKEN": "1"}, {}):
        environment = {**os.environ, "ALIAS": TOKEN, "PYTHONPATH": os.pathsep.join(sys.path), **broken}
        done = subprocess.run(
            [sys.executable, str(script), str(journal)], env=environment, capture_output=True, text=True, timeout=90,
            check=True,
        )  # fmt: skip
        said += done.stdout + done.stderr
    assert "ValueError ***" in said
    assert secrets_in(journal, said) == []


def test_a_uuid_is_found_without_its_hyphens(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", str(uuid.UUID(int=2**100 + 12345)))
    graph = calling(lambda token: {"a": uuid.UUID(token), "b": uuid.UUID(token).hex}, "{{ secrets.token }}")
    assert graph() == {"a": "***", "b": "***"}


def test_a_run_without_secrets_is_not_searched(journal: Path) -> None:
    from ironflow_nb.execution.recording.journal_access import RunStorage
    from ironflow_nb.execution.steps.context import SCOPE

    def f() -> str:
        scope = SCOPE.get()
        assert scope is not None
        return type(scope.session.storage).__name__

    assert graph_of({"id": "a", "python": "f"}, functions={"f": f})() == RunStorage.__name__
