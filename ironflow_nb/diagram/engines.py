"""Graphviz as a layout engine: in this process by pygraphviz, or the program `dot` by the graphviz package.

Graphviz is given boxes of fixed size and empty labels of fixed size, never a text. So it needs no font: its layout is
the same on every machine, the first draw costs 2 ms and not 120, and fontconfig, which would print a warning to file
descriptor 2 when it is first used, is not used.
"""

from __future__ import annotations

import json
from typing import Any, Final

from ironflow_nb.diagram.geometry import Box, Link, Placement, Point, Route, Size, Skeleton, framed

MAX_BOXES: Final = 300
MAX_LINKS: Final = 600
"""Graphviz takes half a second for so many, and 13 s for three times as many, in which nothing can interrupt it."""

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
    # Ways back first: they then pass at the left of what they go around.
    order = sorted(range(len(skeleton.links)), key=lambda index: not skeleton.links[index].is_back)
    return "\n".join([*_HEADER, *nodes, *(_link(index, skeleton.links[index]) for index in order), "}"])


def _deciding(skeleton: Skeleton) -> set[int]:
    """Return the boxes from which several ways lead on, each for a reason: they keep their order, first yes then no."""
    shown = [link for link in skeleton.links if not link.is_hidden]
    heads = {link.head for link in shown if link.is_back}
    plain = {link.tail for link in shown if link.label is None and not link.is_back}
    return heads | ({link.tail for link in shown if not link.is_back} - plain)


def _node(index: int, size: Size, *, keeps_order: bool) -> str:
    order = " ordering=out" if keeps_order else ""
    return f"{index} [width={size.width / 72:.4f} height={size.height / 72:.4f}{order}]"


def _link(index: int, link: Link) -> str:
    """Return the link as DOT; a way back is written from above, so that Graphviz ranks it right, and turned later."""
    ends = f"{link.head} -> {link.tail}" if link.is_back else f"{link.tail} -> {link.head}"
    ports = "" if link.tail == link.head else "tailport=w headport=w" if link.is_back else "tailport=s headport=n"
    hidden = " style=invis" if link.is_hidden else ""
    return f"{ends} [comment={index} weight={_weight(link)} {ports}{hidden}{_blank(link.label)}]"


def _weight(link: Link) -> int:
    """Return how straight the link should be: what follows in the source most, a way back not at all."""
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
