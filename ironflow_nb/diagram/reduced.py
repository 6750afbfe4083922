"""A large diagram made small enough to be looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Final, NamedTuple

from msgspec.structs import replace

from ironflow_nb.core.status import StepStatus
from ironflow_nb.diagram.model import Diagram, Edge, Node, NodeKind
from ironflow_nb.diagram.states import IMPORTANCE, NodeState, merged, state_of

MAX_NODES: Final = 150
"""A diagram with more nodes is shown reduced."""
_N_ENDS: Final = 4
_N_KEPT: Final = 60
_QUIET: Final = frozenset({StepStatus.COMPLETED, StepStatus.SKIPPED, StepStatus.PENDING})


class Reduced(NamedTuple):
    """A diagram, and the states of its nodes; where nodes were left out, one stands for all of them."""

    diagram: Diagram
    states: Mapping[str, NodeState]


def reduced(diagram: Diagram, states: Mapping[str, NodeState], *, max_nodes: int = MAX_NODES) -> Reduced:
    """Return the diagram as it is if it has at most `max_nodes` nodes, else what is worth looking at.

    That is, in this order and at most 60: nodes that failed, run, or wait for something; the frontier, which is the
    first node without a state after one that has one; the neighbours of all these; the first and the last four nodes.
    What was left out between two kept nodes, in the order of the source, becomes one node "… n more" with the states
    of all that it stands for.
    """
    if len(diagram.nodes) <= max_nodes:
        return Reduced(diagram, states)
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
    """Return the nodes whose status asks for attention, the most important first."""
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
) -> Reduced:
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
    return Reduced(Diagram(diagram.name, tuple(nodes), _edges(diagram, now)), {**states, **of_groups})


def _more(group: Sequence[Node]) -> Node:
    steps = [node.label for node in group if node.step is not None]
    title = ", ".join([*steps[:20], *(["…"] if len(steps) > 20 else [])])
    name = f"more:{group[0].id}"
    depth = min(node.depth for node in group)
    return Node(id=name, kind=NodeKind.OTHER, label=f"… {len(group)} more", step=name, title=title, depth=depth)


def _steps(group: Sequence[Node]) -> list[str]:
    return list(dict.fromkeys(node.step for node in group if node.step is not None))


def _edges(diagram: Diagram, now: Mapping[str, str]) -> tuple[Edge, ...]:
    """Return the edges between different nodes of now, each once; a back edge within a group is gone with it."""
    found: dict[tuple[str, str, str | None], Edge] = {}
    for edge in diagram.edges:
        source, target = now.get(edge.source), now.get(edge.target)
        if source is None or target is None or (source == target and edge.source != edge.target):
            continue
        label = edge.label if (source, target) == (edge.source, edge.target) else None
        found.setdefault((source, target, label), replace(edge, source=source, target=target, label=label))
    return tuple(found.values())
