"""Cancelling and pausing runs, from here and from another engine on the same journal."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from tests.cells import World
from tests.conftest import Lab

WAYS = ["sequential", "mapped", "gathered"]


class Gate:
    """Where bodies stop until the test lets them pass; the same argument to every step."""

    def __init__(self) -> None:
        self.is_open = threading.Event()
        self.arrived = threading.Semaphore(0)

    def pass_through(self) -> None:
        self.arrived.release()
        assert self.is_open.wait(20)

    def __ironflow_digest__(self) -> bytes:
        return b"the gate"


@pytest.fixture
def gate() -> Gate:
    return Gate()


def until(is_so: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(2000):
        if is_so():
            return
        pause.wait(0.01)
    raise AssertionError("it did not come")


def long_flow(way: str, world: World, gate: Gate) -> iron.Flow[[], Any]:
    """Return a flow of ten steps, whose second waits at the gate."""

    @step(name="work")
    def work(n: int) -> int:
        world.did(n)
        if n == 1:
            gate.pass_through()
        return n

    @step(name="work")
    async def work_async(n: int) -> int:
        world.did(n)
        if n == 1:
            await asyncio.to_thread(gate.pass_through)
        return n

    @flow
    def sequential() -> int:
        total = 0
        for n in range(10):
            try:
                total += work(n)
            except Exception:
                world.did("swallowed")
                raise
        return total

    @flow
    def mapped() -> int:
        return sum(work.map(range(10), concurrency=1))

    @flow
    async def gathered() -> int:
        total = 0
        for n in range(10):
            total += sum(await asyncio.gather(work_async(n)))
        return total

    flows: dict[str, iron.Flow[[], Any]] = {"sequential": sequential, "mapped": mapped, "gathered": gathered}
    return flows[way]


@pytest.mark.parametrize("way", WAYS)
def test_a_cancelled_run_ends_at_the_next_step_and_for_good(lab: Lab, world: World, gate: Gate, way: str) -> None:
    main = long_flow(way, world, gate)
    run = main.start()
    gate.arrived.acquire()
    run.cancel()
    assert run.status == "cancelling" or way == "gathered"  # there nothing has to end first
    gate.is_open.set()
    with pytest.raises(iron.RunCancelled, match=run.id):
        run.result(timeout_s=20)
    assert run.status == "cancelled"
    assert world.log == [0, 1]
    if way != "gathered":  # an await is cut short, a body in a thread ends and its result is kept
        assert run.values("work") == [0, 1]
    assert list(run.events()["type"])[-1] == "RunCancelled"
    run.cancel()
    lab.cell()
    assert main.start().result(timeout_s=20) == 45
    assert len(iron.runs()) == 2


@pytest.mark.parametrize("way", WAYS)
def test_a_paused_run_continues_where_it_stopped(lab: Lab, world: World, gate: Gate, way: str) -> None:
    main = long_flow(way, world, gate)
    run = main.start()
    gate.arrived.acquire()
    run.pause()
    gate.is_open.set()
    assert run.wait(timeout_s=20).status == "paused"
    with pytest.raises(iron.RunInterrupted, match="paused"):
        run.result()
    assert run.resume().result(timeout_s=20) == 45
    assert world.log == ([0, 1, 1, *range(2, 10)] if way == "gathered" else [*range(10)])
    assert len(iron.runs()) == 1


@pytest.mark.parametrize("way", ["sequential", "mapped"])
@pytest.mark.parametrize("first", [iron.Run.pause, iron.Run.detach])
def test_a_cancel_is_not_lost_behind_a_milder_request(
    lab: Lab, world: World, gate: Gate, way: str, first: Callable[[Any], object]
) -> None:
    run = long_flow(way, world, gate).start()
    gate.arrived.acquire()
    first(run)
    run.cancel()
    run.pause()
    gate.is_open.set()
    assert run.wait(timeout_s=20).status == "cancelled"
    assert world.log == [0, 1]


def test_a_direct_call_that_is_cancelled_says_so(lab: Lab, world: World, gate: Gate) -> None:
    main = long_flow("sequential", world, gate)

    def cancel() -> None:
        gate.arrived.acquire()
        run = main.last
        assert run is not None
        run.cancel()
        gate.is_open.set()

    threading.Thread(target=cancel).start()
    with pytest.raises(iron.RunCancelled):
        main()
    assert world.log == [0, 1]


def test_another_engine_pauses(lab: Lab, world: World, gate: Gate) -> None:
    main = long_flow("mapped", world, gate)
    run = main.start()
    gate.arrived.acquire()
    with iron.Engine(lab.new_journal()) as other:
        elsewhere = iron.get_run(run.id)
        assert elsewhere.status == "running"
        elsewhere.pause()
        until(lambda: run._session is not None and run._session.stop_request is not None)
        gate.is_open.set()
        assert elsewhere.wait(timeout_s=20).status == "paused"
        assert iron.events().iloc[-1]["type"] == "RunPaused"
        assert iron.events().iloc[-1]["data"] == {"asked_by": other.access.owner}
    with lab.engine.reading() as reader:
        assert reader.signals([run.id]) == []
    assert run.resume().result(timeout_s=20) == 45
    assert world.log == list(range(10))


def test_a_run_that_nobody_works_on_is_cancelled_at_once(lab: Lab, world: World) -> None:
    @flow
    def main() -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        main()
    run = main.last
    assert run is not None
    assert run.cancel().status == "cancelled"
    with pytest.raises(iron.RunCancelled):
        run.result()
    lab.cell()
    with pytest.raises(RuntimeError):
        main()
    assert list(iron.runs()["status"]) == ["failed", "cancelled"]


def test_what_has_ended_is_not_stopped(lab: Lab) -> None:
    @flow
    def main() -> int:
        return 1

    main()
    run = main.last
    assert run is not None
    with pytest.raises(iron.errors.RunFinished, match="completed"):
        run.cancel()
    with pytest.raises(iron.errors.RunFinished, match="nothing to pause"):
        run.pause()
    assert run.result() == 1


def test_a_wait_for_a_retry_is_cut_short_by_a_cancellation(lab: Lab, world: World) -> None:
    @step(retries=10)
    def work() -> None:
        world.did("work")
        raise OSError

    @flow
    def main() -> None:
        work()

    run = main.start()
    until(lambda: not run.events().query("type == 'StepRetryScheduled'").empty)
    run.cancel()
    with pytest.raises(iron.RunCancelled):
        run.result(timeout_s=20)
    assert len(world.log) <= 2


def test_what_was_asked_of_an_owner_that_died_does_not_stop_the_next(lab: Lab, world: World) -> None:
    @flow
    def main() -> str:
        if world.is_broken:
            world.is_broken = False
            run = main.last
            assert run is not None
            iron.engine().access.send(run.id, "ironflow:cancel")
            world.die()
        return "done"

    with pytest.raises(SystemExit):
        main()
    assert main() == "done"
    assert list(iron.runs()["status"]) == ["completed"]
