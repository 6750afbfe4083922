"""Nodes that a run of a graph leaves out: each is recorded as skipped, with the reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ironflow_nb.core.ids import BranchId
from ironflow_nb.execution.session import Session
from ironflow_nb.graphs.formats.definition import Branch, Condition, Node, Switch, blocks_of
from ironflow_nb.graphs.running.activities import Activity


def skip_nodes(session: Session, graph: str, nodes: Iterable[Node], branch: BranchId, reason: str) -> None:
    """Record that the nodes are left out, and those inside of them; they ride with the next commit."""
    for node in _with_inner(nodes):
        session.skip(f"{graph}.{node.id}", branch, reason)


def _with_inner(nodes: Iterable[Node]) -> Iterator[Node]:
    """Yield the nodes with those that would be decided on inside of them.

    Those inside of a loop are there once an item, so without items there is none; a handler has nothing to handle.
    """
    for node in nodes:
        yield node
        if isinstance(node.task, Condition | Switch | Branch):
            for block in blocks_of(node):
                if block is not node.on_error:
                    yield from _with_inner(block.nodes)


def skip_after_failures(session: Session, graph: str, activity: Activity) -> None:
    """Record which nodes of the block never began, because those that they wait for have failed."""
    failed = ", ".join(activity.block.nodes[number].id for number in activity.failed)
    if failed:
        nodes = zip(activity.block.nodes, activity.n_waiting, strict=True)
        never = [node for node, n_waiting in nodes if n_waiting]
        skip_nodes(session, graph, never, activity.frame.branch, f"{failed} failed")
