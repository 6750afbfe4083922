"""The outline of each kind of node, as the data of an SVG path."""

from __future__ import annotations

from functools import lru_cache
from typing import assert_never

from ironflow_nb.diagram.geometry import Box, Point
from ironflow_nb.diagram.model import NodeKind


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
