"""From the events of a YAML parser to plain data with the place of everything.

Aliases are counted as what they stand for, so that a small text can't become a large graph; a key that is there twice
is a finding; no tag makes an object.

What the texts of YAML 1.2 mean that are not quoted: its core schema, and nothing beyond.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from ironflow_nb.errors import GraphInvalid
from ironflow_nb.graphs.compiler.compiler_findings import (
    CompilerFinding,
    DataPath,
    Position,
    SourceSpans,
    TextSpan,
    invalid_graph,
)

NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
BOOLEANS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}

_INTEGER: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_BASES: Final = {"0o": 8, "0x": 16}

PREFIX: Final = "tag:yaml.org,2002:"

MOST_DIGITS: Final = 1000
"""A whole number has no more; Python would need long for it, or refuse."""


def join_surrogates(text: str) -> str:
    """Return the text with the surrogate pairs that JSON writes for a character beyond U+FFFF as that character.

    Raises:
        ValueError: there is half of a pair in it.
    """
    if text.isascii() or not _SURROGATE.search(text):
        return text
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise ValueError("the text has half of a character in it (a lone surrogate)") from None


def plain_value(text: str) -> Any:
    """Return what a text without quotes means.

    Raises:
        ValueError: it is a number that JSON has not, or too long.
    """
    if text in NULLS:
        return None
    if text in BOOLEANS:
        return BOOLEANS[text]
    if text[0] not in "+-.0123456789":
        return text
    if _INTEGER.fullmatch(text):
        if len(text) > MOST_DIGITS:
            raise ValueError(f"a number has {MOST_DIGITS} digits at most, not {len(text)}")
        base = _BASES.get(text[:2])
        return int(text[2:], base) if base else int(text)
    if _FLOAT.fullmatch(text):
        number = float(text.replace(".inf", "inf").replace(".nan", "nan")) if text[-1] not in "fFnN" else math.nan
        if not math.isfinite(number):
            raise ValueError(f"{text[:40]} is no number that JSON has")
        return number
    return text


def tagged_value(text: str, tag: str) -> Any:
    """Return what a text with a tag means.

    Raises:
        ValueError: it is not what the tag says, or the tag makes more of it than plain data.
    """
    if tag in {"!", f"{PREFIX}str"}:
        return text
    wanted = _TAGGED.get(tag.removeprefix(PREFIX)) if tag.startswith(PREFIX) else None
    if wanted is None:
        raise ValueError(f"the tag {_format_tag(tag)} is refused: values are plain data, as JSON has them")
    value = plain_value(text)
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        raise ValueError(f"the tag {_format_tag(tag)} does not fit this value")
    return value


_TAGGED: Final = {"int": int, "float": float, "bool": bool, "null": type(None)}


def _format_tag(tag: str) -> str:
    """Return a tag as people write it."""
    return f"!!{tag.removeprefix(PREFIX)}" if tag.startswith(PREFIX) else tag


MOST_VALUES: Final = 500_000
MOST_DEPTH: Final = 100

_UNQUOTED: Final = re.compile(r"(?:^|[:\-\[,])\s*\{\{")
_QUOTED: Final = 'a text that begins with {{ is to be quoted: "{{ ... }}"'

_COLLECTIONS: Final = {"Mapping": f"{PREFIX}map", "Sequence": f"{PREFIX}seq"}


def compose_yaml(text: str) -> tuple[Any, SourceSpans, list[CompilerFinding]]:
    """Return the data of a YAML text, the places of it, and what is wrong with it that leaves the rest readable.

    Raises:
        GraphInvalid: it is no YAML, or larger than anything that people write.
    """
    root = _tree(text)
    if root is None:
        raise GraphInvalid("the text is empty; a graph begins with graph: NAME, and has nodes:")
    reader = _TreeReader(text)
    return reader.value(root, ()), reader.spans, reader.findings


# -- the tree ----------------------------------------------------------------------------------------------------


class _Node:
    """A part of the text. Keys and values of a mapping are its children in turn; an alias has a `target`."""

    __slots__ = ("children", "event", "kind", "place", "target")

    def __init__(self, kind: str, event: Any, place: TextSpan) -> None:
        self.kind = kind
        self.event = event
        self.place = place
        self.children: list[_Node] = []
        self.target: _Node | None = None


def _tree(text: str) -> _Node | None:
    """Return the root of the first and only document; None if there is none."""
    root: _Node | None = None
    around: list[_Node] = []
    anchors: dict[str, _Node] = {}
    for event in _events(text):
        name = type(event).__name__.removesuffix("Event")
        match name:
            case "DocumentStart":
                _check_document(event, is_first=root is None)
            case "MappingEnd" | "SequenceEnd":
                around.pop()
            case "MappingStart" | "SequenceStart" | "Scalar" | "Alias":
                node = _Node(name.removesuffix("Start"), event, _place_of(event))
                if name == "Alias":
                    node.target = _target(node, anchors, around)
                elif event.anchor is not None:
                    anchors[event.anchor] = node
                if around:
                    around[-1].children.append(node)
                else:
                    root = node
                if name.endswith("Start"):
                    around.append(node)
                    if len(around) > MOST_DEPTH:
                        raise _wrong(f"this is nested deeper than {MOST_DEPTH}", node.place.position)
    return root


def _events(text: str) -> Iterator[Any]:
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.Scanner = _scanner()
    try:
        yield from yaml.parse(text)
    except Exception as error:  # noqa: BLE001 -- whatever the library says of a text that is no YAML
        raise _unreadable(error, text) from None


@cache
def _scanner() -> Any:
    from ruamel.yaml.scanner import Scanner

    class _Scanner(Scanner):
        def scan_to_next_token(self) -> None:
            """Go over blanks, and over tabs behind the first word of a line, where YAML 1.2 has them for blanks."""
            super().scan_to_next_token()
            while self.reader.peek() == "\t" and not self.allow_simple_key:
                self.reader.forward()
                super().scan_to_next_token()

    return _Scanner


def _unreadable(error: Exception, text: str) -> GraphInvalid:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None)
    index = getattr(error, "position", None)
    if mark is None and isinstance(index, int):
        before = text[:index]
        position: Position | None = Position(before.count("\n") + 1, index - before.rfind("\n"))
        problem = f"the character U+{ord(text[index]):04X} has no place in a text"
    else:
        position = None if mark is None else Position(mark.line + 1, mark.column + 1)
    said = str(problem or type(error).__name__).replace("'<stream end>'", "the end of the text")
    context = getattr(error, "context", None)
    hint = "; blocks are indented with blanks, not with tabs" if r"'\t'" in said else ""
    if position is not None and _UNQUOTED.search("".join(text.split("\n")[position.line - 1 : position.line])):
        hint = f"; {_QUOTED}"
    return _wrong(f"this is no YAML: {said}" + (f", {context}" if context else "") + hint, position)


def _wrong(message: str, position: Position | None) -> GraphInvalid:
    return invalid_graph(None, [CompilerFinding((), message, position)])


def _check_document(event: Any, *, is_first: bool) -> None:
    position = Position(event.start_mark.line + 1, event.start_mark.column + 1)
    if not is_first:
        raise _wrong("a second document begins here; a text is one", position)
    if event.version not in {None, (1, 2)}:
        raise _wrong("the text says that it is of another version of YAML; this is read as YAML 1.2", position)


def _place_of(event: Any) -> TextSpan:
    start, end = event.start_mark, event.end_mark
    return TextSpan(start.index, end.index, start.line, start.column, getattr(event, "style", None) or "")


def _target(alias: _Node, anchors: dict[str, _Node], around: list[_Node]) -> _Node:
    name, position = alias.event.anchor, alias.place.position
    target = anchors.get(name)
    if target is None:
        raise _wrong(f"*{name} stands for nothing: there is no &{name} before it", position)
    if any(each is target for each in around):
        raise _wrong(f"*{name} stands inside of what it stands for", position)
    return target


# -- the data ----------------------------------------------------------------------------------------------------


class _TreeReader:
    """Makes plain data of the tree; what an alias stands for is read, and counted, wherever it stands."""

    def __init__(self, text: str) -> None:
        self._n_values = 0
        self.spans = SourceSpans(text=text, values={}, keys={})
        self.findings: list[CompilerFinding] = []

    def value(self, node: _Node, path: DataPath, alias: TextSpan | None = None) -> Any:
        if node.target is not None:
            return self.value(node.target, path, alias or node.place)
        self._n_values += 1
        if self._n_values > MOST_VALUES or len(path) > MOST_DEPTH:
            raise GraphInvalid(
                f"the text has more than {MOST_VALUES} values, or is nested deeper than {MOST_DEPTH}, with all its "
                "aliases written out; this is taken for an attack, or a mistake"
            )
        # What is wrong with the copy that an alias makes is told of the alias.
        place = self.spans.values[path] = alias or node.place
        if node.kind == "Scalar":
            return self._scalar(node.event, path, place)
        if node.event.tag not in {None, "!", _COLLECTIONS[node.kind]}:
            self._refuse(path, _refused(node.event.tag), place)
        if node.kind == "Mapping":
            return self._mapping(node, path, alias)
        return [self.value(item, (*path, number), alias) for number, item in enumerate(node.children)]

    def _scalar(self, event: Any, path: DataPath, place: TextSpan) -> Any:
        try:
            text = join_surrogates(event.value)
            if event.tag is not None:
                return tagged_value(text, str(event.tag))
            return plain_value(text) if event.implicit[0] else text
        except ValueError as error:
            self._refuse(path, str(error), place)
            return ""

    def _mapping(self, node: _Node, path: DataPath, alias: TextSpan | None) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in zip(node.children[::2], node.children[1::2], strict=True):
            place = alias or key_node.place
            key = self._key(key_node, path, place)
            if key is None:
                continue
            inside = (*path, key)
            if key in found:
                first = self.spans.keys[inside].line + 1
                self._refuse(inside, f"{key} is there twice, first in line {first}", place)
                continue
            self.spans.keys[inside] = place
            found[key] = self.value(value_node, inside, alias)
        return found

    def _key(self, node: _Node, path: DataPath, place: TextSpan) -> str | None:
        event = (node.target or node).event
        if (node.target or node).kind != "Scalar":
            is_expression = self.spans.text.startswith("{{", place.start - 1)
            self._refuse(path, _QUOTED if is_expression else "a key is a text, not a list or a mapping", place)
            return None
        if event.tag not in {None, "!", f"{PREFIX}str"}:
            self._refuse(path, _refused(event.tag), place)
            return None
        if event.value == "<<" and event.implicit[0]:
            self._refuse(path, "YAML 1.2 merges nothing by <<; write the keys out", place)
            return None
        try:
            return join_surrogates(event.value)
        except ValueError as error:
            self._refuse(path, f"a key: {error}", place)
            return None

    def _refuse(self, path: DataPath, message: str, place: TextSpan) -> None:
        self.findings.append(CompilerFinding(path, message, place.position))


def _refused(tag: Any) -> str:
    return f"the tag {_format_tag(str(tag))} is refused: values are plain data, as JSON has them"
