"""The status of a run in any process, waiting for its end, and its result."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from ironflow_nb.core.durations import wait_limit_s
from ironflow_nb.core.identity import RunId
from ironflow_nb.core.plain_text import plain
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.core.status import ENDED, OWNED, RunKind, RunStatus, derived_run_status
from ironflow_nb.errors import ResultTimeout, RunCancelled, RunFailed, RunInterrupted, RunNotFound, ValueUnreadable
from ironflow_nb.execution import DETACHED, REGISTRY, SCOPE, Engine, Session, say, watch
from ironflow_nb.journal.ports import QueueSelect, Reader, Select
from ironflow_nb.values.failures import annotate, load_failure, recorded_error

POLL_S: Final = 0.05
TAKEN_WITHIN_S: Final = 5.0
"""A process that waits for a detached run leaves it to workers for so long."""


def status_of(engine: Engine, reader: Reader, run: RunRow) -> RunStatus:
    """Return the derived status of the run: a run whose owner is dead is interrupted."""
    return statuses_of(engine, reader, [run])[run.run_id]


def statuses_of(engine: Engine, reader: Reader, runs: Sequence[RunRow]) -> dict[RunId, RunStatus]:
    """Return the derived statuses of the runs, by id."""
    return {run.run_id: status for run, status in looked_at(engine, reader, runs)}


def looked_at(engine: Engine, reader: Reader, runs: Sequence[RunRow]) -> list[tuple[RunRow, RunStatus]]:
    """Return the runs with their derived statuses; a run that has ended since it was read is read again."""
    found = [(run, derived_run_status(run.status, owner_is_alive=_is_owner_alive(engine, reader, run))) for run in runs]
    in_doubt = [run.run_id for run, status in found if status is not run.status]
    if not in_doubt:
        return found
    detached = {item.run_id for item in reader.work(QueueSelect(run_ids=in_doubt, kind=DETACHED))}
    found = [(run, RunStatus.PENDING if run.run_id in detached else status) for run, status in found]
    # A run and its owner may have ended between the read of its row and the check of its owner: read the row again.
    with engine.journal.reading() as newer:
        ended = {run.run_id: run for run in newer.runs(Select(run_ids=in_doubt)) if run.status not in OWNED}
    now = [ended.get(run.run_id, run) for run, _ in found]
    return [(run, run.status if run.run_id in ended else status) for run, (_, status) in zip(now, found, strict=True)]


def _is_owner_alive(engine: Engine, reader: Reader, run: RunRow) -> bool:
    if run.kind == RunKind.DECIDER:
        return True
    if run.owner == engine.owner:
        return engine.is_beginning_here(run.run_id) or engine.is_running_here(run.run_id)
    return engine.access.is_owner_alive(reader, run.owner)


def is_parked(engine: Engine, run: RunRow) -> bool:
    """Return True if the run, which waits, has no living owner that could be asked for anything."""
    with engine.journal.reading() as reader:
        return not _is_owner_alive(engine, reader, run)


def is_detached(engine: Engine, run_id: RunId) -> bool:
    """Return True if the run was handed over to workers."""
    with engine.journal.reading() as reader:
        return bool(reader.work(QueueSelect(run_ids=[run_id], kind=DETACHED)))


def run_and_status(engine: Engine, run_id: RunId) -> tuple[RunRow | None, RunStatus]:
    """Return the current row and status of the run. The row is None if its first event is not written yet.

    Raises:
        RunNotFound: neither the journal nor this process has it.
    """
    session = engine.sessions.get(run_id)
    with engine.journal.reading() as reader:
        found = reader.runs(Select(run_ids=[run_id]))
        if found:
            return looked_at(engine, reader, found)[0]
    return unwritten(engine, run_id, session)


def unwritten(engine: Engine, run_id: RunId, session: Session | None) -> tuple[RunRow | None, RunStatus]:
    """Return a run that the journal does not have yet; `session` was looked up before the journal was read.

    Raises:
        RunNotFound: `session` is None.
    """
    if session is not None:
        row = session.writer.row
        is_going_on = RunStatus.RUNNING if row is None else row.status  # one that waits in a lane is pending
        if session.is_open:
            return row, is_going_on
        with engine.journal.reading() as reader:  # it has ended since the journal was read, which has its end now
            found = reader.runs(Select(run_ids=[run_id]))
            return looked_at(engine, reader, found)[0] if found else (row, RunStatus.INTERRUPTED)
    raise RunNotFound(f"there is no run {run_id} in {engine.journal.location}", run_id=run_id)


def wait_ended(engine: Engine, run_id: RunId, timeout_s: float | None = None) -> tuple[RunRow | None, RunStatus]:
    """Wait until the run has ended or is paused; return its row and status.

    Raises:
        ResultTimeout: it still runs after `timeout_s`.
    """
    clock, timeout_s = engine.clock, wait_limit_s(timeout_s)
    left_s = timeout_s
    wakeup, pending = engine.threads.wakeup(), Pending(engine)
    scope = SCOPE.get()  # a flow that waits for another run hears that it is to stop itself
    while True:
        session = engine.sessions.get(run_id)
        if scope is not None and not scope.is_in_worker:
            scope.session.raise_if_stop_requested()
        if session is not None and session.is_open:
            with session.lock:
                session.completion.when_done(wakeup.set)
            poll_s = None if scope is None else POLL_S
        else:
            run, status = run_and_status(engine, run_id)
            if status in ENDED:
                return run, status
            if status is RunStatus.WAITING:
                watch(engine)
            pending.look(run, status)
            poll_s = POLL_S
        if left_s is not None and left_s <= 0:
            raise ResultTimeout(f"run {run_id} did not end within {timeout_s:g} s; it goes on", run_id=run_id)
        wait_s = _shortest(poll_s, left_s)
        # A simulated clock that moves on because the run sleeps wakes too; the caller has not waited for that time.
        if not clock.wait(wakeup, wait_s) and left_s is not None and wait_s is not None:
            left_s -= wait_s


def when_ended(engine: Engine, run_id: RunId, call_back: Callable[[], None]) -> None:
    """Call back when this process has ended, or parked, its continuation of the run; at once if the run has ended.

    Of a run that another process executes nothing is told.
    """
    session = engine.sessions.get(run_id)
    if session is not None and session.is_open:
        with session.lock:
            session.completion.when_done(call_back)
    elif run_and_status(engine, run_id)[1] in ENDED:
        call_back()


class Pending:
    """Looks after a detached run that somebody waits for: after a while without a worker it is executed here."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._since_s: float | None = None

    def look(self, run: RunRow | None, status: RunStatus) -> None:
        """Execute the run here if it was pending long enough and is defined here; otherwise say what it waits for."""
        now_s = self._engine.clock.monotonic()
        if run is None or status is not RunStatus.PENDING or not is_parked(self._engine, run):
            self._since_s = None
            return
        self._since_s = now_s if self._since_s is None else self._since_s
        if now_s - self._since_s < TAKEN_WITHIN_S:
            return
        self._since_s = math.inf  # it is said once
        definition = REGISTRY.find_of(run)
        what = f"run {run.run_id} of {plain(run.name)} is pending, and no worker has taken it in {TAKEN_WITHIN_S:g} s"
        if definition is None:
            say(f"{what}; one that defines it would: python -m ironflow_nb work MODULE.py")
        else:
            say(f"{what}; it is executed here")
            with self._engine.waking_up(run.run_id):  # it stays detached: if this process dies, a worker goes on
                definition.continue_run(self._engine, run)


def _shortest(one_s: float | None, other_s: float | None) -> float | None:
    given = [seconds for seconds in (one_s, other_s) if seconds is not None]
    return min(given, default=None)


def result_of(engine: Engine, run: RunRow | None, run_id: RunId, status: RunStatus) -> Any:
    """Return the value of a completed run, or raise how it ended.

    Raises:
        RunFailed: it failed, and its own exception can't be rebuilt here; else that exception.
        ValueUnreadable: its result can't be read here.
        RunInterrupted: it was interrupted or paused.
        RunCancelled: it was cancelled.
    """
    if status is RunStatus.COMPLETED and run is not None and run.output_id is not None:
        stored = engine.access.value(run.output_id, run.row_key)
        if stored is not None:
            return engine.codecs.decode(stored)
        raise ValueUnreadable(
            f"the result of run {run_id} is missing in the journal; put the journal back from a copy", run_id=run_id
        )
    if status is RunStatus.FAILED and run is not None:
        raise recorded_failure(engine, run)
    if status is RunStatus.CANCELLED:
        raise RunCancelled(f"run {run_id} was cancelled", run_id=run_id)
    name = plain(run.name) if run is not None else "the flow"
    raise RunInterrupted(
        f"run {run_id} of {name} is {status.value} and has no result; continue it with iron.resume({run_id!r})",
        run_id=run_id,
        status=status.value,
    )


def recorded_failure(engine: Engine, run: RunRow) -> BaseException:
    """Return the rebuilt exception with which the run failed, or `RunFailed` if it can't be rebuilt."""
    stored = None if run.error_id is None else engine.access.value(run.error_id)
    if stored is None:
        return RunFailed(f"run {run.run_id} of {run.name} failed, and its error is missing", run_id=run.run_id)
    failure = load_failure(stored)
    error = recorded_error(stored, engine.signer, where=f"run {run.run_id}")
    if type(error).__name__ == "StepFailed" and failure.kind != "ironflow_nb.errors.StepFailed":
        standing_in = RunFailed(str(error), run_id=run.run_id, kind=failure.kind)
        for note in failure.notes:
            standing_in.add_note(note)
        standing_in.add_note(f"recorded traceback:\n{failure.traceback}")
        return standing_in
    annotate(error, f"ironflow: this is the recorded failure of run {run.run_id} of {plain(run.name)}")
    return error
