"""Time limits of flows: of each continuation, and of all of them together, not counting the time between them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, gather, step
from ironflow_nb.errors import RunTimeout
from tests.cells import World
from tests.conftest import Lab
from tests.execution.test_timeouts import LIMIT_S, Time

pytestmark = pytest.mark.slow


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Return what bodies wait for that hang."""
    made = threading.Event()
    yield made
    made.set()


@pytest.fixture
def clock(lab: Lab) -> Time:
    lab.clock = Time()
    lab.begin()
    return lab.clock


class Hanging:
    """A body that hangs, the same argument to every step."""

    def __init__(self, gate: threading.Event) -> None:
        self.gate = gate

    def __ironflow_digest__(self) -> bytes:
        return b"hanging"

    def __call__(self, n: int) -> int:
        self.gate.wait(LIMIT_S)
        return n


def ways(hang: Callable[[int], int], timeout_s: float = 0.5) -> dict[str, iron.Flow[[], Any]]:
    """Return flows with a time limit that meet it in every way there is."""

    @step(name="work")
    def work(n: int) -> int:
        return hang(n)

    @step(name="work")
    async def work_async(n: int) -> int:
        await asyncio.sleep(LIMIT_S)
        return n

    @step(name="fails", retries=iron.Retry(attempts=9, delay_s=LIMIT_S))
    def fails() -> None:
        raise ConnectionError("no")

    limited = flow(timeout_s=timeout_s)

    @limited
    def called() -> int:
        return work(1)

    @limited
    def mapped() -> int:
        return sum(work.map([1, 2, 3], concurrency=2))

    @limited
    def submitted() -> int:
        return work.submit(1).result()

    @limited
    def gathered() -> int:
        return sum(gather(lambda: work(1), lambda: work(2)))

    @flow
    def child() -> int:
        return work(1)

    @limited
    def in_a_child() -> int:
        return child()

    @limited
    def swallowed() -> int:
        for _ in range(3):
            with suppress(Exception):
                work(1)
        return 1

    @limited
    def in_a_pause() -> None:
        fails()

    @limited
    def asleep() -> None:
        iron.sleep(LIMIT_S)

    @limited
    async def awaited() -> int:
        return await work_async(1)

    @limited
    async def awaited_together() -> int:
        return sum(await asyncio.gather(work_async(1), work_async(2)))

    @limited
    async def mapped_async() -> int:
        return sum(await work_async.map([1, 2]))

    @limited
    async def unrecorded() -> None:
        await asyncio.sleep(LIMIT_S)

    @limited
    async def bridged() -> int:
        return await work.submit(1)

    flows = [
        called, mapped, submitted, gathered, in_a_child, swallowed, in_a_pause, asleep, awaited, awaited_together,
        mapped_async, unrecorded, bridged,
    ]  # fmt: skip
    return {each.name.rpartition(".")[2]: each for each in flows}


WAYS = [
    "called", "mapped", "submitted", "gathered", "in_a_child", "swallowed", "in_a_pause", "asleep", "awaited",
    "awaited_together", "mapped_async", "unrecorded", "bridged",
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_a_flow_whose_time_is_up_fails_wherever_it_is(lab: Lab, gate: threading.Event, way: str) -> None:
    run = ways(Hanging(gate))[way].start()
    with pytest.raises(RunTimeout, match=rf"{way} took longer than its timeout_s of 0\.5 s"):
        run.result(timeout_s=LIMIT_S)
    assert run.status == "failed"
    assert not set(run.steps()["status"]) & {"running", "completed"}
    assert list(run.events()["type"])[-1] == "RunFailed"


def test_the_steps_that_were_cut_off_are_done_when_the_run_is_continued(
    lab: Lab, clock: Time, world: World, gate: threading.Event
) -> None:
    @step
    def quick(n: int) -> int:
        world.did("quick", n)
        return n

    @step
    def slow() -> str:
        world.did("slow")
        clock.advance(70 if world.is_broken else 1)
        return "slow"

    @flow(timeout_s="1m")
    def main() -> str:
        quick(1)
        return slow()

    with pytest.raises(TimeoutError):
        main()
    assert list(iron.steps()["status"]) == ["completed", "timed_out"]
    world.is_broken = False
    lab.cell()
    assert main() == "slow"
    assert world.log == [("quick", 1), "slow", "slow"]
    assert len(iron.runs()) == 1


def spends(lab: Lab, clock: Time, world: World) -> iron.Flow[[], int]:
    """Return a flow that works for ten seconds and dies, three times, and then ends."""

    @step
    def work(n: int) -> int:
        clock.advance(10)
        return n

    @flow(deadline_s=35)
    def main() -> int:
        for n in range(4):
            work(n)
            if n == len(world.plan):
                world.plan.append(n)
                if world.is_broken:
                    world.die()
        return 4

    return main


def test_a_deadline_of_a_flow_counts_the_time_in_which_somebody_worked_on_it(
    lab: Lab, clock: Time, world: World
) -> None:
    main = spends(lab, clock, world)
    for _ in range(3):
        with pytest.raises(SystemExit):
            main()
        clock.advance(3600)  # nobody works on it
    with pytest.raises(RunTimeout, match=r"deadline_s of 35 s"):
        main()
    continued = list(iron.events().query("type == 'RunContinued'")["data"])
    assert [each["owned_s"] for each in continued] == pytest.approx([10, 20, 30])
    lab.cell()
    world.is_broken = False
    assert main() == 4  # a run that has failed has all its time again


def test_a_flow_in_time_ends_as_without_a_limit(lab: Lab, clock: Time, world: World) -> None:
    main = spends(lab, clock, world).options(deadline_s=41)
    world.is_broken = False
    assert main() == 4
    assert lab.engine.sessions == {} or not any(session.is_open for session in lab.engine.sessions.values())


def test_a_pause_takes_none_of_the_time(lab: Lab, clock: Time, world: World) -> None:
    @step
    def work(n: int) -> int:
        clock.advance(10)
        if n == 0 and world.is_broken:
            world.is_broken = False
            assert main.last is not None
            main.last.pause()
        return n

    @flow(deadline_s=25)
    def main() -> int:
        return work(0) + work(1)

    with pytest.raises(iron.RunInterrupted):
        main()
    clock.advance(1000)
    lab.cell()
    assert main() == 1


def test_a_child_fails_by_its_own_time_and_its_parent_may_go_on(lab: Lab, clock: Time) -> None:
    @step
    def slow() -> None:
        clock.advance(11)

    @flow(timeout_s=10)
    def child() -> None:
        slow()

    @flow
    def main() -> str:
        try:
            child()
        except TimeoutError as error:
            return type(error).__name__
        return "in time"

    assert main() == "RunTimeout"
    assert sorted(iron.steps()["status"]) == ["timed_out", "timed_out"]


def test_a_child_of_a_parent_whose_time_is_up_is_interrupted(lab: Lab, gate: threading.Event) -> None:
    with pytest.raises(RunTimeout):
        ways(Hanging(gate), 3)["in_a_child"].start().result(timeout_s=LIMIT_S)
    assert sorted(iron.runs()["status"]) == ["failed", "interrupted"]


def test_a_flow_that_returns_too_late_has_timed_out(lab: Lab, clock: Time) -> None:
    @flow(timeout_s=10)
    def main() -> str:
        clock.advance(11)
        return "late"

    with pytest.raises(RunTimeout):
        main()


def test_a_graph_has_the_limits_of_a_flow(lab: Lab, clock: Time) -> None:
    graph = iron.Graph.from_yaml(
        "graph: slow\nnodes: [{id: a, python: work}, {id: b, python: work}]",
        functions={"work": lambda: clock.advance(6)},
    )
    with pytest.raises(RunTimeout, match="slow took longer than its timeout_s of 10 s"):
        graph.options(timeout_s=10)()
    assert list(iron.steps()["status"]) == ["completed", "timed_out"]


def test_a_task_that_calls_a_step_when_its_flow_has_failed_does_not_hold_the_loop(lab: Lab) -> None:
    called: list[str] = []

    @step
    async def going_on() -> None:
        await asyncio.sleep(0.3)

    @step
    def late() -> None: ...

    @flow(timeout_s=100)
    async def main() -> None:
        async def call_late() -> None:
            await asyncio.sleep(0.05)
            called.append("late")
            late()

        tasks = [asyncio.create_task(going_on()), asyncio.create_task(call_late())]
        await asyncio.sleep(0)
        raise ValueError(f"{len(tasks)} tasks are left")

    with pytest.raises(ValueError, match="2 tasks are left"):
        main.start().result(timeout_s=LIMIT_S)
    assert called == ["late"]
