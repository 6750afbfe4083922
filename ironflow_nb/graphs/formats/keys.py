"""The keys that a node may have beside its kind, and the names that mean something of their own."""

from __future__ import annotations

from typing import Final

COMMON_KEYS: Final = frozenset(
    {"id", "depends_on", "when", "retry", "timeout_s", "on_error", "once", "cache", "description"}
)
"""What every node may have."""

CONTROL_KEYS: Final = {
    "condition": frozenset({"then", "else"}),
    "switch": frozenset({"cases", "default"}),
    "branch": frozenset(),
    "loop": frozenset({"as", "do", "concurrency"}),
    "workflow": frozenset({"input"}),
    "assert": frozenset(),
}
"""The kinds that decide what runs, each with the keys that only it has."""

PYTHON: Final = "python"
PYTHON_KEYS: Final = frozenset({"with"})

_DECIDING: Final = frozenset({"retry", "timeout_s", "once", "cache"})

MEANINGLESS: Final = {
    **dict.fromkeys(("condition", "switch", "branch", "loop", "assert"), _DECIDING),
    "workflow": frozenset({"timeout_s", "cache"}),
}
"""What would say nothing on a node that only decides, or that another run stands for."""

LATER_KEYS: Final = frozenset({"lane", "approve", "ask", "wait_for", "sleep", "sleep_until", "delay", "compensate"})
"""What a later version will know."""

RESERVED_KEYS: Final = (
    COMMON_KEYS | CONTROL_KEYS.keys() | LATER_KEYS | PYTHON_KEYS | frozenset().union(*CONTROL_KEYS.values())
)
"""What no kind of a user can be called."""

RESERVED_NAMES: Final = frozenset({"input", "env", "secrets", "error", "index", "item", "taken"})
"""What no node can be called, for expressions know it as something else."""
