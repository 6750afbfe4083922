"""Runs in lanes: a start that waits is pending and holds no thread, and what waits as a whole holds no place."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.core.lane_rules import MOST_WAITING
from ironflow_nb.core.status import RunStatus
from ironflow_nb.errors import DefinitionError
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.journal.ports import Durability
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from tests.lanes.conftest import Room, places, until
from tests.walks import walked

ROOM: list[Room] = []


@pytest.fixture
def room() -> Room:
    ROOM[:] = [Room()]
    return ROOM[0]


@step
def work(n: int) -> int:
    return ROOM[0].work(n)  # type: ignore[return-value]


@flow(lane=iron.Lane("runs", limit=2))
def one(n: int) -> int:
    return work(n)


@flow(lane=iron.Lane("async runs", limit=2))
async def one_async(n: int) -> int:
    return await work.submit(n)


@pytest.mark.parametrize("definition", [one, one_async])
def test_starts_that_wait_are_pending_and_hold_no_thread(engine: Engine, room: Room, definition: Any) -> None:
    room.door.clear()
    runs = [definition.start(n) for n in range(12)]
    until(lambda: len(room.inside) == 2)
    n_threads = threading.active_count()
    assert [run.status for run in runs] == ["running"] * 2 + ["pending"] * 10
    runs += [definition.start(n) for n in range(12, 20)]
    assert threading.active_count() <= n_threads + 1  # the background thread may have begun meanwhile
    assert runs[-1].status is RunStatus.PENDING
    room.door.set()
    assert [run.result() for run in runs] == [*range(20)]
    assert room.most == 2
    until(lambda: places(engine) == [])


def test_queued_runs_are_passed_over_by_the_engine_until_they_begin_or_are_stopped(engine: Engine, room: Room) -> None:
    room.door.clear()
    runs = [one.start(n) for n in range(6)]
    until(lambda: [engine.sessions[run.id].is_only_queued for run in runs] == [False] * 2 + [True] * 4)
    runs[4].pause()
    runs[5].cancel()
    until(lambda: (runs[4].status, runs[5].status) == ("paused", "cancelled"))
    room.door.set()
    assert [run.result() for run in runs[:4]] == [0, 1, 2, 3]
    assert runs[4].resume().result() == 4


def test_a_start_looks_at_no_run_that_is_only_queued(engine: Engine, room: Room) -> None:
    room.door.clear()
    runs = [one.start(n) for n in range(2)]
    n_calls = []
    for _ in range(2):
        with walked() as walk:
            runs += [one.start(n) for n in range(30)]
        n_calls.append(sum(function.endswith("is_only_queued") for _, function in walk.entered))
    assert max(n_calls) <= 30 * 8  # two that are at work, the one before, and itself
    for run in runs:
        run.cancel()
    room.door.set()
    until(lambda: places(engine) == [])


def test_a_start_reads_no_more_of_a_long_queue_than_of_a_short_one(engine: Engine, room: Room) -> None:
    room.door.clear()
    runs = [one.start(n) for n in range(MOST_WAITING + 5)]
    connection, n_hundreds = engine.journal._writer(), []  # type: ignore[attr-defined]
    for n_runs in (10, MOST_WAITING, 10):
        found: list[int] = []
        with engine.access.lock:
            connection.set_progress_handler(lambda found=found: found.append(threading.get_ident()), 100)
        runs += [one.start(n) for n in range(n_runs)]
        n_hundreds.append(found.count(threading.get_ident()))  # instructions of SQLite for this thread
    with engine.access.lock:
        connection.set_progress_handler(None, 0)
    assert n_hundreds[2] <= 1.1 * n_hundreds[0]
    for run in runs:
        run.cancel()
    room.door.set()
    until(lambda: places(engine) == [])


def test_what_a_queued_run_has_to_say_is_written_before_history_is_read(engine: Engine, room: Room) -> None:
    room.door.clear()
    runs = [one.start(n) for n in range(4)]
    engine.flush()
    assert [run.status for run in runs] == ["running"] * 2 + ["pending"] * 2
    runs[3].cancel()
    until(lambda: runs[3].status == "cancelled")
    room.door.set()
    assert [run.result() for run in runs[:3]] == [0, 1, 2]
    assert [len(run.steps()) for run in runs[:3]] == [1, 1, 1]


def test_of_those_who_wait_the_highest_priority_is_first_then_the_order_of_starts(engine: Engine, room: Room) -> None:
    single = one.options(lane="single")
    room.door.clear()
    runs = [single.start(0)]
    runs += [single.options(priority=n % 3).start(n) for n in range(1, 9)]
    until(lambda: len(places(engine)) == 9)
    room.door.set()
    assert [run.result() for run in runs] == [*range(9)]
    assert room.came == [0, 2, 5, 8, 1, 4, 7, 3, 6]


def test_a_pending_run_is_cancelled_without_running_any_of_its_code(engine: Engine, room: Room) -> None:
    ran: list[int] = []

    @flow(lane="single")
    def main(n: int) -> int:
        ran.append(n)
        return work(n)

    room.door.clear()
    first, second, third = [main.start(n) for n in range(3)]
    until(lambda: room.inside)
    second.cancel()
    until(lambda: second.status is RunStatus.CANCELLED)
    room.door.set()
    assert (first.result(), third.result()) == (0, 2)
    assert ran == [0, 2]


@flow(lane="waiting")
def waits(n: int) -> Any:
    return work(n), iron.wait_for("go"), work(n)


@flow(lane="waiting")
async def waits_async(n: int) -> Any:
    return await work.submit(n), await iron.aio.wait_for("go"), await work.submit(n + 100)


@flow(lane="waiting")
def waits_in_a_child(n: int) -> Any:
    return inner(n)


@flow
def inner(n: int) -> Any:
    return work(n), iron.wait_for("go"), work(n)


def the_one_that_waits(definition: Any) -> Any:
    asked = inner if definition is waits_in_a_child else definition
    return iron.get_run(iron.runs(asked, status="waiting")["run_id"].iloc[0])


@pytest.mark.parametrize("definition", [waits, waits_async, waits_in_a_child])
@pytest.mark.parametrize("park_s", [60.0, 0.0])
def test_a_run_that_waits_for_a_signal_holds_no_place_and_takes_one_before_it_goes_on(
    tmp_path: Path, room: Room, definition: Any, park_s: float
) -> None:
    made = Engine(SqliteJournal(tmp_path / "journal.db"), durability=Durability.PROCESS, park_s=park_s)
    with REGISTRY.replaced(REGISTRY.adopt(made)):
        first = definition.start(1)
        until(lambda: first.status is RunStatus.WAITING and places(made) == [])
        room.door.clear()
        second = definition.start(2)
        until(lambda: room.inside == [2])
        the_one_that_waits(definition).signal("go", "now")
        until(lambda: len(places(made)) == 2)
        assert room.came == [1, 2]  # it waits for the place of the second run
        room.door.set()
        assert first.result()[1] == "now"
        until(lambda: second.status is RunStatus.WAITING)
        the_one_that_waits(definition).signal("go", "then")
        assert second.result()[1] == "then"
        until(lambda: places(made) == [])
    made.close()


def test_a_step_in_the_lane_of_its_own_run_would_wait_for_ever_and_is_refused(engine: Engine, room: Room) -> None:
    both = iron.Lane("both", limit=3)
    inside = work.options(lane=both)

    @flow(lane=both)
    def main() -> Any:
        return inside(1)

    with pytest.raises(DefinitionError, match=r"in lane 'both', in which its own run .* is: they would wait"):
        main()
    assert places(engine) == []


def test_a_child_in_a_lane_of_a_run_in_a_lane_is_refused(engine: Engine, room: Room) -> None:
    @flow(lane="outer")
    def main() -> Any:
        return one(1)

    with pytest.raises(DefinitionError, match="let only one of the two flows have a lane"):
        main()
    assert places(engine) == []


def test_a_child_in_a_lane_waits_for_its_place_while_its_parent_goes_on(engine: Engine, room: Room) -> None:
    @flow
    def main() -> Any:
        return iron.gather(*(partial(one, n) for n in range(6)))

    room.door.clear()
    run = main.start()
    until(lambda: len(room.inside) == 2)
    room.door.set()
    assert run.result() == [*range(6)]
    assert room.most == 2
    assert places(engine) == []


@pytest.mark.parametrize("key", [lambda n: None, lambda n: 1 / 0, "n.name"])
def test_a_start_without_a_key_is_refused_before_anything_is_recorded(engine: Engine, key: Any) -> None:
    with pytest.raises(DefinitionError, match="the key of lane 'by key'"):
        one.options(lane=iron.Lane("by key", key=key)).start(1)
    assert len(iron.runs()) == 0


def test_one_lane_for_runs_and_for_steps_is_refused_while_somebody_is_in_it(engine: Engine, room: Room) -> None:
    room.door.clear()
    run = one.options(lane="shared").start(1)
    until(lambda: room.inside)

    @flow
    def main() -> Any:
        return work.options(lane="shared")(2)

    with pytest.raises(DefinitionError, match=r"lane 'shared' has limit=1 for steps .* and limit=1 for runs"):
        main()
    room.door.set()
    assert run.result() == 1


def test_at_most_max_runs_are_at_work_and_their_children_do_not_count(tmp_path: Path, room: Room) -> None:
    @flow
    def main(n: int) -> int:
        return inner_work(n)

    @flow
    def inner_work(n: int) -> int:
        return work(n)

    with iron.open(tmp_path / "journal.db", max_runs=1, max_steps=1) as engine:
        assert main(-1) == -1
        runs = [main.start(n) for n in range(5)]
        assert [run.result() for run in runs] == [*range(5)]
        assert room.most == 1
        assert room.came == [-1, *range(5)]
        until(lambda: places(engine) == [])


def test_at_most_max_steps_bodies_are_at_work(tmp_path: Path, room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRONFLOW_MAX_CONCURRENT_TASKS", "3")

    @flow
    def main() -> Any:
        return list(work.map(range(12), concurrency=8)), [work.submit(n) for n in range(20, 30)][-1].result()

    with iron.open(tmp_path / "journal.db"):
        assert main() == ([*range(12)], 29)
    assert room.most <= 3


@pytest.mark.parametrize("number", [0, -1, 1.5, "many", True])
def test_how_many_may_be_at_work_is_a_whole_number_from_one(
    number: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for option in ("max_runs", "max_steps"):
        with pytest.raises(ValueError, match=f"{option} is a whole number from 1, not {number!r}"):
            iron.open(tmp_path / "journal.db", **{option: number})
    monkeypatch.setenv("IRONFLOW_MAX_CONCURRENT_WORKFLOWS", str(number))
    with pytest.raises(ValueError, match="IRONFLOW_MAX_CONCURRENT_WORKFLOWS is a whole number from 1"):
        iron.open(tmp_path / "journal.db")


def test_the_frame_of_lanes_tells_who_is_in_them_and_who_is_next(engine: Engine, room: Room) -> None:
    assert list(iron.lanes()["lane"]) == []
    room.door.clear()
    runs = [one.start(n) for n in range(4)]
    inside = work.options(lane=iron.Lane("api", rate="1/h", key="n"), name="inside")

    @flow
    def main() -> Any:
        return inside(7)

    other = main.start()
    until(lambda: len(room.inside) == 3)
    found = iron.lanes().set_index("lane")
    assert found.loc["runs", ["kind", "limit", "held", "waiting"]].tolist() == ["runs", 2, 2, 2]
    assert found.loc["runs", "holders"] == ", ".join(run.id for run in runs[:2])
    assert found.loc["runs", "next"] == ", ".join(run.id for run in runs[2:])
    assert found.loc["api", ["key", "rate", "held"]].tolist() == ["7", "1/h", 1]
    assert found.loc["api", "holders"] == f"{other.id} inside[0]"
    room.door.set()
    for run in [*runs, other]:
        run.result()
