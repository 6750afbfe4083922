"""Where things stand in a text: values, keys, and single characters of a value however it is quoted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from ironflow_nb.errors import GraphInvalid

DataPath: TypeAlias = tuple[str | int, ...]
"""Keys and numbers from the top of a definition down to a place in it."""

BLOCK_STYLES: Final = frozenset({"|", ">"})

_ESCAPED: Final = {"x": 4, "u": 6, "U": 10}
"""How long an escape of this letter is in all; others have two characters."""

_PAIR: Final = re.compile(r"\\u[dD][89abAB]..\\u[dD][c-fC-F]..")
"""Two escapes of JSON for one character."""

_ESCAPED_BLANKS: Final = frozenset("tnrvfNLP_ \t\n\r")
"""Letters of escapes, of two characters, that stand for a blank, or for nothing."""


class Key(str):
    """The last part of the path of what is wrong with a key itself, and not with its value."""

    __slots__ = ()


class Position(NamedTuple):
    """A place in a text, counted from 1."""

    line: int
    column: int


class TextSpan(NamedTuple):
    """From which character to which a value or key reaches, where that begins, and how it is quoted.

    Lines and columns are counted from 0; `style` is empty for what is not quoted.
    """

    start: int
    end: int
    line: int
    column: int
    style: str = ""

    @property
    def position(self) -> Position:
        """Where it begins."""
        return Position(self.line + 1, self.column + 1)


class SourceSpans(msgspec.Struct, frozen=True):
    """The places of a whole text, by path: of the values, and of the keys that stand before them."""

    text: str = ""
    values: dict[DataPath, TextSpan] = {}
    keys: dict[DataPath, TextSpan] = {}

    def of(self, path: DataPath) -> Position | None:
        """Return where the value at the path is, or the nearest one around it; of a `Key` where that is."""
        if path and isinstance(path[-1], Key) and path in self.keys:
            return self.keys[path].position
        while path and path not in self.values:
            path = path[:-1]
        place = self.values.get(path)
        return None if place is None else place.position

    def position_of_character(self, path: DataPath, value: Any, offset: int) -> Position | None:
        """Return where a character of the text that is at the path stands."""
        place = self.values.get(path)
        if place is None or not isinstance(value, str):
            return self.of(path)
        written = self.text[place.start : place.end]
        begun = _offset_in(written, place.style, value, offset)
        before = written[:begun]
        n_lines = before.count("\n")
        column = len(before) - before.rfind("\n") - 1 if n_lines else place.column + len(before)
        return Position(place.line + n_lines + 1, column + 1)


def _offset_in(written: str, style: str, value: str, offset: int) -> int:
    """Return where in what is written the character stands.

    Quoting folds lines and takes indentation away, so blanks may differ; all other characters are there in their order.
    """
    blanks = offset - len(value[:offset].rstrip())
    n_before = sum(1 for character in value[: offset - blanks] if not character.isspace())
    at = _content_start(written, style)
    end = at
    while at < len(written) and n_before:
        length, is_blank = _unit(written, at, style)
        at += length
        if not is_blank:
            n_before -= 1
            end = at
    if offset < len(value) and not value[offset].isspace():  # over the blanks to the character itself
        while at < len(written) and _unit(written, at, style)[1]:
            at += _unit(written, at, style)[0]
        return at
    return end + blanks


def _content_start(written: str, style: str) -> int:
    """Return where the first character of the value may stand: behind an anchor, a tag, a quote, a line of its own."""
    at = 0
    while written[at : at + 1] in {"&", "!"}:
        while at < len(written) and not written[at].isspace():
            at += 1
        while at < len(written) and written[at].isspace():
            at += 1
    if style in BLOCK_STYLES:
        return written.find("\n", at) + 1
    return at + len(style)


def _unit(written: str, at: int, style: str) -> tuple[int, bool]:
    """Return how many characters stand there for one of the value, and whether that is a blank."""
    character = written[at]
    if style == '"' and character == "\\":
        letter = written[at + 1 : at + 2]
        length = _ESCAPED.get(letter, 2) * (2 if _PAIR.match(written, at) else 1)
        digits = written[at + 2 : at + _ESCAPED.get(letter, 2)]
        is_blank = chr(int(digits, 16)).isspace() if digits else letter in _ESCAPED_BLANKS
        return length, is_blank
    if style == "'" and written[at : at + 2] == "''":
        return 2, False
    return 1, character.isspace()


NOWHERE: Final = SourceSpans()
"""The places of what was not read from a text."""


def value_at(data: Any, path: DataPath) -> Any:
    """Return what is at the path; None where nothing is."""
    for part in path:
        if isinstance(data, Mapping):
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            return None
    return data


class CompilerFinding(NamedTuple):
    """Something that is wrong; `position` is known of what was read from a text."""

    path: DataPath
    message: str
    position: Position | None = None

    def __str__(self) -> str:
        where = "" if self.position is None else f"line {self.position.line}, column {self.position.column}: "
        return f"{where}{format_path(self.path)}: {self.message}" if self.path else f"{where}{self.message}"


def format_path(path: DataPath) -> str:
    """Return the path as people write it: ``nodes[0].http.url``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


class CompilerFindings:
    """Gathers what is wrong with one definition."""

    def __init__(self, data: Any = None, spans: SourceSpans = NOWHERE, found: Iterable[CompilerFinding] = ()) -> None:
        self._data = data
        self._spans = spans
        self._found = list(found)
        self._spoiled = {each.path for each in self._found}

    @property
    def all(self) -> list[CompilerFinding]:
        """Each finding once, in the order of the definition."""
        return sorted(dict.fromkeys(self._found), key=lambda found: _rank(self._data, found))

    def add(self, path: DataPath, message: str) -> None:
        """Note what is wrong with the value at the path, or with the key if the path ends with a `Key`."""
        self._found.append(CompilerFinding(path, message, self._spans.of(path)))

    def add_inside(self, path: DataPath, message: str, offset: int) -> None:
        """Note what is wrong with a character of the text that is at the path, and with what follows it."""
        position = self._spans.position_of_character(path, value_at(self._data, path), offset)
        self._found.append(CompilerFinding(path, message, position))

    def line_of(self, path: DataPath) -> str:
        """Return in which line the path is, in words after a statement; nothing if that is not known."""
        position = self._spans.of(path)
        return "" if position is None else f" in line {position.line}"

    def is_spoiled(self, path: DataPath) -> bool:
        """Tell whether what is at the path could not be read, so that what else is said of it says nothing."""
        return path in self._spoiled


def _rank(data: Any, found: CompilerFinding) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return what findings are sorted by: line and column, and without them the order that the data have."""
    return (found.position or (), () if found.position else tuple(_order(data, found.path)))


def _order(data: Any, path: DataPath) -> Iterable[int]:
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
    """Return the error that tells all findings; `name` is that of the graph, None if it is no graph yet."""
    told = tuple(findings)
    count = "1 thing is" if len(told) == 1 else f"{len(told)} things are"
    lines = "\n".join(f"  {found}" for found in told)
    what = "the text" if name is None else f"graph {name}"
    return GraphInvalid(f"{count} wrong with {what}:\n{lines}", name=name, findings=told)
