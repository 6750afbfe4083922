"""How runs of graphs begin, stop, and go on."""

from __future__ import annotations

import threading

import pytest

import ironflow_nb as iron
from ironflow_nb.errors import IronflowError, RunCancelled, RunInterrupted
from tests.cells import World
from tests.conftest import Lab
from tests.graphs.playing import WAIT_S, Node, doing, graph_of, work

# -- starting and stopping ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("lab")
def test_a_graph_started_in_the_background_gives_its_run_at_once(world: World) -> None:
    gate = threading.Event()
    graph = graph_of({"id": "a", "python": "wait"}, functions={"wait": lambda: gate.wait(WAIT_S)})
    run = graph.start(n=1)
    assert run.status in {"running", "pending"}
    gate.set()
    assert run.result(timeout_s=WAIT_S) is True
    assert list(iron.runs(graph)["run_id"]) == [run.id]


@pytest.mark.usefixtures("lab")
def test_the_same_key_is_the_same_run(world: World) -> None:
    graph = graph_of(work("a", "{{ input.n }}"), functions=doing(world)).options(key="k")
    assert [graph(n=1), graph(n=1)] == [1, 1]
    assert world.log == ["a"]
    with pytest.raises(IronflowError, match="k"):
        graph(n=2)


class Gate:
    """A body that says that it has begun, and waits to be let through."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.open = threading.Event()

    def wait(self) -> int:
        self.begun.set()
        assert self.open.wait(WAIT_S)
        return 1

    def __ironflow_digest__(self) -> bytes:
        return b"a gate"


@pytest.mark.parametrize("is_beside", [False, True])
def test_a_cancelled_run_begins_nothing_more(lab: Lab, world: World, is_beside: bool) -> None:
    gate = Gate()
    nodes: list[Node] = [{"id": "a", "python": "wait", "depends_on": []}]
    nodes += [work("beside", depends_on=[])] if is_beside else []
    graph = graph_of(*nodes, work("b", depends_on=["a"]), functions={**doing(world), "wait": gate.wait})
    run = graph.start()
    assert gate.begun.wait(WAIT_S)
    run.cancel()
    gate.open.set()
    with pytest.raises(RunCancelled):
        run.result(timeout_s=WAIT_S)
    assert run.status == "cancelled"
    assert "b" not in world.log


@pytest.mark.usefixtures("lab")
def test_cancelling_reaches_a_child(world: World) -> None:
    gate = Gate()
    graph_of({"id": "x", "python": "wait"}, work("y"), name="inner", functions={**doing(world), "wait": gate.wait})
    graph = graph_of({"id": "c", "workflow": "inner", "on_error": [work("h")]}, work("b"), functions=doing(world))
    run = graph.start()
    assert gate.begun.wait(WAIT_S)
    run.cancel()
    gate.open.set()
    with pytest.raises(RunCancelled):
        run.result(timeout_s=WAIT_S)
    assert set(iron.runs()["status"]) == {"cancelled"}
    assert world.log == []


@pytest.mark.usefixtures("lab")
def test_a_paused_run_goes_on_where_it_stopped(world: World) -> None:
    gate = Gate()
    graph = graph_of({"id": "a", "python": "wait"}, work("b", 2), functions={**doing(world), "wait": gate.wait})
    run = graph.start()
    assert gate.begun.wait(WAIT_S)
    run.pause()
    gate.open.set()
    with pytest.raises(RunInterrupted):
        run.result(timeout_s=WAIT_S)
    assert run.status == "paused"
    assert run.resume().result(timeout_s=WAIT_S) == 2
    assert world.log == ["b"]


# -- interrupts --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("lab")
def test_an_interrupt_in_a_node_interrupts_the_run_and_the_node_is_done_again(lab: Lab, world: World) -> None:
    def interrupted() -> int:
        world.did("x")
        if world.is_broken:
            raise KeyboardInterrupt
        return 1

    graph = graph_of(work("a"), {"id": "x", "python": "x"}, functions={**doing(world), "x": interrupted})
    with pytest.raises(KeyboardInterrupt):
        graph()
    assert graph.last is not None
    assert graph.last.status == "interrupted"
    world.is_broken = False
    lab.cell()
    assert graph() == 1
    assert world.log == ["a", "x", "x"]


@pytest.mark.parametrize("where", ["node", "branch", "child"])
def test_an_interrupt_while_waiting_leaves_bodies_running_and_a_new_call_joins_them(
    lab: Lab, world: World, where: str
) -> None:
    import os
    import signal

    gate = Gate()
    functions = {**doing(world), "wait": gate.wait}

    def interrupt() -> int:
        if world.is_broken:
            assert gate.begun.wait(WAIT_S)
            os.kill(os.getpid(), signal.SIGINT)
        return 2

    slow: Node = {"id": "slow", "python": "wait", "depends_on": []}
    if where == "branch":
        slow = {"id": "slow", "branch": {"one": {"do": [{"id": "s", "python": "wait"}]}}, "depends_on": []}
    if where == "child":
        graph_of({"id": "s", "python": "wait"}, work("t"), name="inner", functions=functions)
        slow = {"id": "slow", "workflow": "inner", "depends_on": []}
    other = {"id": "other", "python": "interrupt", "depends_on": []}
    graph = graph_of(slow, other, functions={**functions, "interrupt": interrupt}, output="{{ other }}")
    with pytest.raises(KeyboardInterrupt):
        graph()
    assert graph.last is not None
    assert graph.last.status == "interrupted"
    world.is_broken = False
    lab.cell()
    threading.Timer(0.1, gate.open.set).start()
    assert graph() == 2
    assert graph.last.status == "completed"
    attempts = iron.attempts()
    of_bodies = attempts[attempts["name"] != "g.slow"]  # a child is joined by another attempt of its step
    assert max(of_bodies["attempt"]) == 1, "what was running was joined"
    assert set(iron.runs()["status"]) == {"completed"}
