"""A diagram as plain text, as DOT (which Graphviz reads), and as Mermaid (which GitHub and JupyterLab draw).

The same run in the same state has the same plain text on every machine and in every session. It has no id, no time and
no address, and does not depend on a layout. Notebooks are tested against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ironflow_nb.diagram.model import Diagram, Edge, Node, NodeKind, TransitionTone
from ironflow_nb.diagram.palette import DRIFT, LINE, WAY, StatusStyle, step_look
from ironflow_nb.diagram.run_path import nodes_in_loops
from ironflow_nb.diagram.sizes import one_line
from ironflow_nb.diagram.states import (
    Caption,
    NodeState,
    counts,
    in_words,
    state_of,
    state_words,
    state_words_with_time,
    with_reasons,
)

_INDENT: Final = "  "
_ENDS: Final = frozenset({NodeKind.START, NodeKind.END})
_SIGNS: Final = {NodeKind.CONDITION: "◇", NodeKind.LOOP: "↺", NodeKind.FORK: "⑂"}
_KINDS: Final = {NodeKind.MAP: " (map)", NodeKind.CHILD: " (flow)"}


def to_text(diagram: Diagram, states: Mapping[str, NodeState], *, caption: Caption) -> str:
    """Return a line for the run and one for every node, indented as branches and loops are."""
    name = one_line(caption.name) or "flow"
    head = name if caption.run_status is None else f"{name}: {caption.run_status}"
    head += f", {caption.figures.reported}" if caption.figures.reported else ""
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
    words = with_reasons(state.words or counts(state) or in_words(state.status), state)
    return one_line(f": {words}, {state.reported}" if state.reported else f": {words}")


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
    words = node.note or ("" if state is None else state_words_with_time(state))
    return _escaped(f"{glyph}{node.label}{f': {words}' if words else ''}")


def _attributes(node: Node, state: NodeState | None) -> dict[str, str]:
    look = step_look(None if state is None else state.status)
    colours = {"fillcolor": look.fill, "color": look.stroke, "fontcolor": look.text}
    about = node.title or node.label
    if state is not None and state.reasons:
        about = f"{with_reasons(state_words_with_time(state), state)}: {about}"
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


def to_machine_mermaid(diagram: Diagram, states: Mapping[str, NodeState]) -> str:
    """Return the diagram of a state machine as Mermaid's ``stateDiagram-v2``; it parses whatever the labels are."""
    names = {node.id: "[*]" if node.kind is NodeKind.INITIAL else f"n{n}" for n, node in enumerate(diagram.nodes)}
    lines, looks = [], {}
    for node in diagram.nodes:
        if node.kind is NodeKind.INITIAL:
            continue
        state, said = state_of(node, states), f"<br>{_mermaid_escaped(node.note)}" if node.note else ""
        glyph = "" if state is None else f"{step_look(state.status).glyph} "
        lines.append(f'state "{glyph}{_mermaid_escaped(node.label)}{said}" as {names[node.id]}')
        if state is not None:
            looks[str(state.status)] = step_look(state.status)
            lines.append(f"class {names[node.id]} {state.status}")
    lines += [
        f"{names[edge.source]} --> {names[edge.target]}{_transition_label(edge)}"
        for edge in diagram.edges
        if edge.source in names and edge.target in names
    ]
    lines += [f"{names[node.id]} --> [*]" for node in diagram.nodes if node.kind is NodeKind.FINAL]
    lines += [_class(status, look) for status, look in sorted(looks.items())]
    return "\n".join(["stateDiagram-v2", *(f"    {line}" for line in lines), ""])


def _transition_label(edge: Edge) -> str:
    """Return the label with the words of the tone, for Mermaid has no dashed transitions."""
    words = f" ({_WORDS[edge.tone]})" if edge.tone in _WORDS else ""
    label = _mermaid_escaped(f"{edge.label}{words}").replace(":", "#58;")  # a second colon would end it
    return f" : {label}" if edge.label else ""


def _node(name: str, node: Node, state: NodeState | None) -> str:
    opening, closing = _MERMAID_SHAPES[node.kind]
    glyph = "" if state is None else f"{step_look(state.status).glyph} "
    words = node.note or (with_reasons(state_words(state), state) if state is not None else "")
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
