"""The SVG shapes of nodes and edges: an outline for each kind, colours and a mark for each status, and arrows."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final, assert_never

from ironflow_nb.core.status import StepStatus
from ironflow_nb.diagram.geometry import Box, Point, Route, Size
from ironflow_nb.diagram.model import Edge, Handled, Node, NodeKind, NodeStatus, TransitionTone
from ironflow_nb.diagram.palette import DRIFT, LINE, WAY, StatusStyle, step_look
from ironflow_nb.diagram.sizes import (
    CODE_FONT,
    EDGE_FONT,
    LABEL_FONT,
    MONO,
    RING,
    SMALL_FONT,
    STACK,
    TEXT_INSET,
    edge_label,
    fitting,
    node_label,
    node_note,
    xml_text,
)
from ironflow_nb.diagram.states import LIVELY, NodeState, state_words_with_time


@lru_cache(maxsize=1024)
def outline(kind: NodeKind, box: Box, corner: float = 8) -> str:
    """Return the outline of a node that fills the box."""
    half = box.height / 2
    match kind:
        case NodeKind.START | NodeKind.END | NodeKind.INITIAL:
            return _rounded(box, half, half)
        case NodeKind.STEP | NodeKind.MAP | NodeKind.OTHER:
            return _rounded(box, corner, corner)
        case NodeKind.STATE | NodeKind.FINAL:
            return _rounded(box, corner * 1.75, corner * 1.75)
        case NodeKind.CHILD | NodeKind.FORK:
            return _rounded(box, corner / 3, corner / 3)
        case NodeKind.WAIT:
            return _rounded(box, corner, half)
        case NodeKind.CONDITION:
            return _hexagon(box, half * 0.8)
        case NodeKind.LOOP:
            return _cut(box, half * 0.6)
        case _:
            assert_never(kind)


def number(value: float) -> str:
    """Return the coordinate, to a tenth of a pixel, as short as it can be written."""
    return f"{round(value, 1):g}" if abs(value) < 99_999 else f"{value:.0f}"


def at(point: Point) -> str:
    """Return the point as the data of a path."""
    return f"{number(point[0])} {number(point[1])}"


def _rounded(box: Box, left: float, right: float) -> str:
    """Return a rectangle with corners of these radii at its left and right side."""
    down, up = number(box.height - 2 * right), number(2 * left - box.height)
    a_left, a_right = f"a{number(left)} {number(left)} 0 0 1 ", f"a{number(right)} {number(right)} 0 0 1 "
    lower_right = f"{a_right}{at((right, right))}v{down}{a_right}{at((-right, right))}"
    upper_left = f"{a_left}{at((-left, -left))}v{up}{a_left}{at((left, -left))}"
    upper = f"M{at((box.left + left, box.top))}H{number(box.right - right)}"
    return f"{upper}{lower_right}H{number(box.left + left)}{upper_left}Z"


def _hexagon(box: Box, tip: float) -> str:
    sides = f"L{at((box.right, box.y))}L{at((box.right - tip, box.bottom))}H{number(box.left + tip)}"
    return f"M{at((box.left + tip, box.top))}H{number(box.right - tip)}{sides}L{at((box.left, box.y))}Z"


def _cut(box: Box, cut: float) -> str:
    """Return a rectangle whose upper corners are cut off."""
    sides = f"L{at((box.right, box.top + cut))}V{number(box.bottom)}H{number(box.left)}V{number(box.top + cut)}"
    return f"M{at((box.left + cut, box.top))}H{number(box.right - cut)}{sides}Z"


_TURN: Final = "M11.6 5.4A4.6 4.6 0 1 0 12.6 8.8M12.2 2.6V5.8H9"
_BAR_HEIGHT: Final = 5.0
_THIN_BAR_HEIGHT: Final = 2.5


def node_shapes(node: Node, size: Size, state: NodeState | None, look: StatusStyle) -> str:
    """Return the node as SVG elements around (0, 0); one that is being worked on has a heavy outline that glows."""
    front = _front(node.kind, size)
    said = _words(node, front, state, look)
    if state is None or state.status not in LIVELY:
        return _body(node.kind, front, look, stroke_width=1.5) + said
    grown = front._replace(width=front.width + 7, height=front.height + 7)
    glow = f'fill="none" stroke="{look.stroke}" stroke-width="4" stroke-opacity="0.35"'
    return _path(outline(node.kind, grown, corner=11), glow) + _body(node.kind, front, look, stroke_width=2.4) + said


@lru_cache(maxsize=256)
def mark_element(x: float, y: float, look: StatusStyle, *, radius: float = 8) -> str:
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
    """Return text whose letters are centred on the height `y`."""
    place = f'x="{number(x)}" y="{number(y + font_size * 0.35)}" font-size="{number(font_size)}"'
    return f"<text {place} {attributes}>{xml_text(text)}</text>"


def _front(kind: NodeKind, size: Size) -> Box:
    """Return where the body is: the first sheet of a map's stack, for the others all of it."""
    if kind is not NodeKind.MAP:
        return Box(0, 0, *size)
    return Box(-STACK, STACK, size.width - 2 * STACK, size.height - 2 * STACK)


def _body(kind: NodeKind, box: Box, look: StatusStyle, *, stroke_width: float) -> str:
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


def _words(node: Node, box: Box, state: NodeState | None, look: StatusStyle) -> str:
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


def _pill_words(node: Node, box: Box, look: StatusStyle) -> str:
    middle = f'text-anchor="middle" font-weight="600" fill="{look.text}"'
    if not look.mark:
        return text_element(box.x, box.y, node_label(node), middle, font_size=SMALL_FONT)
    mark = mark_element(box.left + 14, box.y, look, radius=6.5)
    return mark + text_element(box.x + 8, box.y, node_label(node), middle, font_size=SMALL_FONT)


def _code_words(node: Node, box: Box, look: StatusStyle) -> str:
    words = f'text-anchor="middle" font-family="{MONO}" fill="{look.text}"'
    if node.kind is NodeKind.CONDITION:
        return text_element(box.x, box.y, node_label(node), words, font_size=CODE_FONT)
    line = f'fill="none" stroke="{look.stroke}" stroke-width="1.6" stroke-linecap="round" stroke-linejoin="round"'
    turn = f'<g transform="translate({at((box.left + 10, box.y - 8))})">{_path(_TURN, line)}</g>'
    return turn + text_element(box.x + 10, box.y, node_label(node), words, font_size=CODE_FONT)


def _state_words(node: Node, box: Box, look: StatusStyle) -> str:
    mark = mark_element(box.left + 20, box.y, look) if look.mark else ""
    middle, note = f'text-anchor="middle" fill="{look.text}"', node_note(node)
    label = text_element(
        box.x, box.y - 7 if note else box.y, node_label(node), f'{middle} font-weight="600"', font_size=LABEL_FONT
    )
    return mark + label + (text_element(box.x, box.y + 9, note, middle, font_size=SMALL_FONT) if note else "")


def _step_words(node: Node, box: Box, state: NodeState | None, look: StatusStyle) -> str:
    is_counted = node.kind is NodeKind.MAP and state is not None and state.status is not StepStatus.SKIPPED
    bar = _bar(box, state) if is_counted and state is not None else ""
    y = box.y - 5 if bar else box.y
    mark = mark_element(box.left + 18, y, look)
    x, label = box.left + TEXT_INSET, node_label(node)
    bold = f'font-weight="600" fill="{look.text}"'
    if state is None:
        return mark + text_element(x, y, label, bold, font_size=LABEL_FONT)
    below = fitting(state_words_with_time(state), font_size=SMALL_FONT, room=box.right - x - 8)
    said = text_element(x, y + 8, below, f'fill="{look.text}"', font_size=SMALL_FONT)
    share = _thin_bar(box, state.share, look) if state.share is not None and not bar else ""
    return mark + text_element(x, y - 7, label, bold, font_size=LABEL_FONT) + said + bar + share


def _thin_bar(box: Box, share: float, look: StatusStyle) -> str:
    """Return the progress bar of one step, along the lower edge of its node."""
    left, length = box.left + 12, box.width - 24
    shape = f'x="{number(left)}" y="{number(box.bottom - 5)}" height="{number(_THIN_BAR_HEIGHT)}" rx="1"'
    whole = f'<rect width="{number(length)}" fill="#ffffff" fill-opacity="0.85" {shape}/>'
    return f'{whole}<rect width="{number(length * share)}" fill="{look.stroke}" data-part="reported" {shape}/>'


def _bar(box: Box, state: NodeState) -> str:
    """Return the progress bar of a map: the shares that were done before, are done, failed and running."""
    left, length, y = box.left + 12, box.width - 24, number(box.bottom - 12)
    shape = f'y="{y}" height="{number(_BAR_HEIGHT)}" rx="2"'
    parts = [f'<rect x="{number(left)}" width="{number(length)}" fill="#ffffff" fill-opacity="0.85" {shape}/>']
    rest = (StepStatus.FAILED, StepStatus.TIMED_OUT, Handled.HANDLED, StepStatus.RUNNING)
    counts: list[tuple[NodeStatus, int]] = [(status, state.n(status)) for status in rest]
    counts.insert(0, (StepStatus.COMPLETED, state.n(StepStatus.COMPLETED) - state.n_before))
    for status, n in [(None, state.n_before), *counts]:
        part = length * n / max(state.n_total, 1)
        if part > 0:
            place = f'x="{number(left)}" width="{number(part)}" data-part="{status or state.before}"'
            pale = "" if status else ' fill-opacity="0.5"'
            parts.append(f'<rect {place} fill="{step_look(status or StepStatus.COMPLETED).stroke}"{pale} {shape}/>')
        left += part
    return "".join(parts)


_ARROW: Final = 7.5
_THIN: Final = 1.4
_CLOCKS: Final = "⏲", "◷"
"""Many fonts lack the first, or make a coloured picture of it; the second means waiting in other places too."""
_DASHES: Final = {TransitionTone.POSSIBLE: "5 4", TransitionTone.HINT: "1 4"}


def edge_paths(route: Route) -> tuple[str, str]:
    """Return the curves of a route that has points, and the head of an arrow at its end, as the data of two paths."""
    points, arrow = _arrow(route.points)
    thirds = zip(points[1::3], points[2::3], points[3::3], strict=True)
    curves = "".join(f"C{at(first)} {at(second)} {at(end)}" for first, second, end in thirds)
    return f"M{at(points[0])}{curves}", arrow


def transition_title(edge: Edge) -> str:
    """Return what a transition says in its tooltip."""
    return edge.title or edge.label or str(edge.tone)


def transition_element(edge: Edge, route: Route) -> str:
    """Return a transition as an SVG group: what happened is solid, the more often the heavier; what did not is broken.

    Drift is red and has a sign before its label; the way that is shown is blue and has numbers.
    """
    colour = DRIFT if edge.tone is TransitionTone.DRIFT else WAY if edge.is_taken else LINE
    dashes = f' stroke-dasharray="{_DASHES[edge.tone]}"' if edge.tone in _DASHES else ""
    curves, arrow = edge_paths(route)
    about = f'data-tone="{edge.tone}" data-seen="{edge.n_seen}" data-taken="{str(edge.is_taken).lower()}"'
    line = f'<path d="{curves}" stroke="{colour}" stroke-width="{_heaviness(edge):g}"{dashes}/>'
    head = f'<path d="{arrow}" fill="{colour}" stroke="none"/>'
    title = f"<title>{xml_text(transition_title(edge))}</title>"
    return f"<g {about}>{title}{line}{head}{_label(edge, route, colour)}</g>"


def _heaviness(edge: Edge) -> float:
    """Return the width of the line: it grows with the digits of the count, so that no count hides the others."""
    grown = min(math.log10(edge.n_seen), 4.0) * 0.5 if edge.n_seen > 1 else 0.0
    return round(_THIN + grown + (0.8 if edge.is_taken else 0.0), 2)


def _label(edge: Edge, route: Route, colour: str) -> str:
    if not edge.label or route.label is None:
        return ""
    bold = ' font-weight="600"' if edge.is_taken or edge.tone is TransitionTone.DRIFT else ""
    words = f'text-anchor="middle" fill="{colour}" stroke="none"{bold}'
    return text_element(*route.label, edge_label(edge).replace(*_CLOCKS), words, font_size=EDGE_FONT)


def _arrow(points: tuple[Point, ...]) -> tuple[list[Point], str]:
    """Return the points with the end drawn back, and the head of an arrow in its place."""
    end = points[-1]
    before = next((point for point in reversed(points) if math.dist(point, end) > 0.5), (end[0], end[1] - 1))
    length = math.dist(before, end)
    x, y = (end[0] - before[0]) / length * _ARROW, (end[1] - before[1]) / length * _ARROW
    base = (end[0] - x, end[1] - y)
    wings = [(base[0] - y * 0.45, base[1] + x * 0.45), (base[0] + y * 0.45, base[1] - x * 0.45)]
    drawn_back = [*points[:-2], (points[-2][0] - x, points[-2][1] - y), base]
    return drawn_back, f"M{at(end)}L{at(wings[0])}L{at(wings[1])}Z"
