"""The first half of a layered layout: which way every link points, and how far down every node stands."""

from __future__ import annotations

from typing import NamedTuple

from ironflow_nb.diagram.geometry import Skeleton


class Arc(NamedTuple):
    """A link pointing down; it is turned if the link itself points up."""

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
