"""Where the cursor is in the YAML of a graph that is not yet written to its end.

No YAML that is half there parses, so lines are read by their indentation, and braces and brackets one by one. What is
wrong before the cursor makes a wrong guess, and nothing worse.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

_WORD: Final = re.compile(r"[A-Za-z0-9_]*\Z")
_OWNER: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\.\Z")
_KEY: Final = re.compile(r"""(["']?)([A-Za-z0-9_.\-]+)\1\s*:(?=\s|\Z)""")
_DASH: Final = re.compile(r"-(\s+|\Z)")
_SCALAR: Final = re.compile(r"[A-Za-z0-9_.\-]+")
_BRACES: Final = {"{": False, "[": True}
_FLOW: Final = -1


@dataclass
class OpenContainer:
    """A mapping or list that is open at the cursor; `key` is that whose value is being written.

    `values` are the plain ones of a mapping by key, `ids` those of the nodes of a list, and `inputs` what the graph
    declares, if it is the mapping of that.
    """

    is_list: bool
    column: int
    values: dict[str, str] = field(default_factory=dict)
    ids: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    key: str | None = None


@dataclass(frozen=True)
class CursorPosition:
    """Where the cursor is: in which mappings and lists, before which beginning of a word.

    `is_key` says that a key is written there, and not a value; in an expression it is a field of the name `owner`.
    """

    frames: tuple[OpenContainer, ...]
    word: str
    is_key: bool
    is_expression: bool
    owner: str = ""


def place_at(text: str) -> CursorPosition:
    """Return the place at the end of the text."""
    *lines, last = text.split("\n")
    reader = _LineReader()
    for line in lines:
        reader.line(line)
    word = _WORD.search(last)
    assert word is not None  # at least nothing stands there
    reader.line(before := last[: word.start()], is_last=True)
    is_expression = before.rfind("{{") > before.rfind("}}")
    owner = _OWNER.search(before)
    return CursorPosition(tuple(reader.frames), word[0], reader.is_at_key, is_expression, owner[1] if owner else "")


class _LineReader:
    """Reads line after line; `frames` are open, the outermost first."""

    def __init__(self) -> None:
        self.frames = [OpenContainer(is_list=False, column=0)]
        self.is_at_key = True

    def line(self, line: str, *, is_last: bool = False) -> None:
        self.is_at_key = False
        rest = line.lstrip(" ")
        if self.frames[-1].column == _FLOW:
            self._flow(line)
            return
        if not is_last and (not rest or rest.startswith("#")):
            return
        column, is_item = len(line) - len(rest), False
        while (dash := _DASH.match(rest)) is not None:
            self._item(column, is_inner=is_item)
            column, rest, is_item = column + dash.end(), rest[dash.end() :], True
        key = _KEY.match(rest)
        if key is not None or not rest:
            self._mapping(column, is_item=is_item)
            self.is_at_key = key is None
        if key is not None:
            self._begin(key[2], rest[key.end() :])
            rest = rest[key.end() :]
        self._flow(rest)

    def _item(self, column: int, *, is_inner: bool) -> None:
        """Begin an item of the list in that column."""
        if not is_inner:
            self._close(lambda frame: frame.column > column)
        if not (self.frames[-1].is_list and self.frames[-1].column == column):
            self.frames.append(OpenContainer(is_list=True, column=column))

    def _mapping(self, column: int, *, is_item: bool) -> None:
        """Go on with the mapping in that column, or begin one."""
        if not is_item:
            self._close(lambda frame: frame.column > column or (frame.is_list and frame.column == column))
        if self.frames[-1].is_list or self.frames[-1].column < column:
            self.frames.append(OpenContainer(is_list=False, column=column))

    def _close(self, is_over: Callable[[OpenContainer], bool]) -> None:
        while len(self.frames) > 1 and is_over(self.frames[-1]):
            self.frames.pop()

    def _begin(self, key: str, value: str) -> None:
        """Note a key of the innermost mapping, and its value if that is a plain one."""
        frame = self.frames[-1]
        scalar = _SCALAR.match(value.strip(" \"'"))
        frame.key = key
        frame.values[key] = "" if scalar is None else scalar[0]
        if len(self.frames) == 2 and self.frames[0].key == "input":
            self.frames[0].inputs.append(key)
        if key == "id" and len(self.frames) > 1 and self.frames[-2].is_list:
            self.frames[-2].ids.append(frame.values[key])

    def _flow(self, text: str) -> None:
        """Read braces and brackets, and the keys in them."""
        position, quote = 0, ""
        while position < len(text):
            char, inside = text[position], self.frames[-1].column == _FLOW
            if quote:
                quote = "" if char == quote else quote
            elif char in "\"'":
                quote = char
            elif char in _BRACES and (inside or not text[:position].strip()):
                self.frames.append(OpenContainer(is_list=_BRACES[char], column=_FLOW))
            elif inside and char in "}]":
                self.frames.pop()
            elif inside and char == ",":
                self.frames[-1].key = None
            elif inside and not self.frames[-1].is_list and self.frames[-1].key is None:
                key = _KEY.match(text, position)
                if key is not None:
                    position = key.end() - 1
                    self._begin(key[2], re.split(r"[,}]", text[key.end() :], maxsplit=1)[0])
            position += 1
        frame = self.frames[-1]
        if frame.column == _FLOW:
            self.is_at_key = not quote and not frame.is_list and frame.key is None
