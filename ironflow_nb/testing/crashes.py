"""Dying at every write: `crash_everywhere` kills a flow before and after each commit, and lets it continue."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from ironflow_nb.core.ids import RunId, StepRef, ValueId
from ironflow_nb.core.status import ENDED, RunStatus
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.home import HOME
from ironflow_nb.execution.seams import SystemClock, SystemThreads
from ironflow_nb.journal.ports import Durability, Entry, Journal, Lease, Reader, Select, Signal
from ironflow_nb.journal.sqlite import SqliteJournal
from ironflow_nb.testing.clock import SimClock

if TYPE_CHECKING:
    import pandas as pd

    from ironflow_nb.flows.flow import Flow

BEFORE: Final = "before"
AFTER: Final = "after"
MOMENTS: Final = (BEFORE, AFTER)
LIMIT_S: Final = 60.0


class Died(BaseException):
    """The simulated death of the process; no `Exception`, for nothing in a flow survives its process."""


class DyingJournal:
    """A journal whose process dies at one of its commits: before it, or when it is done but nobody knows."""

    def __init__(self, journal: Journal, *, at_commit: int | None, moment: str) -> None:
        self.journal = journal
        self.location = journal.location
        self.n_commits = 0
        self.is_dead = False
        self._at_commit = at_commit
        self._moment = moment

    def append(self, entries: Sequence[Entry], *, durability: Durability, lease: Lease | None = None) -> None:
        """See the port."""
        self._refuse_dead()
        self.n_commits += 1
        is_last = self.n_commits == self._at_commit
        self.is_dead = is_last and self._moment == BEFORE
        self._refuse_dead()
        self.journal.append(entries, durability=durability, lease=lease)
        self.is_dead = is_last
        self._refuse_dead()

    def _refuse_dead(self) -> None:
        if self.is_dead:
            raise Died

    def write_lease(self, lease: Lease) -> None:
        """See the port."""
        self._refuse_dead()
        self.journal.write_lease(lease)

    def send(self, signal: Signal) -> None:
        """See the port."""
        self._refuse_dead()
        self.journal.send(signal)

    def release(self, owner: str) -> None:
        """See the port."""
        self._refuse_dead()
        self.journal.release(owner)

    def resign_values(self, codec: str, macs: dict[ValueId, bytes]) -> int:
        """See the port."""
        self._refuse_dead()
        return self.journal.resign_values(codec, macs)

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
    """Threads without the engine's worker, so that only the flow's own commits are counted."""

    def spawn(self, name: str, body: Callable[[], None]) -> None:
        if name != "ironflow-worker":
            super().spawn(name, body)


def crash_everywhere(
    flow: Flow[..., Any],
    *args: Any,
    journal: Callable[[], Journal] | None = None,
    durability: str = "process",
    before_each: Callable[[], None] | None = None,
    **kwargs: Any,
) -> pd.DataFrame:
    """Run the flow once for every commit and moment, die there, continue in a new engine, and check what came of it.

    Each time: the run completes with the result of an undisturbed one, its recorded steps are a legal history, and no
    step that was recorded as completed before the death has another attempt.

    Columns: commit (at which it died, from 1), moment (``before`` or ``after``), n_kept (steps recorded as completed
    when it died), n_completed (in the end), in this order.

    Args:
        flow: of either colour; its steps should be repeatable.
        args: of the call.
        journal: makes the journal of a round; by default a SQLite file in a folder of its own.
        durability: of the runs.
        before_each: is called before each round, to put the outer world back to its beginning.
        kwargs: of the call.

    Raises:
        AssertionError: one of the above does not hold; the message names commit and moment.
    """
    import pandas as pd  # noqa: PLC0415 -- only who asks for a frame waits for it

    rows: list[tuple[int, str, int, int]] = []
    with TemporaryDirectory(prefix="ironflow-crashes-") as folder:
        places = _places(Path(folder)) if journal is None else iter(journal, None)
        prepare = before_each or (lambda: None)
        prepare()
        expected = _Round(next(places), durability).undisturbed(flow, args, kwargs)
        for moment in MOMENTS:
            commit = 0
            is_over = False
            while not is_over:
                commit += 1
                prepare()
                found = _Round(next(places), durability).crashed(flow, args, kwargs, commit, moment, expected)
                is_over = found is None
                rows += [] if found is None else [(commit, moment, *found)]
    return pd.DataFrame(rows, columns=["commit", "moment", "n_kept", "n_completed"])


def _places(folder: Path) -> Iterator[Journal]:
    n_round = 0
    while True:
        n_round += 1
        yield SqliteJournal(folder / str(n_round) / "journal.db")


class _Round:
    """One journal, and the engines that work on it one after the other."""

    def __init__(self, journal: Journal, durability: str) -> None:
        self.journal = journal
        self.durability = Durability(durability)
        self.clock = SimClock()

    def undisturbed(self, flow: Flow[..., Any], args: Any, kwargs: Any) -> bytes:
        with self._engine(self.journal) as engine:
            value = _outcome(flow, args, kwargs, lambda: False)
            return engine.ledger.digester.digest(value).digest

    def crashed(
        self, flow: Flow[..., Any], args: Any, kwargs: Any, commit: int, moment: str, expected: bytes
    ) -> tuple[int, int] | None:
        where = f"died {moment} commit {commit}"
        dying = DyingJournal(self.journal, at_commit=commit, moment=moment)
        with self._engine(dying) as engine:
            with contextlib.suppress(Died):
                _outcome(flow, args, kwargs, lambda: dying.is_dead)
            owner = engine.ledger.owner
            _abandon(engine)
        if not dying.is_dead:
            self.journal.close()
            return None
        with self._engine(self.journal) as engine:
            # The process of this owner is this one, which lives; without a lease it counts as dead.
            engine.ledger.journal.release(owner)
            with engine.reading() as reader:
                kept = _completed(reader)
            # Of a run that was completed before the death the result is asked for: a call would begin a new one.
            last = flow.last
            is_completed = last is not None and last.status is RunStatus.COMPLETED
            value = last.result() if last and is_completed else _outcome(flow, args, kwargs, lambda: False)
            assert engine.ledger.digester.digest(value).digest == expected, f"{where}: another result"
            with engine.reading() as reader:
                rows, completed = reader.steps(Select()), _completed(reader)
                statuses = {run.status for run in reader.runs(Select())}
            assert statuses == {RunStatus.COMPLETED}, f"{where}: runs are {statuses}"
            for row in rows:
                again = row.attempt > kept.get((row.run_id, row.step), row.attempt)
                assert not again, f"{where}: {row.step} was recorded and ran again"
        return len(kept), len(completed)

    @contextlib.contextmanager
    def _engine(self, journal: Journal) -> Iterator[Engine]:
        engine = HOME.adopt(
            Engine(
                journal, durability=self.durability, clock=self.clock, threads=_NoWorker(), execution=lambda: "a script"
            )
        )
        # Each engine is a process of its own: a call in it is one of a new execution.
        engine.execution = lambda: engine.ledger.owner
        with HOME.replaced(engine):
            yield engine
        engine.close()


def _completed(reader: Reader) -> dict[tuple[RunId, StepRef], int]:
    return {(row.run_id, row.step): row.attempt for row in reader.steps(Select()) if row.output_id is not None}


def _outcome(flow: Flow[..., Any], args: Any, kwargs: Any, is_dead: Callable[[], bool]) -> Any:
    if not flow.spec.is_async:
        return flow(*args, **kwargs)
    run = flow.start(*args, **kwargs)
    session = run._session  # noqa: SLF001 -- the kit is part of the house
    assert session is not None
    clock, wakeup = SystemClock(), SystemThreads().wakeup()
    deadline = clock.monotonic() + LIMIT_S
    while not session.ending.is_done and not is_dead():
        clock.wait(wakeup, 0.001)
        assert clock.monotonic() < deadline, "the flow hangs"
    if is_dead():
        raise Died
    assert run.status in ENDED
    return run.result()


def _abandon(engine: Engine) -> None:
    """Leave an engine as a killed process does: nothing more is written, nothing is given back.

    Bodies on threads can't be killed here; they end, and nobody takes what they return.
    """
    clock, wakeup = SystemClock(), SystemThreads().wakeup()
    deadline = clock.monotonic() + LIMIT_S
    while engine.pool.n_unfinished:
        clock.wait(wakeup, 0.001)
        assert clock.monotonic() < deadline, "a body hangs"
    engine.ledger.close("its process died", abandon=True)
    engine.sessions.clear()
