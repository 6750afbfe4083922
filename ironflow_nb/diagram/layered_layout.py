"""The layout that needs no Graphviz: nodes in rows, links from top to bottom around them.

The method of Sugiyama: links are reversed until no links form a circle, every node gets a rank, rows are ordered so
that few links cross (`layout_rows`), and places in a row are chosen so that links are straight (`place_rows`). A link
that passes through a row has a place of its own there, so no curve touches a box: inside a row it runs straight down,
between rows it bends. The layout is deterministic: equal skeletons get equal layouts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Final, NamedTuple, TypeAlias

from ironflow_nb.diagram.geometry import Box, Link, Placement, Point, Route, Skeleton, framed
from ironflow_nb.diagram.layout_rows import LABEL_GAP, LOOP_ROOM, Arc, Grid, arcs_of, grid_of, order_rows, ranks_of

ROW_GAP: Final = 30.0
_CORNER: Final = 12.0
_STEP_ASIDE: Final = 6.0


class _Band(NamedTuple):
    """The height that a row takes."""

    top: float
    bottom: float


class _Sheet(NamedTuple):
    """Everything placed; what is left is to draw the ways."""

    grid: Grid
    xs: list[float]
    bands: list[_Band]
    boxes: tuple[Box, ...]


def layered(skeleton: Skeleton) -> Placement:
    """Place the boxes and ways of the skeleton."""
    if not skeleton.sizes:
        return framed((), (Route(),) * len(skeleton.links), (None,) * len(skeleton.links))
    arcs = arcs_of(skeleton)
    grid = grid_of(skeleton, arcs, ranks_of(len(skeleton.sizes), arcs))
    order_rows(grid)
    xs, bands = place_rows(grid), _bands(grid)
    middles = [(band.top + band.bottom) / 2 for band in bands]
    boxes = tuple(Box(xs[i], middles[grid.ranks[i]], *size) for i, size in enumerate(skeleton.sizes))
    sheet = _Sheet(grid, xs, bands, boxes)
    routes = [Route()] * len(skeleton.links)
    for loops in _loops(skeleton).values():
        for place, index in enumerate(loops):
            link = skeleton.links[index]
            routes[index] = _loop_route(_slice(boxes[link.tail], place, len(loops)), link)
    for arc, chain in zip(arcs, grid.chains, strict=True):
        if not skeleton.links[arc.link].is_hidden:
            routes[arc.link] = _route(sheet, arc, chain, skeleton.links[arc.link])
    return framed(boxes, tuple(routes), tuple(link.label for link in skeleton.links))


def _bands(grid: Grid) -> list[_Band]:
    """Return the band of each row; a row through which links only pass has half the distance to the others."""
    bands: list[_Band] = []
    y, had_nodes = -ROW_GAP, True
    for row in grid.rows:
        has_nodes = any(grid.is_node(item) for item in row)
        y += ROW_GAP if had_nodes and has_nodes else ROW_GAP / 2
        height = max((grid.heights[item] for item in row), default=0.0)
        bands.append(_Band(y, y + height))
        y, had_nodes = y + height, has_nodes
    return bands


def _route(sheet: _Sheet, arc: Arc, chain: Sequence[int], link: Link) -> Route:
    places = chain[1:-1]
    if arc.is_turned and places:
        points = _way_back(sheet, arc, places)
    else:
        points = _way_down(sheet, arc, places)
    return Route(tuple(reversed(points)) if arc.is_turned else tuple(points), _label_at(sheet, chain, link))


def _label_at(sheet: _Sheet, chain: Sequence[int], link: Link) -> Point | None:
    if link.label is None:
        return None
    grid = sheet.grid
    labelled = next((item for item in chain[1:-1] if grid.heights[item] > 0), None)
    if labelled is None:  # too long to pass through the rows: beside the middle of its straight line
        ends = sheet.boxes[chain[0]], sheet.boxes[chain[-1]]
        return (ends[0].x + ends[1].x) / 2 + LABEL_GAP + link.label.width / 2, (ends[0].bottom + ends[1].top) / 2
    band = sheet.bands[grid.ranks[labelled]]
    return sheet.xs[labelled] + LABEL_GAP + link.label.width / 2, (band.top + band.bottom) / 2


def _way_down(sheet: _Sheet, arc: Arc, places: Sequence[int]) -> list[Point]:
    """From the bottom of the upper box to the top of the lower one."""
    upper, lower = sheet.boxes[arc.upper], sheet.boxes[arc.lower]
    leaving_x = _port(upper, sheet.xs[places[0]] if places else upper.x)
    arriving_x = _port(lower, sheet.xs[places[-1]] if places else leaving_x)
    points = [(leaving_x, upper.bottom)]
    _line_to(points, (leaving_x, _band(sheet, arc.upper).bottom))
    _pass(sheet, points, places)
    _bend_to(points, (arriving_x, _band(sheet, arc.lower).top))
    _line_to(points, (arriving_x, lower.top))
    return points


def _port(box: Box, x: float) -> float:
    """Return where a way to the column `x` meets the box: in its middle, but a small step aside is not worth a bend."""
    return x if abs(x - box.x) <= _STEP_ASIDE else box.x


def _way_back(sheet: _Sheet, arc: Arc, places: Sequence[int]) -> list[Point]:
    """From the side of the upper box, down beside what the way goes around, to the side of the lower one."""
    points = _leave(sheet, arc.upper, sheet.xs[places[0]], _band(sheet, arc.upper).bottom)
    _pass(sheet, points, places)
    arriving = _leave(sheet, arc.lower, sheet.xs[places[-1]], _band(sheet, arc.lower).top)
    _bend_to(points, arriving[-1])
    points += reversed(arriving[:-1])
    return points


def _leave(sheet: _Sheet, node: int, x: float, y: float) -> list[Point]:
    """Leave the node for the column `x`, which begins at the edge `y` of its row: by the side if nothing is between."""
    box = sheet.boxes[node]
    side = box.left if x < box.x else box.right
    is_below = y > box.y
    if abs(x - box.x) < box.width / 2 + SIDE_ROOM / 2 or not _is_free(sheet, node, x):
        inset = min(box.width / 4, max(0.0, box.width / 2 - 10))
        port = min(max(x, box.x - inset), box.x + inset)
        points = [(port, box.bottom if is_below else box.top)]
        _line_to(points, (port, y))
        return points
    corner = min(_CORNER, abs(x - side), abs(y - box.y))
    points = [(side, box.y)]
    _line_to(points, (x + (corner if side > x else -corner), box.y))
    turned_y = box.y + (corner if is_below else -corner)
    points += [(x, box.y), (x, box.y), (x, turned_y)]
    _line_to(points, (x, y))
    return points


def _is_free(sheet: _Sheet, node: int, x: float) -> bool:
    """Return True if no other box of the row, and no link of the node to itself, lies between it and the column."""
    if x > sheet.boxes[node].x and sheet.grid.rights[node] > sheet.boxes[node].width / 2 + LOOP_ROOM / 2:
        return False
    left, right = sorted((x, sheet.boxes[node].x))
    others = (item for item in sheet.grid.rows[sheet.grid.ranks[node]] if sheet.grid.is_node(item) and item != node)
    return all(sheet.boxes[other].right < left or sheet.boxes[other].left > right for other in others)


def _loops(skeleton: Skeleton) -> dict[int, list[int]]:
    """Return the links from a box to itself by their box."""
    found: dict[int, list[int]] = {}
    for index, link in enumerate(skeleton.links):
        if link.tail == link.head:
            found.setdefault(link.tail, []).append(index)
    return found


def _slice(box: Box, place: int, n_slices: int) -> Box:
    """Return what of the height of the box each of its loops has for itself."""
    height = box.height / n_slices
    return box._replace(y=box.top + (place + 0.5) * height, height=height)


def _loop_route(box: Box, link: Link) -> Route:
    """From the right side of the box around to it again."""
    x, room, y = box.right, LOOP_ROOM - 4, min(8.0, box.height / 3.6)
    far = min(3 * y, box.height / 2)
    points = ((x, box.y - y), (x + room, box.y - far), (x + room, box.y + far), (x, box.y + y))
    return Route(points, None if link.label is None else (x + LOOP_ROOM + link.label.width / 2, box.y))


def _band(sheet: _Sheet, item: int) -> _Band:
    return sheet.bands[sheet.grid.ranks[item]]


def _pass(sheet: _Sheet, points: list[Point], places: Sequence[int]) -> None:
    for item in places:
        band = _band(sheet, item)
        _bend_to(points, (sheet.xs[item], band.top))
        _line_to(points, (sheet.xs[item], band.bottom))


def _bend_to(points: list[Point], end: Point) -> None:
    """Continue by a curve that leaves and arrives upright."""
    (x, y), (end_x, end_y) = points[-1], end
    if abs(x - end_x) < 0.01:
        _line_to(points, end)
        return
    middle = (y + end_y) / 2
    points += [(x, middle), (end_x, middle), end]


def _line_to(points: list[Point], end: Point) -> None:
    (x, y), (end_x, end_y) = points[-1], end
    if abs(x - end_x) + abs(y - end_y) > 0.01:
        points += [(x + (end_x - x) / 3, y + (end_y - y) / 3), (x + 2 * (end_x - x) / 3, y + 2 * (end_y - y) / 3), end]


_CROWD: Final = 64
_FEATHER: Final = 1e-9


class Pull(NamedTuple):
    """Where a neighbour wants an item to be, and how much."""

    x: float
    weight: float


Links: TypeAlias = list[list[tuple[int, float]]]
Centre: TypeAlias = Callable[[Sequence[Pull]], float]


def place_rows(grid: Grid) -> list[float]:
    """Return the x of every item's anchor; items of a row keep their order and their distances.

    Means spread what belongs together evenly; then medians, first looking down and last looking up, line it up.
    """
    xs = [0.0] * len(grid.ranks)
    offsets = [_offsets(grid, row) for row in grid.rows]
    for row, distances in zip(grid.rows, offsets, strict=True):
        for item, distance in zip(row, distances, strict=True):
            xs[item] = distance - distances[-1] / 2
    above, below = _links(grid, grid.above), _links(grid, grid.below)
    indexes = range(len(grid.rows))
    for _ in range(6 if len(grid.ranks) < 2000 else 3):
        for index in indexes:
            _place_row(grid.rows[index], offsets[index], above, xs, _mean)
        for index in reversed(indexes):
            _place_row(grid.rows[index], offsets[index], below, xs, _mean)
    for index in reversed(indexes):
        _place_row(grid.rows[index], offsets[index], below, xs, _median)
    for index in indexes:
        _place_row(grid.rows[index], offsets[index], above, xs, _median)
    straighten(grid, xs)
    return xs


def _offsets(grid: Grid, row: Sequence[int]) -> list[float]:
    """Return how far each anchor is from the first of the row, at least."""
    offsets = [0.0] if row else []
    for left, right in pairwise(row):
        offsets.append(offsets[-1] + grid.distance(left, right))
    return offsets


def _links(grid: Grid, neighbours: list[list[int]]) -> Links:
    return [[(other, _weight(grid, item, other)) for other in others] for item, others in enumerate(neighbours)]


def _weight(grid: Grid, item: int, other: int) -> float:
    """Return how much the other pulls the item: nodes have their columns first, and ways go around them.

    A back link hardly pulls its own nodes, so that the nodes that it goes around are in the middle.
    """
    if not grid.is_node(item):
        return _FEATHER
    return 2.0 if grid.is_node(other) else _FEATHER if other in grid.on_way_back else 1.0


def _place_row(row: Sequence[int], offsets: Sequence[float], links: Links, xs: list[float], centre: Centre) -> None:
    pulls = [
        [Pull(xs[other] - offset, weight) for other, weight in links[item]] or [Pull(xs[item] - offset, 0.01)]
        for item, offset in zip(row, offsets, strict=True)
    ]
    for item, offset, x in zip(row, offsets, _rising(pulls, centre), strict=True):
        xs[item] = x + offset


def _rising(pulls: Sequence[Sequence[Pull]], centre: Centre) -> list[float]:
    """Return the rising numbers nearest to where each is pulled (pool adjacent violators)."""
    pools: list[tuple[float, list[Pull], int]] = []
    for of_item in pulls:
        pool, n_items = list(of_item), 1
        x = centre(pool)
        while pools and pools[-1][0] > x:
            _, others, n_others = pools.pop()
            pool, n_items = _pooled(others, pool), n_items + n_others
            x = centre(pool)
        pools.append((x, pool, n_items))
    return [x for x, _, n_items in pools for _ in range(n_items)]


def _pooled(pulls: list[Pull], others: list[Pull]) -> list[Pull]:
    """Return both together; a crowd is summed up, so that wide rows do not take quadratic time."""
    both = pulls + others
    if len(both) <= _CROWD:
        return both
    return [Pull(_mean(both), sum(pull.weight for pull in both))]


def _mean(pulls: Sequence[Pull]) -> float:
    return sum(x * weight for x, weight in pulls) / sum(weight for _, weight in pulls)


def _median(pulls: Sequence[Pull]) -> float:
    """Return the weighted median, or the middle between two of them."""
    ordered = sorted(pulls)
    totals = list(accumulate(weight for _, weight in ordered))
    half = totals[-1] / 2
    low = next(x for (x, _), total in zip(ordered, totals, strict=True) if total >= half * (1 - 1e-6))
    high = next(x for (x, _), total in zip(ordered, totals, strict=True) if total > half * (1 + 1e-6))
    return (low + high) / 2


SIDE_ROOM = 14.0
"""How far from its nodes a way back passes."""


def straighten(grid: Grid, xs: list[float]) -> None:
    """Give all places of a link the same column, if no box is in that column.

    Links on the right are taken from the left to the right, and pushed outwards what is further out; on the left the
    other way round. So the outer ones find their columns when the inner ones have theirs.
    """
    places = {item: place for row in grid.rows for place, item in enumerate(row)}
    chains = [chain for chain in grid.chains if len(chain) > 2]
    for step in (1, -1, 1, -1):  # twice: the first round makes room for the second
        beside = [chain for chain in chains if _side(chain, xs) == step]
        for chain in sorted(beside, key=lambda chain: step * xs[chain[1]]):
            for x in _columns(grid, chain, xs, step):
                moves = _moves(grid, xs, places, chain[1:-1], x, step)
                if moves is not None:
                    for item, moved_x in moves.items():
                        xs[item] = moved_x
                    break


def _side(chain: Sequence[int], xs: Sequence[float]) -> int:
    passed = chain[1:-1]
    return 1 if sum(xs[item] for item in passed) / len(passed) >= (xs[chain[0]] + xs[chain[-1]]) / 2 else -1


def _columns(grid: Grid, chain: Sequence[int], xs: Sequence[float], step: int) -> list[float]:
    """Return the columns to try: straight into the lower node, out of the upper one, or past all that is between.

    A way back goes past its own nodes too, so that it can enter and leave them at the side.
    """
    upper, *passed, lower = chain
    past = step * max(step * xs[item] for item in passed)
    if passed[0] not in grid.on_way_back:
        return [xs[lower], xs[upper], past]
    reach = grid.rights if step > 0 else grid.lefts
    past_nodes = step * max(step * xs[end] + reach[end] + SIDE_ROOM for end in (upper, lower))
    return [step * max(step * past, step * past_nodes), past]


def _moves(
    grid: Grid, xs: Sequence[float], places: Mapping[int, int], passed: Sequence[int], x: float, step: int
) -> dict[int, float] | None:
    """Return where everything goes if the places go to the column `x`, or None if a box is in the way."""
    moves: dict[int, float] = {}
    for item in passed:
        row, place = grid.rows[grid.ranks[item]], places[item]
        inner = place - step
        if 0 <= inner < len(row) and step * (x - xs[row[inner]]) < _distance(grid, item, row[inner], -step) - 0.01:
            return None
        pushed = _pushed(grid, xs, [item, *(row[place + 1 :] if step > 0 else row[:place][::-1])], x, step)
        if pushed is None:
            return None
        moves |= pushed
    return moves


def _pushed(grid: Grid, xs: Sequence[float], items: Sequence[int], x: float, step: int) -> dict[int, float] | None:
    """Return where the first item and those beside it go if it goes to `x`; None if it would push a box."""
    moves = {items[0]: x}
    for item, other in pairwise(items):
        limit = moves[item] + step * _distance(grid, item, other, step)
        if step * (xs[other] - limit) >= -0.01:
            break
        if grid.is_node(other):
            return None
        moves[other] = limit
    return moves


def _distance(grid: Grid, item: int, other: int, step: int) -> float:
    """Return how far apart two neighbours are, at least; the other is the right one (1) or the left one (-1)."""
    return grid.distance(item, other) if step > 0 else grid.distance(other, item)
