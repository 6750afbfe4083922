"""The columns of a layered layout: an x for every item, links as straight as the widths allow.

The last touch of a layered layout: a way around something is one straight column, not a staircase.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Final, NamedTuple, TypeAlias

from ironflow_nb.diagram.layout_rows import Grid

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

    A way back hardly pulls its own nodes: what it goes around stands in the middle.
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
    """Give all the places of a way the same column, where no box stands in it.

    Ways on the right are taken from the left to the right, and pushed outwards what is further out; on the left the
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
