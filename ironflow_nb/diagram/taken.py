"""Which ways of a flow's diagram a run has gone, as far as that follows from the steps that it called."""

from __future__ import annotations

from collections.abc import Set

from msgspec.structs import replace

from ironflow_nb.diagram.model import Diagram, Edge, NodeKind

_SILENT = frozenset({NodeKind.CONDITION, NodeKind.LOOP, NodeKind.FORK})
"""Of these nothing is recorded."""


def with_taken(
    diagram: Diagram, called: Set[str], left: Set[str], *, uncertain: Set[str] = frozenset(), is_completed: bool
) -> Diagram:
    """Return the diagram with the ways that were certainly gone marked as taken; what is uncertain is not.

    Args:
        diagram: that of a flow.
        called: the ids of the nodes whose call was made.
        left: the ids of those of them from which the flow went on in the ordinary way.
        uncertain: the ids of nodes of which is not known whether their call was made.
        is_completed: whether the flow has returned.
    """
    ways = _Ways(diagram, called, left, uncertain, is_completed=is_completed)
    taken = ways.found()
    edges = tuple(replace(edge, is_taken=True) if edge in taken else edge for edge in diagram.edges)
    return Diagram(diagram.name, diagram.nodes, edges)


class _Ways:
    """What is known so far. Every round finds more, until one finds nothing."""

    def __init__(
        self, diagram: Diagram, called: Set[str], left: Set[str], uncertain: Set[str], *, is_completed: bool
    ) -> None:
        self._kinds = {node.id: node.kind for node in diagram.nodes}
        self._edges = diagram.edges
        self._called = called
        self._left = left
        self._uncertain = uncertain
        self._repeated = _repeated(diagram)
        self._entering: dict[str, list[Edge]] = {}
        for edge in diagram.edges:
            if not edge.is_back:
                self._entering.setdefault(edge.target, []).append(edge)
        ends = {node.id for node in diagram.nodes if node.kind is NodeKind.END and is_completed}
        self._reached = {*called, *ends}
        self._taken: dict[Edge, None] = {}

    def found(self) -> Set[Edge]:
        """Return the edges that were gone."""
        n_before = -1
        while n_before < len(self._taken):
            n_before = len(self._taken)
            for target in list(self._reached):
                self._find_way_to(target)
        for edge in self._edges:
            is_gone_on = edge.is_back or edge.target in self._reached
            if is_gone_on and edge.source in self._left and self._is_only_way(edge):
                self._taken[edge] = None
        return self._taken.keys()

    def _find_way_to(self, target: str) -> None:
        possible = [edge for edge in self._entering.get(target, ()) if self._is_possible(edge, set())]
        if len(possible) == 1:
            self._taken[possible[0]] = None
            self._reached.add(possible[0].source)

    def _is_possible(self, edge: Edge, seen: set[str]) -> bool:
        source = edge.source
        kind = self._kinds[source]
        if kind is NodeKind.START:
            return True
        if kind not in _SILENT:
            is_left = source in self._left or source in self._uncertain
            return is_left or (edge.is_dashed and source in self._called)
        if source in seen or self._went_elsewhere(edge):
            return False
        return any(self._is_possible(before, seen | {source}) for before in self._entering.get(source, ()))

    def _went_elsewhere(self, edge: Edge) -> bool:
        """Tell whether the condition, which was met once at most, has led elsewhere."""
        if self._kinds[edge.source] is not NodeKind.CONDITION or edge.source in self._repeated:
            return False
        return any(other.source == edge.source and other != edge for other in self._taken)

    def _is_only_way(self, edge: Edge) -> bool:
        return all(other == edge or other.is_dashed for other in self._edges if other.source == edge.source)


def _repeated(diagram: Diagram) -> Set[str]:
    """Return the nodes that stand in a loop, where they are met once in each round."""
    places = {node.id: place for place, node in enumerate(diagram.nodes)}
    found: set[str] = set()
    for edge in diagram.edges:
        if edge.is_back:
            found |= {node.id for node in diagram.nodes[places[edge.target] : places[edge.source] + 1]}
    return found
