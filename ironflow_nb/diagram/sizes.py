"""The sizes of nodes and labels, and text made safe for a picture.

A size does not depend on the state: a node keeps its size while the run goes on.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import lru_cache
from html import escape
from itertools import accumulate, takewhile
from typing import Final

from ironflow_nb.diagram.geometry import Size
from ironflow_nb.diagram.model import Diagram, Edge, Node, NodeKind

SANS: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
MONO: Final = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
ELLIPSIS: Final = "…"

# What XML 1.0 forbids, with the two sorts of surrogates that no encoder takes.
_FORBIDDEN: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SPACES: Final = re.compile(r"\s+")
_MONO_EM: Final = 0.61
# Widths in em, generous: between those of Arial and of DejaVu Sans, the narrowest and widest a notebook will use.
_NARROW_EM: Final = {**dict.fromkeys("ijl|!'.,:;`", 0.31), **dict.fromkeys('ftrI()[]{}/\\- "', 0.40)}
_WIDE_EM: Final = {**dict.fromkeys("mwMW@%", 0.95), **dict.fromkeys("ABCDEFGHJKLNOPQRSTUVXYZ&+=<>~#_…→", 0.74)}
_WIDTHS_EM: Final = _NARROW_EM | _WIDE_EM


def clean(text: str) -> str:
    """Return the text with whatever XML 1.0 forbids replaced by the replacement character."""
    return _FORBIDDEN.sub("\ufffd", text)


def one_line(text: str) -> str:
    """Return the text cleaned and on one line."""
    return _SPACES.sub(" ", clean(text)).strip()


def xml_text(text: str) -> str:
    """Return the text as the content of an XML element."""
    return escape(clean(text), quote=False)


def xml_attribute(text: str) -> str:
    """Return the text as a quoted XML attribute on one line."""
    return f'"{escape(one_line(text))}"'


def width(text: str, *, font_size: float, is_mono: bool = False) -> float:
    """Return about how wide the text is drawn, in pixels; rather too much than too little."""
    return sum(_width_em(char, is_mono) for char in text) * font_size


@lru_cache(maxsize=4096)
def _width_em(char: str, is_mono: bool) -> float:  # noqa: FBT001 -- a cache key
    if unicodedata.combining(char) or unicodedata.category(char) == "Cf":
        return 0.0
    if not char.isascii():
        return 1.05 if unicodedata.east_asian_width(char) in "WF" or ord(char) > 0xFFFF else 0.74
    return _MONO_EM if is_mono else _WIDTHS_EM.get(char, 0.62)


def clipped(text: str, *, font_size: float, room: float, is_mono: bool = False) -> str:
    """Return the text on one line, with an ellipsis where it does not fit into `room` pixels."""
    line = one_line(text)
    if width(line, font_size=font_size, is_mono=is_mono) <= room:
        return line
    room_em = room / font_size - _width_em(ELLIPSIS, is_mono)
    ends_em = accumulate(_width_em(char, is_mono) for char in line)
    n_kept = sum(1 for _ in takewhile(lambda end_em: end_em <= room_em, ends_em))
    return line[:n_kept].rstrip() + ELLIPSIS


@lru_cache(maxsize=1024)
def fitting(text: str, *, font_size: float, room: float) -> str:
    """Return as many parts of the text, from its start, as fit into `room` pixels; the first is clipped if needed."""
    while width(text, font_size=font_size) > room and (", " in text or " · " in text):
        text = text[: max(text.rfind(", "), text.rfind(" · "))]
    return clipped(text, font_size=font_size, room=room)


LABEL_FONT: Final = 13.0
CODE_FONT: Final = 12.0
SMALL_FONT: Final = 11.0
EDGE_FONT: Final = 11.0

MAX_LABEL: Final = 230.0
"""The maximal width of a label; a longer one is clipped, and its title is complete."""
MAX_EDGE_LABEL: Final = 130.0
MAX_TRANSITION_LABEL: Final = 260.0
TEXT_INSET: Final = 34.0
"""The distance from the left side of a node to its text; the mark of its status is in between."""
STACK: Final = 4.0
"""The offset between the sheets of the stack of a map."""

RING: Final = 4.0
"""The distance between the two outlines of a final state."""
_STATE_HEIGHT: Final = 44.0
_LOOP_HEIGHT: Final = 20.0
"""The height that each transition from a state to itself takes."""

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
