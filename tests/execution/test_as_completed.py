"""Results in the order in which they come: a replay takes them in the order that is recorded."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import aio, flow, step
from ironflow_nb.errors import AsyncMismatch, ResultTimeout, RunInterrupted
from ironflow_nb.testing.clock import SimClock
from tests.cells import World
from tests.conftest import Lab

LIMIT_S = 20.0
GATES: dict[int, threading.Event] = {}
CLOCKS: list[SimClock] = []


@pytest.fixture(autouse=True)
def gates() -> Iterator[None]:
    GATES.update({n: threading.Event() for n in range(4)})
    yield
    for gate in GATES.values():
        gate.set()


@step
def gated(n: int) -> int:
    """End once somebody opens the gate of that number."""
    assert GATES[n].wait(LIMIT_S)
    return n


@step
async def gated_async(n: int) -> int:
    while not GATES[n].is_set():
        await asyncio.sleep(0.001)
    return n


@step
def opens(n: int) -> int:
    GATES[n].set()
    return n


@step
def fails(n: int) -> int:
    raise ValueError(n)


def opened(n: int) -> int:
    return gated(n)


def took(world: World, futures: Any, opening: tuple[int, ...]) -> list[int]:
    """Take all, opening a gate before each."""
    taken = []
    for n in opening:
        GATES[n].set()
        taken.append(next(futures).result())
        opens(n)
        if world.plan == taken:
            world.die()
    return taken


@pytest.mark.parametrize("form", ["futures", "functions"])
def test_they_are_taken_in_the_order_in_which_they_end(lab: Lab, form: str) -> None:
    world = World(lab.die_in_flow)

    @flow
    def main(opening: tuple[int, ...]) -> list[int]:
        calls: Any = [gated.submit(n) if form == "futures" else partial(opened, n) for n in range(3)]
        return took(world, iron.as_completed(calls), opening)

    assert main((1, 2, 0)) == [1, 2, 0]


@pytest.mark.parametrize("form", ["futures", "functions"])
@pytest.mark.parametrize("dies_after", [[2], [2, 0]])
def test_a_continued_run_takes_them_in_the_order_of_before(lab: Lab, form: str, dies_after: list[int]) -> None:
    world = World(lab.die_in_flow)
    world.plan = dies_after

    @flow
    def main() -> list[int]:
        calls: Any = [gated.submit(n) if form == "futures" else partial(opened, n) for n in range(3)]
        return took(world, iron.as_completed(calls), (2, 0, 1))

    with pytest.raises(SystemExit):
        main()
    world.plan = []
    for gate in GATES.values():
        gate.set()
    assert main() == [2, 0, 1]


def test_the_winner_stays_the_winner(lab: Lab) -> None:
    world = World(lab.die_in_flow)

    @flow
    def main() -> int:
        calls = [gated.submit(n) for n in range(2)]
        GATES[1].set()
        winner = next(iter(iron.as_completed(calls))).result()
        opens(winner)
        if world.is_broken:
            GATES[0].set()  # the loser ends, too, before the process dies
            calls[0].result()
            world.die()
        return winner

    with pytest.raises(SystemExit):
        main()
    world.is_broken = False
    assert main() == 1


def test_an_order_is_recorded_before_a_body_begins_that_may_rest_on_it(lab: Lab) -> None:
    world = World(lab.die_in_flow)

    @step
    def use(winner: int) -> int:
        world.did(winner)
        if world.is_broken:
            world.die()
        return winner

    @flow
    def main() -> int:
        calls = [gated.submit(n) for n in range(2)]
        futures = iron.as_completed(calls)
        for n in (1, 0):
            GATES[n].set()
            calls[n].result()
        return use(next(futures).result())

    with pytest.raises(SystemExit):
        main()
    world.is_broken = False
    assert main() == 1
    assert world.log == [1, 1]


def test_an_async_flow_takes_coroutines_tasks_and_futures(lab: Lab) -> None:
    order: list[int] = []
    world = World(lab.die_in_flow)

    async def branch(n: int) -> int:
        return await gated_async(n)

    @flow
    async def main() -> list[int]:
        futures = aio.as_completed([gated_async(0), gated.submit(1), branch(2), asyncio.create_task(branch(3))])
        taken = []
        for n in order:
            GATES[n].set()
            taken.append(await (await anext(futures)))
            opens(n)
        for gate in GATES.values():
            gate.set()
        if world.is_broken:
            raise ConnectionError
        return taken + [await future async for future in futures]

    order[:] = [3, 1, 0]
    with pytest.raises(ConnectionError):
        asyncio.run(main())
    world.is_broken = False
    lab.die()
    assert asyncio.run(main()) == [3, 1, 0, 2]


def test_who_leaves_the_loop_leaves_the_rest_to_go_on(lab: Lab) -> None:
    @flow
    def main() -> int:
        GATES[1].set()
        for future in iron.as_completed([gated.submit(0), gated.submit(1)]):
            GATES[0].set()
            return future.result()
        return -1

    assert main() == 1
    assert main.last is not None
    steps = main.last.steps()
    assert set(steps.status[steps.name == "test_as_completed.gated"]) == {"completed"}


def test_an_edited_race_is_decided_anew(lab: Lab) -> None:
    world = World(lab.die_in_flow)

    @flow
    def main() -> int:
        winner = next(iter(iron.as_completed([gated.submit(world.plan[0]), gated.submit(1)]))).result()
        if world.is_broken:
            raise ConnectionError
        opens(2)
        return winner

    world.plan = [0]
    GATES[0].set()
    GATES[1].set()
    with pytest.raises(ConnectionError):
        main()
    world.plan, world.is_broken = [2], False  # the call that was the first may be gone for good
    lab.cell()
    assert main() == 1


def test_a_failure_is_raised_where_its_result_is_asked_for(lab: Lab) -> None:
    world = World(lab.die_in_flow)

    @flow
    def main() -> list[object]:
        taken: list[object] = []
        for future in iron.as_completed([fails.submit(0), gated.submit(1)]):
            try:
                taken.append(future.result())
            except ValueError as error:
                taken.append(str(error))
                GATES[1].set()
        opens(2)
        if world.is_broken:
            raise ConnectionError
        return taken

    with pytest.raises(ConnectionError):
        main()
    world.is_broken = False
    lab.die()
    assert main() == ["0", 1]


def test_a_function_whose_failure_nobody_looks_at_fails_the_run(lab: Lab) -> None:
    @flow
    def main() -> int:
        for future in iron.as_completed([partial(opened, 1), partial(fails, 0)]):
            GATES[1].set()
            if future.done() and "opened" in repr(future):
                return future.result()
        return -1

    with pytest.raises(ValueError, match="0"):
        main()


def test_a_time_limit_is_the_same_in_a_replay(lab: Lab) -> None:
    CLOCKS[:] = [lab.simulate_time()]
    world = World(lab.die_in_flow)

    @flow
    def main() -> list[object]:
        taken: list[object] = []
        try:
            for future in iron.as_completed([gated.submit(0), gated.submit(1)], timeout_s=60):
                taken.append(future.result())
                CLOCKS[0].advance(61)
        except TimeoutError:
            taken.append("late")
        GATES[1].set()
        opens(2)
        if world.is_broken:
            raise ConnectionError
        return taken

    GATES[0].set()
    with pytest.raises(ConnectionError):
        main()
    world.is_broken = False
    lab.die()
    assert main() == [0, "late"]


def test_a_time_limit_that_failed_the_run_begins_anew(lab: Lab) -> None:
    CLOCKS[:] = [lab.simulate_time()]

    @flow
    def main() -> list[int]:
        futures = iron.as_completed([gated.submit(0), gated.submit(1)], timeout_s=60)
        taken = [next(futures).result()]
        if not GATES[1].is_set():
            CLOCKS[0].advance(61)
        try:
            return [*taken, next(futures).result()]
        finally:
            GATES[1].set()

    GATES[0].set()
    with pytest.raises(ResultTimeout, match="1 of 2 calls did not end within 60 s"):
        main()
    lab.cell()
    assert main() == [0, 1]


def test_a_run_is_interrupted_where_it_waits_for_the_next_one(lab: Lab) -> None:
    @flow
    def main() -> list[int]:
        return [future.result() for future in iron.as_completed([partial(opened, 0), partial(opened, 1)])]

    run = main.start()
    run.pause()
    for gate in GATES.values():
        gate.set()
    with pytest.raises(RunInterrupted):
        run.result(LIMIT_S)
    assert sorted(run.resume().result(LIMIT_S)) == [0, 1]


def test_outside_of_a_flow_they_are_called_one_after_the_other() -> None:
    for gate in GATES.values():
        gate.set()
    assert [future.result() for future in iron.as_completed([partial(opened, 1), partial(opened, 0)])] == [1, 0]

    async def main() -> list[int]:
        return sorted([await each async for each in aio.as_completed([gated_async(0), gated_async(1)])])

    assert asyncio.run(main()) == [0, 1]


@pytest.mark.parametrize("given", [[1], ["fetch"], 3, None])
def test_what_is_no_call_is_refused(lab: Lab, given: Any) -> None:
    with pytest.raises(TypeError, match=r"as_completed takes"):
        iron.as_completed(given)


@pytest.mark.parametrize("timeout_s", [-1, float("nan"), "soon"])
def test_what_is_no_duration_is_refused(lab: Lab, timeout_s: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        iron.as_completed([], timeout_s=timeout_s)


def test_the_wrong_colour_names_the_right_one(lab: Lab) -> None:
    @flow
    async def in_async() -> None:
        iron.as_completed([partial(opened, 0)])

    @flow
    def in_def() -> None:
        aio.as_completed([])

    with pytest.raises(AsyncMismatch, match=r"iron\.aio\.as_completed"):
        asyncio.run(in_async())
    with pytest.raises(AsyncMismatch, match=r"use iron\.as_completed"):
        in_def()


@pytest.mark.parametrize("is_async", [False, True])
def test_a_race_of_waits_is_parked_and_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, is_async: bool
) -> None:
    @flow
    def race() -> list[str]:
        calls = [partial(iron.wait_for, "a"), partial(iron.wait_for, "b")]
        return [future.result() for future in iron.as_completed(calls)]

    @flow
    async def race_async() -> list[str]:
        return [await future async for future in aio.as_completed([aio.wait_for("a"), aio.wait_for("b")])]

    def is_parked(n_ended: int) -> bool:
        is_waiting = str(run.status) == "waiting" and not engine.sessions
        return is_waiting and run.events()["type"].tolist().count("WaitEnded") == n_ended

    with iron.open(tmp_path / "journal.db", park_s=0) as engine:
        run: Any = race_async.start() if is_async else race.start()
        for n_ended, signal in enumerate(("b", "a")):
            for _ in range(20_000):
                if is_parked(n_ended):
                    break
                GATES[0].wait(0.001)
            assert is_parked(n_ended)
            run.signal(signal, signal)
        assert run.result(LIMIT_S) == ["b", "a"]
        gc.collect()
    assert [record for record in caplog.records if record.name == "asyncio"] == []
