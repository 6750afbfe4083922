"""The diagram in DOT, for Graphviz and whatever else reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ironflow_nb.diagram.labels import one_line
from ironflow_nb.diagram.model import Diagram, Edge, Node, NodeKind, Tone
from ironflow_nb.diagram.palette import DRIFT, LINE, WAY, step_look
from ironflow_nb.diagram.states import NodeState, saying_with_time, state_of

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
_LINES: Final = {Tone.POSSIBLE: "dashed", Tone.HINT: "dotted"}


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
    words = {"id": _escaped(node.id), "tooltip": _escaped(node.title or node.label)}
    rings = {"peripheries": "2"} if node.kind is NodeKind.FINAL else {}
    return rings | {"shape": _SHAPES[node.kind], "style": _STYLES.get(node.kind, "filled"), **colours, **words}


def _edge_attributes(edge: Edge) -> dict[str, str]:
    colour = DRIFT if edge.tone is Tone.DRIFT else WAY if edge.is_taken else LINE
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
