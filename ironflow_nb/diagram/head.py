"""The head of a picture: the flow, its run, and how that is."""

from __future__ import annotations

from typing import Final, NamedTuple

from ironflow_nb.core.ids import ID_SHOWN
from ironflow_nb.core.status import RunStatus
from ironflow_nb.diagram.geometry import Box
from ironflow_nb.diagram.labels import MONO, clipped, fitting, width, xml_text
from ironflow_nb.diagram.model import NodeKind
from ironflow_nb.diagram.outlines import outline
from ironflow_nb.diagram.palette import LINE, run_look
from ironflow_nb.diagram.shapes import mark_element, text_element
from ironflow_nb.diagram.sizes import LABEL_FONT, SMALL_FONT
from ironflow_nb.diagram.states import Caption

HEAD_HEIGHT: Final = 84.0
_MAX_NAME: Final = 320.0
_SUMMARY_ROOM: Final = 300.0
_PAD: Final = 15.0
_GAP: Final = 12.0
_MARK_WIDTH: Final = 23.0
_CHIP_Y: Final = 21.0
_LINE_HEIGHT: Final = 15


class _Piece(NamedTuple):
    text: str
    width: float
    attributes: str


def head_width(caption: Caption) -> float:
    """Return the width that the head needs with the longest status there is: it stays while the run goes on."""
    if caption.run_status is None:
        return max(0.0, _chip_width(caption, ""), *(width(line, font_size=SMALL_FONT) for line in _lines(caption)))
    return max(_SUMMARY_ROOM, *(_chip_width(caption, status) for status in RunStatus))


def head_element(caption: Caption, middle: float, *, element_id: str) -> str:
    """Return the head as an SVG group around `middle`: a chip in the colours of the run, and a line below it."""
    status = str(caption.run_status or "")
    name = f'id="{element_id}" data-status="{status or "none"}"'
    title = " ".join(filter(None, [caption.name, caption.run_id, status]))
    title = "\n".join(filter(None, [title, caption.summary, caption.account.words]))
    return f"<g {name}><title>{xml_text(title)}</title>{_chip(caption, middle, status)}{_summary(caption, middle)}</g>"


def _summary(caption: Caption, middle: float) -> str:
    words = f'text-anchor="middle" fill="{LINE}"'
    heights = range(27, 27 + 2 * _LINE_HEIGHT, _LINE_HEIGHT)
    return "".join(
        text_element(middle, _CHIP_Y + y, line, words, font_size=SMALL_FONT)
        for y, line in zip(heights, _lines(caption), strict=False)
    )


def _lines(caption: Caption) -> list[str]:
    said = filter(None, [caption.summary, caption.account.words])
    return [fitting(line, font_size=SMALL_FONT, room=_SUMMARY_ROOM) for line in said]


def _chip(caption: Caption, middle: float, status: str) -> str:
    look, box = run_look(caption.run_status), Box(middle, _CHIP_Y, _chip_width(caption, status), 32)
    paint = f'fill="{look.fill}" stroke="{look.stroke}" stroke-width="1.5"'
    parts = [f'<path d="{outline(NodeKind.START, box)}" {paint}/>']
    x = box.left + _PAD
    if status:
        parts.append(mark_element(x + 8, box.y, look))
        x += _MARK_WIDTH
    for piece in _pieces(caption, status):
        parts.append(text_element(x, box.y, piece.text, f'fill="{look.text}" {piece.attributes}', font_size=LABEL_FONT))
        x += piece.width + _GAP
    return "".join(parts)


def _chip_width(caption: Caption, status: str) -> float:
    pieces = _pieces(caption, status)
    return sum(piece.width + _GAP for piece in pieces) - _GAP + 2 * _PAD + (_MARK_WIDTH if status else 0)


def _pieces(caption: Caption, status: str) -> list[_Piece]:
    name = clipped(caption.name, font_size=LABEL_FONT, room=_MAX_NAME) or "flow"
    short = (caption.run_id or "")[:ID_SHOWN]
    pieces = [
        _Piece(status, width(status, font_size=LABEL_FONT) * 1.02, ""),
        _Piece(name, width(name, font_size=LABEL_FONT) * 1.06, 'font-weight="700"'),
        _Piece(short, width(short, font_size=LABEL_FONT, is_mono=True), f'font-family="{MONO}"'),
    ]
    return [piece for piece in pieces if piece.text]
