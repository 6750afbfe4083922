"""What is wrong with a graph: every finding with its place, told together before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ironflow_nb.errors import GraphInvalid
from ironflow_nb.graphs.compiler.positions import NOWHERE, DataPath, Position, SourceSpans, value_at

__all__ = ["CompilerFinding", "CompilerFindings", "DataPath", "Position", "dotted", "invalid"]


class CompilerFinding(NamedTuple):
    """Something that is wrong; `position` is known of what was read from a text."""

    path: DataPath
    message: str
    position: Position | None = None

    def __str__(self) -> str:
        where = "" if self.position is None else f"line {self.position.line}, column {self.position.column}: "
        return f"{where}{dotted(self.path)}: {self.message}" if self.path else f"{where}{self.message}"


def dotted(path: DataPath) -> str:
    """Return the path as people write it: ``nodes[0].http.url``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


class CompilerFindings:
    """Gathers what is wrong with one definition."""

    def __init__(self, data: Any = None, places: SourceSpans = NOWHERE, found: Iterable[CompilerFinding] = ()) -> None:
        self._data = data
        self._places = places
        self._found = list(found)
        self._spoiled = {each.path for each in self._found}

    @property
    def all(self) -> list[CompilerFinding]:
        """Each finding once, in the order of the definition."""
        return sorted(dict.fromkeys(self._found), key=lambda found: _rank(self._data, found))

    def add(self, path: DataPath, message: str) -> None:
        """Note what is wrong with the value at the path, or with the key if the path ends with a `Key`."""
        self._found.append(CompilerFinding(path, message, self._places.of(path)))

    def add_inside(self, path: DataPath, message: str, offset: int) -> None:
        """Note what is wrong with a character of the text that is at the path, and with what follows it."""
        position = self._places.of_character(path, value_at(self._data, path), offset)
        self._found.append(CompilerFinding(path, message, position))

    def line_of(self, path: DataPath) -> str:
        """Return in which line the path is, in words after a statement; nothing if that is not known."""
        position = self._places.of(path)
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


def invalid(name: str | None, findings: Iterable[CompilerFinding]) -> GraphInvalid:
    """Return the error that tells all findings; `name` is that of the graph, None if it is no graph yet."""
    told = tuple(findings)
    count = "1 thing is" if len(told) == 1 else f"{len(told)} things are"
    lines = "\n".join(f"  {found}" for found in told)
    what = "the text" if name is None else f"graph {name}"
    return GraphInvalid(f"{count} wrong with {what}:\n{lines}", name=name, findings=told)
