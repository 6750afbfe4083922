"""The plain-text form of a state machine: its states, and below each where commands lead from there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ironflow_nb.diagram.labels import one_line
from ironflow_nb.diagram.model import Diagram, Edge, Node, NodeKind, Tone
from ironflow_nb.diagram.palette import step_look
from ironflow_nb.diagram.states import Caption, NodeState, state_of

_ARROWS: Final = {Tone.SEEN: "→", Tone.DRIFT: "→", Tone.POSSIBLE: "⇢", Tone.HINT: "⇢"}
_WORDS: Final = {Tone.POSSIBLE: "never exercised", Tone.HINT: "in the source only", Tone.DRIFT: "not declared"}


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
    tone = edge.tone or Tone.SEEN
    said = f" ({_WORDS[tone]})" if tone in _WORDS else ""
    return f"      {_ARROWS[tone]} {labels[edge.target]}: {one_line(edge.label or '')}{said}"
