"""Death at every write: `crash_everywhere` kills a flow before and after each commit, and continues it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from ironflow_nb.core.identity import RunId, StepRef
from ironflow_nb.core.status import RunStatus
from ironflow_nb.errors import EngineClosed
from ironflow_nb.journal.ports import Durability, Journal, Reader, Select
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from ironflow_nb.testing.clock import SimClock
from ironflow_nb.testing.process_death import (
    AFTER,
    MOMENTS,
    Died,
    DyingJournal,
    abandon,
    completed,
    end_waits,
    outcome_of,
    process_on,
)

if TYPE_CHECKING:
    import pandas as pd

    from ironflow_nb.handles.runnable import Runnable


_MOST_MISSED: Final = 5
"""The rounds in a row that may end before the commit at which they were to die."""


def crash_everywhere(
    flow: Runnable,
    *args: Any,
    journal: Callable[[], Journal] | None = None,
    durability: str = "process",
    before_each: Callable[[], None] | None = None,
    **kwargs: Any,
) -> pd.DataFrame:
    """Run the flow once for every commit and moment, die there, continue in a new engine, and check the run.

    The run must complete with the result of an undisturbed one, its recorded steps must be a legal history, and no step
    that was recorded as completed before the death may have another attempt.

    Columns: commit (at which it died, from 1), moment (``before`` or ``after``), n_kept (steps recorded as completed
    when it died), n_completed (in the end), in this order.

    Args:
        flow: a sync or async flow, or a graph; its steps should be repeatable.
        args: arguments of the call.
        journal: a function that makes the journal of a round; by default a SQLite file in a folder of its own.
        durability: the durability of the runs.
        before_each: a function that resets the world outside before each round.
        kwargs: keyword arguments of the call.

    Raises:
        AssertionError: one of the above does not hold; the message names commit and moment.
    """
    import pandas as pd

    rows: list[tuple[int, str, int, int]] = []
    with TemporaryDirectory(prefix="ironflow-crashes-") as folder, _silent():
        places = _places(Path(folder)) if journal is None else iter(journal, None)
        prepare = before_each or (lambda: None)
        prepare()
        expected = _Round(next(places), durability).undisturbed(flow, args, kwargs)
        for moment in MOMENTS:

            def crashed(commit: int, moment: str = moment) -> tuple[int, int] | None:
                prepare()
                return _Round(next(places), durability).crashed(flow, args, kwargs, commit, moment, expected)

            rows += [(commit, moment, *found) for commit, found in _rounds(crashed, moment)]
    return pd.DataFrame(rows, columns=["commit", "moment", "n_kept", "n_completed"])


def _rounds(crashed: Callable[[int], tuple[int, int] | None], moment: str) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yield each commit at which a round died, with what `crashed` returns of it, until a round has no such commit."""
    commit, n_missed = 1, 0
    latest: tuple[int, int] | None = None
    while True:
        found = crashed(commit)
        if found is not None:
            yield commit, found
            commit, n_missed, latest = commit + 1, 0, found
        elif moment == AFTER and latest is not None and latest[0] < latest[1] and n_missed < _MOST_MISSED:
            # Threads share commits as they come, so this round had fewer than the one before: the commit that ends the
            # run, after which everything is kept, was not met yet.
            n_missed += 1
        else:
            return


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Drop log messages that a dead process could not have written."""
    loggers = [logging.getLogger(name) for name in ("asyncio", "ironflow_nb")]
    for logger in loggers:
        logger.addFilter(_drop)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(_drop)


def _drop(_: logging.LogRecord) -> bool:
    return False


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

    def undisturbed(self, flow: Runnable, args: Any, kwargs: Any) -> bytes:
        with process_on(self.journal, self.durability, self.clock) as engine:
            value = outcome_of(flow, args, kwargs)
            return engine.digester.digest(value).digest

    def crashed(
        self, flow: Runnable, args: Any, kwargs: Any, commit: int, moment: str, expected: bytes
    ) -> tuple[int, int] | None:
        where = f"died {moment} commit {commit}"
        dying = DyingJournal(self.journal, at_commit=commit, moment=moment)
        with process_on(dying, self.durability, self.clock) as engine:
            dying.when_dead = partial(end_waits, engine)
            with contextlib.suppress(Died, EngineClosed):
                outcome_of(flow, args, kwargs, is_dead=lambda: dying.is_dead)
            owner = engine.owner
            abandon(engine)
        if not dying.is_dead:
            self.journal.close()
            return None
        with process_on(self.journal, self.durability, self.clock) as engine:
            # The owner's process is this one, which is alive. Without a lease it counts as dead.
            engine.journal.release(owner)
            with engine.reading() as reader:
                kept = _completed(reader)
            value = completed(flow, args, kwargs)
            assert engine.digester.digest(value).digest == expected, f"{where}: another result"
            with engine.reading() as reader:
                rows, n_completed = reader.steps(Select()), len(_completed(reader))
                statuses = {run.status for run in reader.runs(Select())}
            # What the flow has detached waits for a worker.
            assert statuses - {RunStatus.PENDING} == {RunStatus.COMPLETED}, f"{where}: runs are {statuses}"
            for row in rows:
                again = row.attempt > kept.get((row.run_id, row.step), row.attempt)
                assert not again, f"{where}: {row.step} was recorded and ran again"
        return len(kept), n_completed


def _completed(reader: Reader) -> dict[tuple[RunId, StepRef], int]:
    return {(row.run_id, row.step): row.attempt for row in reader.steps(Select()) if row.output_id is not None}
