"""The plain text of a diagram, for flows and for state machines.

The same run in the same state has the same text on every machine and in every session. It has no id, no time and no
address, and does not depend on a layout. Notebooks are tested against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ironflow_nb.diagram.model import Diagram, Edge, Node, NodeKind, TransitionTone
from ironflow_nb.diagram.palette import step_look
from ironflow_nb.diagram.run_path import nodes_in_loops
from ironflow_nb.diagram.sizes import one_line
from ironflow_nb.diagram.states import Caption, NodeState, counts, in_words, state_of, with_reasons

_INDENT: Final = "  "
_ENDS: Final = frozenset({NodeKind.START, NodeKind.END})
_SIGNS: Final = {NodeKind.CONDITION: "◇", NodeKind.LOOP: "↺", NodeKind.FORK: "⑂"}
_KINDS: Final = {NodeKind.MAP: " (map)", NodeKind.CHILD: " (flow)"}


def to_text(diagram: Diagram, states: Mapping[str, NodeState], *, caption: Caption) -> str:
    """Return a line for the run and one for every node, indented as branches and loops are."""
    name = one_line(caption.name) or "flow"
    head = name if caption.run_status is None else f"{name}: {caption.run_status}"
    entering: dict[str, list[Edge]] = {}
    leaving: dict[str, list[Edge]] = {}
    for edge in diagram.edges:
        entering.setdefault(edge.target, []).append(edge)
        leaving.setdefault(edge.source, []).append(edge)
    ends = {node.id for node in diagram.nodes if node.kind is NodeKind.END}
    in_loops = nodes_in_loops(diagram)
    lines = []
    for node in diagram.nodes:
        if node.kind not in _ENDS:
            # That a loop which comes last leads to the end is no news.
            ways = leaving.get(node.id, []) if node.kind is not NodeKind.LOOP else []
            ending = [edge for edge in ways if edge.target in ends]
            if node.id not in in_loops and any(edge.is_taken for edge in ways):
                ending = [edge for edge in ending if edge.is_taken]  # it was met once, so the others were not gone
            lines.append(_node_line(node, state_of(node, states), entering.get(node.id, []), ending))
    return "\n".join([head, *lines])


def _node_line(node: Node, state: NodeState | None, entering: list[Edge], ending: list[Edge]) -> str:
    sign = _SIGNS.get(node.kind) or step_look(None if state is None else state.status).glyph
    label = f"{one_line(node.label)}{_KINDS.get(node.kind, '')}"
    indent = _INDENT * (node.depth + 1)
    return f"{indent}{_condition_prefix(entering)}{sign} {label}{_state_suffix(state)}{_end_suffix(ending)}"


def _condition_prefix(entering: list[Edge]) -> str:
    """Return in brackets when the node is reached, if all ordinary ways to it say so."""
    ways = [edge for edge in entering if not edge.is_back and (edge.label or not edge.is_dashed)]
    labels = dict.fromkeys(one_line(edge.label or "") for edge in ways)
    return f"[{', '.join(labels)}] " if labels and all(labels) else ""


def _state_suffix(state: NodeState | None) -> str:
    if state is None:
        return ""
    return one_line(f": {with_reasons(state.words or counts(state) or in_words(state.status), state)}")


def _end_suffix(ending: list[Edge]) -> str:
    labels = [one_line(edge.label) for edge in ending if edge.label]
    return f" ({', '.join(labels)}: end)" if labels else ""


_ARROWS: Final = {
    TransitionTone.SEEN: "→",
    TransitionTone.DRIFT: "→",
    TransitionTone.POSSIBLE: "⇢",
    TransitionTone.HINT: "⇢",
}
_WORDS: Final = {
    TransitionTone.POSSIBLE: "never exercised",
    TransitionTone.HINT: "in the source only",
    TransitionTone.DRIFT: "not declared",
}


def to_machine_text(diagram: Diagram, states: Mapping[str, NodeState], *, caption: Caption) -> str:
    """Return a line for the machine, one for every state, and one for every transition below the state it leaves."""
    name = one_line(caption.name)
    said = ", ".join(filter(None, [str(caption.run_status or ""), one_line(caption.summary)]))
    leaving: dict[str, list[Edge]] = {}
    for edge in diagram.edges:
        leaving.setdefault(edge.source, []).append(edge)
    labels = {node.id: one_line(node.label) for node in diagram.nodes}
    begun = {
        edge.target for node in diagram.nodes if node.kind is NodeKind.INITIAL for edge in leaving.get(node.id, [])
    }
    lines = [f"{name}: {said}" if said else name]
    for node in diagram.nodes:
        if node.kind is not NodeKind.INITIAL:
            lines.append(_state_line(node, state_of(node, states), is_first=node.id in begun))
            lines += [_edge_line(edge, labels) for edge in leaving.get(node.id, [])]
    return "\n".join(lines)


def _state_line(node: Node, state: NodeState | None, *, is_first: bool) -> str:
    sign = step_look(state.status).glyph if state is not None else "◎" if node.kind is NodeKind.FINAL else "○"
    words = ["initial"] * is_first + ["final"] * (node.kind is NodeKind.FINAL) + [one_line(node.note)]
    said = ", ".join(filter(None, words))
    return f"  {sign} {one_line(node.label)}" + (f" ({said})" if said else "")


def _edge_line(edge: Edge, labels: Mapping[str, str]) -> str:
    tone = edge.tone or TransitionTone.SEEN
    said = f" ({_WORDS[tone]})" if tone in _WORDS else ""
    return f"      {_ARROWS[tone]} {labels[edge.target]}: {one_line(edge.label or '')}{said}"
