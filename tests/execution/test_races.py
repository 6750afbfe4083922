"""What two processes do to each other between two of their reads, and what a journal refuses for a while."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from functools import partial
from pathlib import Path

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, gather, step
from ironflow_nb.core.events import RunCompleted
from ironflow_nb.core.identity import RunId
from ironflow_nb.core.status import RunStatus, StepStatus
from ironflow_nb.errors import JournalBusy, RunFinished
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.execution.session.attempts import Attempt
from ironflow_nb.execution.steps.context import SCOPE
from ironflow_nb.journal.ports import Durability, Lease, Reader, RunCommit, Select
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from ironflow_nb.testing.memory_journal import MemoryJournal
from tests.cells import World
from tests.conftest import Lab
from tests.contracts.histories import folded
from tests.waits.conftest import until

DONE: list[int] = []


@step
def work(n: int) -> int:
    DONE.append(n)
    return n


@flow
def main(n_steps: int) -> int:
    total = sum(work(n) for n in range(n_steps))
    raise RuntimeError(total)


class Rivalled(MemoryJournal):
    """A journal to which a rival writes just before it is read for the n-th time."""

    rival: Callable[[], None] | None = None
    n_reads = 0

    def current(self) -> AbstractContextManager[Reader]:
        self.n_reads -= 1
        if self.n_reads == 0 and self.rival is not None:
            self.rival()
        return super().current()


def kernel(journal: MemoryJournal, execution: str) -> Engine:
    return REGISTRY.adopt(Engine(journal, execution=lambda: execution))


def fail(engine: Engine) -> None:
    with engine, pytest.raises(RuntimeError):
        main.options(key="one")(3)


@pytest.mark.parametrize("read", [1, 2])
def test_a_run_that_somebody_has_just_continued_is_looked_at_again(read: int) -> None:
    DONE.clear()
    journal = Rivalled()
    fail(kernel(journal, "the first"))
    journal.rival = lambda: fail(kernel(journal, "the rival"))
    journal.n_reads = read
    fail(kernel(journal, "the second"))
    assert journal.n_reads <= 0
    with journal.reading() as reader:
        (run,) = reader.runs(Select())
        assert folded(reader.events(Select()), run.run_id).run == run
    assert run.n_sessions == 3
    assert DONE == [0, 1, 2]


class Refusing(MemoryJournal):
    """A journal that refuses some writes."""

    n_refusals = 0

    def append(self, entries: Sequence[RunCommit], *, durability: Durability, lease: Lease | None = None) -> None:
        if self.n_refusals:
            self.n_refusals -= 1
            raise JournalBusy("another process holds the journal", path=self.location)
        super().append(entries, durability=durability, lease=lease)


TO_REFUSE: list[Refusing] = []


@flow
def refused_once() -> int:
    while TO_REFUSE:
        TO_REFUSE.pop().n_refusals = 1
        raise KeyError("an error")
    return 1


def test_an_end_that_the_journal_refuses_is_recorded_as_soon_as_it_does_not() -> None:
    journal = Refusing()

    @flow
    def ends() -> None:
        work(1)
        journal.n_refusals = 3
        raise KeyError("an error")

    with kernel(journal, "a cell"):
        with pytest.raises(KeyError):
            ends()
        assert ends.last is not None
        assert ends.last.status in {RunStatus.INTERRUPTED, RunStatus.FAILED}
        deadline = time.monotonic() + 20
        while journal.reading().__enter__().runs(Select())[0].status is RunStatus.RUNNING:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with pytest.raises(KeyError):
            ends.last.result()


def test_an_end_that_was_refused_is_recorded_before_the_run_continues() -> None:
    journal = Refusing()
    TO_REFUSE.append(journal)
    with kernel(journal, "a cell"):
        with pytest.raises(KeyError):
            refused_once.options(key="one")()
        assert refused_once.options(key="one")() == 1
    with journal.reading() as reader:
        types = [row.type for row in reader.events(Select())]
    assert types == ["RunStarted", "RunFailed", "RunContinued", "RunCompleted"]


class RefusingFailures(MemoryJournal):
    """A journal that refuses the failures of runs, as long as it is told to."""

    is_refusing = True

    def append(self, entries: Sequence[RunCommit], *, durability: Durability, lease: Lease | None = None) -> None:
        types = [type(recorded.event).__name__ for entry in entries for recorded in entry.events]
        if self.is_refusing and "RunFailed" in types:
            raise JournalBusy("another process holds the journal", path=self.location)
        super().append(entries, durability=durability, lease=lease)


@flow
def failing_child() -> None:
    work(1)
    raise KeyError("an error")


@flow
async def failing_async_child() -> None:
    failing_child.fn()


@flow
def handling() -> str:
    try:
        failing_child()
    except KeyError:
        return "handled"
    return "not reached"


@flow
async def handling_async() -> str:
    try:
        await failing_async_child()
    except KeyError:
        return "handled"
    return "not reached"


@pytest.mark.parametrize("parent", [handling, handling_async], ids=["def", "async"])
def test_a_parent_does_not_record_the_failure_of_a_child_whose_end_the_journal_refused(parent: iron.Flow) -> None:
    def call() -> object:
        called = parent.options(key="one")()
        return asyncio.run(called) if parent.spec.is_async else called

    journal = RefusingFailures()
    with kernel(journal, "a cell"):
        with pytest.raises(JournalBusy):
            call()
        with journal.reading() as reader:
            (called,) = [row for row in reader.steps(Select()) if row.child_run_id is not None]
        assert called.status is StepStatus.RUNNING  # a process that dies now leaves a child that is continued
        journal.is_refusing = False
        assert call() == "handled"
    with journal.reading() as reader:
        ends = {run.parent_run_id is None: run.status for run in reader.runs(Select())}
    assert ends == {True: RunStatus.COMPLETED, False: RunStatus.FAILED}


def test_what_the_engine_reads_at_once_is_of_one_moment(lab: Lab, tmp_path: Path) -> None:
    journal = lab.engine.journal
    if not isinstance(journal, SqliteJournal):
        pytest.skip("the journal in memory is not shared between processes")
    for _ in range(2):
        lab.cell()
        with pytest.raises(RuntimeError):
            main(1)
    other = SqliteJournal(tmp_path / "journal.db")
    with closing(other), lab.engine.access.current() as reader:
        before = reader.events(Select())
        (run, *_) = reader.runs(Select())
        state = folded(before, run.run_id)
        assert state.run is not None
        with Engine(other, execution=lambda: "another") as engine:
            REGISTRY.adopt(engine)
            with pytest.raises(RuntimeError):
                main(2)
        assert reader.events(Select()) == before
    with lab.engine.access.current() as reader:
        assert len(reader.events(Select())) > len(before)


OPEN = threading.Event()
STALE: list[Attempt] = []


@step
def slow(n: int) -> int:
    OPEN.wait(20)
    return n


@flow
def interrupted_once() -> int:
    scope = SCOPE.get()
    assert scope is not None
    future = slow.submit(1)
    if not STALE:
        while not scope.session.in_flight():
            time.sleep(0.001)
        asked = scope.session.resolve_call(work.spec, scope.branch, (2,), {}, continuation=scope.continuation)
        assert isinstance(asked, Attempt)
        STALE.append(asked)
        raise KeyboardInterrupt
    with pytest.raises(RunFinished):
        scope.session.start(STALE[0], is_beside=True)
    OPEN.set()
    return future.result() + work(2)


def test_a_job_that_was_taken_before_an_interrupt_does_not_begin_after_it(lab: Lab) -> None:
    DONE.clear()
    OPEN.clear()
    STALE.clear()
    with pytest.raises(KeyboardInterrupt):
        interrupted_once()
    lab.cell()
    assert interrupted_once() == 3
    assert DONE == [2]
    assert interrupted_once.last is not None
    assert interrupted_once.last.attempts()["attempt"].tolist() == [1, 1]


FREE = threading.Event()
LATE: list[str] = []
INTERRUPTS: list[bool] = []


@step
def held(name: str) -> str:
    if not FREE.is_set():
        STARTED.release()
        FREE.wait(20)
    DONE.append(len(DONE))
    return name


STARTED = threading.Semaphore(0)


def two(name: str) -> str:
    try:
        return held(name) + held(f"{name}'")
    except RunFinished:
        LATE.append(name)
        raise


@flow
def gathering() -> list[str]:
    return gather(partial(two, "A"), interrupts_once)


def interrupts_once() -> str:
    if INTERRUPTS:
        INTERRUPTS.pop()
        STARTED.acquire()
        os.kill(os.getpid(), signal.SIGINT)  # as a kernel is interrupted: the main thread gets it
    return "B"


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let SIGINT interrupt, also where whoever began this process in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_branch_that_outlives_an_interrupt_does_nothing_in_the_run_that_continues(lab: Lab) -> None:
    DONE.clear()
    FREE.clear()
    LATE.clear()
    INTERRUPTS.append(True)
    with pytest.raises(KeyboardInterrupt):
        gathering()
    lab.cell()
    threading.Timer(0.2, FREE.set).start()
    assert gathering() == ["AA'", "B"]
    while not LATE:
        time.sleep(0.001)
    assert len(DONE) == 2
    assert gathering.last is not None
    assert gathering.last.attempts()["attempt"].tolist() == [1, 1]


def test_a_run_that_ends_while_it_is_looked_at_is_not_taken_for_interrupted(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row is read before it ends, and its owner looked at after."""
    gate = threading.Event()

    @step
    def held() -> int:
        gate.wait(20)
        return 1

    @flow
    def holding() -> int:
        return held()

    run = holding.start()
    while not lab.engine.is_running_here(run.id):
        time.sleep(0.001)
    lab.engine.flush()
    is_running_here = lab.engine.is_running_here

    def look_after_the_end(run_id: RunId) -> bool:
        gate.set()
        while is_running_here(run_id):
            time.sleep(0.001)
        return False

    monkeypatch.setattr(lab.engine, "is_running_here", look_after_the_end)
    assert run.status == "completed"
    assert run.result() == 1


def test_a_late_goodbye_to_a_stretch_leaves_the_next_one_of_its_run(lab: Lab, world: World) -> None:
    """The worker looks at a session that is over while its run is continued in another one, which it must keep."""
    begun, gate = threading.Event(), threading.Event()

    @flow
    def main() -> None:
        if world.is_broken:
            raise RuntimeError("broken")
        begun.set()
        gate.wait(20)

    first = main.start()
    with pytest.raises(RuntimeError):
        first.result(timeout_s=20)
    while first.id in lab.engine.sessions:
        time.sleep(0.001)
    world.is_broken = False
    run = main.resume()
    assert begun.wait(20)
    before = lab.engine.sessions[run.id]
    assert first._session is not None
    assert first._session is not before
    lab.engine.close_session(first._session)
    assert lab.engine.sessions[run.id] is before
    gate.set()
    run.result(timeout_s=20)


def test_an_attempt_that_is_let_go_of_late_leaves_the_one_in_flight_that_began_in_its_place(lab: Lab) -> None:
    @flow
    def main() -> bool:
        scope = SCOPE.get()
        assert scope is not None
        stale = scope.resolve(work.spec, (1,), {})
        assert isinstance(stale, Attempt)
        began = Attempt(stale.spec, stale.code, stale.call, stale.step, stale.index, stale.number, stale.reason)
        began.continuation = stale.continuation
        scope.session.start(began, is_beside=True)
        scope.session.drop(stale, RunFinished("it came too late"))
        is_in_flight = scope.session.in_flight() == [began]
        scope.session.drop(began, RunFinished("the test is over"))
        return is_in_flight

    assert main()


class Slow(MemoryJournal):
    """A journal that takes the end of a run while its engine is being closed."""

    def __init__(self) -> None:
        super().__init__()
        self.is_asked = threading.Event()

    def append(self, entries: Sequence[RunCommit], *, durability: Durability, lease: Lease | None = None) -> None:
        if any(isinstance(each.event, RunCompleted) for entry in entries for each in entry.events):
            self.is_asked.set()
            until(lambda: is_closing(threading.main_thread()))
        super().append(entries, durability=durability, lease=lease)


def is_closing(thread: threading.Thread) -> bool:
    frames = traceback.extract_stack(sys._current_frames()[thread.ident or 0])
    return any(frame.name == Engine.close.__name__ for frame in frames)


def test_a_run_that_ends_while_its_engine_is_closed_has_one_end() -> None:
    @flow
    def ends() -> int:
        return 1

    journal = Slow()
    with kernel(journal, "a cell"):
        ends.start()
        assert journal.is_asked.wait(20)
    with journal.reading() as reader:
        assert [row.type for row in reader.events(Select())] == ["RunStarted", "RunCompleted"]
