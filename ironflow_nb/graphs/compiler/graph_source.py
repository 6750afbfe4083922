"""Reading definitions: from YAML 1.2, of which JSON is a part, or from data of Python."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any, Final

import msgspec

from ironflow_nb.errors import GraphInvalid
from ironflow_nb.graphs.compiler.compiler_findings import NOWHERE, CompilerFinding, DataPath, SourceSpans, invalid_graph
from ironflow_nb.graphs.compiler.yaml_composer import MOST_DEPTH, MOST_VALUES, compose_yaml, join_surrogates
from ironflow_nb.values.private_files import refuse_used

MOST_BYTES: Final = 5_000_000


class GraphSource(msgspec.Struct, frozen=True):
    """A definition as plain data, with where each part of it stands, if it was read from a text.

    `findings` are what is wrong with it already: keys that are there twice, values that are not plain. `base` is the
    folder that its relative paths start from.
    """

    data: Any
    spans: SourceSpans = NOWHERE
    text: str | None = None
    base: str | None = None
    findings: tuple[CompilerFinding, ...] = ()


def read_source(text_or_path: str | FilePath) -> GraphSource:
    """Read a definition from a text, or from the file of a path.

    A text of several lines, or with a colon followed by a blank, is YAML itself; all else is a path.

    Raises:
        GraphInvalid: it is no YAML, too large, or no file.
        FileNotFoundError: it is a path, and there is no such file.
    """
    if isinstance(text_or_path, str) and _is_text(text_or_path):
        return parse_source(text_or_path)
    path = FilePath(text_or_path)
    return parse_source(_content(path), str(path.resolve().parent))


def _is_text(text: str) -> bool:
    stripped = text.strip()
    has_sign = any(sign in text for sign in ("\n", "\r", ": ", ":\t"))
    return not stripped or has_sign or stripped.startswith(("{", "[", "#"))


def _content(path: FilePath) -> str:
    try:
        if path.exists() and not path.is_file():
            raise GraphInvalid(f"{path} is no file; a graph is a text, or the path of its file")
        refuse_used(path)
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise GraphInvalid(f"{path} is larger than {MOST_BYTES} bytes; a graph is not")
        return content.decode("utf-8")
    except FileNotFoundError:
        message = "no such file, and a text would have several lines, or a colon followed by a blank"
        raise FileNotFoundError(2, message, str(path)) from None
    except UnicodeDecodeError as error:
        raise GraphInvalid(f"{path} is no text in UTF-8: {error.reason} at byte {error.start}") from None
    except (OSError, ValueError) as error:  # a folder of somebody else, a name with a null character in it
        if isinstance(error, GraphInvalid):
            raise
        raise GraphInvalid(f"{str(path)[:200]!r} can't be read: {error}") from None


def read_yaml(text: str) -> GraphSource:
    """Read data from YAML.

    Raises:
        GraphInvalid: it is no YAML, too large, or says something twice.
    """
    source = parse_source(text)
    if source.findings:
        raise invalid_graph(None, source.findings)
    return source


def parse_source(text: str, base: str | None = None) -> GraphSource:
    """Read a definition from a text, whatever it looks like.

    Raises:
        GraphInvalid: it is no YAML, or too large.
    """
    if len(text) > MOST_BYTES:
        raise GraphInvalid(f"the text has {len(text)} characters; {MOST_BYTES} are the most")
    data, spans, findings = compose_yaml(text.removeprefix("\ufeff"))
    return GraphSource(data, spans, text, base, tuple(findings))


# -- data --------------------------------------------------------------------------------------------------------


def source_from_data(data: Any) -> GraphSource:
    """Take a definition that is data already; what JSON has not is a finding of it.

    Raises:
        GraphInvalid: it is no mapping, or without end.
    """
    if not isinstance(data, Mapping):
        raise GraphInvalid(f"a graph is a mapping with graph: and nodes:, not {type(data).__name__}")
    copying = _Copying()
    return GraphSource(copying.plain(data, ()), findings=tuple(copying.findings))


def with_value(source: GraphSource, path: DataPath, value: Any) -> GraphSource:
    """Return the definition with another value at the path: a key of its own, or a number in its list of nodes.

    Raises:
        GraphInvalid: the value is without end.
    """
    copying = _Copying()
    plain = copying.plain(value, path)
    data = dict(source.data)
    if len(path) == 1:
        data[str(path[0])] = plain
    else:
        data["nodes"] = [*data["nodes"], plain]
    kept = tuple(found for found in source.findings if found.path[: len(path)] != path)
    return GraphSource(data, base=source.base, findings=(*kept, *copying.findings))


class _Copying:
    """Copies data, so that nobody changes them afterwards, as what JSON has."""

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
                self._refuse(path, f"{_article(type(value).__name__)} is nothing that JSON has; pass it as input")
                return None

    def _text(self, value: str, path: DataPath) -> str:
        try:
            return join_surrogates(str.__str__(value))  # of a member of an enumeration what it stands for
        except ValueError as error:
            self._refuse(path, str(error))
            return ""

    def _number(self, value: float, path: DataPath) -> float | None:
        if math.isfinite(value):
            return value
        self._refuse(path, f"{value} is no number that JSON has")
        return None

    def _mapping(self, value: Mapping[Any, Any], path: DataPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, each in value.items():
            text = _key(key)
            if text is None:
                self._refuse(path, f"a key is a text, not {_article(type(key).__name__)}")
            elif text in found:
                self._refuse((*path, text), f"{text} is there twice, as a text and as {_article(type(key).__name__)}")
            else:
                found[self._text(text, path)] = self.plain(each, (*path, text))
        return found

    def _refuse(self, path: DataPath, message: str) -> None:
        self.findings.append(CompilerFinding(path, message))


def _key(key: Any) -> str | None:
    """Return a key as it would stand in YAML; None if it can't."""
    match key:
        case str():
            return str.__str__(key)
        case None | bool() | int() | float():
            return msgspec.json.encode(key).decode() if not isinstance(key, int) or isinstance(key, bool) else str(key)
        case _:
            return None


def _article(noun: str) -> str:
    return f"an {noun}" if noun[:1] in "aeiouAEIOU" else f"a {noun}"


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


def keys_as_data(keys: Mapping[str, Any], functions: dict[str, Callable[..., Any]]) -> dict[str, Any]:
    """Return the keys of a node as the format has them; functions become names, which are noted in `functions`."""
    return {str(key).rstrip("_"): _named(value, functions) for key, value in keys.items()}


def _named(value: Any, functions: dict[str, Callable[..., Any]]) -> Any:
    match value:
        case Mapping():
            return keys_as_data(value, functions)
        case list() | tuple():
            return [_named(each, functions) for each in value]
        case _ if callable(value):
            name = str(getattr(value, "name", None) or getattr(value, "__name__", "function"))
            short = name.rpartition(".")[2]
            functions[short] = value
            return short
        case _:
            return value
