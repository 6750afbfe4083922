"""``fetch?`` without the call of the decorator's own class, which takes anything."""

from __future__ import annotations

from typing import Any

from ironflow_nb.flows.binding import Bindable


def attach(shell: Any) -> None:
    """Let the shell's inspector tell of a step or flow how its function is called, and nothing of how it wraps that."""
    inspector = shell.inspector
    plain = inspector.info

    def info(value: Any, *args: Any, **options: Any) -> Any:
        found = plain(value, *args, **options)
        if isinstance(value, Bindable):
            found |= {"call_def": None, "call_docstring": None}
        return found

    inspector.info = info


def detach(shell: Any) -> None:
    """Let it be as it was."""
    vars(shell.inspector).pop("info", None)
