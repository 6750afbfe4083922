"""How a status looks: a glyph for text, a mark and three colours for pictures.

How the colours were chosen. A notebook may be white or nearly black (#111), and a picture in it is transparent, so
nothing may depend on what is behind it. Every shape therefore has its own pale fill with dark text of the same hue
(at least 5.5:1, mostly above 9:1), and a stroke of middle lightness: at least 3:1, which WCAG asks of graphics, on
white, on #111 and (but for the quiet grey of what was skipped) nearly so on the fill itself. What is written or drawn
on the bare background is `LINE`: 4.55:1 on white, which WCAG asks of text, leaves 4.15:1 on #111, and no grey is
better on both. Colour is never the only sign: each status has a glyph of its own form, and a word.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ironflow_nb.core.status import RunStatus, StepStatus
from ironflow_nb.diagram.model import Handled, NodeStatus

LINE: Final = "#6e7781"
"""Edges, their labels, and all else on the bare background."""


DRIFT: Final = "#d1303a"
"""Transitions that happened and are not declared."""
WAY: Final = "#2f6feb"
"""Transitions on the way that is shown."""


@dataclass(frozen=True, slots=True)
class StatusStyle:
    """How a status is shown. `mark` is an SVG path in a square of 16 units, drawn white on a disc of `stroke`."""

    glyph: str
    mark: str
    fill: str
    stroke: str
    text: str


# The glyphs have no emoji form, so that no font turns them into small pictures.
_PENDING: Final = StatusStyle("○", "M4.6 8h.01M8 8h.01M11.4 8h.01", "#eceff2", "#7d8793", "#2f363d")
_RUNNING: Final = StatusStyle("►", "M6.4 4.9 11.2 8 6.4 11.1Z", "#dcebff", "#2f6feb", "#08296b")
_WAITING: Final = StatusStyle("◷", "M8 4.2V8.2L10.6 9.8", "#fff2c2", "#b27d12", "#4a2f00")
_RETRYING: Final = StatusStyle("↻", "M11 5.6A3.9 3.9 0 1 0 11.8 9M11.6 3.4V6H9", "#ffe4cf", "#d4661f", "#5a2500")
_COMPLETED: Final = StatusStyle("✓", "M4.6 8.4 7 10.8 11.5 5.6", "#d8f5de", "#2c9c4b", "#0a3b1a")
_FAILED: Final = StatusStyle("✗", "M5.3 5.3 10.7 10.7M10.7 5.3 5.3 10.7", "#ffdedb", "#d1303a", "#6b0d16")
_TIMED_OUT: Final = StatusStyle("⧖", "M5.2 4H10.8L5.2 12H10.8Z", "#ffdedb", "#d1303a", "#6b0d16")
_UNKNOWN: Final = StatusStyle(
    "?", "M5.9 6.2A2.1 2.1 0 1 1 8.7 8.2Q8 8.6 8 9.4M8 11.8h.01", "#efdfff", "#8a55e0", "#37136e"
)
_INTERRUPTED: Final = StatusStyle("↯", "M9 3.6 5.2 8.8H7.8L7 12.4 10.8 7.2H8.2Z", "#ffe0f0", "#c9418f", "#5d0f3f")
_SKIPPED: Final = StatusStyle("↷", "M4.8 5.2 7.6 8 4.8 10.8M8.6 5.2 11.4 8 8.6 10.8", "#f3f5f7", "#8b949e", "#57606a")
_CANCELLED: Final = StatusStyle("⊘", "M4.9 11.1 11.1 4.9", "#e4e7eb", "#6e7781", "#32383f")
_CANCELLING: Final = StatusStyle("⊖", "M4.8 8H11.2", "#e4e7eb", "#6e7781", "#32383f")
_COMPENSATED: Final = StatusStyle(
    "↶", "M5.6 4.2 3.9 6.6 6.7 7.5M4.2 6.4A4 4 0 1 1 5.4 11.2", "#efe9fb", "#7a63b8", "#2f2257"
)
_COMPENSATING: Final = StatusStyle("↺", "M5 5.6A3.9 3.9 0 1 1 4.2 9M4.4 3.4V6H7", "#ffe4cf", "#d4661f", "#5a2500")
_PAUSED: Final = StatusStyle("‖", "M6.2 5.2V10.8M9.8 5.2V10.8", "#e0f2f5", "#2a8c9e", "#06363f")

NEUTRAL: Final = StatusStyle("·", "", "#f3f5f7", "#7d8793", "#24292f")
"""What has no status: a step that was not reached, a condition, a loop."""

_HANDLED: Final = StatusStyle("⊠", "M5.6 4.4 10.4 9.2M10.4 4.4 5.6 9.2M4.8 12H11.2", "#f4e9df", "#9a6b3f", "#4a2c10")

_STEPS: Final[dict[NodeStatus, StatusStyle]] = {
    Handled.HANDLED: _HANDLED,
    StepStatus.PENDING: _PENDING,
    StepStatus.RUNNING: _RUNNING,
    StepStatus.WAITING: _WAITING,
    StepStatus.RETRYING: _RETRYING,
    StepStatus.COMPLETED: _COMPLETED,
    StepStatus.FAILED: _FAILED,
    StepStatus.TIMED_OUT: _TIMED_OUT,
    StepStatus.UNKNOWN: _UNKNOWN,
    StepStatus.INTERRUPTED: _INTERRUPTED,
    StepStatus.SKIPPED: _SKIPPED,
    StepStatus.CANCELLED: _CANCELLED,
    StepStatus.COMPENSATED: _COMPENSATED,
}
_RUNS: Final = {
    RunStatus.PENDING: _PENDING,
    RunStatus.RUNNING: _RUNNING,
    RunStatus.WAITING: _WAITING,
    RunStatus.PAUSED: _PAUSED,
    RunStatus.CANCELLING: _CANCELLING,
    RunStatus.COMPENSATING: _COMPENSATING,
    RunStatus.INTERRUPTED: _INTERRUPTED,
    RunStatus.FAILED: _FAILED,
    RunStatus.CANCELLED: _CANCELLED,
    RunStatus.COMPLETED: _COMPLETED,
}


def step_look(status: NodeStatus | None) -> StatusStyle:
    """Return how a step with that status looks; None is one that was not reached."""
    return NEUTRAL if status is None else _STEPS[status]


def run_look(status: RunStatus | None) -> StatusStyle:
    """Return how a run with that status looks; None is a flow without a run."""
    return NEUTRAL if status is None else _RUNS[status]


def looks_of_runs() -> dict[str, dict[str, str]]:
    """Return glyph and colours by status of a run, for front ends that draw themselves."""
    return {status.value: {name: getattr(look, name) for name in _SENT} for status, look in _RUNS.items()}


def looks_of_steps() -> dict[str, dict[str, str]]:
    """Return the same by status of a step."""
    return {status.value: {name: getattr(look, name) for name in _SENT} for status, look in _STEPS.items()}


_SENT: Final = ("glyph", "fill", "stroke", "text")
