"""Errors of graphs and their nodes."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from ironflow_nb.errors.root_error import IronflowError
from ironflow_nb.errors.run_errors import StepTimeout


class GraphPosition(NamedTuple):
    """A place in a text, counted from 1."""

    line: int
    column: int


class GraphFinding(Protocol):
    """A mistake in the definition of a graph, and where it is."""

    @property
    def path(self) -> tuple[str | int, ...]:
        """The keys and indexes that lead to the value."""

    @property
    def message(self) -> str:
        """What is wrong with it."""

    @property
    def position(self) -> GraphPosition | None:
        """Where it stands in the text; None if the definition was not read from one."""


class GraphInvalid(IronflowError, ValueError):
    """The definition of a graph has mistakes; `findings` are all of them, each with its path, line and column."""

    name: str | None = None
    findings: tuple[GraphFinding, ...] = ()


class InputInvalid(IronflowError, TypeError, ValueError):
    """The input of a call does not fit the graph, or an answer does not fit its question. Nothing was recorded."""

    name: str


class NotGranted(IronflowError, PermissionError):
    """A node asked for a host, file, program or variable that its graph is not granted."""

    grant: str
    what: str


class SecretMissing(IronflowError, LookupError):
    """A secret is not there: its environment, keyring or prompt has none, or an argument comes from the journal."""

    secret: str | None = None


class NodeFailed(IronflowError, RuntimeError):
    """A node of a graph could not do what it was asked; it is tried again if its `retry` says so.

    `is_retryable` is False if another try makes no sense; `retry_after_s` is the delay that the called service asks
    for. `fallback` is the result of the step if it is not tried again; the step has then not failed.
    """

    node: str | None = None
    is_retryable: bool = True
    retry_after_s: float | None = None
    fallback: object = None
    output: object = None
    status_code: int | None = None
    path: str | None = None


class ExpressionFailed(NodeFailed, ValueError):
    """An expression of a node can't be evaluated for the values that it met."""

    is_retryable: bool = False


class AssertionsFailed(NodeFailed, AssertionError):
    """The condition of an `assert` node does not hold; its message lists every mismatch."""

    is_retryable: bool = False


class NodeTimeout(NodeFailed, StepTimeout):
    """A node took longer than its `timeout_s`."""
