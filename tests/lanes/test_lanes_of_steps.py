"""Steps in lanes: no more at work than the limit, in the order of asking, whatever calls them."""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.core.identity import RunId
from ironflow_nb.core.lanes import LaneKind
from ironflow_nb.core.status import RunStatus
from ironflow_nb.errors import DefinitionError
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.testing.clock import SimClock
from ironflow_nb.testing.process_death import abandon
from tests.lanes.conftest import Room, places, until

TWO = iron.Lane("two", limit=2)


@pytest.fixture
def room() -> Room:
    return Room()


def test_a_map_a_submission_and_direct_calls_share_the_places_of_a_lane(engine: Engine, room: Room) -> None:
    @step(lane=TWO)
    def work(n: int) -> int:
        return room.work(n)  # type: ignore[return-value]

    @step(lane=TWO)
    async def ask(n: int) -> int:
        with room.entered(n):
            await asyncio.sleep(0.001)
        return n

    @flow
    def inner(n: int) -> int:
        return work(n)

    @flow
    def main() -> Any:
        mapped, asked = work.map(range(10), concurrency=8), ask.map(range(100, 110))
        submitted = [work.submit(n) for n in range(20, 30)]
        children = iron.gather(*(partial(inner, n) for n in range(40, 45)))
        return list(mapped), list(asked), [each.result() for each in submitted], children

    assert main() == ([*range(10)], [*range(100, 110)], [*range(20, 30)], [*range(40, 45)])
    assert room.most == 2
    assert places(engine) == []


def test_the_picture_says_for_which_lane_steps_wait(engine: Engine, room: Room) -> None:
    @step(lane=TWO)
    def work(n: int) -> int:
        return room.work(n)  # type: ignore[return-value]

    @flow
    def main(n: int) -> Any:
        return list(work.map(range(n)))

    @flow
    def second() -> int:
        return work(9)

    @flow
    async def third() -> int:
        return await work.submit(10)

    room.door.clear()
    runs = [main.start(4)]
    until(lambda: len(room.inside) == 2)
    runs += [second.start(), third.start()]
    until(lambda: all("waits for lane two" in run.diagram().text for run in runs))
    assert "○ work: pending (waits for lane two)" in runs[1].diagram().text
    assert "pending (waits for lane two)" in str(runs[2].diagram().svg)
    room.door.set()
    for run in runs:
        run.wait()
        assert "waits for" not in run.diagram().text


def test_tasks_of_an_async_flow_share_them_and_wait_without_blocking_the_loop(engine: Engine, room: Room) -> None:
    @step(lane=TWO)
    async def ask(n: int) -> int:
        with room.entered(n):
            await asyncio.sleep(0.001)
        return n

    @step(lane=TWO)
    def work(n: int) -> int:
        return room.work(n)  # type: ignore[return-value]

    @flow
    async def main() -> Any:
        return await asyncio.gather(*map(ask, range(10)), *map(work.submit, range(20, 25)), work.map(range(30, 35)))

    assert asyncio.run(main()) == [*range(10), *range(20, 25), [*range(30, 35)]]
    assert room.most == 2
    assert places(engine) == []


def test_those_who_wait_begin_in_the_order_of_asking_over_all_runs(engine: Engine, room: Room) -> None:
    @step(lane="one")
    def work(n: int) -> object:
        return room.work(n)

    @flow
    def main(n: int) -> object:
        return work(n)

    room.door.clear()
    runs = []
    for n in range(8):
        runs.append(main.start(n))
        until(lambda: len(places(engine)) == len(runs))
    room.door.set()
    assert [run.result() for run in runs] == [*range(8)] == room.came
    assert room.most == 1


def test_each_key_has_a_lane_of_its_own(engine: Engine, room: Room) -> None:
    @step(lane=iron.Lane("by user", key="user.id"))
    def work(user: dict[str, str], n: int) -> int:
        with room.entered((user["id"], n)):
            assert len([each for each in room.inside if each[0] == user["id"]]) == 1  # type: ignore[index]
            until(lambda: len({each[0] for each in room.came}) == 2)  # type: ignore[index]
        return n

    @flow
    def main() -> list[int]:
        users = [{"id": "ann"}, {"id": "bob"}] * 3
        return list(work.map(users, range(6)))

    assert main() == [*range(6)]


def test_what_waits_in_a_lane_is_pending_and_holds_no_thread_of_the_pool(engine: Engine, room: Room) -> None:
    @step(lane=iron.Lane("one", key=lambda n: "all"))
    def work(n: int) -> object:
        return room.work(n)

    @flow
    def main() -> Any:
        return list(work.map(range(6), concurrency=6))

    room.door.clear()
    run = main.start()
    until(lambda: len(iron.steps(run=run.id, status="pending")) == 5)
    until(lambda: engine.pool.n_unfinished == 1)
    queued = run.events().query("type == 'StepQueued'")
    assert {data["waits_for"] for data in queued["data"]} == {"lane one (all)"}
    room.door.set()
    assert run.result() == [*range(6)]
    assert set(run.steps()["status"]) == {"completed"}
    assert set(run.attempts()["attempt"]) == {1}


def test_no_two_steps_begin_faster_than_their_rate_says(tmp_path: Path) -> None:
    clock = SimClock()
    at: list[float] = []

    @step(lane=iron.Lane("api", rate="60/min", burst=2))
    def work(n: int) -> int:
        at.append(clock.monotonic())
        return n

    @step(lane=iron.Lane("other", rate="2/h"))
    async def seldom(n: int) -> int:
        at.append(clock.monotonic())
        return n

    @flow
    def main() -> Any:
        return [work(n) for n in range(3)], list(work.map(range(3, 6)))

    @flow
    async def slow() -> Any:
        return [await seldom(n) for n in range(3)]

    with iron.open(tmp_path / "journal.db", clock=clock):
        assert main() == ([0, 1, 2], [3, 4, 5])
        assert at[0] == at[1]
        assert all(later - earlier >= 1.0 - 1e-6 for earlier, later in pairwise(at[1:]))
        at.clear()
        assert slow.start().result() == [0, 1, 2]
        assert all(later - earlier >= 1800.0 - 1e-6 for earlier, later in pairwise(at))


def test_a_rate_does_not_wait_for_the_old_time_of_a_clock_that_was_set_back(tmp_path: Path) -> None:
    clock = SimClock()
    at: list[float] = []

    @step(lane=iron.Lane("seldom", rate="60/h"))
    def work(n: int) -> int:
        at.append(clock.monotonic())
        if n == 0:
            clock.advance(-86400)
        return n

    @flow
    def main() -> Any:
        return [work(n) for n in range(3)]

    with iron.open(tmp_path / "journal.db", clock=clock):
        assert main() == [0, 1, 2]
    assert [later - earlier for earlier, later in pairwise(at)] == pytest.approx([60.0, 60.0], abs=1.0)


def test_a_step_that_waits_for_its_retry_holds_no_place(engine: Engine, room: Room) -> None:
    @step(lane="one", retries=iron.Retry(attempts=2, delay_s=0.2))
    def work(n: int) -> int:
        with room.entered(n):
            if n == 0 and room.came.count(0) == 1:
                raise ConnectionError
        return n

    @flow
    def main() -> Any:
        failing = work.submit(0)
        until(lambda: room.came)
        return work(1), failing.result()

    assert main() == (1, 0)
    assert room.came == [0, 1, 0]
    assert places(engine) == []


def test_a_run_that_is_cancelled_leaves_the_queue(engine: Engine, room: Room) -> None:
    @step(lane="one")
    def work(n: int) -> object:
        return room.work(n)

    @flow
    def main(n: int, how: str) -> Any:
        return work(n) if how == "call" else list(work.map([n, -n]))

    @flow
    async def tasks(n: int) -> Any:
        return await asyncio.gather(work.submit(n))

    room.door.clear()
    first = main.start(1, "call")
    until(lambda: room.inside)
    others = [main.start(2, "call"), main.start(3, "map"), tasks.start(4)]
    until(lambda: len(places(engine)) == 5)
    for other in others:
        other.cancel()
    until(lambda: [other.status for other in others] == ["cancelled"] * 3)
    until(lambda: len(places(engine)) == 1)
    last = main.start(5, "call")
    room.door.set()
    assert (first.result(), last.result()) == (1, 5)
    assert room.came == [1, 5]


def test_a_place_of_a_process_that_died_is_free(tmp_path: Path, room: Room) -> None:
    @step(lane="one")
    def work(n: int) -> object:
        return room.work(n)

    @flow
    def main(n: int) -> object:
        return work(n)

    dead = iron.open(tmp_path / "journal.db")
    with REGISTRY.replaced(dead):
        held = dead.lanes.ask([iron.Lane("one").demand(LaneKind.STEPS, "")], RunId("dead"), None, lambda: None)
        assert held.is_given
    with iron.open(tmp_path / "journal.db") as living:
        run = main.start(1)
        until(lambda: len(places(living)) == 2)
        abandon(dead)
        living.journal.release(dead.owner)  # what the machine knows at once of a process that ended
        assert run.result() == 1
    dead.journal.close()


@pytest.mark.parametrize("how", ["call", "map", "submit"])
def test_a_call_without_a_key_fails_the_run_and_names_the_lane(engine: Engine, how: str) -> None:
    @step(lane=iron.Lane("by user", key=lambda n: {1: "ann"}[n]))
    def work(n: int) -> int:
        return n

    @flow
    def main(n: int) -> Any:
        return {"call": lambda: work(n), "map": lambda: list(work.map([n])), "submit": lambda: work.submit(n).result()}[
            how
        ]()

    with pytest.raises(DefinitionError, match=r"the key of lane 'by user' raised KeyError for .*work\[0\]: 2"):
        main(2)
    assert main.last is not None
    assert main.last.status is RunStatus.FAILED
    assert places(engine) == []
    main(1)


def test_one_lane_with_two_limits_is_refused_while_somebody_is_in_it(engine: Engine, room: Room) -> None:
    @step(lane=iron.Lane("api", limit=2))
    def work(n: int) -> object:
        return room.work(n)

    other = work.options(name="other", lane=iron.Lane("api", limit=3))

    @flow
    def main() -> Any:
        submitted = work.submit(1)
        until(lambda: room.inside)
        try:
            return other(2)
        finally:
            room.door.set()
            submitted.result()

    room.door.clear()
    with pytest.raises(DefinitionError, match=r"lane 'api' has limit=3 for steps .*limit=2 for steps .*same iron.Lane"):
        main()
    assert places(engine) == []


def test_a_recorded_result_needs_no_place(engine: Engine) -> None:
    @step(lane="one")
    def work(n: int) -> int:
        return n

    @flow
    def main(fails: list[int]) -> Any:
        first = work(1)
        if fails:
            raise ValueError(first)
        return first, work(2)

    with pytest.raises(ValueError, match="1"):
        main([1])
    held = engine.lanes.ask([iron.Lane("one").demand(LaneKind.STEPS, "")], RunId("other"), None, lambda: None)
    assert held.is_given
    assert main.last is not None
    with pytest.raises(ValueError, match="1"):
        main.last.resume().result()
    assert list(main.last.attempts()["attempt"]) == [1]
