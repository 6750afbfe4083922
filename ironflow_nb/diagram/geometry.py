"""Places and sizes: the input and the result of a layout. Pixels, x to the right, y down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

Point: TypeAlias = tuple[float, float]


class Size(NamedTuple):
    """How large something is."""

    width: float
    height: float


class Box(NamedTuple):
    """A rectangle around its centre."""

    x: float
    y: float
    width: float
    height: float

    @property
    def left(self) -> float:
        """The x of its left side."""
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        """The x of its right side."""
        return self.x + self.width / 2

    @property
    def top(self) -> float:
        """The y of its upper side."""
        return self.y - self.height / 2

    @property
    def bottom(self) -> float:
        """The y of its lower side."""
        return self.y + self.height / 2


class Route(NamedTuple):
    """The way of an edge: a start and three points for each Bezier curve after it; no points if there is no way."""

    points: tuple[Point, ...] = ()
    label: Point | None = None
    """The centre of the edge's label."""


class Link(NamedTuple):
    """An edge of a skeleton, between two indexes."""

    tail: int
    head: int
    label: Size | None = None
    is_back: bool = False
    is_hidden: bool = False
    """It only holds the head below the tail."""


class Skeleton(NamedTuple):
    """All of a diagram that its layout depends on. Equal skeletons have equal layouts, however they are coloured."""

    sizes: tuple[Size, ...]
    links: tuple[Link, ...]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the boxes and links of a skeleton are, in its order; all of it within `size`."""

    size: Size
    boxes: tuple[Box, ...]
    routes: tuple[Route, ...]
    frames: tuple[Box, ...] = ()
    """The frame around boxes that belong together."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the nodes of a diagram are, by id, and the routes of its edges, in their order."""

    size: Size
    boxes: Mapping[str, Box]
    routes: tuple[Route, ...]
    frames: tuple[Box, ...]
    engine_name: str
    """The layout engine that placed it: "pygraphviz", "dot" or "layered"."""


def framed(boxes: tuple[Box, ...], routes: tuple[Route, ...], labels: tuple[Size | None, ...]) -> Placement:
    """Return the placement moved so that all of it, labels and curves too, begins at (0, 0)."""
    xs, ys = [0.0] if not boxes else [], [0.0] if not boxes else []
    for box in (*boxes, *_label_boxes(routes, labels)):
        xs += (box.left, box.right)
        ys += (box.top, box.bottom)
    for route in routes:
        xs += [x for x, _ in route.points]
        ys += [y for _, y in route.points]
    dx, dy = -min(xs), -min(ys)
    return Placement(
        Size(max(xs) + dx, max(ys) + dy),
        tuple(Box(box.x + dx, box.y + dy, box.width, box.height) for box in boxes),
        tuple(_moved(route, dx, dy) for route in routes),
    )


def _label_boxes(routes: tuple[Route, ...], labels: tuple[Size | None, ...]) -> list[Box]:
    pairs = zip(routes, labels, strict=True)
    return [Box(*route.label, *size) for route, size in pairs if route.label is not None and size is not None]


def _moved(route: Route, dx: float, dy: float) -> Route:
    label = None if route.label is None else (route.label[0] + dx, route.label[1] + dy)
    return Route(tuple((x + dx, y + dy) for x, y in route.points), label)
