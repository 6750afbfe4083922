"""What a node looks like: its outline by kind, its colours and mark by status, and what it says."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from ironflow_nb.core.status import StepStatus
from ironflow_nb.diagram.geometry import Box, Size
from ironflow_nb.diagram.labels import MONO, fitting, xml_text
from ironflow_nb.diagram.model import Handled, Node, NodeKind
from ironflow_nb.diagram.outlines import at, number, outline
from ironflow_nb.diagram.palette import Look, step_look
from ironflow_nb.diagram.sizes import CODE_FONT, LABEL_FONT, RING, SMALL_FONT, STACK, TEXT_INSET, node_label, node_note
from ironflow_nb.diagram.states import LIVELY, NodeState, saying_with_time

_TURN: Final = "M11.6 5.4A4.6 4.6 0 1 0 12.6 8.8M12.2 2.6V5.8H9"
_BAR_HEIGHT: Final = 5.0


def node_shapes(node: Node, size: Size, state: NodeState | None, look: Look) -> str:
    """Return the node as SVG elements around (0, 0); one that is being worked on has a heavy outline that glows."""
    front = _front(node.kind, size)
    said = _words(node, front, state, look)
    if state is None or state.status not in LIVELY:
        return _body(node.kind, front, look, stroke_width=1.5) + said
    grown = front._replace(width=front.width + 7, height=front.height + 7)
    glow = f'fill="none" stroke="{look.stroke}" stroke-width="4" stroke-opacity="0.35"'
    return _path(outline(node.kind, grown, corner=11), glow) + _body(node.kind, front, look, stroke_width=2.4) + said


@lru_cache(maxsize=256)
def mark_element(x: float, y: float, look: Look, *, radius: float = 8) -> str:
    """Return the mark of a status around that point: a disc with a white sign, or a ring for what has no status."""
    if not look.mark:
        ring = f'r="6" fill="none" stroke="{look.stroke}" stroke-width="1.6"'
        return f'<circle cx="{number(x)}" cy="{number(y)}" {ring}/>'
    place = f'transform="translate({at((x - radius, y - radius))}) scale({radius / 8:g})"'
    inside = "#ffffff" if look.mark.endswith("Z") else "none"
    lines = 'stroke="#ffffff" stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round"'
    sign = f'fill="{inside}" {lines}'
    disc = f'<circle cx="8" cy="8" r="8" fill="{look.stroke}"/>'
    return f"<g {place}>{disc}{_path(look.mark, sign)}</g>"


def text_element(x: float, y: float, text: str, attributes: str, *, font_size: float) -> str:
    """Return text whose letters stand around the height `y`."""
    place = f'x="{number(x)}" y="{number(y + font_size * 0.35)}" font-size="{number(font_size)}"'
    return f"<text {place} {attributes}>{xml_text(text)}</text>"


def _front(kind: NodeKind, size: Size) -> Box:
    """Return where the body is: the first sheet of a map's stack, for the others all of it."""
    if kind is not NodeKind.MAP:
        return Box(0, 0, *size)
    return Box(-STACK, STACK, size.width - 2 * STACK, size.height - 2 * STACK)


def _body(kind: NodeKind, box: Box, look: Look, *, stroke_width: float) -> str:
    paint = f'fill="{look.fill}" stroke="{look.stroke}" stroke-width="{stroke_width}" stroke-linejoin="round"'
    if kind is NodeKind.INITIAL:
        return _path(outline(kind, box), f'fill="{look.stroke}"')
    if kind is NodeKind.FINAL:
        inner = box._replace(width=box.width - 2 * RING, height=box.height - 2 * RING)
        return _path(outline(kind, box, corner=10), paint) + _path(outline(kind, inner), paint)
    if kind is NodeKind.OTHER:
        return _path(outline(kind, box), f'{paint} stroke-dasharray="5 3"')
    if kind is NodeKind.FORK:
        bars = "".join(f"M{at((box.left, y))}H{number(box.right)}" for y in (box.top + 5, box.bottom - 5))
        return _path(outline(kind, box), paint) + _path(bars, f'fill="none" stroke="{look.stroke}"')
    if kind is NodeKind.CHILD:
        bars = "".join(f"M{at((x, box.top))}V{number(box.bottom)}" for x in (box.left + 5, box.right - 5))
        return _path(outline(kind, box), paint) + _path(bars, f'fill="none" stroke="{look.stroke}"')
    sheets = (2, 1, 0) if kind is NodeKind.MAP else (0,)
    moved = [box._replace(x=box.x + n * STACK, y=box.y - n * STACK) for n in sheets]
    return "".join(_path(outline(kind, sheet), paint) for sheet in moved)


def _path(data: str, attributes: str) -> str:
    return f'<path d="{data}" {attributes}/>'


def _words(node: Node, box: Box, state: NodeState | None, look: Look) -> str:
    match node.kind:
        case NodeKind.START | NodeKind.END:
            return _pill_words(node, box, look)
        case NodeKind.CONDITION | NodeKind.LOOP:
            return _code_words(node, box, look)
        case NodeKind.INITIAL:
            return ""
        case NodeKind.STATE | NodeKind.FINAL:
            return _state_words(node, box, look)
        case _:
            return _step_words(node, box, state, look)


def _pill_words(node: Node, box: Box, look: Look) -> str:
    middle = f'text-anchor="middle" font-weight="600" fill="{look.text}"'
    if not look.mark:
        return text_element(box.x, box.y, node_label(node), middle, font_size=SMALL_FONT)
    mark = mark_element(box.left + 14, box.y, look, radius=6.5)
    return mark + text_element(box.x + 8, box.y, node_label(node), middle, font_size=SMALL_FONT)


def _code_words(node: Node, box: Box, look: Look) -> str:
    words = f'text-anchor="middle" font-family="{MONO}" fill="{look.text}"'
    if node.kind is NodeKind.CONDITION:
        return text_element(box.x, box.y, node_label(node), words, font_size=CODE_FONT)
    line = f'fill="none" stroke="{look.stroke}" stroke-width="1.6" stroke-linecap="round" stroke-linejoin="round"'
    turn = f'<g transform="translate({at((box.left + 10, box.y - 8))})">{_path(_TURN, line)}</g>'
    return turn + text_element(box.x + 10, box.y, node_label(node), words, font_size=CODE_FONT)


def _state_words(node: Node, box: Box, look: Look) -> str:
    mark = mark_element(box.left + 20, box.y, look) if look.mark else ""
    middle, note = f'text-anchor="middle" fill="{look.text}"', node_note(node)
    label = text_element(
        box.x, box.y - 7 if note else box.y, node_label(node), f'{middle} font-weight="600"', font_size=LABEL_FONT
    )
    return mark + label + (text_element(box.x, box.y + 9, note, middle, font_size=SMALL_FONT) if note else "")


def _step_words(node: Node, box: Box, state: NodeState | None, look: Look) -> str:
    is_counted = node.kind is NodeKind.MAP and state is not None and state.status is not StepStatus.SKIPPED
    bar = _bar(box, state) if is_counted and state is not None else ""
    y = box.y - 5 if bar else box.y
    mark = mark_element(box.left + 18, y, look)
    x, label = box.left + TEXT_INSET, node_label(node)
    bold = f'font-weight="600" fill="{look.text}"'
    if state is None:
        return mark + text_element(x, y, label, bold, font_size=LABEL_FONT)
    below = fitting(saying_with_time(state), font_size=SMALL_FONT, room=box.right - x - 8)
    said = text_element(x, y + 8, below, f'fill="{look.text}"', font_size=SMALL_FONT)
    return mark + text_element(x, y - 7, label, bold, font_size=LABEL_FONT) + said + bar


def _bar(box: Box, state: NodeState) -> str:
    """Return how far a map is: what is done, what failed and what is going on, on a track as long as all of it."""
    left, length, y = box.left + 12, box.width - 24, number(box.bottom - 12)
    shape = f'y="{y}" height="{number(_BAR_HEIGHT)}" rx="2"'
    parts = [f'<rect x="{number(left)}" width="{number(length)}" fill="#ffffff" fill-opacity="0.85" {shape}/>']
    for status in (StepStatus.COMPLETED, StepStatus.FAILED, Handled.HANDLED, StepStatus.RUNNING):
        part = length * state.n(status) / max(state.n_total, 1)
        if part > 0:
            place = f'x="{number(left)}" width="{number(part)}" data-part="{status}"'
            parts.append(f'<rect {place} fill="{step_look(status).stroke}" {shape}/>')
        left += part
    return "".join(parts)
