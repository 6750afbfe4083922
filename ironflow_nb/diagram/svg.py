"""The SVG of a diagram: its caption, its nodes and its edges. Every layout engine gives the same elements.

The document has no script, style sheet or font, and loads nothing. Its ids begin with a prefix, so that several
documents can stand in one page. The caption, each node, and all edges together are groups that a live view can
replace: their text and their colours change, their position does not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from ironflow_nb.core.identity import ID_SHOWN
from ironflow_nb.core.status import RunStatus
from ironflow_nb.diagram.geometry import Box, Layout, Route, Size
from ironflow_nb.diagram.model import Diagram, Edge, Node, NodeKind
from ironflow_nb.diagram.palette import LINE, WAY, StatusStyle, run_look, step_look
from ironflow_nb.diagram.sizes import (
    EDGE_FONT,
    LABEL_FONT,
    MONO,
    SANS,
    SMALL_FONT,
    clipped,
    edge_label,
    fitting,
    label_sizes_of,
    one_line,
    width,
    xml_attribute,
    xml_text,
)
from ironflow_nb.diagram.states import Caption, NodeState, state_of, state_words_with_time, with_reasons
from ironflow_nb.diagram.svg_shapes import (
    at,
    edge_paths,
    mark_element,
    node_shapes,
    number,
    outline,
    text_element,
    transition_element,
    transition_title,
)

HEAD_HEIGHT: Final = 84.0
_MAX_NAME: Final = 320.0
_SUMMARY_ROOM: Final = 300.0
_PAD: Final = 15.0
_GAP: Final = 12.0
_MARK_WIDTH: Final = 23.0
_CHIP_Y: Final = 21.0
_LINE_HEIGHT: Final = 15


class _CaptionPart(NamedTuple):
    text: str
    width: float
    attributes: str


def head_width(caption: Caption) -> float:
    """Return the width of the head with the longest status, so that it does not change during a run."""
    if caption.run_status is None:
        return max(
            0.0, _chip_width(caption, ""), *(width(line, font_size=SMALL_FONT) for line in _caption_lines(caption))
        )
    return max(_SUMMARY_ROOM, *(_chip_width(caption, status) for status in RunStatus))


def head_element(caption: Caption, middle: float, *, element_id: str) -> str:
    """Return the head as an SVG group around `middle`: a chip in the colours of the run, and a line below it."""
    status = str(caption.run_status or "")
    name = f'id="{element_id}" data-status="{status or "none"}"'
    title = xml_text(_title_of_head(caption))
    return f"<g {name}><title>{title}</title>{_chip(caption, middle, status)}{_summary(caption, middle)}</g>"


def _title_of_head(caption: Caption) -> str:
    title = " ".join(filter(None, [caption.name, caption.run_id, str(caption.run_status or "")]))
    return "\n".join(filter(None, [title, caption.summary, caption.figures.words]))


def _summary(caption: Caption, middle: float) -> str:
    words = f'text-anchor="middle" fill="{LINE}"'
    heights = range(27, 27 + 2 * _LINE_HEIGHT, _LINE_HEIGHT)
    return "".join(
        text_element(middle, _CHIP_Y + y, line, words, font_size=SMALL_FONT)
        for y, line in zip(heights, _caption_lines(caption), strict=False)
    )


def _caption_lines(caption: Caption) -> list[str]:
    said = filter(None, [caption.summary, caption.figures.words])
    return [fitting(line, font_size=SMALL_FONT, room=_SUMMARY_ROOM) for line in said]


def _chip(caption: Caption, middle: float, status: str) -> str:
    look, box = run_look(caption.run_status), Box(middle, _CHIP_Y, _chip_width(caption, status), 32)
    paint = f'fill="{look.fill}" stroke="{look.stroke}" stroke-width="1.5"'
    parts = [f'<path d="{outline(NodeKind.START, box)}" {paint}/>']
    x = box.left + _PAD
    if status:
        parts.append(mark_element(x + 8, box.y, look))
        x += _MARK_WIDTH
    for piece in _caption_parts(caption, status):
        parts.append(text_element(x, box.y, piece.text, f'fill="{look.text}" {piece.attributes}', font_size=LABEL_FONT))
        x += piece.width + _GAP
    return "".join(parts)


def _chip_width(caption: Caption, status: str) -> float:
    pieces = _caption_parts(caption, status)
    return sum(piece.width + _GAP for piece in pieces) - _GAP + 2 * _PAD + (_MARK_WIDTH if status else 0)


def _caption_parts(caption: Caption, status: str) -> list[_CaptionPart]:
    name = clipped(caption.name, font_size=LABEL_FONT, room=_MAX_NAME) or "flow"
    short = (caption.run_id or "")[:ID_SHOWN]
    pieces = [
        _CaptionPart(status, width(status, font_size=LABEL_FONT) * 1.02, ""),
        _CaptionPart(name, width(name, font_size=LABEL_FONT) * 1.06, 'font-weight="700"'),
        _CaptionPart(short, width(short, font_size=LABEL_FONT, is_mono=True), f'font-family="{MONO}"'),
    ]
    return [piece for piece in pieces if piece.text]


MARGIN: Final = 10.0
EDGES: Final = "edges"
"""The name of the part that all edges are; the other parts have ids."""
_OVER: Final = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.INTERRUPTED})
_UNFIT: Final = re.compile(r"[^A-Za-z0-9-]")


def render(
    diagram: Diagram, layout: Layout, states: Mapping[str, NodeState], *, caption: Caption, prefix: str = "iron"
) -> str:
    """Return the diagram as an SVG document."""
    width, height = picture_size(layout, caption)
    size = f'width="{number(width)}" height="{number(height)}" viewBox="0 0 {number(width)} {number(height)}"'
    about = f'role="img" aria-label={xml_attribute(_accessible_label(caption))} font-family="{SANS}"'
    head, *nodes = elements(diagram, layout, states, caption=caption, prefix=prefix).values()
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {about}>'
    return "".join([opening, head, scenery(diagram, layout, caption=caption), *nodes, "</g></svg>"])


def scenery(diagram: Diagram, layout: Layout, *, caption: Caption) -> str:
    """Return the part between the head and the nodes: the group for drawing, and the edges."""
    shift = at(((picture_size(layout, caption)[0] - layout.size.width) / 2, HEAD_HEIGHT))
    frames = "".join(_frame(frame) for frame in layout.frames)
    return f'<g transform="translate({shift})">{frames}{edges_element(diagram, layout)}'


def edges_element(diagram: Diagram, layout: Layout) -> str:
    """Return the group of all edges; which of them are taken changes during a run."""
    lines = f'data-part="{EDGES}" fill="none" stroke="{LINE}" stroke-width="1.4" stroke-linecap="round"'
    edges = "".join(_edge(edge, route) for edge, route in zip(diagram.edges, layout.routes, strict=True))
    return f"<g {lines}>{edges}</g>"


def _frame(frame: Box) -> str:
    paint = f'fill="{LINE}" fill-opacity="0.07" stroke="{LINE}" stroke-opacity="0.45"'
    return f'<path d="{outline(NodeKind.STEP, frame, corner=14)}" {paint}/>'


def elements(
    diagram: Diagram, layout: Layout, states: Mapping[str, NodeState], *, caption: Caption, prefix: str = "iron"
) -> dict[str, str]:
    """Return the head and every node as SVG groups, by the ids that they have in the document."""
    middle = picture_size(layout, caption)[0] / 2
    found = {head_id(prefix): head_element(caption, middle, element_id=head_id(prefix))}
    for node in diagram.nodes:
        name = element_id(node.id, prefix)
        ended = caption.run_status if node.kind is NodeKind.END and caption.run_status in _OVER else None
        found[name] = _node(node, layout.boxes[node.id], state_of(node, states), ended, name)
    return found


class Tooltip(NamedTuple):
    """A title of the document, and where it is."""

    box: Box
    text: str


def tooltips(
    diagram: Diagram, layout: Layout, states: Mapping[str, NodeState], *, caption: Caption
) -> tuple[Tooltip, ...]:
    """Return the titles of the head, the nodes and the labels of edges, for where the document is only an image."""
    width = picture_size(layout, caption)[0]
    x = (width - layout.size.width) / 2
    found = [Tooltip(Box(width / 2, HEAD_HEIGHT / 2, width, HEAD_HEIGHT), _title_of_head(caption))]
    sizes = label_sizes_of(diagram)
    for edge, route in zip(diagram.edges, layout.routes, strict=True):
        if edge.label in sizes and route.label is not None and len(route.points) >= 4:
            title = edge.label if edge.tone is None else transition_title(edge)
            found.append(Tooltip(_moved(Box(*route.label, *sizes[edge.label]), x), title))
    return (
        *found,
        *(Tooltip(_moved(layout.boxes[node.id], x), _title(node, state_of(node, states))) for node in diagram.nodes),
    )


def _moved(box: Box, x: float) -> Box:
    return Box(box.x + x, box.y + HEAD_HEIGHT, box.width, box.height)


def picture_size(layout: Layout, caption: Caption) -> tuple[float, float]:
    """Return width and height of the document, which do not change during a run."""
    width = max(layout.size.width, head_width(caption)) + 2 * MARGIN
    return width, HEAD_HEIGHT + layout.size.height + MARGIN


def element_id(node_id: str, prefix: str = "iron") -> str:
    """Return the id of the node's group: different nodes have different ones."""
    return f"{_escaped_id(prefix)}-n-{_escaped_id(node_id)}"


def head_id(prefix: str = "iron") -> str:
    """Return the id of the head's group."""
    return f"{_escaped_id(prefix)}-head"


def _escaped_id(text: str) -> str:
    return _UNFIT.sub(lambda found: f"_{ord(found[0]):x}_", text)


def _accessible_label(caption: Caption) -> str:
    """Return the text of the picture for screen readers."""
    said = ", ".join(filter(None, [str(caption.run_status or ""), caption.summary]))
    return f"{caption.name or 'flow'}: {said or 'not run'}"


@lru_cache(maxsize=4096)
def _node(node: Node, box: Box, state: NodeState | None, ended: RunStatus | None, name: str) -> str:
    look, status = _look(state, ended)
    about = f'id="{name}" data-status="{status}" data-kind="{node.kind}" transform="translate({at((box.x, box.y))})"'
    shapes = node_shapes(node, Size(box.width, box.height), state, look)
    return f"<g {about}><title>{xml_text(_title(node, state))}</title>{shapes}</g>"


def _look(state: NodeState | None, ended: RunStatus | None) -> tuple[StatusStyle, str]:
    """Return how a node looks, and the word for it; the end shows how the run ended."""
    if ended is not None:
        return run_look(ended), str(ended)
    return (step_look(None), "none") if state is None else (step_look(state.status), str(state.status))


def _title(node: Node, state: NodeState | None) -> str:
    first = one_line(node.label)
    said = first if state is None else f"{first}: {with_reasons(state_words_with_time(state), state)}"
    return "\n".join(filter(None, [said, "" if state is None else state.detail, node.title]))


@lru_cache(maxsize=4096)
def _edge(edge: Edge, route: Route) -> str:
    if len(route.points) < 4:
        return ""
    if edge.tone is not None:
        return transition_element(edge, route)
    curves, arrow = edge_paths(route)
    dashes = ' stroke-dasharray="5 4"' if edge.is_dashed else ""
    colour = WAY if edge.is_taken else LINE
    line = f'<path d="{curves}"{dashes}/><path d="{arrow}" fill="{colour}" stroke="none"/>' + _edge_label(edge, route)
    return f'<g data-taken="true" stroke="{WAY}" stroke-width="2.2">{line}</g>' if edge.is_taken else line


def _edge_label(edge: Edge, route: Route) -> str:
    if edge.label is None or route.label is None:
        return ""
    bold = ' font-weight="600"' if edge.is_taken else ""
    words = f'text-anchor="middle" fill="{WAY if edge.is_taken else LINE}" stroke="none"{bold}'
    text = text_element(*route.label, edge_label(edge), words, font_size=EDGE_FONT)
    return f"<g><title>{xml_text(edge.label)}</title>{text}</g>"
