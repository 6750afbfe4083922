"""Where a run went in the diagram of its flow: the node of each recorded step, and the edges that were taken.

A step is recorded with the number of its call in the definition that the flow had then. If the flow was edited since,
the calls of both definitions are compared like the lines of two texts. Edges follow from the calls that were made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence, Set
from difflib import SequenceMatcher
from itertools import takewhile

from msgspec.structs import replace

from ironflow_nb.diagram.model import Diagram, Edge, Node, NodeKind


class NodeSites:
    """The nodes of one diagram by what they show. `recorded` are the names and call numbers of all recorded steps."""

    def __init__(self, diagram: Diagram, recorded: Collection[tuple[str, str | None]]) -> None:
        self._diagram = diagram
        self._sites: dict[str, set[str | None]] = {}
        for node in diagram.nodes:
            if node.step is not None:
                self._sites.setdefault(node.step, set()).add(node.site)
        self._unsure = {name for name, site in recorded if site is None}
        # The call site of these is not known, as in a run that is older than recorded call sites.
        self._by_name = self._unsure - {name for name, site in recorded if site is not None}
        self._merged: dict[tuple[str, str | None], str] = {}
        for name, site in recorded:
            self._merge(name, self._nearest(name, site))

    def _nearest(self, name: str, site: str | None) -> Sequence[str]:
        """Return the sites of the nodes that may show what was called there; none if no node does."""
        sites = [each for each in self._sites.get(name, ()) if each is not None]
        if site is None or site in sites:
            return [] if site is None else [site]
        shared = {each: _likeness(each, site) for each in sites}
        return [each for each, likeness in shared.items() if likeness > (0, 0) and likeness == max(shared.values())]

    def _merge(self, name: str, sites: Sequence[str]) -> None:
        """Have nodes that can not be told apart show the same: all that was called in any of them."""
        if len(sites) > 1:
            before = {self._merged.get((name, site), site) for site in sites}
            joined = [site for (other, site), shown in self._merged.items() if other == name and shown in before]
            for each in {*before, *sites, *joined}:
                self._merged[name, each] = min(before)

    def diagram(self) -> Diagram:
        """Return the diagram with the key of its state in the place of the name of each step."""
        nodes = tuple(replace(node, step=self._key_of(node)) for node in self._diagram.nodes)
        return Diagram(self._diagram.name, nodes, self._diagram.edges)

    def key(self, name: str, site: str | None) -> str:
        """Return the key of the state that the step belongs to; its name where no node has it."""
        sites, nearest = self._sites.get(name, set()), self._nearest(name, site)
        if nearest:
            return self._key(name, nearest[0])
        if name in self._by_name or None in sites:
            return name
        return self._key(name, *sites) if site is None and len(sites) == 1 else name

    def _key(self, name: str, site: str | None) -> str:
        shown = self._merged.get((name, site), site)
        return name if shown is None else f"{name}@{shown}"

    def exact(self) -> dict[str, str]:
        """Return the keys of the nodes that show just what was called there, by their ids."""
        found = {
            node.id: self._key(node.step, node.site)
            for node in self._diagram.nodes
            if node.step is not None and self._is_exact(node)
        }
        n_nodes = Counter(found.values())
        return {node_id: key for node_id, key in found.items() if n_nodes[key] == 1}

    def _is_exact(self, node: Node) -> bool:
        """Return True for a call whose site is known for all steps of its name, and for each node of a graph."""
        return node.within is not None or (node.site is not None and node.step not in self._unsure)

    def _key_of(self, node: Node) -> str | None:
        return node.step if node.step is None or node.step in self._by_name else self._key(node.step, node.site)


def _likeness(site: str, called: str) -> tuple[int, int]:
    """Return how well the site of a node fits a recorded one, which may pass through functions that are not drawn.

    Best is one whose calls are all among those that were made, to the last; else count those from the flow's own on.
    """
    drawn, made = site.split("."), called.split(".")
    later = iter(made)
    n_shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(drawn, made, strict=False)))
    is_within = n_shared and drawn[-1] == made[-1] and all(number in later for number in drawn)
    return (len(drawn) if is_within else 0), n_shared


def renumbered_calls(before: Diagram, after: Diagram) -> dict[str, str]:
    """Return the number that each call of a definition has in a later one, if it is still there."""
    old = [node for node in before.nodes if node.site is not None]
    new = [node for node in after.nodes if node.site is not None]
    found: dict[str, str] = {}
    matcher = SequenceMatcher(
        None, [_call_key(node) for node in old], [_call_key(node) for node in new], autojunk=False
    )
    for tag, start, end, new_start, new_end in matcher.get_opcodes():
        if tag == "equal":
            found |= _pair(old[start:end], new[new_start:new_end])
        elif tag == "replace":  # calls of the same step with other arguments
            found |= _pair_by_step(old[start:end], new[new_start:new_end])
    return found


def _pair_by_step(old: Sequence[Node], new: Sequence[Node]) -> dict[str, str]:
    matcher = SequenceMatcher(None, [node.step for node in old], [node.step for node in new], autojunk=False)
    found: dict[str, str] = {}
    for start, new_start, size in matcher.get_matching_blocks():
        found |= _pair(old[start : start + size], new[new_start : new_start + size])
    return found


def _pair(old: Sequence[Node], new: Sequence[Node]) -> dict[str, str]:
    pairs = zip(old, new, strict=True)
    return {mine.site: its.site for mine, its in pairs if mine.site is not None and its.site is not None}


def _call_key(node: Node) -> tuple[str | None, str, str]:
    """Return a key of the call for comparisons, without its line, which every edit above it changes."""
    return node.step, node.label, node.title.rpartition("\n")[0]


def call_number(site: str, numbers: Mapping[str, Mapping[str, str] | None]) -> str | None:
    """Return the number of a recorded call site in the diagram that is shown; None where it is not known.

    Args:
        site: the definition and the number of the call in it.
        numbers: the new numbers of calls by definition; None for the definition that is shown.
    """
    definition, _, text = site.partition(":")
    if not text.replace(".", "").isdecimal() or definition not in numbers:
        return None
    moves = numbers[definition]
    return text if moves is None else moves.get(text)


_SILENT = frozenset({NodeKind.CONDITION, NodeKind.LOOP, NodeKind.FORK})
"""Nothing is recorded of these."""


def with_taken(
    diagram: Diagram,
    called: Set[str],
    went_on: Set[str],
    *,
    raised: Set[str] = frozenset(),
    uncertain: Set[str] = frozenset(),
    is_completed: bool,
) -> Diagram:
    """Return the diagram with those edges marked as taken that were certainly taken.

    Args:
        diagram: that of a flow.
        called: the ids of the nodes whose call was made.
        went_on: the ids of those of them after which the flow went on by an ordinary edge.
        raised: the ids of those of them whose failure the flow has handled.
        uncertain: the ids of nodes of which is not known whether their call was made.
        is_completed: whether the flow has returned.
    """
    taken = _TakenEdges(diagram, called, went_on, uncertain, is_completed=is_completed).found()
    for node_id in raised:
        handlers = [edge for edge in diagram.edges if edge.source == node_id and edge.is_dashed]
        taken |= {*handlers} if len(handlers) == 1 else set()  # which of several it was is not recorded
    edges = tuple(replace(edge, is_taken=True) if edge in taken else edge for edge in diagram.edges)
    return Diagram(diagram.name, diagram.nodes, edges)


class _TakenEdges:
    """The edges that are known to be taken. Each round finds more, until a round finds none."""

    def __init__(
        self, diagram: Diagram, called: Set[str], went_on: Set[str], uncertain: Set[str], *, is_completed: bool
    ) -> None:
        self._kinds = {node.id: node.kind for node in diagram.nodes}
        self._edges = diagram.edges
        self._called = called
        self._went_on = went_on
        self._uncertain = uncertain
        self._is_completed = is_completed
        self._repeated = nodes_in_loops(diagram)
        self._entering: dict[str, list[Edge]] = {}
        for edge in diagram.edges:
            if not edge.is_back:
                self._entering.setdefault(edge.target, []).append(edge)
        ends = {node.id for node in diagram.nodes if node.kind is NodeKind.END and is_completed}
        self._reached = {*called, *ends}
        self._taken: dict[Edge, None] = {}

    def found(self) -> Set[Edge]:
        """Return the taken edges."""
        n_before = -1
        while n_before < len(self._taken):
            n_before = len(self._taken)
            for target in list(self._reached):
                self._mark_edge_to(target)
        for edge in self._edges:
            if self._leads_on(edge) or (edge.is_back and edge.source in self._reached and self._is_remaining_way(edge)):
                self._taken[edge] = None
                self._reached.add(edge.target)
        return self._taken.keys()

    def _mark_edge_to(self, target: str) -> None:
        entering = self._entering.get(target, [])
        possible = entering if len(entering) == 1 else [edge for edge in entering if self._is_possible(edge, set())]
        if len(possible) == 1:
            self._taken[possible[0]] = None
            self._reached.add(possible[0].source)

    def _is_possible(self, edge: Edge, seen: set[str]) -> bool:
        source = edge.source
        kind = self._kinds[source]
        if kind is NodeKind.START:
            return True
        if kind not in _SILENT:
            is_left = source in self._went_on or source in self._uncertain
            return is_left or (edge.is_dashed and source in self._called)
        if source in seen or self._went_elsewhere(edge):
            return False
        return any(self._is_possible(before, seen | {source}) for before in self._entering.get(source, ()))

    def _went_elsewhere(self, edge: Edge) -> bool:
        """Return True if the condition was met at most once, and another of its edges is taken."""
        if self._kinds[edge.source] is not NodeKind.CONDITION or edge.source in self._repeated:
            return False
        return any(other.source == edge.source and other != edge for other in self._taken)

    def _leads_on(self, edge: Edge) -> bool:
        """Return True if the flow left the call by this edge. A call that has just ended may not be left yet."""
        has_left = self._is_completed or edge.is_back or edge.target in self._reached
        return has_left and edge.source in self._went_on and self._is_only_way(edge)

    def _is_remaining_way(self, edge: Edge) -> bool:
        """Return True if none of the other edges of the condition was taken in a completed flow."""
        others = [other.target for other in self._edges if other.source == edge.source and other != edge]
        is_condition = self._kinds[edge.source] is NodeKind.CONDITION and self._is_completed
        return is_condition and not any(self._may_be_met(target) for target in others)

    def _may_be_met(self, target: str) -> bool:
        kind = self._kinds[target]
        is_recorded = kind not in _SILENT and kind is not NodeKind.END
        return not is_recorded or target in self._reached or target in self._uncertain

    def _is_only_way(self, edge: Edge) -> bool:
        return all(other == edge or other.is_dashed for other in self._edges if other.source == edge.source)


def nodes_in_loops(diagram: Diagram) -> Set[str]:
    """Return the ids of the nodes within loops."""
    places = {node.id: place for place, node in enumerate(diagram.nodes)}
    found: set[str] = set()
    for edge in diagram.edges:
        if edge.is_back:
            found |= {node.id for node in diagram.nodes[places[edge.target] : places[edge.source] + 1]}
    return found
