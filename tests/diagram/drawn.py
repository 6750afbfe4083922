"""Diagrams for tests, by hand and by Hypothesis, and what can be read from a picture."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from xml.etree import ElementTree as ET

from hypothesis import strategies as st

from ironflow_nb.core.status import StepStatus
from ironflow_nb.diagram.geometry import Box, Layout, Point
from ironflow_nb.diagram.layout import lay_out
from ironflow_nb.diagram.model import Diagram, Edge, Node, NodeKind, TransitionTone
from ironflow_nb.diagram.sizes import label_sizes_of, sizes_of
from ironflow_nb.diagram.states import NodeState, node_states

SVG = "{http://www.w3.org/2000/svg}"

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=30)
"""Any text at all: control characters, lone surrogates, emoji, both directions."""


def node(node_id: str, kind: NodeKind = NodeKind.STEP, *, step: str | None = None) -> Node:
    name = step or (node_id if kind in {NodeKind.STEP, NodeKind.MAP} else None)
    return Node(id=node_id, kind=kind, label=node_id, step=name)


def chain(n_steps: int, kind: NodeKind = NodeKind.STEP) -> Diagram:
    middle = [node(f"s{i}", kind) for i in range(n_steps)]
    nodes = [node("start", NodeKind.START), *middle, node("end", NodeKind.END)]
    edges = [Edge(source=one.id, target=next_.id) for one, next_ in pairwise(nodes)]
    return Diagram("chain", tuple(nodes), tuple(edges))


def fan(n_steps: int, kind: NodeKind = NodeKind.STEP) -> Diagram:
    middle = [node(f"s{i}", kind) for i in range(n_steps)]
    ends = [pair for one in middle for pair in (("start", one.id), (one.id, "end"))]
    edges = [Edge(source=source, target=target) for source, target in ends]
    return Diagram("fan", (node("start", NodeKind.START), *middle, node("end", NodeKind.END)), tuple(edges))


def looped() -> Diagram:
    """A loop around a decision between two steps."""
    nodes = [
        node("start", NodeKind.START),
        node("head", NodeKind.LOOP),
        node("ask", NodeKind.CONDITION),
        node("left"),
        node("right", NodeKind.MAP),
        node("join"),
        node("after"),
        node("end", NodeKind.END),
    ]
    edges = [
        Edge(source="start", target="head"),
        Edge(source="head", target="ask"),
        Edge(source="ask", target="left", label="yes"),
        Edge(source="ask", target="right", label="no"),
        Edge(source="left", target="join"),
        Edge(source="right", target="join"),
        Edge(source="join", target="head", is_back=True),
        Edge(source="head", target="after", label="done"),
        Edge(source="after", target="end"),
    ]
    return Diagram("looped", tuple(nodes), tuple(edges))


@st.composite
def diagrams(draw: st.DrawFn, *, max_nodes: int = 14, labels: st.SearchStrategy[str] = ANY_TEXT) -> Diagram:
    """Any diagram: circles, edges from a node to itself, twice, or to nowhere."""
    ids = draw(st.lists(st.text(max_size=4), unique=True, max_size=max_nodes))
    ends = st.sampled_from([*ids, "nowhere"])
    nodes = tuple(
        Node(
            id=node_id,
            kind=draw(st.sampled_from(NodeKind)),
            label=draw(labels),
            step=draw(st.none() | st.sampled_from("abc")),
            title=draw(labels),
            depth=draw(st.integers(0, 3)),
            note=draw(st.just("") | labels),
        )
        for node_id in ids
    )
    edge = st.builds(
        Edge, source=ends, target=ends, label=st.none() | labels, is_back=st.booleans(), is_dashed=st.booleans(),
        tone=st.none() | st.sampled_from(TransitionTone), n_seen=st.integers(0, 10**6), is_taken=st.booleans(),
        title=labels,
    )  # fmt: skip
    return Diagram(draw(labels), nodes, tuple(draw(st.lists(edge, max_size=2 * max_nodes))))


@st.composite
def states(draw: st.DrawFn) -> dict[str, NodeState]:
    record = st.tuples(
        st.sampled_from("abcd"), st.sampled_from(StepStatus), st.integers(1, 9), st.none() | st.floats(0, 1e6)
    )
    return node_states(draw(st.lists(record, max_size=20)))


def laid_out(diagram: Diagram, **options: object) -> Layout:
    return lay_out(diagram, sizes_of(diagram), label_sizes=label_sizes_of(diagram), **options)  # type: ignore[arg-type]


def overlap(one: Box, other: Box) -> bool:
    return (
        min(one.right, other.right) - max(one.left, other.left) > 0.01
        and min(one.bottom, other.bottom) - max(one.top, other.top) > 0.01
    )


def along(points: tuple[Point, ...], n_each: int = 12) -> list[Point]:
    """Return points on the curves of a route."""
    found = []
    for place in range(0, len(points) - 1, 3):
        a, b, c, d = points[place : place + 4]
        for t in (step / n_each for step in range(n_each + 1)):
            weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
            x, y = (sum(w * p[axis] for w, p in zip(weights, (a, b, c, d), strict=True)) for axis in (0, 1))
            found.append((x, y))
    return found


@dataclass
class Drawn:
    """What a picture says."""

    root: ET.Element

    @classmethod
    def of(cls, svg: str | None) -> Drawn:
        assert svg is not None
        return cls(ET.fromstring(svg))

    def group(self, node_id: str, prefix: str = "iron") -> ET.Element:
        return self.by_id()[f"{prefix}-n-{node_id}"]

    def by_id(self) -> dict[str, ET.Element]:
        found = [element for element in self.root.iter() if "id" in element.attrib]
        assert len({element.get("id") for element in found}) == len(found), "an id is used twice"
        return {element.attrib["id"]: element for element in found}

    def statuses(self) -> dict[str, str]:
        return {name: element.get("data-status", "") for name, element in self.by_id().items()}

    def size(self) -> tuple[float, float]:
        return float(self.root.attrib["width"]), float(self.root.attrib["height"])


def words(element: ET.Element) -> list[str]:
    return [text.text or "" for text in element.iter(f"{SVG}text")]


def title(element: ET.Element) -> str:
    return element.findtext(f"{SVG}title") or ""


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", text)]
