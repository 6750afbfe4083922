"""The words of runs and steps: kinds, statuses and reasons."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import Final


class _Word(StrEnum):
    """A word whose repr is the word itself, in a cell, a list or an array."""

    def __repr__(self) -> str:
        return repr(self.value)


class RunKind(_Word):
    """The kind of definition that a run executes. Other packages may have kinds of their own."""

    FLOW = "flow"
    GRAPH = "graph"
    DECIDER = "decider"
    CELL = "cell"


class RunStatus(_Word):
    """The status of a run. `INTERRUPTED` is recorded, or derived for a running run whose owner is dead."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    COMPENSATING = "compensating"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    CANCELLED = "cancelled"
    COMPLETED = "completed"


class ContinuationReason(StrEnum):
    """What continued a run: an equal call, a request to resume it, or an owner after another one that died."""

    RERUN = "rerun"
    RESUME = "resume"
    TAKEOVER = "takeover"


class StepStatus(_Word):
    """The status of a step. `INTERRUPTED` is derived, for a running step of a run that does not run."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    RETRYING = "retrying"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    UNKNOWN = "unknown"
    INTERRUPTED = "interrupted"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    COMPENSATED = "compensated"


class StepReason(_Word):
    """Why an attempt of a step ran. A skipped step has the reason of its flow or graph instead, as text."""

    NEW = "new"
    CODE_CHANGED = "code changed"
    FAILED_BEFORE = "failed before"
    RETRY = "retry"
    TIMED_OUT = "timed out"
    INTERRUPTED = "interrupted"
    ASKED_FOR = "asked for"
    RESULT_LOST = "result lost"
    REUSED = "reused"
    COMPENSATION = "compensation"
    COMPENSATED = "compensated"
    INJECTED = "injected"
    CHILD_EDITED = "child edited"


class EndOfRun(_Word):
    """How a continuation of a run ended: the events of `iron.on`, a closed list."""

    COMPLETED = "run.completed"
    FAILED = "run.failed"
    CANCELLED = "run.cancelled"
    PAUSED = "run.paused"
    INTERRUPTED = "run.interrupted"


class EffectOutcome(_Word):
    """Why an effect is no longer pending. A dead one has failed in its last attempt."""

    PERFORMED = "performed"
    DEAD = "dead"


FAILURES: Final = frozenset({StepStatus.FAILED, StepStatus.TIMED_OUT})
"""Statuses of an attempt that raised, or ran out of time."""

OWNED: Final = frozenset(
    {RunStatus.PENDING, RunStatus.RUNNING, RunStatus.WAITING, RunStatus.CANCELLING, RunStatus.COMPENSATING}
)
"""Statuses in which the run goes on. One that an owner works on is interrupted if the owner is dead.

A run whose compensation is interrupted stays `COMPENSATING` in the journal, so that it goes on with that. One that
waits goes on waiting without an owner: nothing of it runs, and any process continues it when its time comes. A pending
one waits for its place in a lane, or without an owner for a worker.
"""

CLOSED: Final = frozenset({RunStatus.COMPLETED, RunStatus.CANCELLED})
"""Statuses from which a run never continues by itself."""

ENDED: Final = CLOSED | {RunStatus.FAILED, RunStatus.INTERRUPTED, RunStatus.PAUSED}
"""Statuses in which nobody executes the run."""


def derived_run_status(recorded: RunStatus, *, owner_is_alive: bool) -> RunStatus:
    """Return the status now: a run whose owner is dead is interrupted, unless all of it waits.

    One that is detached is pending instead, which its item in the queue of work tells.
    """
    is_interrupted = recorded in OWNED - {RunStatus.WAITING} and not owner_is_alive
    return RunStatus.INTERRUPTED if is_interrupted else recorded


def derived_step_status(recorded: StepStatus, run: RunStatus) -> StepStatus:
    """Return the status now: a running step of a run that does not run is interrupted."""
    is_at_rest = run in ENDED or run is RunStatus.PENDING
    if recorded is StepStatus.UNKNOWN:  # a step that runs once has this status from its start
        return recorded if is_at_rest else StepStatus.RUNNING
    active = recorded in {StepStatus.RUNNING, StepStatus.RETRYING, StepStatus.PENDING, StepStatus.WAITING}
    return StepStatus.INTERRUPTED if active and is_at_rest else recorded


def recorded_step_statuses(wanted: Collection[StepStatus]) -> tuple[frozenset[StepStatus], bool]:
    """Return the recorded statuses from which a wanted one may follow, and True if only wanted ones follow."""
    comes_to = {status: {derived_step_status(status, run) for run in RunStatus} for status in StepStatus}
    recorded = frozenset(status for status, derived in comes_to.items() if not derived.isdisjoint(wanted))
    return recorded, all(comes_to[status] <= set(wanted) for status in recorded)
