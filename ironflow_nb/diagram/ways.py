"""The ways of a picture: curves with a head, and what the transitions of a state machine look like."""

from __future__ import annotations

import math
from typing import Final

from ironflow_nb.diagram.geometry import Point, Route
from ironflow_nb.diagram.labels import xml_text
from ironflow_nb.diagram.model import Edge, Tone
from ironflow_nb.diagram.outlines import at
from ironflow_nb.diagram.palette import DRIFT, LINE, WAY
from ironflow_nb.diagram.shapes import text_element
from ironflow_nb.diagram.sizes import EDGE_FONT, edge_label

_ARROW: Final = 7.5
_THIN: Final = 1.4
_CLOCKS: Final = "⏲", "◷"
"""Many fonts lack the first, or make a coloured picture of it; the second stands for what waits elsewhere too."""
_DASHES: Final = {Tone.POSSIBLE: "5 4", Tone.HINT: "1 4"}


def edge_paths(route: Route) -> tuple[str, str]:
    """Return the curves of a route that has points, and the head of an arrow at its end, as the data of two paths."""
    points, arrow = _arrow(route.points)
    thirds = zip(points[1::3], points[2::3], points[3::3], strict=True)
    curves = "".join(f"C{at(first)} {at(second)} {at(end)}" for first, second, end in thirds)
    return f"M{at(points[0])}{curves}", arrow


def transition_element(edge: Edge, route: Route) -> str:
    """Return a transition as an SVG group: what happened is solid, the more often the heavier; what did not is broken.

    Drift is red and has a sign before its label; the way that is shown is blue and has numbers.
    """
    colour = DRIFT if edge.tone is Tone.DRIFT else WAY if edge.is_taken else LINE
    dashes = f' stroke-dasharray="{_DASHES[edge.tone]}"' if edge.tone in _DASHES else ""
    curves, arrow = edge_paths(route)
    about = f'data-tone="{edge.tone}" data-seen="{edge.n_seen}" data-taken="{str(edge.is_taken).lower()}"'
    line = f'<path d="{curves}" stroke="{colour}" stroke-width="{_heaviness(edge):g}"{dashes}/>'
    head = f'<path d="{arrow}" fill="{colour}" stroke="none"/>'
    title = f"<title>{xml_text(edge.title or edge.label or str(edge.tone))}</title>"
    return f"<g {about}>{title}{line}{head}{_label(edge, route, colour)}</g>"


def _heaviness(edge: Edge) -> float:
    """Return the width of the line: it grows with the digits of the count, so that no count hides the others."""
    grown = min(math.log10(edge.n_seen), 4.0) * 0.5 if edge.n_seen > 1 else 0.0
    return round(_THIN + grown + (0.8 if edge.is_taken else 0.0), 2)


def _label(edge: Edge, route: Route, colour: str) -> str:
    if not edge.label or route.label is None:
        return ""
    bold = ' font-weight="600"' if edge.is_taken or edge.tone is Tone.DRIFT else ""
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
