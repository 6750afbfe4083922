"""However many processes fire, and whenever they die, each instant and each event is one run."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.execution import Engine, RunWorker
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.journal.ports import Durability, QueueSelect
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from ironflow_nb.testing.clock import SimClock
from ironflow_nb.testing.process_death import MOMENTS, Died, DyingJournal, abandon, outcome_of, process_on
from ironflow_nb.testing.simulated_time import pass_time
from ironflow_nb.triggers.trigger_rows import triggers_of
from tests.conftest import FULL_PROOF
from tests.triggers.conftest import forgotten_definitions
from tests.waits.conftest import until

with forgotten_definitions():  # so that other tests do not start its flows
    from tests.triggers import firing


class Processes:
    """Processes that fire what is due on one journal, each with the flows of `firing`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.stop = folder, folder / "stop"
        self.notes = folder / "notes"
        self.running: list[subprocess.Popen[str]] = []

    def begin(self, n: int) -> None:
        where = [str(self.folder / "journal.db"), str(self.stop), str(self.notes)]
        command = [sys.executable, "-m", "tests.triggers.firing", *where]
        begun = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(n)]
        for process in begun:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        self.running += begun

    def kill(self, number: int) -> None:
        process = self.running.pop(number)
        process.kill()
        process.communicate()

    def end(self) -> None:
        self.stop.touch()
        while self.running:
            process = self.running.pop()
            process.communicate()
            assert process.returncode == 0

    def noted(self) -> Counter[str]:
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        return Counter(line.rpartition(" ")[0] for line in lines)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    made = Processes(tmp_path)
    yield made
    while made.running:
        made.kill(0)


def fired(kind: str) -> list[str]:
    """Return the instants or events of all runs that a trigger of that kind has begun, in order."""
    return sorted(key for key in iron.runs()["key"] if key.startswith(kind))


@pytest.mark.slow
@pytest.mark.crash
def test_four_processes_of_which_two_are_killed_fire_each_instant_and_each_event_once(
    processes: Processes, tmp_path: Path
) -> None:
    processes.begin(4)
    with iron.open(tmp_path / "journal.db", durability="process"):
        for number in range(10):
            iron.emit("order.placed", {"id": number}, key=f"{number}")
        until(lambda: len(fired("schedule")) >= 5)
        processes.kill(0)
        for number in range(20):
            iron.emit("order.placed", {"id": number}, key=f"{number}")
        n_fired = len(fired("schedule"))
        until(lambda: len(fired("schedule")) >= n_fired + 5)
        processes.kill(0)
        n_fired = len(fired("schedule"))
        until(lambda: len(fired("schedule")) >= n_fired + 5 and len(fired("event")) == 20)
        processes.end()
        instants = [datetime.fromisoformat(key.rpartition(" ")[2]) for key in fired("schedule")]
        gaps = {after - before for before, after in pairwise(instants)}
        assert gaps == {timedelta(seconds=0.1)}
        assert iron.schedules()["n_fired"].tolist() == [len(instants)]
        assert len(fired("event")) == 20
        with forgotten_definitions():
            firing.NOTES[:] = [processes.notes]
            REGISTRY.define(firing.tick)
            REGISTRY.define(firing.fulfil)
            firing.tick.schedule().remove()
            finish_all(iron.engine())
        assert set(iron.runs("fulfil")["status"]) == {"completed"}
        assert all(processes.noted()[f"order {number}"] >= 1 for number in range(20))


def finish_all(engine: Engine) -> None:
    """Have a worker go on with what others have begun, and were killed or closed before it ended."""
    worker = RunWorker(engine)

    def is_finished() -> bool:
        worker.look(is_new=True)
        return set(iron.runs(engine=engine, limit=100_000)["status"]) == {"completed"}

    until(is_finished)


@step
def work(n: int) -> int:
    return n


def define() -> tuple[Any, Any, Any, Any]:
    @flow(name="report")
    def report(n: int) -> int:
        return work(n)

    @flow(name="fulfil", on="order.placed", debounce_s=90)
    def fulfil(n: int) -> int:
        return work(n)

    @flow(name="order")
    def order(n: int) -> str:
        return iron.emit("order.placed", n)

    @flow(name="order_async")
    async def order_async(n: int) -> str:
        work(n)
        return iron.emit("order.placed", n)

    return report, fulfil, order, order_async


def program(clock: SimClock, dies: Callable[[], bool]) -> None:
    """Schedule, emit and let time pass; every call that a dying process made is made again by the next."""
    report, _, order, order_async = define()
    engine = REGISTRY.engine()
    report.schedule(every_s=60, catch_up="all", args=(1,))
    iron.emit("order.placed", 1, key="first")
    order.options(key="an order")(2)
    if order_async.last is None or order_async.last.status != "completed":
        outcome_of(order_async.options(key="an order"), (3,), is_dead=dies)
    while clock.now() < END and not dies():
        pass_time(engine, 30)


BEGIN_AT = SimClock().now()
END = BEGIN_AT + 130_000_000


@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.sampled(1)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_death_at_any_commit_repeats_no_instant_and_no_event_and_loses_none(tmp_path: Path, moment: str) -> None:
    commit, is_over = 0, False
    while not is_over:
        commit += 1
        journal, clock = SqliteJournal(tmp_path / f"{moment}{commit}" / "journal.db"), SimClock()
        dying = DyingJournal(journal, at_commit=commit, moment=moment)
        with forgotten_definitions():
            with process_on(dying, Durability.PROCESS, clock) as engine:
                with contextlib.suppress(Died):
                    program(clock, lambda dying=dying: dying.is_dead)
                abandon(engine)
                owner = engine.owner
            is_over = not dying.is_dead
            with process_on(journal, Durability.PROCESS, clock) as engine:
                journal.release(owner)
                program(clock, lambda: False)
                pass_time(engine, 100)
                finish_all(engine)
                _check(engine, f"died {moment} commit {commit}")
    assert commit > 20


@pytest.mark.slow
@pytest.mark.crash
@given(
    every_s=st.integers(20, 200),
    lives=st.lists(
        st.tuples(st.integers(1, 40), st.sampled_from(MOMENTS), st.integers(0, 600)), min_size=1, max_size=5
    ),
)
@settings(max_examples=20 if FULL_PROOF else 6)
def test_whatever_the_clock_does_and_whenever_processes_die_each_instant_is_one_run(
    every_s: int, lives: list[tuple[int, str, int]]
) -> None:
    """In each life the process dies at a commit, after which time passes without any."""
    with TemporaryDirectory() as folder, forgotten_definitions():
        journal, clock = SqliteJournal(Path(folder) / "journal.db"), SimClock()
        for commit, moment, away_s in lives:
            dying = DyingJournal(journal, at_commit=commit, moment=moment)
            with process_on(dying, Durability.PROCESS, clock) as engine:
                with contextlib.suppress(Died):
                    live(engine, every_s, clock, dying)
                abandon(engine)
            journal.release(engine.owner)
            clock.advance(away_s)
        with process_on(journal, Durability.PROCESS, clock) as engine:
            report, fulfil, *_ = define()
            schedule = report.schedule(every_s=every_s, catch_up="all", args=(1,))
            iron.emit("order.placed", 1, key="first")
            pass_time(engine, 300)
            begun_at = round(min(iron.schedules()["created_at"]).timestamp() * 1e6)
            n_due = (clock.now() - begun_at) // (every_s * 1_000_000)
            keys = [
                f"schedule report {datetime.fromtimestamp(begun_at / 1e6 + n * every_s, UTC).isoformat()}"
                for n in range(1, n_due + 1)
            ]
            assert sorted(report.runs()["key"]) == sorted(keys)
            assert (schedule.n_fired, schedule.n_missed) == (n_due, 0)
            assert len(fulfil.runs()) == 1


def live(engine: Engine, every_s: int, clock: SimClock, dying: DyingJournal) -> None:
    report, *_ = define()
    report.schedule(every_s=every_s, catch_up="all", args=(1,))
    iron.emit("order.placed", 1, key="first")
    for _ in range(10):
        if not dying.is_dead:
            pass_time(engine, every_s / 2)


def _check(engine: Engine, where: str) -> None:
    report, fulfil, order, order_async = define()
    instants = [datetime.fromisoformat(key.rpartition(" ")[2]) for key in sorted(report.runs()["key"])]
    began_at = instants[0] - timedelta(seconds=60)
    assert instants == [began_at + timedelta(seconds=60 * n) for n in range(1, len(instants) + 1)], where
    assert len(instants) >= 3, where
    assert report.schedule().n_fired == len(instants), where
    assert len(fulfil.runs()) == 1, f"{where}: {fulfil.runs()}"
    assert [len(each.runs()) for each in (order, order_async)] == [1, 1], where
    with engine.reading() as reader:
        assert len(triggers_of(reader).events()) == 3, where
        assert {item.kind for item in reader.work(QueueSelect())} == {"schedule"}, where
