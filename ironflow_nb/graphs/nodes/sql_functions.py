"""Functions of SQLite that compare everything with everything, in Python, where they take time in proportion.

SQLite looks at its clock between instructions, and a function is one instruction: on two texts of megabytes its own
``instr`` is not done after an hour, and nothing stops it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, TypeAlias

Value: TypeAlias = str | bytes | int | float | None

Refuse: TypeAlias = Callable[[str], None]
"""Told why a function does not do what it is asked."""


def install(connection: sqlite3.Connection, most_bytes: int, refuse: Refuse) -> None:
    """Put the functions in the place of those of SQLite."""

    def replace(text: Value, old: Value, new: Value) -> Value:
        if text is None or old is None:
            return None
        inside, sought = _text(text), _text(old)
        if not sought:
            return inside if isinstance(text, bytes) else text
        if new is None:
            return None
        put = _text(new)
        if len(inside) + inside.count(sought) * (len(put) - len(sought)) > most_bytes:
            refuse(f"replace() makes a text of more than {most_bytes:,} characters")
            raise OverflowError
        return inside.replace(sought, put)

    connection.create_function("replace", 3, replace, deterministic=True)
    connection.create_function("instr", 2, _instr, deterministic=True)
    for name, strip in (("trim", str.strip), ("ltrim", str.lstrip), ("rtrim", str.rstrip)):
        connection.create_function(name, 2, _trimming(strip), deterministic=True)


def _instr(text: Value, part: Value) -> int | None:
    if text is None or part is None:
        return None
    if isinstance(text, bytes) and isinstance(part, bytes):
        return text.find(part) + 1
    return _text(text).find(_text(part)) + 1


def _trimming(strip: Callable[..., str]) -> Callable[[Value, Value], str | None]:
    def trim(text: Value, characters: Value) -> str | None:
        if text is None or characters is None:
            return None
        return strip(_text(text), "".join(set(_text(characters)))) if characters != "" else _text(text)

    return trim


def _text(value: Any) -> str:
    """Return what SQLite takes a value for where it needs a text."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, float):
        text = f"{value:.15g}"
        digits, exponent, power = text.partition("e")
        return (digits if "." in digits or not digits.lstrip("-").isdigit() else f"{digits}.0") + exponent + power
    return str(value)
