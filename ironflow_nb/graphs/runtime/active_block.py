"""A block of a graph while it is executed: its names, its outputs, its failures, and the nodes that it skips."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from ironflow_nb.core.events import AFTER_FAILURE
from ironflow_nb.core.identity import BranchId
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
    WaitTimeout,
)
from ironflow_nb.execution import RunContext, Submission, durable_calls
from ironflow_nb.graphs.compiled_graph import Block, Condition, GraphNode, ParallelBlocks, Switch, blocks_of
from ironflow_nb.graphs.language.data import as_data


class NameFrame(Mapping[str, Any]):
    """The names of a block and their values, then those of the blocks around it. The compiler has checked each name."""

    __slots__ = ("branch", "outer", "own")

    def __init__(self, own: dict[str, Any], outer: NameFrame | None, branch: BranchId) -> None:
        self.own = own
        self.outer = outer
        self.branch = branch

    def inner(self, own: dict[str, Any], branch: BranchId | None = None) -> NameFrame:
        """Return the frame of a block inside of this one, with names of its own."""
        return NameFrame(own, self, self.branch if branch is None else branch)

    def bind(self, name: str, value: Any) -> None:
        """Make the name visible in this block and in those inside of it."""
        self.own[name] = value

    def __getitem__(self, name: str) -> Any:
        frame: NameFrame | None = self
        while frame is not None:
            if name in frame.own:
                return frame.own[name]
            frame = frame.outer
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        seen: set[str] = set()
        frame: NameFrame | None = self
        while frame is not None:
            yield from (name for name in frame.own if name not in seen)
            seen |= frame.own.keys()
            frame = frame.outer

    def __len__(self) -> int:
        return sum(1 for _ in self)


BlockCallback = Callable[["ActiveBlock"], None]
"""Called with a block that has ended: it has outputs, or failures."""


class ActiveBlock:
    """A block while it is executed.

    `n_waiting` says of each node for how many others it waits, `n_open` how many nodes have begun and not ended.
    `is_handled` is true if some node around the block has a handler for its failures.
    """

    __slots__ = (
        "_failures", "block", "done", "frame", "is_handled", "n_open", "n_waiting", "outputs", "waited_for_by",
    )  # fmt: skip

    def __init__(self, block: Block, frame: NameFrame, done: BlockCallback, *, is_handled: bool) -> None:
        self.block = block
        self.frame = frame
        self.done = done
        self.is_handled = is_handled
        self.outputs: dict[str, Any] = {}
        self._failures: dict[int, Exception] = {}
        self.n_open = 0
        self.n_waiting = [len(node.after) for node in block.nodes]
        self.waited_for_by: list[list[int]] = [[] for _ in block.nodes]
        for number, node in enumerate(block.nodes):
            for before in node.after:
                self.waited_for_by[before].append(number)

    @property
    def failures(self) -> list[Exception]:
        """The failures that no handler took, in the order of the nodes and not of time."""
        return [self._failures[number] for number in sorted(self._failures)]

    @property
    def failed(self) -> list[int]:
        """The numbers of the nodes that failed, in order."""
        return sorted(self._failures)

    def fail(self, number: int, error: Exception) -> None:
        """Add the failure of a node."""
        self._failures[number] = error


_HANDLED_ERRORS: Final = (
    NodeFailed, NotGranted, SecretMissing, ValueNotStorable, StepFailed, RunFailed, RunCancelled, FlowNotDefined,
    FileUnreadable, WaitTimeout,
)  # fmt: skip


def is_handleable(error: BaseException) -> bool:
    """Return True if a handler may take the error: it is of a node, not of the journal, and no stop of the run."""
    if isinstance(error, ExceptionGroup):
        return all(map(is_handleable, error.exceptions))
    if not isinstance(error, Exception):
        return False
    return not isinstance(error, IronflowError) or isinstance(error, _HANDLED_ERRORS)


def describe_failure(node: GraphNode, error: BaseException) -> dict[str, Any]:
    """Return the object that a handler sees as ``error``: node, type, message, output."""
    return {
        "node": node.id,
        "type": type(error).__qualname__,
        "message": str(error),
        "output": as_data(getattr(error, "output", None)),
    }


def combine_failures(name: str, failures: list[Exception]) -> Exception:
    """Return the only failure, or an `ExceptionGroup` of several."""
    if len(failures) == 1:
        return failures[0]
    return ExceptionGroup(f"{len(failures)} nodes of {name} failed", failures)


def skip_nodes(context: RunContext, graph: str, nodes: Iterable[GraphNode], branch: BranchId, reason: str) -> None:
    """Record the nodes, and those inside of them, as skipped. The events are added to the next commit."""
    for node in _with_nested(nodes):
        durable_calls.skip(context.at(branch), f"{graph}.{node.id}", reason)


def _with_nested(nodes: Iterable[GraphNode]) -> Iterator[GraphNode]:
    """Yield the nodes with those inside of conditions, switches and branches.

    Nodes inside of a loop exist once for each item, so a loop without items has none. Handlers have nothing to handle.
    """
    for node in nodes:
        yield node
        if isinstance(node.task, Condition | Switch | ParallelBlocks):
            for block in blocks_of(node):
                if block is not node.on_error:
                    yield from _with_nested(block.nodes)


def skip_after_failures(context: RunContext, graph: str, active: ActiveBlock) -> None:
    """Record the nodes of the block that never began as skipped: nodes that they wait for have failed."""
    failed = ", ".join(active.block.nodes[number].id for number in active.failed)
    if failed:
        nodes = zip(active.block.nodes, active.n_waiting, strict=True)
        never = [node for node, n_waiting in nodes if n_waiting]
        skip_nodes(context, graph, never, active.frame.branch, f"{failed}{AFTER_FAILURE}")


def read_submission(submission: Submission, *, is_handled: bool) -> Any:
    """Return the value of what was submitted, or raise its failure. If that is handled, the run lives with it."""
    __tracebackhide__ = True
    if is_handled:
        return submission.read()  # the run has seen the failure and goes on
    outcome = submission.promise
    outcome.is_observed = True
    if outcome.error is not None:
        raise outcome.error
    return outcome.value
