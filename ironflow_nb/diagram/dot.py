"""The diagram in DOT, for Graphviz and whatever else reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ironflow_nb.diagram.labels import one_line
from ironflow_nb.diagram.model import Diagram, Edge, Node, NodeKind
from ironflow_nb.diagram.palette import LINE, step_look
from ironflow_nb.diagram.states import NodeState, saying_with_time, state_of

_SHAPES: Final = {
    NodeKind.START: "oval",
    NodeKind.END: "oval",
    NodeKind.STEP: "box",
    NodeKind.MAP: "box3d",
    NodeKind.CONDITION: "hexagon",
    NodeKind.LOOP: "house",
    NodeKind.CHILD: "tab",
    NodeKind.WAIT: "cds",
    NodeKind.OTHER: "box",
}
_STYLES: Final = {NodeKind.STEP: "rounded,filled", NodeKind.OTHER: "rounded,filled,dashed"}


def to_dot(diagram: Diagram, states: Mapping[str, NodeState]) -> str:
    """Return the diagram as DOT text; a node's own id is its attribute `id`."""
    from graphviz import Digraph  # noqa: PLC0415 -- takes 30 ms

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
    said = "" if state is None else f": {saying_with_time(state)}"
    return _escaped(f"{glyph}{node.label}{said}")


def _attributes(node: Node, state: NodeState | None) -> dict[str, str]:
    look = step_look(None if state is None else state.status)
    colours = {"fillcolor": look.fill, "color": look.stroke, "fontcolor": look.text}
    words = {"id": _escaped(node.id), "tooltip": _escaped(node.title or node.label)}
    return {"shape": _SHAPES[node.kind], "style": _STYLES.get(node.kind, "filled"), **colours, **words}


def _edge_attributes(edge: Edge) -> dict[str, str]:
    label = {"label": _escaped(edge.label), "fontcolor": LINE} if edge.label else {}
    return label | ({"style": "dashed"} if edge.is_dashed else {}) | ({"constraint": "false"} if edge.is_back else {})


def _escaped(text: str) -> str:
    """Return the text on one line so that Graphviz shows it as it is: no escape sequence of its own, no HTML."""
    from graphviz import escape  # noqa: PLC0415 -- as above

    # What it returns is a str of a kind that is always quoted.
    escaped: str = escape(one_line(text))
    return escaped
