"""What the code of a graph leaves in the journal beside its results has no secret: events, keys, signals, undos."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ironflow_nb as iron
from ironflow_nb.errors import InputInvalid, ValueNotStorable
from ironflow_nb.execution.registry import REGISTRY
from tests.graphs.hidden import PIN, TOKEN, calling, journal, secretly, secrets_in, shown
from tests.graphs.playing import graph_of
from tests.waits.conftest import LIMIT_S, until

__all__ = ["journal"]

REFUSED = "would carry a secret of a graph"


@pytest.fixture(autouse=True)
def alias(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the code find the secret in a place that the graph does not know."""
    monkeypatch.setenv("ALIAS", TOKEN)


def secret() -> str:
    return os.environ["ALIAS"]


@dataclass(frozen=True)
class Order:
    id: str


@dataclass(frozen=True)
class Ordered:
    id: str


orders: iron.Decider[int, Order, Ordered, Any] = iron.Decider("orders", initial=0, id_of=lambda command: command.id)


@orders.evolve
def ordered(state: int, event: Ordered) -> int:
    return state + 1


@orders.decide
def order(state: int, command: Order, at: Any) -> Any:
    return iron.accept(Ordered(command.id))


@iron.flow(name="plain_flow")
def plain_flow(value: Any) -> None: ...


@iron.step
def made(value: int) -> int:
    return value


@iron.step(lane=iron.Lane("accounts", key="who", limit=2))
def in_lane(who: str) -> int:
    return len(who)


@iron.step(lane=iron.Lane("accounts", key="who", limit=2))
async def in_lane_async(who: str) -> int:
    return len(who)


IN_BODIES: dict[str, Callable[[str], object]] = {
    "data of an event": lambda token: iron.emit("a.b", {"given": {token}}),
    "key of an event": lambda token: iron.emit("a.b", key=f"of {token}"),
    "command": lambda token: orders.send(Order(token)),
    "key of a command": lambda token: orders.send(Order("7"), key=token),
    "schedule": lambda token: plain_flow.schedule(every_s=3600, args=(token,)),
    "name of a schedule": lambda token: plain_flow.schedule(every_s=3600, args=(1,), name=token.replace("\n", "")),
}


@pytest.mark.parametrize("leave", IN_BODIES.values(), ids=IN_BODIES)
def test_a_body_leaves_no_secret_in_the_journal(leave: Callable[[str], object], journal: Path) -> None:
    graph = calling(lambda token: leave(token), "{{ secrets.token }}")
    with pytest.raises(ValueNotStorable, match=REFUSED):
        graph()
    assert secrets_in(journal, *shown(graph)) == []


def test_a_signal_that_a_body_sends_has_no_secret(journal: Path) -> None:
    @iron.flow(name="listening")
    def listening() -> Any:
        return iron.wait_for("go")

    other = listening.start()
    graph = calling(lambda token: other.signal("go", [token]), "{{ secrets.token }}")
    with pytest.raises(ValueNotStorable, match=REFUSED):
        graph()
    assert secrets_in(journal, *shown(graph)) == []
    other.signal("go", "more")
    assert other.result(timeout_s=LIMIT_S) == "more"


IN_FLOWS: dict[str, Callable[[], object]] = {
    "event": lambda: iron.emit("a.b", secret()),
    "name of a signal": lambda: iron.wait_for(secret(), timeout_s=LIMIT_S),
    "lane": lambda: in_lane(secret()),
    "lane of a map": lambda: list(in_lane.map(["x", secret()])),
    "lane of an async step": lambda: in_lane_async.submit(secret()).result(),
    "run of a worker": lambda: plain_flow.start({secret()}, detach=True),
}


@pytest.mark.parametrize("leave", IN_FLOWS.values(), ids=IN_FLOWS)
def test_a_child_leaves_no_secret_in_the_journal(leave: Callable[[], object], journal: Path) -> None:
    @iron.flow(name="leaving")
    def leaving() -> None:
        leave()

    graph = secretly({"id": "a", "workflow": "leaving"})
    with pytest.raises(ValueNotStorable, match=REFUSED):
        graph()
    assert secrets_in(journal, *shown(graph)) == []


def test_an_async_child_leaves_no_secret_in_the_journal(journal: Path) -> None:
    @iron.flow(name="leaving_async")
    async def leaving_async() -> None:
        for leave in (lambda: iron.aio.wait_for(secret(), timeout_s=LIMIT_S), lambda: in_lane_async(secret())):
            with pytest.raises(ValueNotStorable, match=REFUSED):
                await leave()
        with pytest.raises(ValueNotStorable, match=REFUSED):
            iron.emit("a.b", key=secret())

    graph = secretly({"id": "a", "workflow": "leaving_async"})
    graph()
    assert secrets_in(journal, *shown(graph)) == []


def test_a_node_waits_for_no_signal_with_a_secret_in_its_name(journal: Path) -> None:
    graph = secretly({"id": "a", "wait": {"any_of": ["x", "{{ env.ALIAS }}"]}})
    with pytest.raises(ValueNotStorable, match=REFUSED):
        graph()
    assert secrets_in(journal, *shown(graph)) == []


def test_questions_answers_and_signals_are_kept_without_a_secret(journal: Path) -> None:
    graph = secretly(
        {"id": "go", "wait": "go"},
        {
            "id": "asked",
            "approve": {"question": "{{ env.ALIAS }}?", "payload": ["{{ env.ALIAS }}"], "schema": {"type": "string"}},
        },
        output="{{ [go, asked] }}",
    )
    run = graph.start()
    run.signal("go", {"token": {TOKEN}})
    until(lambda: len(iron.waiting()))
    questions = iron.waiting()
    run.answer(f"it is {TOKEN}")
    assert run.result(timeout_s=LIMIT_S) == [{"token": {"***"}}, "it is ***"]
    assert secrets_in(journal, questions.to_string(max_colwidth=None), *shown(graph)) == []


def test_a_measured_number_that_is_a_secret_is_none(journal: Path) -> None:
    def measure(pin: str) -> None:
        for value in (int(pin), float(pin), 12.5):
            iron.metric("n", value)

    graph = calling(measure, "{{ secrets.pin }}")
    graph()
    assert graph.last is not None
    metrics = graph.last.metrics()
    assert metrics["value"].isna().tolist() == [True, True, False]
    assert secrets_in(journal, metrics.to_string(), *shown(graph)) == []


def test_the_rows_of_a_sweep_have_no_secret(journal: Path) -> None:
    graph = secretly({"id": "a", "python": "f", "with": ["{{ input.x }}"]}, functions={"f": lambda value: value})
    with pytest.raises(InputInvalid, match="row 1: a secret is in the input of graph g"):
        graph.sweep([{"x": 1}, {"x": [TOKEN]}])
    assert len(iron.runs()) == 0


BY_HAND: dict[str, Callable[[iron.Run[Any]], object]] = {
    "inputs of a fork": lambda run: run.fork(inputs={"x": {TOKEN}}),
    "name of an input of a fork": lambda run: run.fork(inputs={TOKEN: 1}),
    "result in a fork": lambda run: run.fork(replace={"g.a": np.array([TOKEN])}),
    "result": lambda run: run.inject("g.a", {"it is": TOKEN.encode("utf-16")}, reason="known"),
    "reason": lambda run: run.inject("g.a", 1, reason=f"it is {TOKEN}"),
    "reason of an undo": lambda run: run.inject("g.a", 1, reason="known").undo(reason=TOKEN),
    "reason of an erasure": lambda run: run.redact("g.a", reason=PIN),
}


@pytest.mark.parametrize("give", BY_HAND.values(), ids=BY_HAND)
@pytest.mark.parametrize("is_defined", [True, False], ids=["defined", "from the journal"])
def test_what_is_given_by_hand_has_no_secret(
    give: Callable[[iron.Run[Any]], object], is_defined: bool, journal: Path
) -> None:
    graph = secretly({"id": "a", "log": "{{ input.x }}"})
    graph(x=1)
    run = graph.last
    assert run is not None
    if not is_defined:
        REGISTRY.forget("graph", "g")
    with pytest.raises(ValueNotStorable, match=REFUSED):
        give(run)
    assert secrets_in(journal, *shown(graph)) == []


def test_what_is_given_by_hand_to_a_child_has_no_secret_of_the_graph_that_called_it(journal: Path) -> None:
    graph = secretly({"id": "a", "workflow": "called", "input": {"value": 1}})

    @iron.flow(name="called")
    def called(value: int) -> int:
        return made(value)

    graph()
    assert called.last is not None
    with pytest.raises(ValueNotStorable, match=REFUSED):
        called.last.inject("made", TOKEN, reason="known")
    assert secrets_in(journal, *shown(graph)) == []


def test_no_schedule_and_no_row_of_a_sweep_is_called_by_a_secret(journal: Path) -> None:
    graph = secretly({"id": "a", "log": "x"})
    graph()
    with pytest.raises(ValueNotStorable, match="a secret is in the name of a schedule of graph g"):
        graph.schedule(every_s=3600, name=f"of {PIN}")
    with pytest.raises(InputInvalid, match="row 0: a secret is in the key of the row of graph g"):
        graph.sweep([{"x": 1}], key=lambda **_: TOKEN)
    assert iron.schedules().empty
    assert secrets_in(journal, *shown(graph)) == []


# -- what undoes ---------------------------------------------------------------------------------------------------


def refuse() -> None:
    raise ValueError("no")


def undone(undo: Callable[..., Any], *given: str, **keys: Any) -> Any:
    node = {"id": "a", "python": "f", "compensate": {"python": "undo", "with": list(given)}}
    return graph_of(node, functions={"f": lambda: 1, "undo": undo}, **keys)


@pytest.mark.parametrize(
    "expression", ["secrets.token", "split(secrets.token, '/')[1]", "to_number(secrets.pin)", "hash(secrets.key)"]
)
@pytest.mark.parametrize("fails", [False, True])
def test_what_an_undo_is_given_is_kept_nowhere(journal: Path, expression: str, fails: bool) -> None:
    seen: list[Any] = []

    def undo(given: Any) -> Any:
        seen.append(given)
        if fails:
            raise ValueError(given)
        return {"undone": {given}}

    graph = secretly(
        {"id": "a", "python": "f", "compensate": {"python": "undo", "with": [f"{{{{ {expression} }}}}"]}},
        {"id": "b", "python": "refuse"},
        functions={"f": lambda: 1, "undo": undo, "refuse": refuse},
    )
    with pytest.raises(ValueError, match="no"):
        graph()
    assert len(seen) == 1
    assert secrets_in(journal, *shown(graph)) == []
    assert not any(str(seen[0]) in text for text in shown(graph))


def test_a_child_graph_that_its_parent_undoes_keeps_its_own_secret(journal: Path) -> None:
    seen: list[str] = []
    secrets = {"mine": {"env": "MY_TOKEN"}}
    undone(seen.append, "{{ secrets.mine }}", name="inner", secrets=secrets)
    outer = graph_of({"id": "b", "workflow": "inner"}, {"id": "c", "python": "refuse"}, functions={"refuse": refuse})
    with pytest.raises(ValueError, match="no"):
        outer()
    assert seen == [TOKEN]
    assert secrets_in(journal, *shown(outer)) == []


def test_an_undo_of_a_child_flow_gets_its_arguments_and_they_are_kept_nowhere(journal: Path) -> None:
    seen: list[str] = []

    @iron.flow(name="undoing")
    def undoing() -> None:
        iron.on_failure(seen.append, secret())
        raise ValueError("no")

    graph = secretly({"id": "a", "workflow": "undoing"})
    with pytest.raises(ValueError, match="no"):
        graph()
    assert seen == [TOKEN]
    assert secrets_in(journal, *shown(graph)) == []


def test_an_undo_may_ask_for_the_time_and_for_identifiers(journal: Path) -> None:
    seen: list[list[Any]] = []

    def undo(*given: Any) -> None:
        seen.append([*given])
        raise ValueError("not now")

    graph = secretly(
        {
            "id": "a",
            "python": "f",
            "compensate": {
                "python": "undo",
                "with": ["{{ now() }}", "{{ uuid() }}", "{{ uuid() }} {{ secrets.pin }}"],
                "retry": {"attempts": 2, "delay_s": 0},
            },
        },
        {"id": "b", "python": "refuse"},
        functions={"f": lambda: 1, "undo": undo, "refuse": refuse},
    )
    with pytest.raises(ValueError, match="no"):
        graph()
    first, second = seen
    assert first[1:] == second[1:]  # of both attempts, for what is called with it may do it once
    assert first[2].endswith(PIN)
    assert len({first[1], *first[2].split()}) == 3
    assert secrets_in(journal, *shown(graph)) == []


RESUMED = """
import os, signal, sys, ironflow_nb as iron
from ironflow_nb.graphs.graph import Graph

def undo():
    if os.environ.get("DIES"):
        os.kill(os.getpid(), signal.SIGKILL)
    print(os.environ["ALIAS"])
    return {os.environ["ALIAS"]}

def undo_badly():
    raise ValueError(os.environ["ALIAS"])

def refuse():
    raise ValueError("no")

functions = {"f": lambda: 1, "undo": undo, "undo_badly": undo_badly, "refuse": refuse}
graph = Graph.from_dict(
    {"graph": "g", "allow": True, "secrets": {"token": {"env": "MY_TOKEN"}}, "nodes": [
        {"id": "a", "python": "f", "compensate": {"python": "undo_badly"}},
        {"id": "b", "python": "f", "compensate": {"python": "undo"}},
        {"id": "c", "python": "refuse"}]},
    functions=functions,
)
iron.use(sys.argv[1])
if os.environ.get("DIES"):
    graph()
run = graph.resume().wait()
print([row.status for row in run.steps().itertuples()])
"""


@pytest.mark.crash
def test_a_process_that_goes_on_with_the_undos_alone_keeps_the_secret_too(journal: Path, tmp_path: Path) -> None:
    script = tmp_path / "resumed.py"
    script.write_text(RESUMED)
    for more in ({"DIES": "1"}, {}):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **more}
        command = [sys.executable, str(script), str(journal)]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90, check=False)
    assert "['completed', 'compensated', 'failed', 'completed', 'failed']" in ended.stdout, ended.stderr
    assert secrets_in(journal, ended.stderr) == []
