"""Sources of graphs: reads YAML 1.2 (JSON is a subset of it) or data of Python, and writes data as YAML."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path as FilePath
from typing import Any, Final

import msgspec

from ironflow_nb.errors import GraphInvalid
from ironflow_nb.graphs.compiler.compiler_findings import NOWHERE, CompilerFinding, DataPath, SourceSpans, invalid_graph
from ironflow_nb.graphs.compiler.yaml_composer import MOST_DEPTH, MOST_VALUES, compose_yaml, join_surrogates
from ironflow_nb.values.private_files import refuse_used

MOST_BYTES: Final = 5_000_000


class GraphSource(msgspec.Struct, frozen=True):
    """A definition as plain data, with the spans of its parts if it was read from a text.

    `findings` are errors that reading found: repeated keys, values that are not plain data. `base` is the folder of
    relative paths, the one of the graph's file.
    """

    data: Any
    spans: SourceSpans = NOWHERE
    text: str | None = None
    base: str | None = None
    findings: tuple[CompilerFinding, ...] = ()


def read_source(text_or_path: str | FilePath) -> GraphSource:
    """Read a definition from a text, or from a file.

    A text with several lines, or with a colon followed by a blank, is YAML. Any other text is a path.

    Raises:
        GraphInvalid: the text is not valid YAML or too large, or the file is not readable.
        FileNotFoundError: the file does not exist.
    """
    if isinstance(text_or_path, str) and _is_text(text_or_path):
        return parse_source(text_or_path)
    path = FilePath(text_or_path)
    return parse_source(content_of(path), str(path.resolve().parent))


def _is_text(text: str) -> bool:
    stripped = text.strip()
    has_sign = any(sign in text for sign in ("\n", "\r", ": ", ":\t"))
    return not stripped or has_sign or stripped.startswith(("{", "[", "#"))


def content_of(path: FilePath) -> str:
    """Return the text of a file.

    Raises:
        GraphInvalid: it is not readable, too large, or not a text.
        FileNotFoundError: it does not exist.
    """
    try:
        if path.exists() and not path.is_file():
            raise GraphInvalid(f"{path} is not a file; give the text of a graph, or the path of its file")
        refuse_used(path)
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise GraphInvalid(f"{path} has more than {MOST_BYTES} bytes, the limit of a graph")
        return content.decode("utf-8")
    except FileNotFoundError:
        message = "no such file; a YAML text would have several lines, or a colon followed by a blank"
        raise FileNotFoundError(2, message, str(path)) from None
    except UnicodeDecodeError as error:
        raise GraphInvalid(f"{path} is not a text in UTF-8: {error.reason} at byte {error.start}") from None
    except (OSError, ValueError) as error:  # no permission, a null character in the name
        if isinstance(error, GraphInvalid):
            raise
        raise GraphInvalid(f"{str(path)[:200]!r} can't be read: {error}") from None


def read_yaml(text: str) -> GraphSource:
    """Read data from YAML; unlike `parse_source`, findings are an error.

    Raises:
        GraphInvalid: the text is not valid YAML, too large, or has findings.
    """
    source = parse_source(text)
    if source.findings:
        raise invalid_graph(None, source.findings)
    return source


def parse_source(text: str, base: str | None = None) -> GraphSource:
    """Read a definition from a YAML text.

    Raises:
        GraphInvalid: the text is not valid YAML, or too large.
    """
    if len(text) > MOST_BYTES:
        raise GraphInvalid(f"the text has {len(text)} characters; the limit is {MOST_BYTES}")
    data, spans, findings = compose_yaml(text.removeprefix("\ufeff"))
    return GraphSource(data, spans, text, base, tuple(findings))


# -- data --------------------------------------------------------------------------------------------------------


def source_from_data(data: Any) -> GraphSource:
    """Copy a definition from data of Python; a value without a JSON type becomes a finding.

    Raises:
        GraphInvalid: the data is not a mapping, is nested too deep, or has too many values.
    """
    if not isinstance(data, Mapping):
        raise GraphInvalid(f"a graph is a mapping with graph: and nodes:, not {type(data).__name__}")
    copier = _DataCopier()
    return GraphSource(copier.plain(data, ()), findings=tuple(copier.findings))


def with_value(source: GraphSource, path: DataPath, value: Any) -> GraphSource:
    """Return the definition with a value added at the path: a top-level key, or ``("nodes", n)`` to append a node.

    Raises:
        GraphInvalid: the value is nested too deep, or has too many values.
    """
    copier = _DataCopier()
    plain = copier.plain(value, path)
    data = dict(source.data)
    if len(path) == 1:
        data[str(path[0])] = plain
    else:
        data["nodes"] = [*data["nodes"], plain]
    remaining = tuple(found for found in source.findings if found.path[: len(path)] != path)
    return GraphSource(data, base=source.base, findings=(*remaining, *copier.findings))


class _DataCopier:
    """Copies data as JSON types, so that later changes of the caller's data have no effect."""

    def __init__(self) -> None:
        self.findings: list[CompilerFinding] = []
        self._n_values = 0

    def plain(self, value: Any, path: DataPath) -> Any:
        self._n_values += 1
        if len(path) > MOST_DEPTH or self._n_values > MOST_VALUES:
            raise GraphInvalid(f"the graph is nested deeper than {MOST_DEPTH}, or has more than {MOST_VALUES} values")
        match value:
            case None | bool():
                return value
            case str():
                return self._text(value, path)
            case int():
                return int(value)
            case float():
                return self._number(float(value), path)
            case Mapping():
                return self._mapping(value, path)
            case list() | tuple():
                return [self.plain(each, (*path, number)) for number, each in enumerate(value)]
            case _:
                self._refuse(path, f"{_with_article(type(value).__name__)} has no JSON form; pass it as input")
                return None

    def _text(self, value: str, path: DataPath) -> str:
        try:
            return join_surrogates(str.__str__(value))  # the value of an enumeration member, not its name
        except ValueError as error:
            self._refuse(path, str(error))
            return ""

    def _number(self, value: float, path: DataPath) -> float | None:
        if math.isfinite(value):
            return value
        self._refuse(path, f"{value} is not a number of JSON")
        return None

    def _mapping(self, value: Mapping[Any, Any], path: DataPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, each in value.items():
            text = _key_text(key)
            if text is None:
                self._refuse(path, f"a key must be a text, not {_with_article(type(key).__name__)}")
            elif text in found:
                self._refuse((*path, text), f"{text} is repeated: as a text and as {_with_article(type(key).__name__)}")
            else:
                found[self._text(text, path)] = self.plain(each, (*path, text))
        return found

    def _refuse(self, path: DataPath, message: str) -> None:
        self.findings.append(CompilerFinding(path, message))


def _key_text(key: Any) -> str | None:
    """Return a key as YAML would have it; None if it can't be a key."""
    match key:
        case str():
            return str.__str__(key)
        case None | bool() | int() | float():
            return msgspec.json.encode(key).decode() if not isinstance(key, int) or isinstance(key, bool) else str(key)
        case _:
            return None


def _with_article(noun: str) -> str:
    return f"an {noun}" if noun[:1] in "aeiouAEIOU" else f"a {noun}"


_PLAIN_TEXT: Final = re.compile(r"[A-Za-z_/][A-Za-z0-9_./=+()-]*(?: [A-Za-z0-9_./=+()-]+)*")
_WORDS: Final = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
"""Words that a YAML reader of some version does not read as text."""

_UNPRINTABLE: Final = re.compile(
    "[^\\t\\n\\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_LONGEST_PLAIN: Final = 100
_LONGEST_KEY: Final = 1000
"""Longer keys are written in explicit form, on a line without their value."""


def write_yaml(data: Any) -> str:
    """Return data as YAML in its own order. A text that any reader could take for another type is quoted."""
    lines: list[str] = []
    _add_block(lines, data, 0)
    return "\n".join(lines) + "\n"


def _add_block(lines: list[str], value: Any, indent: int) -> None:
    """Add the lines of a value that starts on its own line."""
    pad = " " * indent
    match value:
        case Mapping() if value:
            for key, each in value.items():
                name = _text_scalar(str(key))
                if len(name) > _LONGEST_KEY:
                    lines.append(f"{pad}? {name}")
                    name = ""
                _add_entry(lines, f"{pad}{name}:", each, indent)
        case list() | tuple() if value:
            for each in value:
                _add_item(lines, each, indent)
        case _:
            lines.append(pad + _inline(value))


def _add_entry(lines: list[str], head: str, value: Any, indent: int) -> None:
    if isinstance(value, str) and _fits_block(value):
        _add_text(lines, head, value, indent + 2)
    elif value and isinstance(value, Mapping | list | tuple):
        lines.append(head)
        _add_block(lines, value, indent + 2 if isinstance(value, Mapping) else indent)
    else:
        lines.append(f"{head} {_inline(value)}")


def _add_item(lines: list[str], value: Any, indent: int) -> None:
    pad = " " * indent
    if isinstance(value, str) and _fits_block(value):
        _add_text(lines, f"{pad}-", value, indent + 2)
        return
    first = len(lines)
    _add_block(lines, value, indent + 2)
    lines[first] = f"{pad}- {lines[first][indent + 2 :]}"


def _inline(value: Any) -> str:
    match value:
        case str():
            return _text_scalar(value)
        case Mapping():
            return "{}"
        case list() | tuple():
            return "[]"
        case None | bool() | int() | float():
            return json.dumps(value, allow_nan=False)
        case _:
            raise TypeError(f"a {type(value).__name__} is not plain data")


def _text_scalar(text: str) -> str:
    """Return a text as a scalar that every reader reads as text."""
    if _PLAIN_TEXT.fullmatch(text) and text.lower() not in _WORDS and len(text) < _LONGEST_PLAIN:
        return text
    return _UNPRINTABLE.sub(_escape, json.dumps(text, ensure_ascii=False))


def _escape(found: re.Match[str]) -> str:
    number = ord(found.group())
    return f"\\U{number:08X}" if number > 0xFFFF else f"\\u{number:04X}"


def _fits_block(text: str) -> bool:
    """Return True if the text can be written as a literal block (``|``)."""
    body = text.removesuffix("\n")
    return (
        "\n" in body
        and not body.endswith("\n")
        and not body[0].isspace()
        and "\r" not in body
        and not _UNPRINTABLE.search(body)
    )


def _add_text(lines: list[str], head: str, text: str, indent: int) -> None:
    lines.append(f"{head} {'|' if text.endswith(chr(10)) else '|-'}")
    lines += [f"{' ' * indent}{line}" if line else "" for line in text.removesuffix("\n").split("\n")]


def keys_as_data(keys: Mapping[str, Any], functions: dict[str, Callable[..., Any]]) -> dict[str, Any]:
    """Return the keys of `Graph.node` as data of the format. Functions become names, which are added to `functions`."""
    return {str(key).rstrip("_"): _value_as_data(value, functions) for key, value in keys.items()}


def _value_as_data(value: Any, functions: dict[str, Callable[..., Any]]) -> Any:
    match value:
        case Mapping():
            return keys_as_data(value, functions)
        case list() | tuple():
            return [_value_as_data(each, functions) for each in value]
        case _ if callable(value):
            name = str(getattr(value, "name", None) or getattr(value, "__name__", "function"))
            short = name.rpartition(".")[2]
            functions[short] = value
            return short
        case _:
            return value
