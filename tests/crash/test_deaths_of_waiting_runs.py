"""Whenever the process of a run dies that does nothing but wait, another process continues it when its time comes."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.core.events import WaitStarted
from ironflow_nb.core.status import RunStatus, StepStatus
from ironflow_nb.errors import EngineClosed
from ironflow_nb.execution import AwaitedWakeup, Wakeup
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.runs.signals import send_signal
from ironflow_nb.execution.runs.waker import Waker
from ironflow_nb.execution.runs.worker import RunWorker
from ironflow_nb.journal.ports import Durability, Lease, Reader, RunCommit, Select
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from ironflow_nb.testing.clock import SimClock
from ironflow_nb.testing.process_death import (
    AFTER,
    LIMIT_S,
    Died,
    DyingJournal,
    abandon,
    end_waits,
    outcome_of,
    process_on,
)

pytestmark = [pytest.mark.crash, pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")]

BODIES: list[int] = []


@step
def work(n: int) -> int:
    BODIES.append(n)
    return n


@flow
def sleeps() -> Any:
    return work(1), iron.sleep(5), work(2)


@flow
async def sleeps_async() -> Any:
    return work(1), await iron.aio.sleep(5), work(2)


@flow
def awaits() -> Any:
    with suppress(TimeoutError):
        return iron.wait_for(iron.any_of("this", "that"), timeout_s=5)
    return "late"


@flow
async def asks_async() -> Any:
    with suppress(TimeoutError):
        return await iron.aio.approve("Go on?", timeout_s=5)
    return "late"


@flow
def around() -> Any:
    return work(3), sleeps(), work(4)


@flow
async def around_async() -> Any:
    return work(3), await sleeps_async(), work(4)


@flow
def branches() -> Any:
    return iron.gather(partial(iron.sleep, 5), partial(iron.sleep, 7)), work(5)


@flow
async def tasks() -> Any:
    return await asyncio.gather(iron.aio.sleep(5), iron.aio.sleep(7)), work(5)


@flow
def beside() -> Any:
    return iron.gather(awaits, partial(around)), work(6)


@flow
async def beside_async() -> Any:
    return await asyncio.gather(asks_async(), around_async()), work(6)


N_LINES = {
    sleeps: 1, sleeps_async: 1, awaits: 1, asks_async: 1, around: 1, around_async: 1, branches: 2, tasks: 2,
    beside: 2, beside_async: 2,
}  # fmt: skip
"""How many waits are open when everything in the run waits."""
FLOWS = pytest.mark.parametrize("flow", N_LINES, ids=lambda each: each.name.rpartition(".")[2])


class StandingClock(SimClock):
    """A clock that stands still until it is moved."""

    def wait(self, wakeup: Wakeup, timeout_s: float | None, *, is_idle: bool = False) -> bool:
        return wakeup.take(timeout_s)

    async def wait_on_loop(self, wakeup: AwaitedWakeup, timeout_s: float | None, *, is_idle: bool = False) -> bool:
        return await wakeup.taken(timeout_s)


class Dying(DyingJournal):
    """A journal whose process dies after one of its commits, or, if it comes first, after that of the last wait."""

    def __init__(self, path: Path, at_commit: int, n_waits: int) -> None:
        super().__init__(SqliteJournal(path), at_commit=at_commit, moment=AFTER)
        self.n_waits = n_waits

    def append(self, entries: Sequence[RunCommit], *, durability: Durability, lease: Lease | None = None) -> None:
        super().append(entries, durability=durability, lease=lease)
        self.n_waits -= sum(type(each.event) is WaitStarted for entry in entries for each in entry.events)
        if self.n_waits == 0:
            self._die()


class Deaths:
    """Processes that die one after the other on one journal."""

    def __init__(self, folder: Path) -> None:
        BODIES.clear()
        self.path = folder / "journal.db"
        self.clock = StandingClock()

    def dies(self, act: Callable[[Engine, DyingJournal], object], at_commit: int, n_waits: int = -1) -> bool:
        """Act in a process that dies at that commit; return True if it does."""
        dying = Dying(self.path, at_commit, n_waits)
        with process_on(dying, Durability.PROCESS, self.clock) as engine:
            self.bury(engine)
            dying.when_dead = partial(end_waits, engine)
            with suppress(Died, EngineClosed):
                act(engine, dying)
            abandon(engine)
        dying.journal.close()
        return dying.is_dead

    def bury(self, engine: Engine) -> None:
        """Release the owners that have died: their process is this one, which is alive."""
        if engine.journal.exists():
            with engine.reading() as reader:
                owners = reader.leases()
            engine.journal.release(*owners)

    def called(self, flow: Any, at_commit: int = 1000) -> None:
        """Call the flow in a process that dies at that commit, and at the latest when all of it waits."""
        assert self.dies(lambda _, dying: outcome_of(flow, is_dead=lambda: dying.is_dead), at_commit, N_LINES[flow])

    def read(self) -> tuple[RunStatus | None, int, int]:
        """Return the status of the outermost run, how many waits are open, and how many have ended."""
        journal = SqliteJournal(self.path)
        if not journal.exists():
            return None, 0, 0
        with journal.reading() as reader:
            found = _status(reader), *_waits(reader)
        journal.close()
        return found

    def woken(self) -> RunStatus | None:
        """Return the status of the outermost run after a process has looked for runs that it can continue."""
        with process_on(SqliteJournal(self.path), Durability.PROCESS, self.clock) as engine:
            self.bury(engine)
            wake(engine)
            with engine.reading() as reader:
                return _status(reader)


def wake(engine: Engine, dying: DyingJournal | None = None, make: Callable[[Engine], Waker] = Waker) -> None:
    make(engine).look(is_new=True)
    pause = threading.Event()
    for _ in range(round(LIMIT_S * 1000)):
        if (dying is not None and dying.is_dead) or not any(each.is_open for each in [*engine.sessions.values()]):
            return
        pause.wait(0.001)
    raise AssertionError("the run does not end")


def _status(reader: Reader) -> RunStatus | None:
    return next((run.status for run in reader.runs(Select()) if run.parent_run_id is None), None)


def _waits(reader: Reader) -> tuple[int, int]:
    waits = [row for row in reader.steps(Select()) if row.name.startswith("iron.")]
    n_open = sum(row.status is StepStatus.WAITING for row in waits)
    return n_open, len(waits) - n_open


@FLOWS
def test_a_run_that_waits_when_its_process_dies_goes_on_by_itself(tmp_path: Path, flow: Any) -> None:
    commit, status = 0, None
    while status is not RunStatus.WAITING:
        commit += 1
        deaths = Deaths(tmp_path / str(commit))
        deaths.called(flow, commit)
        status, n_open, _ = deaths.read()
        assert (status is RunStatus.WAITING) == (n_open == N_LINES[flow]), f"died after commit {commit}"
        deaths.clock.advance(60)
        # What is at work may be what has ended its process.
        assert deaths.woken() is (RunStatus.COMPLETED if status is RunStatus.WAITING else RunStatus.RUNNING)
        assert set(Counter(BODIES).values()) <= {1}


@FLOWS
@pytest.mark.parametrize("make", [Waker, RunWorker])
def test_a_run_goes_on_if_the_process_dies_that_continues_it(tmp_path: Path, flow: Any, make: type[Waker]) -> None:
    Deaths(tmp_path / "first").called(flow)
    commit = n_again = 0
    is_dead = True
    while is_dead:
        commit += 1
        copytree(tmp_path / "first", tmp_path / f"{commit}")
        deaths = Deaths(tmp_path / f"{commit}")
        deaths.clock.advance(60)
        is_dead = deaths.dies(partial(wake, make=make), commit)
        _, n_open, n_ended = deaths.read()
        if is_dead and n_ended == 0:
            assert n_open == N_LINES[flow]
            n_again += 1
            assert deaths.woken() is RunStatus.COMPLETED, f"died after commit {commit}"
            assert set(Counter(BODIES).values()) <= {1}
    assert n_again >= 1


def test_a_run_whose_replay_ends_two_processes_is_interrupted(tmp_path: Path) -> None:
    deaths = Deaths(tmp_path)
    deaths.called(sleeps)
    deaths.clock.advance(60)
    assert deaths.dies(wake, 1)
    assert deaths.dies(wake, 1)
    assert deaths.woken() is RunStatus.RUNNING


@pytest.mark.parametrize("commit", range(1, 5))
def test_a_signal_is_heard_wherever_the_process_died_that_waited_for_it(tmp_path: Path, commit: int) -> None:
    deaths = Deaths(tmp_path)
    deaths.called(awaits)

    def send_and_wake(engine: Engine, dying: DyingJournal) -> None:
        with engine.reading() as reader:
            [run] = reader.runs(Select())
        send_signal(engine, run.run_id, "that", 7)
        wake(engine, dying)

    is_dead = deaths.dies(send_and_wake, commit)
    assert is_dead == (commit < 4)
    status = deaths.woken()
    is_going_on = commit == 2  # the wait has ended, and then the process has died at work
    assert status is (RunStatus.RUNNING if is_going_on else RunStatus.COMPLETED)
