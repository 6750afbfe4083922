"""Large diagrams made small: wide fans become one box with a grid in it, and long diagrams leave nodes out.

A fan is a group of boxes between the same two boxes. Thirty boxes in one row are wider than any notebook. A fan that is
too wide is laid out as one box, its frame, with one link in and one link out. Its boxes then fill the frame by rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Final, NamedTuple

from msgspec.structs import replace

from ironflow_nb.core.status import StepStatus
from ironflow_nb.diagram.geometry import Box, Link, Placement, Route, Size, Skeleton
from ironflow_nb.diagram.model import Diagram, Edge, Node, NodeKind
from ironflow_nb.diagram.states import IMPORTANCE, NodeState, merged, state_of

MAX_WIDTH: Final = 1000.0
"""How wide a fan may be before it is folded."""
_GAP: Final = 22.0
_PAD: Final = 18.0


class FoldedFans(NamedTuple):
    """A skeleton whose wide fans are single boxes. `boxes` and `links` have the original indexes of each."""

    skeleton: Skeleton
    boxes: tuple[tuple[int, ...], ...]
    links: tuple[int, ...]


def folded(skeleton: Skeleton) -> FoldedFans:
    """Return the skeleton with every fan that is too wide as one box, in the place of its first."""
    fans = {fan[0]: fan for fan in _fans(skeleton) if _width(skeleton, fan) > MAX_WIDTH}
    inner = {box for fan in fans.values() for box in fan[1:]}
    boxes = tuple(fans.get(box, (box,)) for box in range(len(skeleton.sizes)) if box not in inner)
    new = {box: place for place, group in enumerate(boxes) for box in group}
    links = tuple(
        index for index, link in enumerate(skeleton.links) if link.tail not in inner and link.head not in inner
    )
    shown = tuple(skeleton.links[index] for index in links)
    moved = tuple(link._replace(tail=new[link.tail], head=new[link.head]) for link in shown)
    sizes = tuple(skeleton.sizes[group[0]] if len(group) == 1 else _grid(skeleton, group)[0] for group in boxes)
    return FoldedFans(Skeleton(sizes, moved), boxes, links)


def unfolded(skeleton: Skeleton, fold: FoldedFans, placement: Placement) -> Placement:
    """Return the placement of the whole; links that are not shown have no points."""
    boxes: dict[int, Box] = {}
    frames: list[Box] = []
    for group, box in zip(fold.boxes, placement.boxes, strict=True):
        if len(group) == 1:
            boxes[group[0]] = box
            continue
        frames.append(box)
        cells = _grid(skeleton, group)[1]
        boxes |= {
            member: Box(box.left + x, box.top + y, *skeleton.sizes[member])
            for member, (x, y) in zip(group, cells, strict=True)
        }
    routes = dict(zip(fold.links, placement.routes, strict=False))
    return Placement(
        placement.size,
        tuple(boxes[index] for index in range(len(boxes))),
        tuple(routes.get(index, Route()) for index in range(len(skeleton.links))),
        tuple(frames),
    )


def _fans(skeleton: Skeleton) -> list[tuple[int, ...]]:
    """Return groups of boxes with at most one link from the same box, and at most one to the same box."""
    entering: dict[int, list[Link]] = {}
    leaving: dict[int, list[Link]] = {}
    for link in skeleton.links:
        entering.setdefault(link.head, []).append(link)
        leaving.setdefault(link.tail, []).append(link)
    fans: dict[tuple[int | None, int | None], list[int]] = {}
    for box in range(len(skeleton.sizes)):
        before, after = entering.get(box, []), leaving.get(box, [])
        if len(before) <= 1 and len(after) <= 1 and not any(link.is_back or link.label for link in before + after):
            ends = before[0].tail if before else None, after[0].head if after else None
            fans.setdefault(ends, []).append(box)
    return [tuple(fan) for fan in fans.values() if len(fan) > 1]


def _width(skeleton: Skeleton, fan: tuple[int, ...]) -> float:
    return sum(skeleton.sizes[box].width + _GAP for box in fan) - _GAP


def _grid(skeleton: Skeleton, fan: tuple[int, ...]) -> tuple[Size, list[tuple[float, float]]]:
    """Return the size of the frame, and where in it the centre of every box is."""
    width = max(skeleton.sizes[box].width for box in fan) + _GAP
    height = max(skeleton.sizes[box].height for box in fan) + _GAP
    n_rows = math.ceil(len(fan) / max(1, int((MAX_WIDTH + _GAP) // width)))
    n_columns = math.ceil(len(fan) / n_rows)
    size = Size(n_columns * width - _GAP + 2 * _PAD, n_rows * height - _GAP + 2 * _PAD)
    places = [divmod(index, n_columns) for index in range(len(fan))]
    left, top = _PAD + (width - _GAP) / 2, _PAD + (height - _GAP) / 2
    return size, [(left + column * width, top + row * height) for row, column in places]


MAX_NODES: Final = 150
"""A diagram with more nodes is shown reduced."""
_N_ENDS: Final = 4
_N_KEPT: Final = 60
_QUIET: Final = frozenset({StepStatus.COMPLETED, StepStatus.SKIPPED, StepStatus.PENDING})


class CollapsedDiagram(NamedTuple):
    """A diagram with the states of its nodes, in which one node stands for each group of omitted nodes."""

    diagram: Diagram
    states: Mapping[str, NodeState]


def reduced(diagram: Diagram, states: Mapping[str, NodeState], *, max_nodes: int = MAX_NODES) -> CollapsedDiagram:
    """Return the diagram unchanged if it has at most `max_nodes` nodes, else its most important nodes.

    That is, in this order and at most 60: nodes that failed, run, or wait for something; the frontier, which is the
    first node without a state after one that has one; the neighbours of all these; the first and the last four nodes.
    What was left out between two kept nodes, in the order of the source, becomes one node "… n more" with the states
    of all that it stands for.
    """
    if len(diagram.nodes) <= max_nodes:
        return CollapsedDiagram(diagram, states)
    kept = _worth_a_look(diagram, states)
    groups = [(is_kept, tuple(nodes)) for is_kept, nodes in groupby(diagram.nodes, lambda node: node.id in kept)]
    return _joined(diagram, states, groups)


def _worth_a_look(diagram: Diagram, states: Mapping[str, NodeState]) -> set[str]:
    nodes = diagram.nodes
    ends = [node.id for node in (*nodes[:_N_ENDS], *nodes[-_N_ENDS:])]
    centre = [*_troubled(nodes, states), *_frontier(nodes, states)]
    ordered = dict.fromkeys([*ends, *centre, *_neighbours(diagram, set(centre))])
    return set(list(ordered)[:_N_KEPT])


def _troubled(nodes: Sequence[Node], states: Mapping[str, NodeState]) -> list[str]:
    """Return the nodes with a notable status, the most important first."""
    found = [(state.status, node.id) for node in nodes if (state := state_of(node, states)) is not None]
    loud = [(IMPORTANCE.index(status), node_id) for status, node_id in found if status not in _QUIET]
    return [node_id for _, node_id in sorted(loud, key=lambda pair: pair[0])]


def _frontier(nodes: Sequence[Node], states: Mapping[str, NodeState]) -> list[str]:
    reached = [place for place, node in enumerate(nodes) if node.step in states]
    return [node.id for node in nodes[reached[-1] : reached[-1] + 2]] if reached else []


def _neighbours(diagram: Diagram, centre: set[str]) -> list[str]:
    ends = [(edge.source, edge.target) for edge in diagram.edges]
    return [there for here, there in [*ends, *((target, source) for source, target in ends)] if here in centre]


def _joined(
    diagram: Diagram, states: Mapping[str, NodeState], groups: Iterable[tuple[bool, tuple[Node, ...]]]
) -> CollapsedDiagram:
    """Return the diagram with each group of nodes that are not kept as one node."""
    nodes: list[Node] = []
    of_groups: dict[str, NodeState] = {}
    now: dict[str, str] = {}
    for is_kept, group in groups:
        if is_kept or len(group) == 1:
            nodes += group
            now |= {node.id: node.id for node in group}
            continue
        more = _more(group)
        state = merged(states[step] for step in _steps(group) if step in states)
        of_groups |= {} if state is None or more.step is None else {more.step: state}
        nodes.append(more)
        now |= {node.id: more.id for node in group}
    return CollapsedDiagram(Diagram(diagram.name, tuple(nodes), _edges(diagram, now)), {**states, **of_groups})


def _more(group: Sequence[Node]) -> Node:
    steps = [node.label for node in group if node.step is not None]
    title = ", ".join([*steps[:20], *(["…"] if len(steps) > 20 else [])])
    name = f"more:{group[0].id}"
    depth = min(node.depth for node in group)
    return Node(id=name, kind=NodeKind.OTHER, label=f"… {len(group)} more", step=name, title=title, depth=depth)


def _steps(group: Sequence[Node]) -> list[str]:
    return list(dict.fromkeys(node.step for node in group if node.step is not None))


def _edges(diagram: Diagram, now: Mapping[str, str]) -> tuple[Edge, ...]:
    """Return the edges between different remaining nodes, each once; edges within a group are omitted."""
    found: dict[tuple[str, str, str | None], Edge] = {}
    for edge in diagram.edges:
        source, target = now.get(edge.source), now.get(edge.target)
        if source is None or target is None or (source == target and edge.source != edge.target):
            continue
        label = edge.label if (source, target) == (edge.source, edge.target) else None
        found.setdefault((source, target, label), replace(edge, source=source, target=target, label=label))
    return tuple(found.values())
