"""A diagram while it is being made, by something that reads the source of a flow from its beginning to its end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple, TypeAlias

from ironflow_nb.diagram.model import Diagram, Edge, Node, NodeKind

START_ID: Final = "start"
END_ID: Final = "end"


class Tail(NamedTuple):
    """An edge that leaves a node and does not yet lead anywhere."""

    source: str
    label: str | None = None
    is_dashed: bool = False


Tails: TypeAlias = tuple[Tail, ...]
"""All the ways to what comes next; none if nothing can come next."""


class Sketch:
    """Nodes and edges so far, beginning with a start."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes = [Node(id=START_ID, kind=NodeKind.START, label="start")]
        self._edges: dict[Edge, None] = {}

    def add(self, node: Node, tails: Tails) -> Tails:
        """Add the node at the end of the tails and return the one that leaves it."""
        self.nodes.append(node)
        self.join(tails, node.id)
        return (Tail(node.id),)

    def fresh_id(self) -> str:
        """Return the id for the next node: its number in the order of the source."""
        return f"n{len(self.nodes)}"

    def join(self, tails: Iterable[Tail], target: str, *, is_back: bool = False) -> None:
        """Let the tails lead to a node."""
        for source, label, is_dashed in tails:
            edge = Edge(source=source, target=target, label=label, is_back=is_back, is_dashed=is_dashed)
            self._edges.setdefault(edge)

    def diagram(self, tails: Tails) -> Diagram:
        """Return the diagram, in which the tails lead to its end."""
        self.join(tails, END_ID)
        nodes = (*self.nodes, Node(id=END_ID, kind=NodeKind.END, label="end"))
        return Diagram(self.name, nodes, tuple(self._edges))
