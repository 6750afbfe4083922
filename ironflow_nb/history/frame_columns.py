"""The columns of the frames of history: their dtypes, and which of them a person sees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ironflow_nb.history.tables import COUNT, INSTANT, TEXT

RUN_COLUMNS: Final = {
    "run_id": TEXT, "kind": TEXT, "name": TEXT, "arguments": TEXT, "status": TEXT, "started_at": INSTANT,
    "ended_at": INSTANT, "duration_s": "float64", "n_steps": "int64", "n_completed": "int64", "n_failed": "int64",
    "n_reused": "int64", "n_sessions": "int64", "output": TEXT, "error": TEXT, "durability": TEXT, "key": TEXT,
    "notebook": TEXT, "parent_run_id": TEXT,
}  # fmt: skip

STEP_COLUMNS: Final = {
    "run_id": TEXT, "step": TEXT, "name": TEXT, "index": "int64", "attempt": "int64", "status": TEXT,
    "started_at": INSTANT, "finished_at": INSTANT, "duration_s": "float64", "reused": "bool", "reason": TEXT,
    "output": TEXT, "output_bytes": COUNT, "error": TEXT,
}  # fmt: skip

ATTEMPT_COLUMNS: Final = {name: dtype for name, dtype in STEP_COLUMNS.items() if name != "reused"} | {"branch": TEXT}

EVENT_COLUMNS: Final = {
    "run_id": TEXT, "position": "int64", "version": "int64", "at": INSTANT, "type": TEXT, "step": TEXT,
    "attempt": COUNT, "data": "object",
}  # fmt: skip

_RUNS: Final = (
    "run_id", "kind", "name", "key", "arguments", "status", "started_at", "duration_s", "n_steps", "n_failed",
    "n_reused", "output", "error",
)  # fmt: skip
_ATTEMPTS: Final = (
    "run_id", "branch", "step", "attempt", "status", "started_at", "duration_s", "reason", "output", "error",
)  # fmt: skip
_STEPS: Final = (
    "run_id", "step", "attempt", "status", "started_at", "duration_s", "reused", "reason", "output", "error",
)  # fmt: skip
_EVENTS: Final = ("position", "run_id", "at", "type", "step", "attempt", "data")

DISPLAYED: Final[Mapping[tuple[str, ...], tuple[str, ...]]] = {
    tuple(RUN_COLUMNS): _RUNS,
    tuple(STEP_COLUMNS): _STEPS,
    tuple(ATTEMPT_COLUMNS): _ATTEMPTS,
    tuple(EVENT_COLUMNS): _EVENTS,
}
"""The columns that are displayed, by all columns of a frame."""

ORDINARY: Final[Mapping[str, Any]] = {
    "kind": "flow", "branch": "", "attempt": 1, "n_failed": 0, "n_reused": 0, "reused": False, "reason": "new",
}  # fmt: skip
"""The values that say nothing: a column that has no others is not displayed."""
