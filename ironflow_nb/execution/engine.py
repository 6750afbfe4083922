"""The engine: one journal with the sessions, threads and loop that work on it in this process."""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from ironflow_nb.core.events import RunDetached, RunInterrupted, RunWaiting
from ironflow_nb.core.identity import Digest, RunId
from ironflow_nb.core.status import RunStatus
from ironflow_nb.errors import IronflowError, RunTakenOver
from ironflow_nb.execution.background import PARK_S, BackgroundThread, LooksForWaits
from ironflow_nb.execution.definitions.step_spec import StepSpec
from ironflow_nb.execution.recording.journal_access import JournalAccess, PendingEvent
from ironflow_nb.execution.recording.lane_desk import LaneDesk
from ironflow_nb.execution.session.attempts import Take
from ironflow_nb.execution.session.session import Session
from ironflow_nb.execution.session.wait_state import waited_for
from ironflow_nb.execution.steps.captured_streams import STREAMS
from ironflow_nb.execution.steps.drivers import IN_THREAD, ON_LOOP, run_to_end
from ironflow_nb.execution.steps.step_runner import perform_attempts
from ironflow_nb.execution.system.frontend import CellExecution, is_interactive, logger, shell
from ironflow_nb.execution.system.interrupts import INTERRUPTS, AwaitedRuns, looking_up
from ironflow_nb.execution.system.system import Clock, Entropy, SystemClock, SystemThreads, Threads, system_entropy
from ironflow_nb.execution.system.threads import ThreadPool, free_lock
from ironflow_nb.journal.ports import Durability, Journal, Reader

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from concurrent.futures import Future

    from ironflow_nb.execution.steps.event_loop import EngineLoop

_REMEMBERED_EXECUTIONS: Final = 256

CURRENT: Final[ContextVar[Engine | None]] = ContextVar("ironflow_engine", default=None)
"""The engine of the innermost ``with iron.open(...)``."""
_AROUND: Final[ContextVar[tuple[Engine | None, ...]]] = ContextVar("ironflow_engines_around", default=())


class Engine:
    """One journal at work. Made by `open`; the default one by the first call that needs it.

    Nothing is started before it is used: the worker thread with the first run, the loop with the first coroutine.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        durability: Durability = Durability.POWER,
        clock: Clock | None = None,
        entropy: Entropy = system_entropy,
        threads: Threads | None = None,
        execution: Callable[[], str] | None = None,
        is_interactive: Callable[[], bool] = is_interactive,
        park_s: float = PARK_S,
    ) -> None:
        self.threads = threads or SystemThreads()
        self.access = JournalAccess(journal, clock=clock or SystemClock(), entropy=entropy, threads=self.threads)
        """All writes go through this access, which holds the lock of the journal."""
        self.journal = journal
        self.address = journal.location
        """What another process opens the journal with; the URL of a server may have a password."""
        self.clock, self.entropy = self.access.clock, entropy
        self.codecs, self.digester, self.signer = self.access.values, self.access.digester, self.access.signer
        self.owner = self.access.owner
        """The name under which this engine owns runs."""
        self.durability = durability
        self.lanes = LaneDesk(self.access)
        self.pool = ThreadPool(self.threads)
        self.interrupts = INTERRUPTS
        self.awaited = AwaitedRuns()
        self.sessions: dict[RunId, Session] = {}
        self._at_work: dict[RunId, Session] = {}
        """The sessions that may have something to commit: all but those that are only queued."""
        self.joins_by_default = execution is not None
        self.execution = execution or CellExecution(self.access.owner, lambda: entropy(6).hex(), self.threads.is_main)
        self.is_interactive = is_interactive
        self.is_dispatcher = False
        """Whether runs that would begin or go on beside this thread are left to workers."""
        self.is_worker = False
        """Whether runs that begin in this process are detached: if it dies, another worker continues them."""
        self.waking: dict[RunId, int] = {}
        """The runs that are being continued without a call of the user, and how many owners died on each in a row."""
        self.refused: set[RunId] = set()
        """The runs that this process can't continue, and does not try to again without a call of the user."""
        self._loop: EngineLoop | None = None
        self._lock = self.threads.lock()
        self._background = BackgroundThread(self.access, self.sessions, self.threads, self.lanes, park_s)
        self._ordinals: OrderedDict[str, Counter[tuple[str, str, Digest]]] = OrderedDict()
        self._is_started = False
        self._entered: list[None] = []
        self._continued: Counter[RunId] = Counter()

    # -- sessions ------------------------------------------------------------------------------------------------

    def open_session(self, session: Session) -> None:
        """Register a session with the background thread."""
        with self._lock:
            if not self._is_started:
                self._is_started = True
                atexit.register(self._exit)
                if hasattr(os, "register_at_fork"):
                    os.register_at_fork(after_in_child=partial(_forsake, weakref.ref(self)))
        self._background.look_after(session)
        self.note_at_work(session)
        STREAMS.use(self)

    def note_at_work(self, session: Session) -> None:
        """Note that a session may have something to commit, and is no longer only queued."""
        self._at_work[session.run_id] = session

    def close_session(self, session: Session) -> None:
        """Release a session, unless bodies of it are still running or its end is not recorded yet."""
        self._background.let_go(session)
        if self.sessions.get(session.run_id) is not session:
            self._leave_out(session)
        if not self.sessions:
            STREAMS.forget(self)
            STREAMS.release(is_main=self.threads.is_main())

    def wake_with(self, make: Callable[[Engine], LooksForWaits], *, replaces: bool = False) -> None:
        """Give the background thread what continues runs that wait without an owner; `make` makes it, once."""
        if self._background.waker is None or replaces:
            self._background.waker = make(self)

    def watch(self) -> None:
        """Look for such runs as long as there are any, also while nothing else is at work in this process."""
        self._background.watch()

    def flush(self) -> None:
        """Commit what the background thread would commit next."""
        for session in list(self._at_work.values()):
            if session.is_only_queued or self.sessions.get(session.run_id) is not session:
                self._leave_out(session)
                continue
            telemetry = session.writer.telemetry
            has_reports = telemetry is not None and telemetry.hasten()
            if session.writer.is_pending or session.in_flight() or has_reports:
                with suppress(RunTakenOver):
                    session.flush()

    def _leave_out(self, session: Session) -> None:
        """Stop asking a session that is over or only queued: a start asks all others, and there may be thousands."""
        if self._at_work.get(session.run_id) is session:
            del self._at_work[session.run_id]
        if not session.is_only_queued and self.sessions.get(session.run_id) is session:
            self._at_work[session.run_id] = session  # it has begun meanwhile, before the line above

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """Read the journal at one moment; everything that this process has begun is committed first."""
        with suppress(IronflowError):  # what can't be written now is no reason not to read
            self.flush()
        with self.access.journal.reading() as reader:
            yield reader

    def is_running_here(self, run_id: RunId) -> bool:
        """Return True if this process is executing the run now."""
        session = self.sessions.get(run_id)
        return session is not None and session.is_open

    def is_beginning_here(self, run_id: RunId) -> bool:
        """Return True if this process is about to execute the run: it may own it already, and has no session of it."""
        return self._continued[run_id] > 0

    @contextmanager
    def continuing(self, run_id: RunId) -> Iterator[None]:
        """Note that this process continues the run, until its session is registered."""
        with self._lock:
            self._continued[run_id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._continued[run_id] -= 1
                self._continued += Counter()  # removes counts of zero

    @contextmanager
    def waking_up(self, run_id: RunId, n_deaths: int = 0) -> Iterator[None]:
        """Note that this process continues the run without a call of the user. A detached run stays detached."""
        self.waking[run_id] = n_deaths
        try:
            yield
        finally:
            self.waking.pop(run_id, None)

    @property
    def has_runs(self) -> bool:
        """Return True if the background thread looks after any run, and the journal is there to keep what it does."""
        return bool(self.sessions) and not self.access.is_closed

    def is_active(self) -> bool:
        """Return True if this process is executing any run."""
        return any(session.is_open for session in list(self.sessions.values()))

    def next_ordinal(self, execution: str, kind: str, name: str, inputs: Digest, *, is_taken: bool = True) -> int:
        """Return the number of the call among equal calls of the execution, from zero; count it if it `is_taken`."""
        with self._lock:
            counts = self._ordinals.setdefault(execution, Counter())
            self._ordinals.move_to_end(execution)
            while len(self._ordinals) > _REMEMBERED_EXECUTIONS:
                self._ordinals.popitem(last=False)
            ordinal = counts[kind, name, inputs]
            counts[kind, name, inputs] += is_taken
        return ordinal

    # -- threads and loop ----------------------------------------------------------------------------------------

    def start_performer(self, spec: StepSpec, session: Session, take: Take, *, is_limited: bool) -> None:
        """Start a performer of attempts of the step: a thread of the pool, or a task of the loop."""
        # The coroutine is made where it runs, so a job that waits in the queue holds no attempt.
        if spec.is_async:
            self._running_loop().submit(lambda: perform_attempts(ON_LOOP, session, take), is_limited=is_limited)
        else:
            self.pool.submit(lambda: run_to_end(perform_attempts(IN_THREAD, session, take)), is_limited=is_limited)

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Run a coroutine on the engine's own loop."""
        try:
            loop = self._running_loop()
        except BaseException:  # its thread can't be started
            coroutine.close()
            raise
        return loop.spawn(coroutine)

    def _running_loop(self) -> EngineLoop:
        from ironflow_nb.execution.steps.event_loop import EngineLoop

        with self._lock:
            if self._loop is None:
                self._loop = EngineLoop(self.threads, self.access.background_errors)
            return self._loop

    @contextmanager
    def hearing_interrupts(self, interrupt: Callable[[BaseException], object] = lambda _: None) -> Iterator[None]:
        """Make SIGINT wake the loop of this thread, inside of the block, if it is the main one; see `AwaitedRuns`."""
        if not self.threads.is_main():
            yield
            return
        import asyncio

        loop = asyncio.get_running_loop()
        wake = partial(loop.call_soon_threadsafe, lambda: None)
        with self.awaited.listening(wake, interrupt), looking_up(loop):
            yield

    # -- the end -------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the engine: nothing new begins, finished results are committed, open runs are interrupted.

        Bodies that are running are not waited for.
        """
        atexit.unregister(self._exit)
        for session in list(self.sessions.values()):
            try:
                if session.is_open:
                    session.commit_queued()
                with session.lock:  # so that it does not go on after it was found waiting, nor has ended meanwhile
                    session.end(self._last_event(session)) if session.is_open else session.flush()
            except IronflowError as error:
                logger().warning("run %s could not be closed: %s", session.run_id, error)
            session.wakeups.wake()  # a thread of the run that waits sees that the run has ended here
        self.sessions.clear()
        if self._background.waker is not None and not self.access.is_closed:
            with suppress(IronflowError):
                self._background.waker.finish()
        STREAMS.forget(self)
        STREAMS.release(is_main=self.threads.is_main())
        self._background.stop()
        if self._loop is not None:
            self._loop.close()
        self.access.executors.close()
        self.access.close("it was closed")

    def _last_event(self, session: Session) -> PendingEvent:
        """Return how the engine leaves a run: what waits as a whole goes on waiting, and any process continues it."""
        each: Session | None = session
        while each is not None and each.writer.row is not None and each.writer.row.status is RunStatus.WAITING:
            parent = each.writer.row.parent_run_id
            if parent is None:
                return PendingEvent(RunWaiting(waiting_for=waited_for(session), is_parked=True))
            each = self.sessions.get(parent)
        if session.writer.is_detached:
            return PendingEvent(RunDetached(asked_by=self.owner))
        return PendingEvent(RunInterrupted(reason="exit"))

    def _exit(self) -> None:
        """Close at the end of the process; a script prints the runs that were cut off, for nobody reads its log."""
        cut = [session for session in self.sessions.values() if session.is_open]
        self.close()
        if shell() is None:
            for session in cut:
                row = session.writer.row
                is_parked = row is not None and row.status is RunStatus.WAITING
                how = f"waits for {waited_for(session)}" if is_parked else "is interrupted"
                what = f"run {session.run_id} of {session.name} was going on when the process ended; it {how}"
                print(f"ironflow: {what}", file=sys.stderr)  # noqa: T201 -- a line of this kind belongs to no log

    def __enter__(self) -> Self:
        """Make this the current engine of the calling context; the last ``with`` that ends closes it."""
        self._entered.append(None)  # no lock guards it
        _AROUND.set((*_AROUND.get(), CURRENT.get()))
        CURRENT.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        around = _AROUND.get()  # empty where another context has entered
        CURRENT.set(around[-1] if around else None)
        _AROUND.set(around[:-1])
        self._entered.pop()
        if not self._entered:
            self.close()

    def __repr__(self) -> str:
        return f"Engine({self.access.journal.location!r}, durability={self.durability.value!r})"


def _forsake(reference: weakref.ref[Engine]) -> None:
    engine = reference()
    if engine is not None:
        engine.access.close("this process was forked from the one that opened it", abandon=True)
        for lock in [engine.access.lock, *(session.lock for session in engine.sessions.values())]:
            free_lock(lock)  # a thread that the child does not have may hold it
