"""Processes that die: engines on one journal, one after the other, that end as by SIGKILL."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final

from ironflow_nb.core.identity import ValueId
from ironflow_nb.core.status import ENDED, RunStatus
from ironflow_nb.errors import EngineClosed
from ironflow_nb.execution import REGISTRY, Clock, Engine, SystemClock, SystemThreads, is_async
from ironflow_nb.journal.ports import (
    CachedResult,
    Check,
    Durability,
    IsTaken,
    Journal,
    LaneChange,
    Lease,
    Reader,
    RunCommit,
    Signal,
    SignalId,
)
from ironflow_nb.values.stored_value import StoredValue

if TYPE_CHECKING:
    from ironflow_nb.handles.runnable import Runnable

BEFORE: Final = "before"
AFTER: Final = "after"
MOMENTS: Final = (BEFORE, AFTER)
LIMIT_S: Final = 60.0


class Died(BaseException):
    """The simulated death of the process. It is no `Exception`: nothing in a flow can survive it."""


class DyingJournal:
    """A journal whose process dies at one of its commits: before it, or after it without knowing."""

    def __init__(self, journal: Journal, *, at_commit: int | None, moment: str) -> None:
        self.journal = journal
        self.location = journal.location
        self.files = getattr(journal, "files", None)
        self.n_commits = 0
        self.is_dead = False
        self.when_dead: Callable[[], None] = lambda: None
        self._at_commit = at_commit
        self._moment = moment

    def append(self, entries: Sequence[RunCommit], *, durability: Durability, lease: Lease | None = None) -> None:
        """See the port."""
        with self._one_commit():
            self.journal.append(entries, durability=durability, lease=lease)

    def exchange(
        self, act: Callable[[Reader], Sequence[RunCommit]], *, durability: Durability, lease: Lease | None = None
    ) -> None:
        """See the port."""
        with self._one_commit():
            self.journal.exchange(act, durability=durability, lease=lease)

    def change_lanes(self, act: Callable[[Reader], LaneChange], *, lease: Lease | None = None) -> None:
        """See the port."""
        with self._one_commit():
            self.journal.change_lanes(act, lease=lease)

    @contextlib.contextmanager
    def _one_commit(self) -> Iterator[None]:
        """Die before or after what is committed inside, if that is the commit to die at."""
        self._refuse_dead()
        self.n_commits += 1
        is_last = self.n_commits == self._at_commit
        if is_last and self._moment == BEFORE:
            self._die()
        yield
        if is_last:
            self._die()

    def _die(self) -> None:
        self.is_dead = True
        self.when_dead()
        raise Died

    def _refuse_dead(self) -> None:
        if self.is_dead:
            raise Died

    def write_lease(self, lease: Lease) -> None:
        """See the port."""
        self._refuse_dead()
        self.journal.write_lease(lease)

    def send(
        self, signal: Signal, payload: StoredValue | None = None, *, known: SignalId | None = None, check: Check = None
    ) -> SignalId | None:
        """See the port."""
        self._refuse_dead()
        return self.journal.send(signal, payload, known=known, check=check)

    def claim(self, wanted: CachedResult, is_taken: IsTaken, *, lease: Lease | None = None) -> CachedResult | None:
        """See the port."""
        with self._one_commit():
            return self.journal.claim(wanted, is_taken, lease=lease)

    def release(self, *owners: str) -> None:
        """See the port."""
        self._refuse_dead()
        self.journal.release(*owners)

    def replace_signatures(self, codec: str, macs: dict[ValueId, bytes]) -> int:
        """See the port."""
        self._refuse_dead()
        return self.journal.replace_signatures(codec, macs)

    def current(self) -> AbstractContextManager[Reader]:
        """See the port."""
        self._refuse_dead()
        return self.journal.current()

    def reading(self) -> AbstractContextManager[Reader]:
        """See the port."""
        return self.journal.reading()

    def change_token(self) -> int:
        """See the port."""
        return self.journal.change_token()

    def exists(self) -> bool:
        """See the port."""
        return self.journal.exists()

    def close(self) -> None:
        """See the port."""
        self.journal.close()


class _NoWorker(SystemThreads):
    """Threads without the engine's background thread, so that only the flow's own commits are counted."""

    def spawn(self, name: str, body: Callable[[], None]) -> None:
        if name != "ironflow-worker":
            super().spawn(name, body)


@contextlib.contextmanager
def process_on(journal: Journal, durability: Durability, clock: Clock | None = None) -> Iterator[Engine]:
    """Make an engine that stands for a new process on the journal: its calls are of a new execution."""
    engine = REGISTRY.adopt(
        Engine(journal, durability=durability, clock=clock, threads=_NoWorker(), execution=lambda: "a script")
    )
    engine.execution = lambda: engine.owner
    try:
        with REGISTRY.replaced(engine):
            yield engine
    finally:
        engine.close()


def outcome_of(
    flow: Runnable,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    is_dead: Callable[[], bool] = lambda: False,
) -> Any:
    """Return the result of a call of a sync or async flow.

    Raises:
        Died: the process died meanwhile.
    """
    kwargs = kwargs or {}
    if not is_async(flow.request(tuple(args), kwargs)[1]):
        return flow.run_call(tuple(args), kwargs)
    run = flow.start_call(tuple(args), kwargs)
    session = run._session  # noqa: SLF001 -- the kit is part of the house
    assert session is not None
    clock, wakeup = SystemClock(), SystemThreads().wakeup()
    deadline = clock.monotonic() + LIMIT_S
    while not session.completion.is_done and not is_dead():
        clock.wait(wakeup, 0.001)
        assert clock.monotonic() < deadline, "the flow hangs"
    if is_dead():
        raise Died
    assert run.status in ENDED
    return run.result()


def end_waits(engine: Engine) -> None:
    """End the threads of a dead process that wait for what another one of its threads would have done."""
    for session in list(engine.sessions.values()):
        session.writer.fatal_error = session.writer.fatal_error or EngineClosed("its process died")
        session.wakeups.wake()


def abandon(engine: Engine) -> None:
    """Leave an engine as a killed process does: it writes nothing more and releases nothing.

    Bodies on threads can't be killed here; they end, and nobody takes what they return.
    """
    clock, wakeup = SystemClock(), SystemThreads().wakeup()
    deadline = clock.monotonic() + LIMIT_S
    while engine.pool.n_unfinished:
        clock.wait(wakeup, 0.001)
        assert clock.monotonic() < deadline, "a body hangs"
    engine.access.close("its process died", abandon=True)
    engine.sessions.clear()


def completed(flow: Runnable, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
    """Return the result of a flow whose process died: continue it, unless its last run was completed.

    A call would begin a new run after a completed one, so of that the result is asked for.
    """
    last = flow.last
    is_completed = last is not None and last.status is RunStatus.COMPLETED
    return last.result() if last is not None and is_completed else outcome_of(flow, args, kwargs)
