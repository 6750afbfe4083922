"""The columns of a layered layout: an x for every item, links as straight as the widths allow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Final, NamedTuple, TypeAlias

from ironflow_nb.diagram.ordering import Grid
from ironflow_nb.diagram.straightening import straighten

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
