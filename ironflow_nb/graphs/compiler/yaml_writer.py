"""Writing plain data as YAML that means the same to every reader: what could be anything else than text is quoted.

What Python code writes of a graph, as the format has it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

_SAFE: Final = re.compile(r"[A-Za-z_/][A-Za-z0-9_./=+()-]*(?: [A-Za-z0-9_./=+()-]+)*")
_WORDS: Final = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
"""What some reader of some version takes for something else than a text."""

_UNPRINTABLE: Final = re.compile(
    "[^\\t\\n\\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_LONGEST_PLAIN: Final = 100
_LONGEST_KEY: Final = 1000
"""A longer key does not stand in one line with its value."""


def write_yaml(data: Any) -> str:
    """Return data as YAML, in the order that it has."""
    lines = list(_block(data, 0))
    return "\n".join(lines) + "\n"


def _block(value: Any, indent: int) -> Iterator[str]:
    """Yield the lines of a value that begins a line of its own."""
    pad = " " * indent
    match value:
        case Mapping() if value:
            for key, each in value.items():
                name = _scalar(str(key))
                if len(name) > _LONGEST_KEY:
                    yield f"{pad}? {name}"
                    yield from _entry(f"{pad}:", each, indent)
                else:
                    yield from _entry(f"{pad}{name}:", each, indent)
        case list() | tuple() if value:
            for each in value:
                yield from _item(each, indent)
        case _:
            yield pad + _flat(value)


def _entry(head: str, value: Any, indent: int) -> Iterator[str]:
    if isinstance(value, str) and _is_literal(value):
        yield from _literal(head, value, indent + 2)
    elif value and isinstance(value, Mapping | list | tuple):
        yield head
        yield from _block(value, indent + 2 if isinstance(value, Mapping) else indent)
    else:
        yield f"{head} {_flat(value)}"


def _item(value: Any, indent: int) -> Iterator[str]:
    pad = " " * indent
    if isinstance(value, str) and _is_literal(value):
        yield from _literal(f"{pad}-", value, indent + 2)
        return
    first, *rest = _block(value, indent + 2)
    yield f"{pad}- {first[indent + 2 :]}"
    yield from rest


def _flat(value: Any) -> str:
    match value:
        case str():
            return _scalar(value)
        case Mapping():
            return "{}"
        case list() | tuple():
            return "[]"
        case None | bool() | int() | float():
            return json.dumps(value, allow_nan=False)
        case _:
            raise TypeError(f"a {type(value).__name__} is no plain data")


def _scalar(text: str) -> str:
    """Return a text so that it stays one, in any place."""
    if _SAFE.fullmatch(text) and text.lower() not in _WORDS and len(text) < _LONGEST_PLAIN:
        return text
    return _UNPRINTABLE.sub(_escaped, json.dumps(text, ensure_ascii=False))


def _escaped(found: re.Match[str]) -> str:
    number = ord(found.group())
    return f"\\U{number:08X}" if number > 0xFFFF else f"\\u{number:04X}"


def _is_literal(text: str) -> bool:
    """Tell whether the text can be written as lines, as people read it."""
    body = text.removesuffix("\n")
    return (
        "\n" in body
        and not body.endswith("\n")
        and not body[0].isspace()
        and "\r" not in body
        and not _UNPRINTABLE.search(body)
    )


def _literal(head: str, text: str, indent: int) -> Iterator[str]:
    yield f"{head} {'|' if text.endswith(chr(10)) else '|-'}"
    for line in text.removesuffix("\n").split("\n"):
        yield f"{' ' * indent}{line}" if line else ""


def as_written(keys: Mapping[str, Any], functions: dict[str, Callable[..., Any]]) -> dict[str, Any]:
    """Return the keys of a node as the format has them; functions become names, which are noted in `functions`."""
    return {str(key).rstrip("_"): _named(value, functions) for key, value in keys.items()}


def _named(value: Any, functions: dict[str, Callable[..., Any]]) -> Any:
    match value:
        case Mapping():
            return as_written(value, functions)
        case list() | tuple():
            return [_named(each, functions) for each in value]
        case _ if callable(value):
            name = str(getattr(value, "name", None) or getattr(value, "__name__", "function"))
            short = name.rpartition(".")[2]
            functions[short] = value
            return short
        case _:
            return value
