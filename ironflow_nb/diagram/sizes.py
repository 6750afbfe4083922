"""How large everything is drawn, whatever its state: a node never changes its size while it runs."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import Final

from ironflow_nb.diagram.geometry import Size
from ironflow_nb.diagram.labels import clipped, one_line, width
from ironflow_nb.diagram.model import Diagram, Edge, Node, NodeKind

LABEL_FONT: Final = 13.0
CODE_FONT: Final = 12.0
SMALL_FONT: Final = 11.0
EDGE_FONT: Final = 11.0

MAX_LABEL: Final = 230.0
"""How wide a label may be; a longer one is clipped, its title has all of it."""
MAX_EDGE_LABEL: Final = 130.0
MAX_TRANSITION_LABEL: Final = 260.0
TEXT_INSET: Final = 34.0
"""From the left side of a node to its text; the mark of its status stands before it."""
STACK: Final = 4.0
"""By how much the sheets of a map's stack are moved against each other."""

RING: Final = 4.0
"""Between the two outlines of a state in which all ends."""
_STATE_HEIGHT: Final = 44.0
_LOOP_HEIGHT: Final = 20.0
"""What each transition from a state to itself takes of its side."""

_PILL: Final = frozenset({NodeKind.START, NodeKind.END})
_CODE: Final = frozenset({NodeKind.CONDITION, NodeKind.LOOP})


def sizes_of(diagram: Diagram) -> dict[str, Size]:
    """Return the size of every node, by id."""
    n_loops = Counter(edge.source for edge in diagram.edges if edge.source == edge.target)
    return {node.id: _roomy(_size(node), n_loops[node.id]) for node in diagram.nodes}


def _roomy(size: Size, n_loops: int) -> Size:
    return size if n_loops < 2 else Size(size.width, max(size.height, n_loops * _LOOP_HEIGHT + 12))


def label_sizes_of(diagram: Diagram) -> dict[str, Size]:
    """Return the size of every label of an edge, by its text; an empty one has none."""
    labels = {edge.label: edge for edge in diagram.edges if edge.label and one_line(edge.label)}
    return {label: Size(_label_width(edge), EDGE_FONT + 3) for label, edge in labels.items()}


def _label_width(edge: Edge) -> float:
    # Some transitions are drawn half-bold.
    return width(edge_label(edge), font_size=EDGE_FONT) * (1.0 if edge.tone is None else 1.08)


def node_label(node: Node) -> str:
    """Return the label as it is drawn."""
    return _drawn(node.label, node.kind)


@lru_cache(maxsize=4096)
def _drawn(label: str, kind: NodeKind) -> str:
    return clipped(label, font_size=_font(kind), room=MAX_LABEL, is_mono=kind in _CODE)


def edge_label(edge: Edge) -> str:
    """Return the label of an edge as it is drawn."""
    room = MAX_EDGE_LABEL if edge.tone is None else MAX_TRANSITION_LABEL
    return clipped(edge.label or "", font_size=EDGE_FONT, room=room)


def node_note(node: Node) -> str:
    """Return the note of a state as it is drawn."""
    return clipped(node.note, font_size=SMALL_FONT, room=MAX_LABEL)


def _font(kind: NodeKind) -> float:
    return CODE_FONT if kind in _CODE else SMALL_FONT if kind in _PILL else LABEL_FONT


def _size(node: Node) -> Size:
    # Labels are drawn half-bold, a little wider than they are measured.
    text = width(node_label(node), font_size=_font(node.kind), is_mono=node.kind in _CODE) * 1.07
    match node.kind:
        case NodeKind.START | NodeKind.END:
            return Size(max(56.0, text + 36), 26)
        case NodeKind.CONDITION:
            return Size(max(90.0, text + 40), 36)
        case NodeKind.LOOP:
            return Size(max(90.0, text + 52), 34)
        case NodeKind.MAP:
            return Size(max(200.0, text + TEXT_INSET + 14 + 2 * STACK), 56 + 2 * STACK)
        case NodeKind.WAIT:
            return Size(max(152.0, text + TEXT_INSET + 26), 42)
        case NodeKind.INITIAL:
            return Size(16, 16)
        case NodeKind.STATE:
            return _state_size(node, text)
        case NodeKind.FINAL:
            inner = _state_size(node, text)
            return Size(inner.width + 2 * RING, inner.height + 2 * RING)
        case _:
            return Size(max(152.0, text + TEXT_INSET + 16), 42)


def _state_size(node: Node, text: float) -> Size:
    # Its words stand in the middle; the mark of a status has room at the left, and as much is free at the right.
    note = width(node_note(node), font_size=SMALL_FONT)
    return Size(max(116.0, max(text, note) + 2 * TEXT_INSET), _STATE_HEIGHT)
