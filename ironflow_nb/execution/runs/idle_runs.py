"""Stops and ends of runs that no process executes."""

from __future__ import annotations

from collections.abc import Sequence

from ironflow_nb.core.events import CompensationStarted, RunCancelled, RunDetached, RunEvent, RunPaused
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.core.status import RunStatus
from ironflow_nb.errors import JournalConflict
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.recording.detached_runs import DETACHED
from ironflow_nb.execution.recording.journal_access import Mail, PendingEvent
from ironflow_nb.execution.runs.finish import with_notifications
from ironflow_nb.execution.runs.waker import Waker
from ironflow_nb.execution.session.run_phase import StopRequest
from ironflow_nb.execution.session.run_writer import RunWriter
from ironflow_nb.execution.system.process_identity import ACTOR
from ironflow_nb.journal.ports import Durability, QueueSelect, Reader, Select
from ironflow_nb.values.stored_value import StoredValue


def refuse_changed(reader: Reader, run: RunRow) -> None:
    """Raise `JournalConflict` if the run has changed since it was read; otherwise all reads are of one state."""
    if reader.runs(Select(run_ids=[run.run_id])) != [run]:
        raise JournalConflict(f"somebody else appended to run {run.run_id}", run_id=run.run_id)


def stop_idle(engine: Engine, run: RunRow, stop: StopRequest, *, compensates: bool = False) -> None:
    """Record that a run without an owner is cancelled, paused or detached; that its next version is free proves it.

    If it `compensates`, only that what it did is to be undone is recorded: who continues it does so, and it is
    cancelled then. Children that wait without an owner stop with it.

    Raises:
        JournalConflict: somebody works on it.
    """
    asked_by = ACTOR.get() or engine.owner
    event: RunEvent = RunPaused(asked_by=asked_by)
    if compensates:
        event = CompensationStarted()
    elif stop is StopRequest.CANCEL:
        event = RunCancelled(reason=f"asked by {asked_by}")
    elif stop is StopRequest.DETACH:
        event = RunDetached(asked_by=asked_by)
    for child in end_idle(engine, run, event):
        stop_idle(engine, child, StopRequest.PAUSE if stop is StopRequest.DETACH else stop)


def end_idle(engine: Engine, run: RunRow, event: RunEvent, values: Sequence[StoredValue] = ()) -> list[RunRow]:
    """Record the last event of a run without an owner; return its children that wait without one.

    Raises:
        JournalConflict: somebody works on it.
    """
    with engine.access.current() as reader:
        refuse_changed(reader, run)
        head, children = reader.head(run.run_id), _parked_children(reader, run)
        work = tuple((item.kind, item.key) for item in reader.waits_of(run.run_id))
        is_detached = bool(reader.work(QueueSelect(run_ids=[run.run_id], kind=DETACHED)))
    assert head is not None
    writer = RunWriter(engine.access, run.run_id, Durability(run.durability))
    writer.go_on_after(*head, run)
    if is_detached or isinstance(event, RunDetached):
        writer.detach()  # its item follows from the event
    last = PendingEvent(event, values=values, mail=Mail(done_work=work))
    told = with_notifications(engine, run, last)
    writer.commit(told)
    if told is not last:
        engine.wake_with(Waker)
        engine.watch()
    return children


def _parked_children(reader: Reader, run: RunRow) -> list[RunRow]:
    if run.status is not RunStatus.WAITING:
        return []
    ids = {row.child_run_id for row in reader.steps(Select(run_ids=[run.run_id])) if row.child_run_id is not None}
    return [child for child in reader.runs(Select(run_ids=ids)) if child.status is RunStatus.WAITING]
