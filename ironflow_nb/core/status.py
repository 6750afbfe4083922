"""What a run and a step can be."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import Final


class _Word(StrEnum):
    """A word that shows as itself wherever it is displayed, in a cell, a list or an array."""

    def __repr__(self) -> str:
        return repr(self.value)


class RunStatus(_Word):
    """What a run is doing; `INTERRUPTED` is also derived, for a running one whose owner is dead."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    CANCELLED = "cancelled"
    COMPLETED = "completed"


class StepStatus(_Word):
    """What a step is doing; `INTERRUPTED` is derived, for a running one of a run that does not run."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    RETRYING = "retrying"
    COMPLETED = "completed"
    FAILED = "failed"
    UNKNOWN = "unknown"
    INTERRUPTED = "interrupted"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


OWNED: Final = frozenset({RunStatus.PENDING, RunStatus.RUNNING, RunStatus.WAITING, RunStatus.CANCELLING})
"""Statuses in which a live owner works on the run; with a dead one the run is interrupted."""

CLOSED: Final = frozenset({RunStatus.COMPLETED, RunStatus.CANCELLED})
"""Statuses from which a run never continues by itself."""

ENDED: Final = CLOSED | {RunStatus.FAILED, RunStatus.INTERRUPTED, RunStatus.PAUSED}
"""Statuses in which nothing is being done."""


def derived_run_status(recorded: RunStatus, *, owner_is_alive: bool) -> RunStatus:
    """Return what the run is really doing: work that nobody does any more is interrupted."""
    return RunStatus.INTERRUPTED if recorded in OWNED and not owner_is_alive else recorded


def derived_step_status(recorded: StepStatus, run: RunStatus) -> StepStatus:
    """Return what the step is really doing: a running step of a run that does not run is interrupted."""
    if recorded is StepStatus.UNKNOWN:  # of a step that runs once it is recorded from its start on
        return recorded if run in ENDED else StepStatus.RUNNING
    active = recorded in {StepStatus.RUNNING, StepStatus.RETRYING, StepStatus.PENDING}
    return StepStatus.INTERRUPTED if active and run in ENDED else recorded


def recorded_step_statuses(wanted: Collection[StepStatus]) -> tuple[frozenset[StepStatus], bool]:
    """Return which recorded statuses may come to one of the wanted ones, and whether they always do."""
    comes_to = {status: {derived_step_status(status, run) for run in RunStatus} for status in StepStatus}
    recorded = frozenset(status for status, derived in comes_to.items() if not derived.isdisjoint(wanted))
    return recorded, all(comes_to[status] <= set(wanted) for status in recorded)
