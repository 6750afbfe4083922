"""The last touch of a layered layout: a way around something is one straight column, not a staircase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from ironflow_nb.diagram.ordering import Grid

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
