"""Texts as a terminal may show them."""

from __future__ import annotations

from typing import Final

_CONTROLS: Final = [*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0)]
_DIRECTIONS: Final = [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_ESCAPED: Final = {number: f"\\x{number:02x}" for number in _CONTROLS} | {
    number: f"\\u{number:04x}" for number in _DIRECTIONS
}


def plain(text: str) -> str:
    """Return the text with control characters, and those that turn the direction of writing, as escapes.

    A terminal obeys them: what comes from a journal could move its cursor, or show something else than is there. The
    ends of lines and tabs stay.
    """
    return text if text.isprintable() else text.translate(_ESCAPED)
