"""What is wrong with a graph: every finding with its place, told together before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeAlias

from ironflow_nb.errors import GraphInvalid

Path: TypeAlias = tuple[str | int, ...]
"""Keys and numbers from the top of a definition down to a place in it."""


class Position(NamedTuple):
    """A place in a text, counted from 1."""

    line: int
    column: int


class Finding(NamedTuple):
    """Something that is wrong; `position` is known of what was read from a text."""

    path: Path
    message: str
    position: Position | None = None

    def __str__(self) -> str:
        where = "" if self.position is None else f"line {self.position.line}, column {self.position.column}: "
        return f"{where}{dotted(self.path)}: {self.message}" if self.path else f"{where}{self.message}"


def dotted(path: Path) -> str:
    """Return the path as people write it: ``nodes[0].http.url``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


class Findings:
    """Gathers what is wrong with one definition."""

    def __init__(self, positions: Mapping[Path, Position] | None = None) -> None:
        self._positions = positions or {}
        self.all: list[Finding] = []

    def add(self, path: Path, message: str, *, offset: int = 0) -> None:
        """Note a finding; `offset` is that inside of a text at the path."""
        position = self._position(path)
        if position is not None and offset:
            position = Position(position.line, position.column + offset)
        self.all.append(Finding(path, message, position))

    def where(self, path: Path) -> str:
        """Return where the path is, in words after a statement; nothing if that is not known."""
        position = self._position(path)
        return "" if position is None else f", in line {position.line}"

    def _position(self, path: Path) -> Position | None:
        """Return where the path is, or the nearest place around it that is known."""
        while path and path not in self._positions:
            path = path[:-1]
        return self._positions.get(path)

    def refuse(self, name: str) -> None:
        """Raise what was found, if anything was.

        Raises:
            GraphInvalid: with all findings, in the order of the text.
        """
        if self.all:
            raise invalid(name, self.all)


def invalid(name: str, findings: Iterable[Finding]) -> GraphInvalid:
    """Return the error that tells all findings, in the order of the text."""
    ordered = sorted(set(findings), key=lambda found: found.position or Position(0, 0))
    count = "1 thing is" if len(ordered) == 1 else f"{len(ordered)} things are"
    lines = "\n".join(f"  {found}" for found in ordered)
    return GraphInvalid(f"{count} wrong with graph {name}:\n{lines}", name=name, findings=tuple(ordered))
