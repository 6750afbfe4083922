"""Flows called in flows: child runs, recorded and continued with their parents."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.core.status import RunStatus
from ironflow_nb.journal.ports import Durability, RunCommit
from tests.cells import World
from tests.conftest import Lab


def family(world: World, colour: str) -> iron.Flow[[], Any]:
    """Return a flow that calls a step, a child for each of two numbers, and a step that may fail."""

    @step
    def work(n: int) -> int:
        world.did(n)
        return n

    @step
    def stop_here() -> None:
        if world.is_broken:
            world.did("broken")
            raise RuntimeError("broken")

    @flow
    def child(n: int) -> list[int]:
        return [work(10 * n + k) for k in range(2)]

    @flow
    def parent() -> list[list[int]]:
        work(1)
        found = [child(n) for n in (1, 2)]
        stop_here()
        return found

    @flow
    async def child_async(n: int) -> list[int]:
        await asyncio.sleep(0)
        return [work(10 * n + k) for k in range(2)]

    @flow
    async def parent_async() -> list[list[int]]:
        work(1)
        found = await asyncio.gather(child_async(1), child_async(2))
        stop_here()
        return found

    return parent if colour == "def" else parent_async


@pytest.mark.parametrize("colour", ["def", "async"])
def test_a_child_is_a_run_of_its_own_and_a_step_of_its_parent(lab: Lab, world: World, colour: str) -> None:
    world.is_broken = False
    run = family(world, colour).start()
    assert run.result(timeout_s=20) == [[10, 11], [20, 21]]
    runs = iron.runs()
    assert list(runs["status"]) == ["completed"] * 3
    children = runs[runs["parent_run_id"] == run.id]
    assert len(children) == 2
    steps = run.steps()
    assert [name.rpartition(".")[2] for name in steps["name"]] == (
        ["work", "child", "child", "stop_here"]
        if colour == "def"
        else ["work", "child_async", "child_async", "stop_here"]
    )
    assert {tuple(iron.get_run(child).result()) for child in children["run_id"]} == {(10, 11), (20, 21)}
    started = run.events().query("type == 'StepStarted'")["data"]
    assert {data["child_run_id"] for data in started if "child_run_id" in data} == set(children["run_id"])


@pytest.mark.parametrize("colour", ["def", "async"])
def test_finished_children_are_answered_by_the_parents_record(lab: Lab, world: World, colour: str) -> None:
    main = family(world, colour)
    with pytest.raises(RuntimeError, match="broken"):
        main.start().result(timeout_s=20)
    assert len(world.log) == 6
    world.is_broken = False
    lab.cell()
    assert main.start().result(timeout_s=20) == [[10, 11], [20, 21]]
    assert len(world.log) == 6
    assert len(iron.runs()) == 3


def test_a_child_that_failed_is_continued_and_not_begun_again(lab: Lab, world: World) -> None:
    @step
    def work(n: int) -> int:
        world.did(n)
        if n == 2 and world.is_broken:
            raise RuntimeError("in the child")
        return n

    @flow
    def child() -> int:
        return sum(work(n) for n in range(4))

    @flow
    def parent() -> int:
        return child() + 100

    with pytest.raises(RuntimeError, match="in the child"):
        parent()
    assert list(iron.runs()["status"]) == ["failed", "failed"]
    world.is_broken = False
    lab.cell()
    assert parent() == 106
    assert world.log == [0, 1, 2, 2, 3]
    runs = iron.runs()
    assert list(runs["status"]) == ["completed", "completed"]
    assert list(runs["n_sessions"]) == [2, 2]


def test_a_process_that_dies_in_a_child_is_continued_there(lab: Lab, world: World) -> None:
    @step
    def work(n: int) -> int:
        world.did(n)
        if n == 2 and world.is_broken:
            world.is_broken = False
            world.die()
        return n

    @flow
    def child() -> int:
        return sum(work(n) for n in range(4))

    @flow
    def parent() -> int:
        return work(0) + child()

    with pytest.raises(SystemExit):
        parent()
    assert parent() == 6
    assert world.log == [0, 0, 1, 2, 2, 3]
    assert list(iron.runs()["status"]) == ["completed", "completed"]


def test_a_child_that_completed_before_its_parent_knew_is_not_run_again(lab: Lab, world: World) -> None:
    @step
    def work() -> int:
        world.did("work")
        return 1

    @flow
    def child() -> int:
        return work()

    @flow
    def parent() -> int:
        return child()

    store = lab.engine.access.append
    is_child_completed = False

    def dying(entries: Sequence[RunCommit], durability: Durability) -> None:
        nonlocal is_child_completed
        if is_child_completed:  # and the parent's own record is lost
            world.die()
            raise SystemExit
        store(entries, durability)
        if any(entry.run and entry.run.status is RunStatus.COMPLETED for entry in entries):
            is_child_completed = True

    types: list[str] = []
    lab.engine.access.append = dying  # type: ignore[method-assign]
    with pytest.raises(SystemExit):
        parent()
    with lab.engine.reading():
        types = list(iron.events()["type"])
    assert types.count("RunCompleted") == 1
    assert parent() == 1
    assert world.log == ["work"]
    assert list(iron.runs()["status"]) == ["completed", "completed"]


def test_an_interrupt_in_a_child_interrupts_both_and_both_continue(lab: Lab, world: World) -> None:
    @step
    def work(n: int) -> int:
        world.did(n)
        if n == 1 and world.is_broken:
            world.is_broken = False
            raise KeyboardInterrupt
        return n

    @flow
    def child() -> int:
        return sum(work(n) for n in range(3))

    @flow
    def parent() -> int:
        return child()

    with pytest.raises(KeyboardInterrupt):
        parent()
    assert list(iron.runs()["status"]) == ["interrupted", "interrupted"]
    lab.cell()
    assert parent() == 3
    assert world.log == [0, 1, 1, 2]


@pytest.mark.parametrize("stop", ["cancel", "pause"])
@pytest.mark.parametrize("colour", ["def", "async"])
def test_a_child_stops_with_its_parent(lab: Lab, world: World, stop: str, colour: str) -> None:
    gates = threading.Event(), threading.Event()
    world.plan = [*gates]

    @step
    def work(n: int) -> int:
        world.did(n)
        if n == 1:
            world.plan[0].set()
            world.plan[1].wait(20)
        return n

    @flow
    def child() -> int:
        return sum(work(n) for n in range(4))

    @flow
    def parent() -> int:
        return child()

    @flow
    async def child_async() -> int:
        return sum([await work.submit(n) for n in range(4)])

    @flow
    async def parent_async() -> int:
        return await child_async()

    run = (parent if colour == "def" else parent_async).start()
    assert gates[0].wait(20)
    getattr(run, stop)()
    gates[1].set()
    run.wait(timeout_s=20)
    wanted = "cancelled" if stop == "cancel" else "paused"
    assert list(iron.runs()["status"]) == [wanted, wanted]
    assert world.log == [0, 1]
    if stop == "pause":
        assert run.resume().result(timeout_s=20) == 6
        assert world.log == [0, 1, 2, 3]


def test_equal_children_are_told_apart_by_their_number(lab: Lab, world: World) -> None:
    @flow
    def child(n: int) -> int:
        world.did(n)
        return len(world.log)

    @flow
    def parent() -> list[int]:
        return [child(7), child(7), child(8)]

    assert parent() == [1, 2, 3]
    assert len(iron.runs()) == 4


def test_a_failed_child_can_be_lived_with(lab: Lab, world: World) -> None:
    @flow
    def child() -> int:
        world.did("child")
        raise KeyError("no")

    @step
    def after() -> None:
        if world.is_broken:
            raise RuntimeError

    @flow
    def parent() -> str:
        with contextlib.suppress(KeyError):
            child()
        after()
        return "lived"

    with pytest.raises(RuntimeError):
        parent()
    world.is_broken = False
    lab.cell()
    assert parent() == "lived"
    assert world.log == ["child"]


def refused(call: Callable[[iron.Flow[[], int]], Any]) -> str:
    @flow
    def child() -> int:
        return 1

    @flow
    def parent() -> None:
        call(child)

    with pytest.raises(iron.errors.NotAllowedInStep) as caught:
        parent()
    return str(caught.value)


def test_what_is_no_child_is_refused_and_says_why(lab: Lab) -> None:
    assert "call it without them" in refused(lambda child: child.start())
    assert "call it without them" in refused(lambda child: child.options(key="k")())

    @step
    def inside(call: Any) -> Any:
        return call()

    assert "where no run can be begun" in refused(inside)


def test_an_async_child_in_a_def_flow_names_what_to_do(lab: Lab) -> None:
    @flow
    async def child() -> int:
        return 1

    @flow
    def parent() -> Any:
        return child()

    with pytest.raises(iron.errors.AsyncMismatch, match="make the flow async def"):
        parent()


@step
def pass_gate(gate: str) -> None:
    if not Path(gate).exists():
        raise RuntimeError("the gate is shut")


@flow
def inner(n: int) -> int:
    return n + 1


@flow
def outer(gate: str) -> int:
    pass_gate(gate)
    return inner(1)


@flow
async def inner_async(n: int) -> int:
    return n + 1


@flow
async def outer_async(gate: str) -> int:
    pass_gate(gate)
    return await inner_async(1)


@pytest.mark.parametrize("parent", [outer, outer_async])
def test_children_are_in_the_journal_of_their_parent_whatever_engine_is_current(parent: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with iron.open(tmp_path / "own.db"):
        run = parent.start(str(gate))
        with pytest.raises(RuntimeError):
            run.result(timeout_s=60)
        gate.touch()
        with iron.open(tmp_path / "other.db"):
            assert run.resume().result(timeout_s=60) == 2
            assert len(iron.runs()) == 0
        assert sorted(name.rpartition(".")[2].partition("_")[0] for name in iron.runs()["name"]) == ["inner", "outer"]
