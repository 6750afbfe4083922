"""Findings of the compiler: each error of a graph with its path, and its line and column if it was read from a text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from ironflow_nb.errors import GraphInvalid
from ironflow_nb.errors import GraphPosition as Position

DataPath: TypeAlias = tuple[str | int, ...]
"""Keys and list indexes from the top of a definition down to a value."""

BLOCK_STYLES: Final = frozenset({"|", ">"})

_ESCAPED: Final = {"x": 4, "u": 6, "U": 10}
"""Length of an escape sequence by its letter; the others have two characters."""

_PAIR: Final = re.compile(r"\\u[dD][89abAB]..\\u[dD][c-fC-F]..")
"""Two JSON escapes for one character: a surrogate pair."""

_ESCAPED_BLANKS: Final = frozenset("tnrvfNLP_ \t\n\r")
"""Letters of two-character escapes for a blank, or for nothing (an escaped line break)."""


class Key(str):
    """The last part of a path that means the key itself, not its value."""

    __slots__ = ()


class TextSpan(NamedTuple):
    """The characters of a value or key in a text: first, end (exclusive), line and column of the first, quoting style.

    Lines and columns count from 0. `style` is YAML's indicator (a quote, ``|`` or ``>``), empty without quotes.
    """

    start: int
    end: int
    line: int
    column: int
    style: str = ""

    @property
    def position(self) -> Position:
        """The position of the first character."""
        return Position(self.line + 1, self.column + 1)


class SourceSpans(msgspec.Struct, frozen=True):
    """The spans of all values and keys of a text, by path."""

    text: str = ""
    values: dict[DataPath, TextSpan] = {}
    keys: dict[DataPath, TextSpan] = {}

    def position_of(self, path: DataPath) -> Position | None:
        """Return the position of the value at the path, of its nearest enclosing value, or of a `Key`."""
        if path and isinstance(path[-1], Key) and path in self.keys:
            return self.keys[path].position
        while path and path not in self.values:
            path = path[:-1]
        span = self.values.get(path)
        return None if span is None else span.position

    def position_of_character(self, path: DataPath, value: Any, offset: int) -> Position | None:
        """Return the position of a character in the text value at the path; `offset` counts in `value`."""
        span = self.values.get(path)
        if span is None or not isinstance(value, str):
            return self.position_of(path)
        source = self.text[span.start : span.end]
        before = source[: _source_offset(source, span.style, value, offset)]
        n_lines = before.count("\n")
        column = len(before) - before.rfind("\n") - 1 if n_lines else span.column + len(before)
        return Position(span.line + n_lines + 1, column + 1)


def _source_offset(source: str, style: str, value: str, offset: int) -> int:
    """Return the index in the source of the value's character at `offset`.

    Quoting folds lines and removes indentation, so blanks may differ. All other characters keep their order.
    """
    blanks = offset - len(value[:offset].rstrip())
    n_before = sum(1 for character in value[: offset - blanks] if not character.isspace())
    at = _content_start(source, style)
    end = at
    while at < len(source) and n_before:
        length, is_blank = _source_character(source, at, style)
        at += length
        if not is_blank:
            n_before -= 1
            end = at
    if offset < len(value) and not value[offset].isspace():  # skip the blanks before the character
        while at < len(source) and _source_character(source, at, style)[1]:
            at += _source_character(source, at, style)[0]
        return at
    return end + blanks


def _content_start(source: str, style: str) -> int:
    """Return the index of the value's first character: after anchor, tag, quote, or the line of a block indicator."""
    at = 0
    while source[at : at + 1] in {"&", "!"}:
        while at < len(source) and not source[at].isspace():
            at += 1
        while at < len(source) and source[at].isspace():
            at += 1
    if style in BLOCK_STYLES:
        return source.find("\n", at) + 1
    return at + len(style)


def _source_character(source: str, at: int, style: str) -> tuple[int, bool]:
    """Return the length of the source of one character of the value, and whether it is a blank."""
    character = source[at]
    if style == '"' and character == "\\":
        letter = source[at + 1 : at + 2]
        length = _ESCAPED.get(letter, 2) * (2 if _PAIR.match(source, at) else 1)
        digits = source[at + 2 : at + _ESCAPED.get(letter, 2)]
        is_blank = chr(int(digits, 16)).isspace() if digits else letter in _ESCAPED_BLANKS
        return length, is_blank
    if style == "'" and source[at : at + 2] == "''":
        return 2, False
    return 1, character.isspace()


NOWHERE: Final = SourceSpans()
"""The spans of data that was not read from a text."""


def value_at(data: Any, path: DataPath) -> Any:
    """Return the value at the path, or None."""
    for part in path:
        if isinstance(data, Mapping):
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            return None
    return data


class CompilerFinding(NamedTuple):
    """One error of a graph; `position` is None for data that was not read from a text."""

    path: DataPath
    message: str
    position: Position | None = None

    def __str__(self) -> str:
        where = "" if self.position is None else f"line {self.position.line}, column {self.position.column}: "
        return f"{where}{format_path(self.path)}: {self.message}" if self.path else f"{where}{self.message}"


def format_path(path: DataPath) -> str:
    """Return the path in dotted form: ``nodes[0].http.url``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


class CompilerFindings:
    """Collects the findings of one definition."""

    def __init__(self, data: Any = None, spans: SourceSpans = NOWHERE, found: Iterable[CompilerFinding] = ()) -> None:
        self._data = data
        self._spans = spans
        self._found = list(found)
        self._unreadable = {each.path for each in self._found}

    @property
    def all(self) -> list[CompilerFinding]:
        """The findings without duplicates, in the order of the definition."""
        return sorted(dict.fromkeys(self._found), key=lambda found: _sort_key(self._data, found))

    def add(self, path: DataPath, message: str) -> None:
        """Add an error of the value at the path, or of the key if the path ends with a `Key`."""
        self._found.append(CompilerFinding(path, message, self._spans.position_of(path)))

    def add_inside(self, path: DataPath, message: str, offset: int) -> None:
        """Add an error of the text at the path, positioned at the character `offset`."""
        position = self._spans.position_of_character(path, value_at(self._data, path), offset)
        self._found.append(CompilerFinding(path, message, position))

    def line_of(self, path: DataPath) -> str:
        """Return `` in line N`` of the value at the path for messages; empty if unknown."""
        position = self._spans.position_of(path)
        return "" if position is None else f" in line {position.line}"

    def is_unreadable(self, path: DataPath) -> bool:
        """Return True if the value at the path could not be read, so that further errors of it would mislead."""
        return path in self._unreadable


def _sort_key(data: Any, found: CompilerFinding) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the sort key of a finding: line and column, else the indexes of its path in the data."""
    return (found.position or (), () if found.position else tuple(_data_order(data, found.path)))


def _data_order(data: Any, path: DataPath) -> Iterable[int]:
    for part in path:
        if isinstance(part, int):
            yield part
            data = data[part] if isinstance(data, list) and part < len(data) else None
        elif isinstance(data, Mapping) and part in data:
            yield list(data).index(part)
            data = data[part]
        else:
            return


def invalid_graph(name: str | None, findings: Iterable[CompilerFinding]) -> GraphInvalid:
    """Return the error that lists all findings; `name` is None for a text that is not yet known to be a graph."""
    found = tuple(findings)
    count = "1 thing is" if len(found) == 1 else f"{len(found)} things are"
    lines = "\n".join(f"  {each}" for each in found)
    what = "the text" if name is None else f"graph {name}"
    return GraphInvalid(f"{count} wrong with {what}:\n{lines}", name=name, findings=found)
