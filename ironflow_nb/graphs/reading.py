"""Reading definitions: YAML 1.2, of which JSON is a part, with the place of everything in it.

Aliases are counted as what they stand for, so that a small text can't become a large graph; a key that is there twice
is a finding; no tag makes an object.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any, Final

import msgspec

from ironflow_nb.errors import GraphInvalid
from ironflow_nb.graphs.findings import Finding, Findings, Path, Position, invalid

MOST_BYTES: Final = 5_000_000
MOST_VALUES: Final = 200_000
MOST_DEPTH: Final = 100

_BLOCK_STYLES: Final = frozenset({"|", ">"})


class Source(msgspec.Struct, frozen=True):
    """A definition as plain data, with where each part of it stands, if it was read from a text.

    `base` is the folder that its relative paths start from.
    """

    data: Any
    positions: dict[Path, Position] = {}
    text: str | None = None
    base: str | None = None


def read_source(text_or_path: str | FilePath) -> Source:
    """Read a definition from a text, or from the file of a path.

    A text of several lines, or with a colon followed by a blank, is YAML itself; all else is a path.

    Raises:
        GraphInvalid: it is no YAML, too large, or says something twice.
        FileNotFoundError: it is a path, and there is no such file.
    """
    if isinstance(text_or_path, FilePath) or not _is_text(text_or_path):
        path = FilePath(text_or_path)
        if path.stat().st_size > MOST_BYTES:
            raise GraphInvalid(f"{path} has {path.stat().st_size} bytes; a graph has {MOST_BYTES} at most")
        return read_text(path.read_text(encoding="utf-8"), base=str(path.resolve().parent))
    return read_text(text_or_path)


def _is_text(text: str) -> bool:
    return "\n" in text or ": " in text or text.lstrip().startswith(("{", "["))


def read_text(text: str, *, base: str | None = None) -> Source:
    """Read a definition from YAML.

    Raises:
        GraphInvalid: it is no YAML, too large, or says something twice.
    """
    if len(text) > MOST_BYTES:
        raise GraphInvalid(f"the graph has {len(text)} characters; {MOST_BYTES} are the most")
    yaml = _yaml()
    try:
        root = yaml.compose(io.StringIO(text))
    except RecursionError:
        raise GraphInvalid("the YAML is nested too deep") from None
    except Exception as error:  # noqa: BLE001 -- whatever the library says of a text that is no YAML
        raise _unreadable(error) from None
    if root is None:
        raise GraphInvalid("the graph is empty; it begins with graph: NAME, and has nodes:")
    reader = _Reader(yaml.constructor)
    data = reader.value(root, ())
    reader.findings.refuse("in this text")
    return Source(data, reader.positions, text, base)


def _yaml() -> Any:
    from ruamel.yaml import YAML  # noqa: PLC0415 -- only who reads a text waits for it

    return YAML(typ="safe", pure=True)


def _unreadable(error: Exception) -> GraphInvalid:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    position = None if mark is None else Position(mark.line + 1, mark.column + 1)
    problem = getattr(error, "problem", None) or str(error)
    context = getattr(error, "context", None)
    message = f"this is no YAML: {problem}" + (f", {context}" if context else "")
    return invalid("in this text", [Finding((), message, position)])


class _Reader:
    """Makes plain data of composed YAML; each alias is read, and counted, wherever it stands."""

    def __init__(self, constructor: Any) -> None:
        self._constructor = constructor
        self._n_values = 0
        self.positions: dict[Path, Position] = {}
        self.findings = Findings(self.positions)

    def value(self, node: Any, path: Path) -> Any:
        self._n_values += 1
        if self._n_values > MOST_VALUES or len(path) > MOST_DEPTH:
            raise GraphInvalid(
                f"the graph has more than {MOST_VALUES} values, or is nested deeper than {MOST_DEPTH}, with all its "
                "aliases written out; this is taken for an attack, or a mistake"
            )
        self.positions[path] = _start(node)
        kind = type(node).__name__
        if kind == "MappingNode":
            return self._mapping(node, path)
        if kind == "SequenceNode":
            return [self.value(item, (*path, number)) for number, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: Any, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in _pairs(node):
            key = key_node.value if type(key_node).__name__ == "ScalarNode" else None
            if not isinstance(key, str):
                self.positions[*path, "?"] = _start(key_node)
                self.findings.add((*path, "?"), "a key is a text, not a list or a mapping")
                continue
            inside = (*path, key)
            if key in found:
                self.positions[inside] = _start(key_node)
                self.findings.add(inside, f"{key} is there twice, first in line {_start(_first(node, key)).line}")
                continue
            found[key] = self.value(value_node, inside)
        return found

    def _scalar(self, node: Any, path: Path) -> Any:
        tag = str(node.tag)
        if tag.endswith((":str", ":timestamp")) or node.style in {"'", '"', *_BLOCK_STYLES}:
            return node.value
        if not tag.startswith("tag:yaml.org,2002:"):
            self.findings.add(path, f"the tag {tag} has no meaning in a graph")
            return None
        try:
            made: Any = self._constructor.construct_object(node, deep=True)
        except Exception as error:  # noqa: BLE001 -- of the library, for instance of !!int with a word behind it
            self.findings.add(path, f"{node.value!r} can't be read: {error}")
            return None
        if isinstance(made, float) and not math.isfinite(made):
            self.findings.add(path, f"{node.value} is no number that JSON has")
            return None
        is_plain = made is None or isinstance(made, bool | int | float | str)
        return made if is_plain else node.value


def _pairs(node: Any) -> Iterator[tuple[Any, Any]]:
    yield from node.value


def _first(node: Any, key: str) -> Any:
    return next(key_node for key_node, _ in node.value if key_node.value == key)


def _start(node: Any) -> Position:
    mark = node.start_mark
    is_quoted = getattr(node, "style", None) in {"'", '"'}
    if getattr(node, "style", None) in _BLOCK_STYLES:  # its text begins in the next line
        return Position(mark.line + 2, 1)
    return Position(mark.line + 1, mark.column + 1 + is_quoted)


def from_data(data: Any) -> Source:
    """Take a definition that is data already.

    Raises:
        GraphInvalid: it is no mapping of plain data.
    """
    if not isinstance(data, Mapping):
        raise GraphInvalid(f"a graph is a mapping with graph: and nodes:, not {type(data).__name__}")
    return Source(_plain(data, ()))


def _plain(value: Any, path: Path) -> Any:
    if len(path) > MOST_DEPTH:
        raise GraphInvalid(f"the graph is nested deeper than {MOST_DEPTH}")
    match value:
        case Mapping():
            return {str(key): _plain(each, (*path, str(key))) for key, each in value.items()}
        case list() | tuple():
            return [_plain(each, (*path, number)) for number, each in enumerate(value)]
        case _:
            return value


def write_yaml(data: Any) -> str:
    """Return data as YAML, in the order that it has."""
    from ruamel.yaml import YAML  # noqa: PLC0415

    yaml: Any = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.width = 100
    yaml.sort_base_mapping_type_on_output = False
    out = io.StringIO()
    yaml.dump(data, out)
    return out.getvalue()
