"""The layout of a diagram, computed once for each topology by the best engine that is installed.

Graphviz runs in this process (pygraphviz) or as the program `dot`. It gets boxes and labels of fixed size and no text,
so it needs no font. The layout is the same on every machine, and the first drawing takes 2 ms instead of 120. Graphviz
does not call fontconfig either, which prints a warning to file descriptor 2 on its first use.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from ironflow_nb.diagram.collapse import folded, unfolded
from ironflow_nb.diagram.geometry import Box, Layout, Link, Placement, Point, Route, Size, Skeleton, framed
from ironflow_nb.diagram.layered_layout import layered
from ironflow_nb.diagram.model import Diagram, Edge

MAX_BOXES: Final = 300
MAX_LINKS: Final = 600
"""Graphviz takes half a second for this number of nodes and 13 s for three times as many, and can't be interrupted."""

_FORMAT: Final = "json0"
_HEADER: Final = (
    "digraph {",
    "graph [rankdir=TB nodesep=0.36 ranksep=0.42 nslimit=2]",
    'node [shape=box fixedsize=true label="" margin=0]',
    "edge [arrowhead=none arrowtail=none]",
)


class TooLarge(Exception):
    """The skeleton is not given to Graphviz."""


def by_pygraphviz(skeleton: Skeleton) -> Placement:
    """Place the skeleton by the Graphviz in pygraphviz.

    Raises:
        Exception: there is no pygraphviz, or it failed.
    """
    from pygraphviz import AGraph

    _refuse_large(skeleton)
    return _placement(skeleton, AGraph(string=_dot(skeleton)).draw(format=_FORMAT, prog="dot"))


def by_program(skeleton: Skeleton) -> Placement:
    """Place the skeleton by the program `dot`.

    Raises:
        Exception: there is no such program, or it failed.
    """
    from graphviz import Source

    _refuse_large(skeleton)
    return _placement(skeleton, Source(_dot(skeleton), engine="dot").pipe(format=_FORMAT, quiet=True))


def _refuse_large(skeleton: Skeleton) -> None:
    if len(skeleton.sizes) > MAX_BOXES or len(skeleton.links) > MAX_LINKS:
        raise TooLarge(f"{len(skeleton.sizes)} boxes and {len(skeleton.links)} links")


def _dot(skeleton: Skeleton) -> str:
    deciding = _deciding(skeleton)
    nodes = [_node(index, size, keeps_order=index in deciding) for index, size in enumerate(skeleton.sizes)]
    # Back edges first: then they pass at the left of the nodes that they go around.
    order = sorted(range(len(skeleton.links)), key=lambda index: not skeleton.links[index].is_back)
    return "\n".join([*_HEADER, *nodes, *(_dot_link(index, skeleton.links[index]) for index in order), "}"])


def _deciding(skeleton: Skeleton) -> set[int]:
    """Return the boxes whose outgoing links all have a label: these keep their order, first yes then no."""
    shown = [link for link in skeleton.links if not link.is_hidden]
    heads = {link.head for link in shown if link.is_back}
    plain = {link.tail for link in shown if link.label is None and not link.is_back}
    return heads | ({link.tail for link in shown if not link.is_back} - plain)


def _node(index: int, size: Size, *, keeps_order: bool) -> str:
    order = " ordering=out" if keeps_order else ""
    return f"{index} [width={size.width / 72:.4f} height={size.height / 72:.4f}{order}]"


def _dot_link(index: int, link: Link) -> str:
    """Return the link as DOT. A back link is written reversed, so that Graphviz ranks it right, and is turned later."""
    ends = f"{link.head} -> {link.tail}" if link.is_back else f"{link.tail} -> {link.head}"
    ports = "" if link.tail == link.head else "tailport=w headport=w" if link.is_back else "tailport=s headport=n"
    hidden = " style=invis" if link.is_hidden else ""
    return f"{ends} [comment={index} weight={_weight(link)} {ports}{hidden}{_blank(link.label)}]"


def _weight(link: Link) -> int:
    """Return how straight the link should be: most for consecutive code, not at all for a back link."""
    if link.is_back:
        return 0
    if link.is_hidden:
        return 2
    return 3 if link.label is None and link.head == link.tail + 1 else 1


def _blank(size: Size | None) -> str:
    """Return an attribute that keeps room for a label. A table is measured by its own size and needs no font."""
    if size is None:
        return ""
    room = f'fixedsize="true" width="{size.width + 10:.0f}" height="{size.height + 4:.0f}"'
    empty = 'border="0" cellborder="0" cellspacing="0" cellpadding="0"'
    return f" label=<<table {empty} {room}><tr><td></td></tr></table>>"


def _placement(skeleton: Skeleton, answer: bytes) -> Placement:
    found: dict[str, Any] = json.loads(answer)
    centres = {int(item["name"]): _point(item["pos"]) for item in found.get("objects", ())}
    boxes = tuple(Box(*centres[index], *size) for index, size in enumerate(skeleton.sizes))
    routes = [Route()] * len(skeleton.links)
    for item in found.get("edges", ()):
        index = int(item["comment"])
        if not skeleton.links[index].is_hidden:
            routes[index] = _route(item, is_back=skeleton.links[index].is_back)
    return framed(boxes, tuple(routes), tuple(link.label for link in skeleton.links))


def _route(item: dict[str, Any], *, is_back: bool) -> Route:
    points = tuple(_point(pair) for pair in item["pos"].split())
    return Route(points[::-1] if is_back else points, _point(item["lp"]) if "lp" in item else None)


def _point(text: str) -> Point:
    """Return the point of ``x,y``; Graphviz counts y upwards."""
    x, y = text.split(",")
    return float(x), -float(y)


log = logging.getLogger(__name__)

Engine = Callable[[Skeleton], Placement]

Engines = tuple[tuple[str, Engine], ...]

OF_FLOWS: Final[Engines] = (("layered", layered), ("pygraphviz", by_pygraphviz), ("dot", by_program))
"""The engines for what reads from top to bottom: ours keeps the main line straight and returns beside it.

State machines are read so too, however many transitions they have: Graphviz draws those from a state to itself, and
those between the same two, into each other.
"""

OF_TANGLES: Final[Engines] = (("pygraphviz", by_pygraphviz), ("dot", by_program), ("layered", layered))
"""The engines for what goes everywhere: Graphviz crosses fewer lines."""

TANGLED_FROM: Final = 2.0
"""The number of edges a node above which a picture is a tangle; flows have fewer."""

_UNSIZED: Final = Size(120, 40)


def lay_out(
    diagram: Diagram,
    sizes: Mapping[str, Size],
    *,
    label_sizes: Mapping[str, Size] | None = None,
    engines: Engines | None = None,
) -> Layout:
    """Return where everything of the diagram is; an edge to a node that is not there has no points.

    Args:
        diagram: what is laid out.
        sizes: the size of every node, by id.
        label_sizes: the size of every label of an edge, by its text; room is kept for those in it.
        engines: the engines to try, each when the one before it failed; by default the best for the diagram.
    """
    places = {node.id: place for place, node in enumerate(diagram.nodes)}
    known = [index for index, edge in enumerate(diagram.edges) if edge.source in places and edge.target in places]
    ends = [(places[diagram.edges[index].source], places[diagram.edges[index].target]) for index in known]
    links = [_link(diagram.edges[index], *pair, label_sizes or {}) for index, pair in zip(known, ends, strict=True)]
    skeleton = Skeleton(tuple(sizes.get(node.id, _UNSIZED) for node in diagram.nodes), tuple(links))
    is_tangled = not diagram.is_machine and len(links) >= TANGLED_FROM * len(skeleton.sizes)
    engine_name, placement = _placed(skeleton, engines or (OF_TANGLES if is_tangled else OF_FLOWS))
    routes = dict(zip(known, placement.routes, strict=True))
    return Layout(
        placement.size,
        {node.id: box for node, box in zip(diagram.nodes, placement.boxes, strict=True)},
        tuple(routes.get(index, Route()) for index in range(len(diagram.edges))),
        placement.frames,
        engine_name,
    )


def _link(edge: Edge, tail: int, head: int, label_sizes: Mapping[str, Size]) -> Link:
    label = None if edge.label is None else label_sizes.get(edge.label)
    return Link(tail, head, label, is_back=edge.is_back)


def _holding(skeleton: Skeleton) -> list[Link]:
    """Return hidden links that keep boxes below each other without an edge, in the order of the source.

    The code after a loop is below all of the loop. A box without any link, such as an end that is never reached, is
    below the box before it.
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
def _placed(skeleton: Skeleton, engines: Engines) -> tuple[str, Placement]:
    fold = folded(skeleton)
    held = Skeleton(fold.skeleton.sizes, (*fold.skeleton.links, *_holding(fold.skeleton)))
    engine_name, placement = _first_placement(held, engines)
    return engine_name, unfolded(skeleton, fold, placement)


def _first_placement(skeleton: Skeleton, engines: Engines) -> tuple[str, Placement]:
    for name, engine in engines:
        try:
            return name, engine(skeleton)
        except Exception as error:  # noqa: BLE001 -- whatever is wrong with an engine, the next one may do
            log.debug("no layout by %s: %r", name, error)
    return "layered", layered(skeleton)
