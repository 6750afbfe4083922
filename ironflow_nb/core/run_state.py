"""The state of a run, folded from its events: one `RunRow`, and one `StepRow` for each attempt of a step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, TypeAlias, assert_never

import msgspec
from msgspec.structs import replace

from ironflow_nb.core import events
from ironflow_nb.core.event_kinds import NoteEvent, RunChange, StepChange
from ironflow_nb.core.events import (
    CompensationStarted,
    RecordedEvent,
    RunFailed,
    StepCompleted,
    StepStarted,
    WaitEnded,
    WaitStarted,
)
from ironflow_nb.core.identity import BranchId, Digest, RunId, StepRef, ValueId
from ironflow_nb.core.status import RunStatus, StepReason, StepStatus
from ironflow_nb.errors import JournalCorrupt

RowKey: TypeAlias = tuple[RunId, str, int, int]
"""The key of the row of an attempt: run, name, index, attempt. That of the run itself has the attempt 0."""

RunEnd: TypeAlias = (
    events.RunInterrupted | events.RunPaused | events.RunCancelled | events.RunFailed | events.RunCompleted
)
AttemptEdit: TypeAlias = events.OutputInjected | events.InjectionUndone | events.StepRedacted | events.StepCompensated

_STATUS_AFTER: Final = {
    events.RunQueued: RunStatus.PENDING,
    events.RunAdmitted: RunStatus.RUNNING,
    events.RunCancelRequested: RunStatus.CANCELLING,
}
_BEGUN: Final = frozenset({StepStatus.RUNNING, StepStatus.UNKNOWN, StepStatus.WAITING})


class RunRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The row of a run. Times are microseconds UTC."""

    run_id: RunId
    kind: str
    name: str
    status: RunStatus
    started_at: int
    updated_at: int
    durability: str
    inputs_digest: Digest
    definition_id: Digest
    key: str | None = None
    inputs_id: ValueId | None = None
    output_id: ValueId | None = None
    error_id: ValueId | None = None
    ended_at: int | None = None
    execution: str | None = None
    ordinal: int = 0
    notebook: str | None = None
    parent_run_id: RunId | None = None
    parent_step: StepRef | None = None
    origin_run_id: RunId | None = None
    origin_position: int | None = None
    owner: str | None = None
    n_sessions: int = 1
    session_version: int = 1
    n_reused: int = 0

    @property
    def row_key(self) -> RowKey:
        """The key of this row."""
        return self.run_id, "", 0, 0


class StepRow(msgspec.Struct, frozen=True, gc=False):  # gc: it can't be in a circle
    """The row of an attempt of a step. `version` is that of its first event; times are microseconds UTC."""

    run_id: RunId
    step: StepRef
    name: str
    index: int
    attempt: int
    version: int
    status: StepStatus
    identity: Digest
    code: Digest
    started_at: int
    branch: BranchId = BranchId("")
    nth: int = 0
    reason: str = StepReason.NEW.value
    inputs_id: ValueId | None = None
    output_id: ValueId | None = None
    error_id: ValueId | None = None
    finished_at: int | None = None
    duration_s: float | None = None
    due_at: int | None = None
    lived_with: bool = False
    child_run_id: RunId | None = None
    origin_run_id: RunId | None = None

    @property
    def row_key(self) -> RowKey:
        """The key of this row."""
        return self.run_id, self.name, self.index, self.attempt


def evolve_run(run_id: RunId, row: RunRow | None, recorded: RecordedEvent) -> RunRow:
    """Return the run after the event.

    Raises:
        JournalCorrupt: the run does not begin with `RunStarted`, or begins twice.
    """
    event = recorded.event
    if row is None:
        return _started_run(run_id, row, recorded)
    match event:
        case events.DomainEvent():
            return replace(row, updated_at=recorded.at)
        case events.SignalReceived(is_refused=False) | events.WaitEnded() if row.status is RunStatus.WAITING:
            return replace(row, status=RunStatus.RUNNING, updated_at=recorded.at)
        case events.SignalReceived():
            return replace(row, updated_at=recorded.at)
        case StepChange() | NoteEvent():
            return row
        case events.RunStarted():
            return _started_run(run_id, row, recorded)
        case events.RunContinued():
            return _continued_run(row, recorded, event)
        case events.RunQueued() | events.RunAdmitted() | events.RunCancelRequested():
            return replace(row, status=_STATUS_AFTER[type(event)], updated_at=recorded.at)
        case events.RunWaiting():
            owner = None if event.is_parked else row.owner
            return replace(row, status=RunStatus.WAITING, owner=owner, updated_at=recorded.at)
        case events.RunDetached():
            return _detached_run(row, recorded)
        case events.CompensationStarted():
            return replace(row, status=RunStatus.COMPENSATING, error_id=event.error, updated_at=recorded.at)
        case events.SessionEnded():
            return replace(row, n_reused=event.n_reused, updated_at=recorded.at)
        case events.RunRedacted():
            return replace(row, output_id=event.output or row.output_id, inputs_id=event.inputs or row.inputs_id)
        case (
            events.RunInterrupted()
            | events.RunPaused()
            | events.RunCancelled()
            | events.RunFailed()
            | events.RunCompleted()
        ):
            return _ended_run(row, recorded, event)
        case _:
            assert_never(event)


def evolve_step(run_id: RunId, row: StepRow | None, recorded: RecordedEvent) -> StepRow | None:
    """Return the attempt after the event, or None if the event concerns no attempt, or the attempt is gone.

    Raises:
        JournalCorrupt: an attempt begins twice, or ends without having begun, or after it ended.
    """
    event = recorded.event
    match event:
        case events.StepQueued():
            return _new_attempt(run_id, row, recorded, event, StepStatus.PENDING, reason=event.reason)
        case events.StepStarted():
            row = None if row is not None and row.status is StepStatus.PENDING else row
            status = StepStatus.UNKNOWN if event.once else StepStatus.RUNNING
            return _new_attempt(
                run_id, row, recorded, event, status,
                reason=event.reason, inputs_id=event.inputs, child_run_id=event.child_run_id,
            )  # fmt: skip
        case events.StepCompleted():
            return _ended_step(run_id, row, recorded, StepStatus.COMPLETED, event.duration_s, output_id=event.output)
        case events.StepFailed():
            status = StepStatus.TIMED_OUT if event.timed_out else StepStatus.FAILED
            return _ended_step(run_id, row, recorded, status, event.duration_s, error_id=event.error)
        case events.WaitStarted():
            return _new_attempt(
                run_id, row, recorded, event, StepStatus.WAITING,
                reason=event.reason, inputs_id=event.inputs, due_at=event.due_at,
            )  # fmt: skip
        case events.WaitEnded():
            return _ended_wait(run_id, row, recorded, event)
        case events.StepReused():
            return _new_attempt(
                run_id, row, recorded, event, StepStatus.COMPLETED,
                reason=StepReason.REUSED.value, output_id=event.output,
                origin_run_id=event.origin_run_id, finished_at=recorded.at, duration_s=event.duration_s or 0.0,
                child_run_id=event.child_run_id,
            )  # fmt: skip
        case events.StepSkipped():
            return _new_attempt(
                run_id, row, recorded, event, StepStatus.SKIPPED, reason=event.reason, finished_at=recorded.at
            )
        case events.StepRetryScheduled():
            return replace(_begun(run_id, row, recorded), status=StepStatus.RETRYING, due_at=event.due_at)
        case events.OutputInjected() | events.InjectionUndone() | events.StepRedacted() | events.StepCompensated():
            return _edited_attempt(run_id, row, recorded, event)
        case RunChange() | NoteEvent():
            return row
        case _:
            assert_never(event)


def followed(retrying: StepRow, reason: str) -> StepRow:
    """Return an attempt that was to be tried again, now that the next one is recorded with that reason."""
    status = StepStatus.TIMED_OUT if reason == StepReason.TIMED_OUT else StepStatus.FAILED
    return replace(retrying, status=status)


def _started_run(run_id: RunId, row: RunRow | None, recorded: RecordedEvent) -> RunRow:
    event = recorded.event
    if row is not None or not isinstance(event, events.RunStarted):
        what = f"begins with {type(event).__name__} and not with" if row is None else "has a second"
        raise JournalCorrupt(f"run {run_id} {what} RunStarted", run_id=run_id)
    return RunRow(
        run_id=run_id,
        kind=event.kind,
        name=event.name,
        status=RunStatus.RUNNING,
        started_at=recorded.at,
        updated_at=recorded.at,
        durability=event.durability,
        inputs_digest=event.inputs_digest,
        definition_id=event.definition,
        key=event.key,
        inputs_id=event.inputs,
        execution=event.execution,
        ordinal=event.ordinal,
        notebook=event.notebook,
        parent_run_id=event.parent_run_id,
        parent_step=event.parent_step,
        origin_run_id=event.origin_run_id,
        origin_position=event.origin_position,
        owner=event.owner,
    )


def _continued_run(row: RunRow, recorded: RecordedEvent, event: events.RunContinued) -> RunRow:
    is_compensating = row.status is RunStatus.COMPENSATING
    return replace(
        row,
        status=row.status if is_compensating else RunStatus.RUNNING,
        owner=event.owner,
        definition_id=event.definition,
        durability=event.durability,
        execution=event.execution or row.execution,
        ordinal=event.ordinal if event.execution else row.ordinal,
        notebook=event.notebook or row.notebook,
        output_id=None,
        error_id=row.error_id if is_compensating else None,
        ended_at=None,
        updated_at=recorded.at,
        n_sessions=row.n_sessions + 1,
        session_version=recorded.version,
        n_reused=0,
    )


def _detached_run(row: RunRow, recorded: RecordedEvent) -> RunRow:
    if row.status is RunStatus.COMPENSATING:  # and stays so until that has ended
        return replace(row, owner=None, updated_at=recorded.at)
    pending = replace(row, status=RunStatus.PENDING, owner=None, updated_at=recorded.at)
    return replace(pending, output_id=None, error_id=None, ended_at=None)


def _ended_run(row: RunRow, recorded: RecordedEvent, event: RunEnd) -> RunRow:
    ended = replace(row, owner=None, ended_at=recorded.at, updated_at=recorded.at)
    match event:
        case events.RunCompleted():
            return replace(ended, status=RunStatus.COMPLETED, output_id=event.output)
        case events.RunFailed():
            return replace(ended, status=RunStatus.FAILED, error_id=event.error)
        case events.RunCancelled():
            return replace(ended, status=RunStatus.CANCELLED)
        case events.RunPaused():
            return replace(ended, status=RunStatus.PAUSED)
        case events.RunInterrupted() if row.status is RunStatus.COMPENSATING:  # and stays so until that has ended
            return ended
        case events.RunInterrupted():
            return replace(ended, status=RunStatus.INTERRUPTED)
        case _:
            assert_never(event)


def _new_attempt(
    run_id: RunId,
    row: StepRow | None,
    recorded: RecordedEvent,
    event: events.StepQueued
    | events.StepStarted
    | events.WaitStarted
    | events.StepReused
    | events.StepSkipped
    | events.OutputInjected,
    status: StepStatus,
    **more: Any,
) -> StepRow:
    if row is not None or recorded.step is None or recorded.attempt is None:
        what = f"{type(event).__name__} of {recorded.step} attempt {recorded.attempt}"
        raise JournalCorrupt(f"run {run_id}: {what} twice, or of no attempt", run_id=run_id)
    return StepRow(  # by position: it is half of the time of a fold
        run_id, recorded.step, event.name, event.index, recorded.attempt, recorded.version, status, event.identity,
        event.code, recorded.at, event.branch, event.nth, **more,
    )  # fmt: skip


def _ended_step(
    run_id: RunId, row: StepRow | None, recorded: RecordedEvent, status: StepStatus, duration_s: float, **ending: Any
) -> StepRow:
    if row is None or row.status not in _BEGUN:
        begun = _begun(run_id, row, recorded)
        what = f"{type(recorded.event).__name__} of {begun.step} attempt {begun.attempt}, which is {begun.status}"
        raise JournalCorrupt(f"run {run_id}: {what} already", run_id=run_id)
    return replace(row, status=status, finished_at=recorded.at, duration_s=duration_s, **ending)


def _ended_wait(run_id: RunId, row: StepRow | None, recorded: RecordedEvent, event: events.WaitEnded) -> StepRow:
    """Return the wait after its end. A timeout is lived with from the start, for a replay must meet it, too."""
    given = {"output_id": event.output, "error_id": event.error, "lived_with": event.error is not None}
    status = StepStatus.CANCELLED if event.output is None else StepStatus.COMPLETED
    status = status if event.error is None else StepStatus.TIMED_OUT
    return _ended_step(run_id, row, recorded, status, event.duration_s, **given)


def _edited_attempt(run_id: RunId, row: StepRow | None, recorded: RecordedEvent, event: AttemptEdit) -> StepRow | None:
    """Return the attempt after its result was given or taken back by hand, hidden, or undone."""
    if isinstance(event, events.OutputInjected):
        return _new_attempt(
            run_id, row, recorded, event, StepStatus.COMPLETED,
            reason=StepReason.INJECTED.value, output_id=event.output, finished_at=recorded.at, duration_s=0.0,
        )  # fmt: skip
    begun = _begun(run_id, row, recorded)
    match event:
        case events.InjectionUndone():
            if begun.reason != StepReason.INJECTED:
                what = f"InjectionUndone of {recorded.step} attempt {recorded.attempt}, which is no injection"
                raise JournalCorrupt(f"run {run_id}: {what}", run_id=run_id)
            return None
        case events.StepRedacted():
            return replace(begun, output_id=event.output or begun.output_id, inputs_id=event.inputs or begun.inputs_id)
        case events.StepCompensated():
            return replace(begun, status=StepStatus.COMPENSATED)
        case _:
            assert_never(event)


def _begun(run_id: RunId, row: StepRow | None, recorded: RecordedEvent) -> StepRow:
    if row is None:
        what = f"{type(recorded.event).__name__} of {recorded.step} attempt {recorded.attempt}"
        raise JournalCorrupt(f"run {run_id}: {what} without its beginning", run_id=run_id)
    return row


class RunState(msgspec.Struct):
    """A run at its newest version, and the attempts of its steps in the order of their first events."""

    run_id: RunId
    version: int = 0
    run: RunRow | None = None
    steps: dict[tuple[StepRef, int], StepRow] = msgspec.field(default_factory=dict)
    n_attempts: dict[StepRef, int] = msgspec.field(default_factory=dict)

    def latest(self, step: StepRef) -> StepRow | None:
        """Return the latest attempt of the step, or None."""
        return self.steps.get((step, self.n_attempts.get(step, 0)))


def evolve(state: RunState, recorded: RecordedEvent) -> None:
    """Apply the event to the state.

    Raises:
        JournalCorrupt: no run can have such a history.
    """
    if recorded.version != state.version + 1:
        raise JournalCorrupt(
            f"run {state.run_id} goes on with version {recorded.version} after {state.version}", run_id=state.run_id
        )
    state.version = recorded.version
    is_of_step = isinstance(recorded.event, StepChange)
    if state.run is None or not is_of_step or type(recorded.event) is WaitEnded:  # by which a waiting run goes on
        state.run = evolve_run(state.run_id, state.run, recorded)
    if is_of_step:
        _change_attempt(state, recorded)
    for step, lived_with in observed_failures(recorded):
        latest = state.latest(step)
        if latest is not None:
            state.steps[step, latest.attempt] = replace(latest, lived_with=lived_with)


def _change_attempt(state: RunState, recorded: RecordedEvent) -> None:
    place = recorded.step or StepRef(""), recorded.attempt or 0
    row = evolve_step(state.run_id, state.steps.get(place), recorded)
    if row is None:
        if type(recorded.event) is events.InjectionUndone:
            _remove_attempt(state, *place)
        return
    state.steps[place] = row
    step, attempt = row.step, row.attempt
    if attempt > state.n_attempts.get(step, 0):
        state.n_attempts[step] = attempt
    if type(recorded.event) is events.OutputInjected:  # it stands beside what was to be tried again
        return
    before = state.steps.get((step, attempt - 1)) if attempt > 1 else None
    if before is not None and before.status is StepStatus.RETRYING:
        state.steps[step, attempt - 1] = followed(before, row.reason)


def _remove_attempt(state: RunState, step: StepRef, attempt: int) -> None:
    del state.steps[step, attempt]
    if state.n_attempts[step] == attempt:
        left = max((number for other, number in state.steps if other == step), default=0)
        if left:
            state.n_attempts[step] = left
        else:
            del state.n_attempts[step]


def observed_failures(recorded: RecordedEvent) -> list[tuple[StepRef, bool]]:
    """Return the failures that the flow is now known to have gone on after (True), or to have failed of (False)."""
    match recorded.event:
        case StepCompleted() | StepStarted(lived_with=()):  # nearly all events
            return []
        case StepStarted(lived_with=steps) | WaitStarted(lived_with=steps):
            return [(step, True) for step in steps]
        case RunFailed(caused_by=steps) | CompensationStarted(caused_by=steps):
            return [(step, False) for step in steps]
    return []


def fold(run_id: RunId, history: Iterable[RecordedEvent]) -> RunState:
    """Return the state of the run after its `history`, which is in the order of versions.

    Raises:
        JournalCorrupt: no run can have such a history.
    """
    state = RunState(run_id)
    for recorded in history:
        evolve(state, recorded)
    return state
