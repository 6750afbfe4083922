"""Failures of nodes: which of them a handler may see to, and what it sees of them."""

from __future__ import annotations

from typing import Any, Final

from ironflow_nb.errors import (
    FileUnreadable,
    FlowNotDefined,
    IronflowError,
    NodeFailed,
    NotGranted,
    RunCancelled,
    RunFailed,
    SecretMissing,
    StepFailed,
    ValueNotStorable,
)
from ironflow_nb.graphs.formats.definition import Node
from ironflow_nb.graphs.language.data import as_data

_CAN_BE_HANDLED: Final = (
    NodeFailed, NotGranted, SecretMissing, ValueNotStorable, StepFailed, RunFailed, RunCancelled, FlowNotDefined,
    FileUnreadable,
)  # fmt: skip


def can_be_handled(error: BaseException) -> bool:
    """Tell whether the failure is one of the node, and not of the journal, or a stop of the whole run."""
    if isinstance(error, ExceptionGroup):
        return all(map(can_be_handled, error.exceptions))
    if not isinstance(error, Exception):
        return False
    return not isinstance(error, IronflowError) or isinstance(error, _CAN_BE_HANDLED)


def described(node: Node, error: BaseException) -> dict[str, Any]:
    """Return what handlers see of a failure."""
    return {
        "node": node.id,
        "type": type(error).__qualname__,
        "message": str(error),
        "output": as_data(getattr(error, "output", None)),
    }


def one(name: str, failures: list[Exception]) -> Exception:
    """Return the failures as one."""
    if len(failures) == 1:
        return failures[0]
    return ExceptionGroup(f"{len(failures)} nodes of {name} failed", failures)
