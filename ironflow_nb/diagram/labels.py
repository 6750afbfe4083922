"""Labels: text that may be anything, made fit for a picture."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from html import escape
from itertools import accumulate, takewhile
from typing import Final

SANS: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
MONO: Final = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
ELLIPSIS: Final = "…"

# What XML 1.0 forbids, with the two sorts of surrogates that no encoder takes.
_FORBIDDEN: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SPACES: Final = re.compile(r"\s+")
_MONO_EM: Final = 0.61
# Widths in em, generous: between those of Arial and of DejaVu Sans, the narrowest and widest a notebook will use.
_NARROW_EM: Final = {**dict.fromkeys("ijl|!'.,:;`", 0.31), **dict.fromkeys('ftrI()[]{}/\\- "', 0.40)}
_WIDE_EM: Final = {**dict.fromkeys("mwMW@%", 0.95), **dict.fromkeys("ABCDEFGHJKLNOPQRSTUVXYZ&+=<>~#_…→", 0.74)}
_WIDTHS_EM: Final = _NARROW_EM | _WIDE_EM


def clean(text: str) -> str:
    """Return the text with whatever XML 1.0 forbids replaced by the replacement character."""
    return _FORBIDDEN.sub("\ufffd", text)


def one_line(text: str) -> str:
    """Return the text cleaned and on one line."""
    return _SPACES.sub(" ", clean(text)).strip()


def xml_text(text: str) -> str:
    """Return the text as the content of an XML element."""
    return escape(clean(text), quote=False)


def xml_attribute(text: str) -> str:
    """Return the text as a quoted XML attribute on one line."""
    return f'"{escape(one_line(text))}"'


def width(text: str, *, font_size: float, is_mono: bool = False) -> float:
    """Return about how wide the text is drawn, in pixels; rather too much than too little."""
    return sum(_width_em(char, is_mono) for char in text) * font_size


@lru_cache(maxsize=4096)
def _width_em(char: str, is_mono: bool) -> float:  # noqa: FBT001 -- a cache key
    if unicodedata.combining(char) or unicodedata.category(char) == "Cf":
        return 0.0
    if not char.isascii():
        return 1.05 if unicodedata.east_asian_width(char) in "WF" or ord(char) > 0xFFFF else 0.74
    return _MONO_EM if is_mono else _WIDTHS_EM.get(char, 0.62)


def clipped(text: str, *, font_size: float, room: float, is_mono: bool = False) -> str:
    """Return the text on one line, with an ellipsis where it does not fit into `room` pixels."""
    line = one_line(text)
    if width(line, font_size=font_size, is_mono=is_mono) <= room:
        return line
    room_em = room / font_size - _width_em(ELLIPSIS, is_mono)
    ends_em = accumulate(_width_em(char, is_mono) for char in line)
    n_kept = sum(1 for _ in takewhile(lambda end_em: end_em <= room_em, ends_em))
    return line[:n_kept].rstrip() + ELLIPSIS


@lru_cache(maxsize=1024)
def fitting(said: str, *, font_size: float, room: float) -> str:
    """Return as many of the first parts of what is said as fit into `room` pixels; the first is clipped if need be."""
    while width(said, font_size=font_size) > room and (", " in said or " · " in said):
        said = said[: max(said.rfind(", "), said.rfind(" · "))]
    return clipped(said, font_size=font_size, room=room)
