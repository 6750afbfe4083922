"""The rows of a layered layout: the direction of each link, the rank of each node, and an order with few crossings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from ironflow_nb.diagram.geometry import Size, Skeleton


class Arc(NamedTuple):
    """A link that points down; it is turned if the link itself points up."""

    upper: int
    lower: int
    link: int
    is_turned: bool
    n_rows: int


def arcs_of(skeleton: Skeleton) -> list[Arc]:
    """Return the links between different nodes as arcs without a circle, in their order."""
    pairs = [(link.head, link.tail) if link.is_back else (link.tail, link.head) for link in skeleton.links]
    against = _against(len(skeleton.sizes), pairs)
    arcs: list[Arc] = []
    seen: set[tuple[int, int]] = set()
    for index, link in enumerate(skeleton.links):
        upper, lower = pairs[index]
        if upper == lower:
            continue
        if index in against:
            upper, lower = lower, upper
        is_turned = (upper, lower) == (link.head, link.tail)
        # A label, a way back and a second link between the same nodes each need a row of their own to pass through.
        needs_row = link.label is not None or is_turned or (upper, lower) in seen
        arcs.append(Arc(upper, lower, index, is_turned, 2 if needs_row else 1))
        seen.add((upper, lower))
    return arcs


def _against(n_nodes: int, pairs: list[tuple[int, int]]) -> set[int]:
    """Return the pairs that lead back to a node on the way from which they are met: turned, they close no circle."""
    leaving: list[list[int]] = [[] for _ in range(n_nodes)]
    for index, (upper, _) in enumerate(pairs):
        leaving[upper].append(index)
    found: set[int] = set()
    is_open, is_done = [False] * n_nodes, [False] * n_nodes
    for root in range(n_nodes):
        way = [] if is_done[root] else [(root, iter(leaving[root]))]
        is_open[root] = True
        while way:
            node, remaining = way[-1]
            for index in remaining:
                lower = pairs[index][1]
                if is_open[lower]:
                    found.add(index)
                elif not is_done[lower]:
                    is_open[lower] = True
                    way.append((lower, iter(leaving[lower])))
                    break
            else:
                is_open[node], is_done[node] = False, True
                way.pop()
        is_open[root] = False
    return found


def ranks_of(n_nodes: int, arcs: list[Arc]) -> list[int]:
    """Return the rank of every node: as far down as its longest way from a root; a root close above what follows."""
    leaving: list[list[Arc]] = [[] for _ in range(n_nodes)]
    n_entering = [0] * n_nodes
    for arc in arcs:
        leaving[arc.upper].append(arc)
        n_entering[arc.lower] += 1
    roots = [node for node in range(n_nodes) if n_entering[node] == 0]
    ranks, ready = [0] * n_nodes, list(roots)
    while ready:
        node = ready.pop()
        for arc in leaving[node]:
            ranks[arc.lower] = max(ranks[arc.lower], ranks[node] + arc.n_rows)
            n_entering[arc.lower] -= 1
            if n_entering[arc.lower] == 0:
                ready.append(arc.lower)
    for root in roots:
        ranks[root] = min((ranks[arc.lower] - arc.n_rows for arc in leaving[root]), default=0)
    return ranks


NODE_GAP = 26.0
PLACE_GAP = 14.0
LABEL_GAP = 6.0
"""Between an edge and the label at its right."""
LOOP_ROOM = 30.0
"""What a link from a node to itself takes at the node's right."""


@dataclass(slots=True)
class Grid:
    """Items in rows: first the nodes by index, then the places where longer arcs pass through a row."""

    n_nodes: int
    ranks: list[int]
    lefts: list[float]
    """How far each item reaches to the left of its anchor."""
    rights: list[float]
    heights: list[float]
    above: list[list[int]] = field(default_factory=list)
    below: list[list[int]] = field(default_factory=list)
    chains: list[list[int]] = field(default_factory=list)
    """The items of each arc, from upper to lower."""
    on_way_back: set[int] = field(default_factory=set)
    """The places on arcs that are turned."""
    rows: list[list[int]] = field(default_factory=list)

    def is_node(self, item: int) -> bool:
        """Tell a node from a place on an arc."""
        return item < self.n_nodes

    def distance(self, left: int, right: int) -> float:
        """Return how far apart the anchors of two neighbours are, at least."""
        gap = NODE_GAP if self.is_node(left) and self.is_node(right) else PLACE_GAP
        return self.rights[left] + gap + self.lefts[right]


def grid_of(skeleton: Skeleton, arcs: Sequence[Arc], ranks: Sequence[int]) -> Grid:
    """Return the items in rows, in an order that does not regard crossings yet."""
    widths = [size.width / 2 for size in skeleton.sizes]
    grid = Grid(len(ranks), list(ranks), list(widths), list(widths), [size.height for size in skeleton.sizes])
    for link in skeleton.links:
        if link.tail == link.head:
            room = LOOP_ROOM + (LABEL_GAP + link.label.width if link.label else 0.0)
            grid.rights[link.tail] = max(grid.rights[link.tail], widths[link.tail] + room)
    straight = _too_long(arcs, ranks) | {index for index, arc in enumerate(arcs) if skeleton.links[arc.link].is_hidden}
    for index, arc in enumerate(arcs):
        places = _places(grid, skeleton, arc, passes=index not in straight)
        grid.chains.append([arc.upper, *places, arc.lower])
        grid.on_way_back.update(places if arc.is_turned else ())
    _connect(grid, arcs)
    _first_rows(grid)
    return grid


def _too_long(arcs: Sequence[Arc], ranks: Sequence[int]) -> set[int]:
    """Return the arcs that are drawn straight, because ways around everything would cost too much: a bound on work."""
    room = 4000 + 4 * len(ranks)
    found: set[int] = set()
    for index in sorted(range(len(arcs)), key=lambda index: ranks[arcs[index].lower] - ranks[arcs[index].upper]):
        room -= ranks[arcs[index].lower] - ranks[arcs[index].upper] - 1
        if room < 0:
            found.add(index)
    return found


def _places(grid: Grid, skeleton: Skeleton, arc: Arc, *, passes: bool) -> list[int]:
    ranks = range(grid.ranks[arc.upper] + 1, grid.ranks[arc.lower]) if passes else range(0)
    label = skeleton.links[arc.link].label
    # A label is read where a decision is made: in the row below the upper node, but for a way back in the middle.
    labelled = None if label is None or not ranks else (ranks[len(ranks) // 2] if arc.is_turned else ranks[0])
    return [_add_place(grid, rank, label if rank == labelled else None) for rank in ranks]


def _add_place(grid: Grid, rank: int, label: Size | None) -> int:
    grid.ranks.append(rank)
    grid.lefts.append(2.0)
    grid.rights.append(2.0 if label is None else LABEL_GAP + label.width)
    grid.heights.append(0.0 if label is None else label.height)
    return len(grid.ranks) - 1


def _connect(grid: Grid, arcs: Sequence[Arc]) -> None:
    grid.above, grid.below = [[] for _ in grid.ranks], [[] for _ in grid.ranks]
    # Ways back first: they then pass at the left of what they go around, and the way on at the right.
    for index in sorted(range(len(arcs)), key=lambda index: not arcs[index].is_turned):
        for upper, lower in pairwise(grid.chains[index]):
            if grid.ranks[lower] == grid.ranks[upper] + 1:
                grid.below[upper].append(lower)
                grid.above[lower].append(upper)


def _first_rows(grid: Grid) -> None:
    """Fill the rows in the order in which the items are met on the ways down from the first nodes."""
    grid.rows = [[] for _ in range(max(grid.ranks, default=-1) + 1)]
    is_met = [False] * len(grid.ranks)
    for root in sorted(range(len(grid.ranks)), key=grid.ranks.__getitem__):
        way = [root]
        while way:
            item = way.pop()
            if not is_met[item]:
                is_met[item] = True
                grid.rows[grid.ranks[item]].append(item)
                way += reversed(grid.below[item])


def order_rows(grid: Grid) -> None:
    """Reorder the rows by the barycentres of their neighbours, down and up in turn, and keep the best found."""
    best, n_best = [list(row) for row in grid.rows], _n_crossings(grid)
    for sweep in range(12 if len(grid.ranks) < 600 else 4):
        if n_best == 0:
            break
        _sweep(grid, downwards=sweep % 2 == 0)
        _swap_neighbours(grid)
        n_now = _n_crossings(grid)
        if n_now < n_best:
            best, n_best = [list(row) for row in grid.rows], n_now
    grid.rows = best


def _sweep(grid: Grid, *, downwards: bool) -> None:
    rows = grid.rows if downwards else grid.rows[::-1]
    neighbours = grid.above if downwards else grid.below
    for facing, row in pairwise(rows):
        places = {item: place for place, item in enumerate(facing)}
        scale = len(facing) / max(len(row), 1)
        keys = {item: _barycentre(neighbours[item], places, place * scale) for place, item in enumerate(row)}
        row.sort(key=keys.__getitem__)


def _barycentre(neighbours: list[int], places: dict[int, int], otherwise: float) -> float:
    if not neighbours:
        return otherwise
    return sum(places[item] for item in neighbours) / len(neighbours)


def _swap_neighbours(grid: Grid) -> None:
    """Swap neighbours in a row where their own links then cross less."""
    places = {item: place for row in grid.rows for place, item in enumerate(row)}
    for row in grid.rows:
        for place in range(len(row) - 1):
            left, right = row[place], row[place + 1]
            if _n_between(grid, right, left, places) < _n_between(grid, left, right, places):
                row[place], row[place + 1] = right, left
                places[left], places[right] = place + 1, place


def _n_between(grid: Grid, left: int, right: int, places: dict[int, int]) -> int:
    """Return how many links of two neighbours cross in this order."""
    return sum(
        places[of_left] > places[of_right]
        for side in (grid.above, grid.below)
        for of_left in side[left]
        for of_right in side[right]
    )


def _n_crossings(grid: Grid) -> int:
    return sum(_n_crossings_below(grid, row, below) for row, below in pairwise(grid.rows))


def _n_crossings_below(grid: Grid, row: list[int], below: list[int]) -> int:
    """Count the pairs of links that cross between two rows, with a tree of partial sums."""
    places = {item: place for place, item in enumerate(below)}
    sums = [0] * (len(below) + 1)
    n_before = n_crossings = 0
    for item in row:
        ends = sorted(places[other] for other in grid.below[item])
        for end in ends:
            n_crossings += n_before - _sum_to(sums, end + 1)
        for end in ends:
            _add_at(sums, end + 1)
        n_before += len(ends)
    return n_crossings


def _sum_to(sums: list[int], place: int) -> int:
    total = 0
    while place > 0:
        total += sums[place]
        place -= place & -place
    return total


def _add_at(sums: list[int], place: int) -> None:
    while place < len(sums):
        sums[place] += 1
        place += place & -place
