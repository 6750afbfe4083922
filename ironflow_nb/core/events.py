"""The events of a run, a closed union.

An event's own data never holds a value of the user, only ids, digests and counts, so that a value can be redacted
without a change of history. Ids of values and digests are bytes here, and hex in the journal. Version, instant, step
and attempt of an event are in its `RecordedEvent`, and in columns of the journal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias, get_args

import msgspec

from ironflow_nb.core.event_kinds import NoteEvent, RunChange, StepChange
from ironflow_nb.core.identity import BranchId, Digest, RunId, StepRef, ValueId
from ironflow_nb.core.status import EffectOutcome, StepReason


class RunStarted(RunChange, frozen=True):
    """The run began. The fields identify it and its call; `trace` is the span in which it began, if there was one."""

    kind: str
    name: str
    owner: str
    durability: str
    definition: Digest
    inputs_digest: Digest
    inputs: ValueId | None = None
    execution: str | None = None
    ordinal: int = 0
    key: str | None = None
    notebook: str | None = None
    parent_run_id: RunId | None = None
    parent_step: StepRef | None = None
    origin_run_id: RunId | None = None
    origin_position: int | None = None
    trace: str | None = None


class RunContinued(RunChange, frozen=True):
    """An owner continued the run; `reason` is a `ContinuationReason`.

    `retry` are failures that the flow had gone on after and that are tried again, `rerun` are finished steps that run
    again, `keep` are finished steps that are kept although their code has changed. `owned_s` is for how long owners had
    worked on it, since it began or failed last.
    """

    reason: str
    owner: str
    definition: Digest
    durability: str
    owned_s: float = 0.0
    execution: str | None = None
    ordinal: int = 0
    notebook: str | None = None
    retry: tuple[StepRef, ...] = ()
    rerun: tuple[StepRef, ...] = ()
    keep: tuple[StepRef, ...] = ()


class RunInterrupted(RunChange, frozen=True):
    """The owner stopped before the end of the run: by a keyboard interrupt, or the end of its process."""

    reason: str


class RunQueued(RunChange, frozen=True):
    """The run has to wait before it begins, or goes on: `waits_for` says for what, as ``lane api``."""

    waits_for: str


class RunAdmitted(RunChange, frozen=True):
    """The run, which had to wait, begins or goes on."""


class RunWaiting(RunChange, frozen=True):
    """Everything in the run waits for an instant or a signal. One that is parked has no owner meanwhile."""

    waiting_for: str
    is_parked: bool = False


class RunDetached(RunChange, frozen=True):
    """The run was handed over: a worker continues it. `reason` says why its last owner could not go on with it."""

    asked_by: str | None = None
    reason: str | None = None


class RunPaused(RunChange, frozen=True):
    """The run stopped between two steps, by request."""

    asked_by: str | None = None


class RunCancelRequested(RunChange, frozen=True):
    """The owner was asked to cancel the run."""

    asked_by: str | None = None


class RunCompleted(RunChange, frozen=True):
    """The flow returned; `output` is the id of its value."""

    output: ValueId


class RunFailed(RunChange, frozen=True):
    """The flow raised; `caused_by` are the steps whose failures are in the chain of the error."""

    error: ValueId
    caused_by: tuple[StepRef, ...] = ()


class RunCancelled(RunChange, frozen=True):
    """The run was cancelled, and no step of it goes on."""

    reason: str | None = None


class CompensationStarted(RunChange, frozen=True):
    """The run failed or was cancelled for good, and what it has done is undone now; `error` is that of the failure."""

    error: ValueId | None = None
    caused_by: tuple[StepRef, ...] = ()


class CompensationRegistered(NoteEvent, frozen=True):
    """The attempt completed, and is undone by the step `undo` if the run fails.

    `arguments` is the id of what the undo will get, None if that can't be stored; `function` that of the undo itself,
    if it is no step and was given to the flow's own call.
    """

    undo: str
    arguments: ValueId | None = None
    function: ValueId | None = None


class StepCompensated(StepChange, frozen=True):
    """What the attempt did was undone by the step `by`, of the run `by_run_id` if that is another one."""

    by: StepRef
    by_run_id: RunId | None = None


class StepQueued(StepChange, frozen=True):
    """An attempt has to wait before `StepStarted`: `waits_for` says for what, as ``lane api``."""

    name: str
    index: int
    identity: Digest
    code: Digest
    waits_for: str
    branch: BranchId = BranchId("")
    nth: int = 0
    reason: str = StepReason.NEW.value
    site: str = ""


class StepStarted(StepChange, frozen=True):
    """An attempt of a step began. `lived_with` are failures that the flow had seen and gone on after.

    `undoes` is the attempt that the step undoes, of the run `undoes_run_id` if that is a child. The outcome of a step
    that runs `once` is unknown until its end is recorded. `site` is the place of the call in the source of the flow, or
    empty.
    """

    name: str
    index: int
    identity: Digest
    code: Digest
    branch: BranchId = BranchId("")
    nth: int = 0
    inputs: ValueId | None = None
    reason: str = StepReason.NEW.value
    lived_with: tuple[StepRef, ...] = ()
    once: bool = False
    child_run_id: RunId | None = None
    site: str = ""
    undoes: StepRef | None = None
    undoes_run_id: RunId | None = None


class StepCompleted(StepChange, frozen=True):
    """The attempt returned; `output` is the id of its value."""

    output: ValueId
    duration_s: float


class StepFailed(StepChange, frozen=True):
    """The attempt raised, or `timed_out`; `error` is the id of the recorded exception."""

    error: ValueId
    duration_s: float
    timed_out: bool = False


class StepRetryScheduled(StepChange, frozen=True):
    """The next attempt of the step will start at `due_at` (microseconds UTC)."""

    due_at: int


class StepReused(StepChange, frozen=True):
    """The output of another run answered the step. It took `duration_s` there, None if that is not known.

    `child_run_id` is the child that ran there, if it was a flow.
    """

    name: str
    index: int
    identity: Digest
    code: Digest
    output: ValueId
    origin_run_id: RunId
    origin_step: StepRef
    branch: BranchId = BranchId("")
    nth: int = 0
    duration_s: float | None = None
    child_run_id: RunId | None = None
    site: str = ""


AFTER_FAILURE: Final = " failed"
"""The end of the reason of a skip after a failure. A continued run decides such a skip anew."""


class StepSkipped(StepChange, frozen=True):
    """The step was skipped for that reason. If it runs later, that is its next attempt."""

    name: str
    index: int
    identity: Digest
    reason: str
    code: Digest = Digest(b"")
    branch: BranchId = BranchId("")
    nth: int = 0


class ItemsCounted(NoteEvent, frozen=True):
    """The number of items of a map or loop is known. Of several such events for one map or loop the latest counts."""

    name: str
    n_items: int
    branch: BranchId = BranchId("")
    nth: int = 0
    site: str = ""


class StepDiscarded(NoteEvent, frozen=True):
    """A late or replaced result was not used. `n_bytes` is its size."""

    reason: str
    n_bytes: int = 0


class SignalReceived(RunChange, frozen=True):
    """A signal was delivered to the run; `payload` is the id of its value.

    For an answer to a question, the event also says who sent it and when (microseconds UTC). An answer that
    `is_refused` does not fit the question, and the wait goes on.
    """

    name: str
    signal_id: int
    payload: ValueId | None = None
    sent_by: str | None = None
    sent_at: int | None = None
    is_refused: bool = False


class WaitStarted(StepChange, frozen=True):
    """A branch began to wait, until `due_at` (microseconds UTC) at the latest. The wait is a step of its own.

    `wait_kind` is sleep, signal, signals or approval. `signals` are the names of those that end it: any of them, or all
    if it `is_all`.
    """

    name: str
    index: int
    identity: Digest
    code: Digest
    wait_kind: str
    signals: tuple[str, ...] = ()
    is_all: bool = False
    due_at: int | None = None
    branch: BranchId = BranchId("")
    nth: int = 0
    inputs: ValueId | None = None
    reason: str = StepReason.NEW.value
    lived_with: tuple[StepRef, ...] = ()
    site: str = ""


class WaitEnded(StepChange, frozen=True):
    """The wait ended: `outcome` is due, signal, timeout or cancelled. A timeout has an error, which the flow gets."""

    outcome: str
    duration_s: float
    output: ValueId | None = None
    error: ValueId | None = None


class TimerSet(NoteEvent, frozen=True):
    """A timer was set. It replaces the timer of the same key."""

    key: str
    due_at: int


class TimerFired(NoteEvent, frozen=True):
    """The timer of that key was due, and its command was sent."""

    key: str


class TimerCancelled(NoteEvent, frozen=True):
    """The timer of that key will not fire."""

    key: str


class OutputInjected(StepChange, frozen=True):
    """A result of the step was given by hand, as an attempt of its own that has no code: it answers for any.

    `old` is the output or the error before it, `edited_by` who gave it. The attempts before it stay as they are.
    """

    output: ValueId
    reason: str
    name: str
    index: int
    identity: Digest
    code: Digest = Digest(b"")
    branch: BranchId = BranchId("")
    nth: int = 0
    old: ValueId | None = None
    edited_by: str | None = None
    site: str = ""


class InjectionUndone(StepChange, frozen=True):
    """The attempt, a given result, no longer counts; `output` was that result, `old` what counts again."""

    reason: str | None = None
    output: ValueId | None = None
    old: ValueId | None = None
    edited_by: str | None = None


class ChildEdited(NoteEvent, frozen=True):
    """A result in the child run that the step is, or in a run below it, was given or taken back by hand."""

    child_run_id: RunId


class StepRedacted(StepChange, frozen=True):
    """The output or the inputs of the attempt were erased for ever.

    `output` and `inputs` are the ids of what stands in their place; None if they stay.
    """

    by: str
    output: ValueId | None = None
    inputs: ValueId | None = None
    reason: str | None = None


class RunRedacted(RunChange, frozen=True):
    """The output or the inputs of the run itself were erased for ever; see `StepRedacted`."""

    by: str
    output: ValueId | None = None
    inputs: ValueId | None = None
    reason: str | None = None


class EffectRequested(NoteEvent, frozen=True):
    """An effect is to be performed, at least once. `payload` is the id of its value."""

    effect_id: str
    kind: str
    payload: ValueId | None = None


class EffectSettled(NoteEvent, frozen=True):
    """The effect is no longer pending."""

    effect_id: str
    outcome: EffectOutcome
    payload: ValueId | None = None


class SessionEnded(RunChange, frozen=True):
    """A continuation of the run ended: it reused `n_reused` steps, and did not call those in `not_asked_for`."""

    n_reused: int
    not_asked_for: tuple[StepRef, ...] = ()


class RunDeleted(NoteEvent, frozen=True):
    """The run, of that kind and name, was deleted: all its other rows are gone, or will be soon.

    Nobody can append to the run any more: its last version is taken. The newest event of a journal stays, too.
    """

    kind: str
    name: str
    by: str


class DomainEvent(RunChange, frozen=True):
    """An event of a decider, unchanged. Its type in the journal is ``<decider>.<Event>``."""

    type: str
    data: msgspec.Raw = msgspec.Raw(b"{}")


EDITS: Final = frozenset({"OutputInjected", "InjectionUndone", "ChildEdited"})
"""The types of events by which results are edited."""

RunEvent: TypeAlias = (
    RunStarted | RunContinued | RunInterrupted | RunWaiting | RunDetached | RunPaused | RunCancelRequested
    | RunCompleted | RunFailed | RunCancelled | CompensationStarted | CompensationRegistered | StepCompensated
    | RunQueued | RunAdmitted | StepQueued
    | StepStarted | StepCompleted | StepFailed | StepRetryScheduled | StepReused | StepSkipped
    | StepDiscarded | ItemsCounted
    | SignalReceived | WaitStarted | WaitEnded | TimerSet | TimerFired | TimerCancelled | OutputInjected
    | InjectionUndone | ChildEdited | StepRedacted | RunRedacted | EffectRequested | EffectSettled | SessionEnded
    | RunDeleted | DomainEvent
)  # fmt: skip
"""All events of runs."""


class RecordedEvent(msgspec.Struct, frozen=True, gc=False):
    """One event of a run with its version (from 1), instant (microseconds UTC), step and attempt, if any."""

    version: int
    at: int
    event: RunEvent
    step: StepRef | None = None
    attempt: int | None = None


EVENT_TYPES: Final[Mapping[str, type[RunEvent]]] = {kind.__name__: kind for kind in get_args(RunEvent)}
"""The class of each type of event, by its name in the journal."""
