"""The diagram in Mermaid, which GitHub, GitLab and JupyterLab draw in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ironflow_nb.diagram.labels import one_line
from ironflow_nb.diagram.model import Diagram, Edge, Node, NodeKind, Tone
from ironflow_nb.diagram.palette import DRIFT, WAY, Look, step_look
from ironflow_nb.diagram.states import NodeState, saying, state_of

_SHAPES: Final = {
    NodeKind.START: ("([", "])"),
    NodeKind.END: ("([", "])"),
    NodeKind.STEP: ("(", ")"),
    NodeKind.MAP: ("[[", "]]"),
    NodeKind.CONDITION: ("{{", "}}"),
    NodeKind.LOOP: ("[/", "\\]"),
    NodeKind.CHILD: ("[[", "]]"),
    NodeKind.FORK: ("[/", "/]"),
    NodeKind.WAIT: (">", "]"),
    NodeKind.OTHER: ("(", ")"),
    NodeKind.INITIAL: ("((", "))"),
    NodeKind.STATE: ("(", ")"),
    NodeKind.FINAL: ("(((", ")))"),
}
# All that means nothing to Mermaid inside quotes, nor to the Markdown and HTML that it makes of a label.
_PLAIN: Final = frozenset(" .,:()[]{}/=?!…·°")


def to_mermaid(diagram: Diagram, states: Mapping[str, NodeState]) -> str:
    """Return the diagram as Mermaid text; it parses whatever the labels are."""
    names = {node.id: f"n{place}" for place, node in enumerate(diagram.nodes)}
    shown = [(names[node.id], node, state_of(node, states)) for node in diagram.nodes]
    lines = [_node(name, node, state) for name, node, state in shown]
    edges = [edge for edge in diagram.edges if edge.source in names and edge.target in names]
    lines += [_edge(edge, names[edge.source], names[edge.target]) for edge in edges]
    lines += [f"linkStyle {place} {style}" for place, edge in enumerate(edges) if (style := _link_style(edge))]
    looks = {str(state.status): step_look(state.status) for _, _, state in shown if state is not None}
    lines += [_class(status, look) for status, look in sorted(looks.items())]
    return "\n".join(["flowchart TD", *(f"    {line}" for line in lines), ""])


def _node(name: str, node: Node, state: NodeState | None) -> str:
    opening, closing = _SHAPES[node.kind]
    glyph = "" if state is None else f"{step_look(state.status).glyph} "
    words = node.note or (saying(state) if state is not None else "")
    said = f"<br>{_escaped(words)}" if words else ""
    status = "" if state is None else f":::{state.status}"
    return f'{name}{opening}"{glyph}{_escaped(node.label)}{said}"{closing}{status}'


def _edge(edge: Edge, source: str, target: str) -> str:
    arrow = "-.->" if edge.is_dashed or edge.tone in {Tone.POSSIBLE, Tone.HINT} else "-->"
    label = f'|"{_escaped(edge.label)}"|' if edge.label else ""
    return f"{source} {arrow}{label} {target}"


def _link_style(edge: Edge) -> str:
    colour = DRIFT if edge.tone is Tone.DRIFT else WAY if edge.is_taken else ""
    return f"stroke:{colour},color:{colour}" if colour else ""


def _class(status: str, look: Look) -> str:
    return f"classDef {status} fill:{look.fill},stroke:{look.stroke},color:{look.text}"


def _escaped(text: str) -> str:
    """Return the text with everything that could mean something as a character entity in Mermaid's way."""
    line = one_line(text) or " "
    escaped = "".join(char if char.isalnum() or char in _PLAIN else f"#{ord(char)};" for char in line)
    # A label that begins with a digit may be taken for the item of a list.
    return f"#{ord(line[0])};{escaped[1:]}" if line[0].isdigit() else escaped
