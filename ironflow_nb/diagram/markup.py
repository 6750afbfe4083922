"""The diagram in DOT, which Graphviz reads, and in Mermaid, which GitHub, GitLab and JupyterLab draw in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ironflow_nb.diagram.model import Diagram, Edge, Node, NodeKind, TransitionTone
from ironflow_nb.diagram.palette import DRIFT, LINE, WAY, StatusStyle, step_look
from ironflow_nb.diagram.sizes import one_line
from ironflow_nb.diagram.states import NodeState, saying, saying_with_time, state_of, with_reasons

_SHAPES: Final = {
    NodeKind.START: "oval",
    NodeKind.END: "oval",
    NodeKind.STEP: "box",
    NodeKind.MAP: "box3d",
    NodeKind.CONDITION: "hexagon",
    NodeKind.LOOP: "house",
    NodeKind.CHILD: "tab",
    NodeKind.FORK: "parallelogram",
    NodeKind.WAIT: "cds",
    NodeKind.OTHER: "box",
    NodeKind.INITIAL: "point",
    NodeKind.STATE: "box",
    NodeKind.FINAL: "box",
}
_ROUND: Final = "rounded,filled"
_STYLES: Final = {
    NodeKind.STEP: _ROUND,
    NodeKind.OTHER: f"{_ROUND},dashed",
    NodeKind.STATE: _ROUND,
    NodeKind.FINAL: _ROUND,
}
_LINES: Final = {TransitionTone.POSSIBLE: "dashed", TransitionTone.HINT: "dotted"}


def to_dot(diagram: Diagram, states: Mapping[str, NodeState]) -> str:
    """Return the diagram as DOT text; a node's own id is its attribute `id`."""
    from graphviz import Digraph

    font = {"fontname": "Helvetica,Arial,sans-serif", "fontsize": "11"}
    drawing = Digraph(name=_escaped(diagram.name) or "flow", node_attr=font, edge_attr={**font, "color": LINE})
    names = {node.id: f"n{place}" for place, node in enumerate(diagram.nodes)}
    for node in diagram.nodes:
        state = state_of(node, states)
        drawing.node(names[node.id], label=_label(node, state), **_attributes(node, state))
    for edge in diagram.edges:
        if edge.source in names and edge.target in names:
            drawing.edge(names[edge.source], names[edge.target], **_edge_attributes(edge))
    return str(drawing.source)


def _label(node: Node, state: NodeState | None) -> str:
    glyph = "" if state is None else f"{step_look(state.status).glyph} "
    words = node.note or ("" if state is None else saying_with_time(state))
    return _escaped(f"{glyph}{node.label}{f': {words}' if words else ''}")


def _attributes(node: Node, state: NodeState | None) -> dict[str, str]:
    look = step_look(None if state is None else state.status)
    colours = {"fillcolor": look.fill, "color": look.stroke, "fontcolor": look.text}
    about = node.title or node.label
    if state is not None and state.reasons:
        about = f"{with_reasons(saying_with_time(state), state)}: {about}"
    words = {"id": _escaped(node.id), "tooltip": _escaped(about)}
    rings = {"peripheries": "2"} if node.kind is NodeKind.FINAL else {}
    return rings | {"shape": _SHAPES[node.kind], "style": _STYLES.get(node.kind, "filled"), **colours, **words}


def _edge_attributes(edge: Edge) -> dict[str, str]:
    colour = DRIFT if edge.tone is TransitionTone.DRIFT else WAY if edge.is_taken else LINE
    label = {"label": _escaped(edge.label), "fontcolor": colour} if edge.label else {}
    line = _LINES.get(edge.tone) if edge.tone is not None else "dashed" if edge.is_dashed else None
    style = {} if line is None else {"style": line}
    own = {} if colour is LINE else {"color": colour}
    return label | own | style | ({"constraint": "false"} if edge.is_back else {})


def _escaped(text: str) -> str:
    """Return the text on one line so that Graphviz shows it as it is: no escape sequence of its own, no HTML."""
    from graphviz import escape

    # What it returns is a str of a kind that is always quoted.
    escaped: str = escape(one_line(text))
    return escaped


_MERMAID_SHAPES: Final = {
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
    opening, closing = _MERMAID_SHAPES[node.kind]
    glyph = "" if state is None else f"{step_look(state.status).glyph} "
    words = node.note or (with_reasons(saying(state), state) if state is not None else "")
    said = f"<br>{_mermaid_escaped(words)}" if words else ""
    status = "" if state is None else f":::{state.status}"
    return f'{name}{opening}"{glyph}{_mermaid_escaped(node.label)}{said}"{closing}{status}'


def _edge(edge: Edge, source: str, target: str) -> str:
    arrow = "-.->" if edge.is_dashed or edge.tone in {TransitionTone.POSSIBLE, TransitionTone.HINT} else "-->"
    label = f'|"{_mermaid_escaped(edge.label)}"|' if edge.label else ""
    return f"{source} {arrow}{label} {target}"


def _link_style(edge: Edge) -> str:
    colour = DRIFT if edge.tone is TransitionTone.DRIFT else WAY if edge.is_taken else ""
    return f"stroke:{colour},color:{colour}" if colour else ""


def _class(status: str, look: StatusStyle) -> str:
    return f"classDef {status} fill:{look.fill},stroke:{look.stroke},color:{look.text}"


def _mermaid_escaped(text: str) -> str:
    """Return the text with everything that could mean something as a character entity in Mermaid's way."""
    line = one_line(text) or " "
    escaped = "".join(char if char.isalnum() or char in _PLAIN else f"#{ord(char)};" for char in line)
    # A label that begins with a digit may be taken for the item of a list.
    return f"#{ord(line[0])};{escaped[1:]}" if line[0].isdigit() else escaped
