"""Texts for people: safe to show in a terminal, and with numbers that fit their nouns."""

from __future__ import annotations

from reprlib import Repr
from typing import Final

_CONTROLS: Final = [*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0)]
_DIRECTIONS: Final = [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_SURROGATES: Final = range(0xD800, 0xE000)
_ESCAPED: Final = {number: f"\\x{number:02x}" for number in _CONTROLS} | {
    number: f"\\u{number:04x}" for number in (*_DIRECTIONS, *_SURROGATES)
}


def plain(text: str) -> str:
    """Return the text with escapes for control characters and for those that change the direction of writing.

    A terminal obeys them: a text from a journal could move the cursor, or show something that is not there. Tabs and
    ends of lines stay. Lone surrogates are escapes, too, for no file and no terminal takes them.
    """
    return text if text.isprintable() else text.translate(_ESCAPED)


def short_repr(value: object) -> str:
    """Return a value as a message shows it: its repr, cut where it is long or deep, or its type if that has none."""
    shown = Repr()
    shown.maxstring = shown.maxother = shown.maxlong = 200
    shown.maxlist = shown.maxtuple = shown.maxdict = shown.maxset = 8
    try:
        return shown.repr(value)
    except Exception:  # noqa: BLE001 -- code of the user, and numbers of more digits than Python writes
        return f"<{type(value).__qualname__}>"


def counted(number: int, noun: str) -> str:
    """Return the number with its noun: ``1 step``, ``1,234 steps``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def done_of(n_done: int, n_total: int | None) -> str:
    """Return how many are done, and of how many if that is known: ``41 of 200``."""
    return f"{n_done:,}" if n_total is None else f"{n_done:,} of {n_total:,}"


def are(number: int) -> str:
    """Return the verb that goes with the number."""
    return "is" if number == 1 else "are"
