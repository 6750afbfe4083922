"""The layout of a diagram: by the best engine there is, once for each topology."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

from ironflow_nb.diagram.engines import by_program, by_pygraphviz
from ironflow_nb.diagram.folding import folded, unfolded
from ironflow_nb.diagram.geometry import Layout, Link, Placement, Route, Size, Skeleton
from ironflow_nb.diagram.layered import layered
from ironflow_nb.diagram.model import Diagram, Edge

log = logging.getLogger(__name__)

Engine = Callable[[Skeleton], Placement]

Rungs = tuple[tuple[str, Engine], ...]

OF_FLOWS: Final[Rungs] = (("layered", layered), ("pygraphviz", by_pygraphviz), ("dot", by_program))
"""The engines for what reads from top to bottom: ours keeps the main line straight and returns beside it.

State machines are read so too, however many transitions they have: Graphviz draws those from a state to itself, and
those between the same two, into each other.
"""

OF_TANGLES: Final[Rungs] = (("pygraphviz", by_pygraphviz), ("dot", by_program), ("layered", layered))
"""The engines for what goes everywhere: Graphviz crosses fewer lines."""

TANGLED_FROM: Final = 2.0
"""So many edges a node make a tangle; flows have fewer."""

_UNSIZED: Final = Size(120, 40)


def lay_out(
    diagram: Diagram,
    sizes: Mapping[str, Size],
    *,
    label_sizes: Mapping[str, Size] | None = None,
    rungs: Rungs | None = None,
) -> Layout:
    """Return where everything of the diagram is; an edge to a node that is not there has no points.

    Args:
        diagram: what is laid out.
        sizes: the size of every node, by id.
        label_sizes: the size of every label of an edge, by its text; room is kept for those in it.
        rungs: the engines to try, each when the one before it failed; by default the best for the diagram.
    """
    places = {node.id: place for place, node in enumerate(diagram.nodes)}
    known = [index for index, edge in enumerate(diagram.edges) if edge.source in places and edge.target in places]
    ends = [(places[diagram.edges[index].source], places[diagram.edges[index].target]) for index in known]
    links = [_link(diagram.edges[index], *pair, label_sizes or {}) for index, pair in zip(known, ends, strict=True)]
    skeleton = Skeleton(tuple(sizes.get(node.id, _UNSIZED) for node in diagram.nodes), tuple(links))
    is_tangled = not diagram.is_machine and len(links) >= TANGLED_FROM * len(skeleton.sizes)
    rung, placement = _placed(skeleton, rungs or (OF_TANGLES if is_tangled else OF_FLOWS))
    routes = dict(zip(known, placement.routes, strict=True))
    return Layout(
        placement.size,
        {node.id: box for node, box in zip(diagram.nodes, placement.boxes, strict=True)},
        tuple(routes.get(index, Route()) for index in range(len(diagram.edges))),
        placement.frames,
        rung,
    )


def _link(edge: Edge, tail: int, head: int, label_sizes: Mapping[str, Size]) -> Link:
    label = None if edge.label is None else label_sizes.get(edge.label)
    return Link(tail, head, label, is_back=edge.is_back)


def _holding(skeleton: Skeleton) -> list[Link]:
    """Return hidden links that hold things below each other which no edge does, as they are in the source.

    What follows a loop stands below the whole of it, and a box without any link, such as the end that is never
    reached, below the one before it.
    """
    leaving: dict[int, list[int]] = {}
    for link in skeleton.links:
        if not link.is_back:
            leaving.setdefault(link.tail, []).append(link.head)
    back = [link for link in skeleton.links if link.is_back]
    after_loops = [(link.tail, after) for link in back for after in leaving.get(link.head, ()) if after > link.tail]
    linked = {end for link in skeleton.links for end in (link.tail, link.head)}
    alone = [(box - 1, box) for box in range(1, len(skeleton.sizes)) if box not in linked]
    return [Link(upper, lower, is_hidden=True) for upper, lower in dict.fromkeys(after_loops + alone)]


@lru_cache(maxsize=64)
def _placed(skeleton: Skeleton, rungs: Rungs) -> tuple[str, Placement]:
    fold = folded(skeleton)
    held = Skeleton(fold.skeleton.sizes, (*fold.skeleton.links, *_holding(fold.skeleton)))
    rung, placement = _climbed(held, rungs)
    return rung, unfolded(skeleton, fold, placement)


def _climbed(skeleton: Skeleton, rungs: Rungs) -> tuple[str, Placement]:
    for name, engine in rungs:
        try:
            return name, engine(skeleton)
        except Exception as error:  # noqa: BLE001 -- whatever is wrong with an engine, the next one may do
            log.debug("no layout by %s: %r", name, error)
    return "layered", layered(skeleton)
