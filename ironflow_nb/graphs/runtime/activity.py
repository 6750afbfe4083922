"""Blocks of a graph at work.

What the expressions of a block see while it runs.

Failures of nodes: which of them a handler may see to, and what it sees of them.

Nodes that a run of a graph leaves out: each is recorded as skipped, with the reason.
"""

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
)
from ironflow_nb.execution import RunContext, durable_calls
from ironflow_nb.graphs.compiled_graph import Block, Condition, GraphNode, ParallelBlocks, Switch, blocks_of
from ironflow_nb.graphs.language.data import as_data


class NameFrame(Mapping[str, Any]):
    """Names and their values: of this block, then of the ones around it. That each is there was seen when compiling."""

    __slots__ = ("branch", "outer", "own")

    def __init__(self, own: dict[str, Any], outer: NameFrame | None, branch: BranchId) -> None:
        self.own = own
        self.outer = outer
        self.branch = branch

    def inside(self, own: dict[str, Any], branch: BranchId | None = None) -> NameFrame:
        """Return the frame of a block inside of this one."""
        return NameFrame(own, self, self.branch if branch is None else branch)

    def put(self, name: str, value: Any) -> None:
        """Let the name be seen from now on."""
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


Done = Callable[["Activity"], None]
"""Told that a block has ended: with outputs, or with failures."""


class Activity:
    """A block at work. `is_handled` says that some node around it has a handler for its failures."""

    __slots__ = (
        "_failures", "block", "done", "frame", "is_handled", "n_open", "n_waiting", "outputs", "waited_for_by",
    )  # fmt: skip

    def __init__(self, block: Block, frame: NameFrame, done: Done, *, is_handled: bool) -> None:
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
        """Those of its nodes that nothing handled, in the order of the nodes and not in that of time."""
        return [self._failures[number] for number in sorted(self._failures)]

    @property
    def failed(self) -> list[int]:
        """The numbers of the nodes that failed."""
        return sorted(self._failures)

    def fail(self, number: int, error: Exception) -> None:
        """Note that a node failed."""
        self._failures[number] = error


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


def described(node: GraphNode, error: BaseException) -> dict[str, Any]:
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


def skip_nodes(context: RunContext, graph: str, nodes: Iterable[GraphNode], branch: BranchId, reason: str) -> None:
    """Record that the nodes are left out, and those inside of them; they ride with the next commit."""
    for node in _with_inner(nodes):
        durable_calls.skip(context.at(branch), f"{graph}.{node.id}", reason)


def _with_inner(nodes: Iterable[GraphNode]) -> Iterator[GraphNode]:
    """Yield the nodes with those that would be decided on inside of them.

    Those inside of a loop are there once an item, so without items there is none; a handler has nothing to handle.
    """
    for node in nodes:
        yield node
        if isinstance(node.task, Condition | Switch | ParallelBlocks):
            for block in blocks_of(node):
                if block is not node.on_error:
                    yield from _with_inner(block.nodes)


def skip_after_failures(context: RunContext, graph: str, activity: Activity) -> None:
    """Record which nodes of the block never began, because those that they wait for have failed."""
    failed = ", ".join(activity.block.nodes[number].id for number in activity.failed)
    if failed:
        nodes = zip(activity.block.nodes, activity.n_waiting, strict=True)
        never = [node for node, n_waiting in nodes if n_waiting]
        skip_nodes(context, graph, never, activity.frame.branch, f"{failed}{AFTER_FAILURE}")
