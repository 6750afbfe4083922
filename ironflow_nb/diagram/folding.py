"""Wide fans as one box with a grid in it: thirty boxes beside each other are wider than any notebook.

A fan are boxes that come after the same box and before the same box. One that is too wide is laid out as a single box,
its frame, which one link enters and one leaves; then the boxes of the fan are set into the frame, row by row.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from ironflow_nb.diagram.geometry import Box, Link, Placement, Route, Size, Skeleton

MAX_WIDTH: Final = 1000.0
"""How wide a fan may be before it is folded."""
_GAP: Final = 22.0
_PAD: Final = 18.0


class Folded(NamedTuple):
    """A skeleton whose wide fans are single boxes. `boxes` and `links` are what of the whole each one stands for."""

    skeleton: Skeleton
    boxes: tuple[tuple[int, ...], ...]
    links: tuple[int, ...]


def folded(skeleton: Skeleton) -> Folded:
    """Return the skeleton with every fan that is too wide as one box, in the place of its first."""
    fans = {fan[0]: fan for fan in _fans(skeleton) if _width(skeleton, fan) > MAX_WIDTH}
    inner = {box for fan in fans.values() for box in fan[1:]}
    boxes = tuple(fans.get(box, (box,)) for box in range(len(skeleton.sizes)) if box not in inner)
    new = {box: place for place, group in enumerate(boxes) for box in group}
    links = tuple(
        index for index, link in enumerate(skeleton.links) if link.tail not in inner and link.head not in inner
    )
    shown = tuple(skeleton.links[index] for index in links)
    moved = tuple(link._replace(tail=new[link.tail], head=new[link.head]) for link in shown)
    sizes = tuple(skeleton.sizes[group[0]] if len(group) == 1 else _grid(skeleton, group)[0] for group in boxes)
    return Folded(Skeleton(sizes, moved), boxes, links)


def unfolded(skeleton: Skeleton, fold: Folded, placement: Placement) -> Placement:
    """Return the placement of the whole; links that are not shown have no points."""
    boxes: dict[int, Box] = {}
    frames: list[Box] = []
    for group, box in zip(fold.boxes, placement.boxes, strict=True):
        if len(group) == 1:
            boxes[group[0]] = box
            continue
        frames.append(box)
        cells = _grid(skeleton, group)[1]
        boxes |= {
            member: Box(box.left + x, box.top + y, *skeleton.sizes[member])
            for member, (x, y) in zip(group, cells, strict=True)
        }
    routes = dict(zip(fold.links, placement.routes, strict=False))
    return Placement(
        placement.size,
        tuple(boxes[index] for index in range(len(boxes))),
        tuple(routes.get(index, Route()) for index in range(len(skeleton.links))),
        tuple(frames),
    )


def _fans(skeleton: Skeleton) -> list[tuple[int, ...]]:
    """Return groups of boxes with at most one link from the same box, and at most one to the same box."""
    entering: dict[int, list[Link]] = {}
    leaving: dict[int, list[Link]] = {}
    for link in skeleton.links:
        entering.setdefault(link.head, []).append(link)
        leaving.setdefault(link.tail, []).append(link)
    fans: dict[tuple[int | None, int | None], list[int]] = {}
    for box in range(len(skeleton.sizes)):
        before, after = entering.get(box, []), leaving.get(box, [])
        if len(before) <= 1 and len(after) <= 1 and not any(link.is_back or link.label for link in before + after):
            ends = before[0].tail if before else None, after[0].head if after else None
            fans.setdefault(ends, []).append(box)
    return [tuple(fan) for fan in fans.values() if len(fan) > 1]


def _width(skeleton: Skeleton, fan: tuple[int, ...]) -> float:
    return sum(skeleton.sizes[box].width + _GAP for box in fan) - _GAP


def _grid(skeleton: Skeleton, fan: tuple[int, ...]) -> tuple[Size, list[tuple[float, float]]]:
    """Return the size of the frame, and where in it the centre of every box is."""
    width = max(skeleton.sizes[box].width for box in fan) + _GAP
    height = max(skeleton.sizes[box].height for box in fan) + _GAP
    n_rows = math.ceil(len(fan) / max(1, int((MAX_WIDTH + _GAP) // width)))
    n_columns = math.ceil(len(fan) / n_rows)
    size = Size(n_columns * width - _GAP + 2 * _PAD, n_rows * height - _GAP + 2 * _PAD)
    places = [divmod(index, n_columns) for index in range(len(fan))]
    left, top = _PAD + (width - _GAP) / 2, _PAD + (height - _GAP) / 2
    return size, [(left + column * width, top + row * height) for row, column in places]
