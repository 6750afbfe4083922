"""The model of a diagram, and the builder that makes one while a source is read from top to bottom.

A diagram says what a flow can do, before anything of it has run.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from ironflow_nb.core.status import StepStatus


class NodeKind(StrEnum):
    """The kind of a node; each has its own shape."""

    START = "start"
    END = "end"
    STEP = "step"
    MAP = "map"
    CONDITION = "condition"
    LOOP = "loop"
    """The head of a loop: it is reached once for each round, and once more to leave."""
    CHILD = "child"
    """A flow that is called in the flow."""
    FORK = "fork"
    """Several branches begin here and run side by side."""
    WAIT = "wait"
    OTHER = "other"
    INITIAL = "initial"
    """Where a state machine begins: a disc, before its first state."""
    STATE = "state"
    FINAL = "final"
    """A state in which nothing is decided any more."""


class Handled(StrEnum):
    """What a node can show beside the statuses of steps."""

    HANDLED = "handled"
    """It failed, and the flow went on after it."""

    @property
    def words(self) -> str:
        """The status in words."""
        return "failed and handled"


NodeStatus: TypeAlias = StepStatus | Handled

MACHINE_KINDS: Final = frozenset({NodeKind.INITIAL, NodeKind.STATE, NodeKind.FINAL})


class TransitionTone(StrEnum):
    """What is known of a transition of a state machine."""

    SEEN = "seen"
    POSSIBLE = "possible"
    """It was declared or found by trying, and never happened."""
    DRIFT = "drift"
    """It happened, and is not declared."""
    HINT = "hint"
    """The source suggests it; nothing else knows it."""


class Node(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One place of the flow. `step` is the recorded step name whose state the node shows."""

    id: str
    kind: NodeKind
    label: str
    step: str | None = None
    title: str = ""
    """More than the label says, for a tooltip: a signature, a line."""
    depth: int = 0
    """The number of branches and loops around the node."""
    note: str = ""
    """The text below the label of a state."""
    within: str | None = None
    """The step around the node: once that is completed, a node of which nothing is recorded was left out.

    An empty text is the run itself. None is where nothing follows from that, as in the source of a flow.
    """
    site: str | None = None
    """The number of the call in the source of the flow: the node shows only the steps that were called there.

    In a helper it is the number of the helper's call, and that of the call in the helper: ``"12.4"``.
    """


class Edge(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """From one node to the next. A back edge returns to a loop; a dashed one is not the ordinary way.

    Transitions of a state machine have a tone, say how often they were seen, and whether they are on the way that is
    shown.
    """

    source: str
    target: str
    label: str | None = None
    is_back: bool = False
    is_dashed: bool = False
    tone: TransitionTone | None = None
    n_seen: int = 0
    is_taken: bool = False
    title: str = ""


class Diagram(msgspec.Struct, frozen=True, omit_defaults=True):
    """Nodes in the order of the source, and the edges between them."""

    name: str
    nodes: tuple[Node, ...] = ()
    edges: tuple[Edge, ...] = ()

    @property
    def is_machine(self) -> bool:
        """Whether it shows the states of a machine, and not the steps of a flow."""
        return any(node.kind in MACHINE_KINDS for node in self.nodes)


def without_dangling_edges(diagram: Diagram) -> Diagram:
    """Return the diagram with one node for each id, and only the edges that join two of them."""
    nodes: dict[str, Node] = {}
    for node in diagram.nodes:
        nodes.setdefault(node.id, node)
    edges = tuple(edge for edge in diagram.edges if edge.source in nodes and edge.target in nodes)
    return Diagram(diagram.name, tuple(nodes.values()), edges)


def encode_diagram(diagram: Diagram) -> str:
    """Return the diagram as ASCII JSON with sorted keys: equal diagrams have equal texts."""
    return json.dumps(msgspec.to_builtins(diagram), sort_keys=True, separators=(",", ":"))


def decode_diagram(text: str) -> Diagram:
    """Return the encoded diagram. Other text gives a diagram that has at most a name."""
    try:
        found: Any = json.loads(text, object_hook=_with_site_as_text)
    except (ValueError, RecursionError):
        return Diagram("")
    try:
        return without_dangling_edges(msgspec.convert(found, Diagram))
    except (msgspec.ValidationError, RecursionError):
        name = found.get("name") if isinstance(found, dict) else None
        return Diagram(name if isinstance(name, str) else "")


def _with_site_as_text(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a node, whose site was a number before it told the calls in helpers apart."""
    return {**fields, "site": str(fields["site"])} if type(fields.get("site")) is int else fields


START_ID: Final = "start"
END_ID: Final = "end"


class OpenEdge(NamedTuple):
    """An edge that leaves a node and does not yet lead anywhere."""

    source: str
    label: str | None = None
    is_dashed: bool = False


Tails: TypeAlias = tuple[OpenEdge, ...]
"""All the ways to what comes next; none if nothing can come next."""


class DiagramBuilder:
    """Nodes and edges so far, beginning with a start."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes = [Node(id=START_ID, kind=NodeKind.START, label="start")]
        self._edges: dict[Edge, None] = {}

    def add(self, node: Node, tails: Tails) -> Tails:
        """Add the node at the end of the tails and return the one that leaves it."""
        self.nodes.append(node)
        self.join(tails, node.id)
        return (OpenEdge(node.id),)

    def fresh_id(self) -> str:
        """Return the id for the next node: its number in the order of the source."""
        return f"n{len(self.nodes)}"

    def join(self, tails: Iterable[OpenEdge], target: str, *, is_back: bool = False) -> None:
        """Connect the open edges to a node."""
        for source, label, is_dashed in tails:
            edge = Edge(source=source, target=target, label=label, is_back=is_back, is_dashed=is_dashed)
            self._edges.setdefault(edge)

    def diagram(self, tails: Tails) -> Diagram:
        """Return the diagram, in which the tails lead to its end."""
        self.join(tails, END_ID)
        nodes = (*self.nodes, Node(id=END_ID, kind=NodeKind.END, label="end"))
        return Diagram(self.name, nodes, tuple(self._edges))
