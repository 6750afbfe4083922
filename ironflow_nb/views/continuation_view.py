"""The view of a continuation that is possible: what failed, what was edited since, and what would run again."""

from __future__ import annotations

import msgspec

from ironflow_nb.core.identity import StepRef


class FailedStep(msgspec.Struct, frozen=True, kw_only=True):
    """A step whose failure ended the run; `step` is empty if the flow itself has raised."""

    step: StepRef | None
    name: str
    error: str


class EditView(msgspec.Struct, frozen=True, kw_only=True):
    """An edit since the run was recorded: of a step, or of the flow itself. `diff` is unified."""

    name: str
    reason: str
    diff: str


class ContinuationView(msgspec.Struct, frozen=True, kw_only=True):
    """What `resume` would do now."""

    failed: tuple[FailedStep, ...] = ()
    summary: str = ""
    """What is used again and what runs again, with the seconds of work in it."""
    edits: tuple[EditView, ...] = ()
    missing: tuple[str, ...] = ()
    """The names of the flow and the steps that are not defined in this process."""
    stops: tuple[str, ...] = ()
    """The names of steps that were edited, and where the run stops unless it is said what to do with their results."""
