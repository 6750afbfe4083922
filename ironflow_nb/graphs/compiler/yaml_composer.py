"""The YAML composer: makes plain data of the events of a YAML parser, with the span of every value and key.

An alias counts as many values as its anchor, so that a small text can't become a large graph. A repeated key is a
finding. Tags never make objects. Scalars without quotes have the types of YAML 1.2's core schema.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from ironflow_nb.errors import GraphInvalid
from ironflow_nb.errors import GraphPosition as Position
from ironflow_nb.graphs.compiler.compiler_findings import (
    CompilerFinding,
    DataPath,
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
"""Most digits of a whole number; Python needs long for more, or refuses them."""


def join_surrogates(text: str) -> str:
    """Return the text with surrogate pairs, which JSON escapes give, joined to characters.

    Raises:
        ValueError: the text has a lone surrogate.
    """
    if text.isascii() or not _SURROGATE.search(text):
        return text
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise ValueError("the text has a lone surrogate, half of a character") from None


def plain_value(text: str) -> Any:
    """Return the value of a scalar without quotes.

    Raises:
        ValueError: the scalar is a number without a JSON form, or has too many digits.
    """
    if text in NULLS:
        return None
    if text in BOOLEANS:
        return BOOLEANS[text]
    if text[0] not in "+-.0123456789":
        return text
    if _INTEGER.fullmatch(text):
        if len(text) > MOST_DIGITS:
            raise ValueError(f"a number can have {MOST_DIGITS} digits at most, not {len(text)}")
        base = _BASES.get(text[:2])
        return int(text[2:], base) if base else int(text)
    if _FLOAT.fullmatch(text):
        number = float(text.replace(".inf", "inf").replace(".nan", "nan")) if text[-1] not in "fFnN" else math.nan
        if not math.isfinite(number):
            raise ValueError(f"{text[:40]} is not a number of JSON")
        return number
    return text


def tagged_value(text: str, tag: str) -> Any:
    """Return the value of a scalar with a tag.

    Raises:
        ValueError: the scalar does not fit the tag, or the tag is not one of plain data.
    """
    if tag in {"!", f"{PREFIX}str"}:
        return text
    wanted = _TAGGED.get(tag.removeprefix(PREFIX)) if tag.startswith(PREFIX) else None
    if wanted is None:
        raise ValueError(f"the tag {_format_tag(tag)} is refused: values must be plain data, as in JSON")
    value = plain_value(text)
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        raise ValueError(f"the tag {_format_tag(tag)} does not fit this value")
    return value


_TAGGED: Final = {"int": int, "float": float, "bool": bool, "null": type(None)}


def _format_tag(tag: str) -> str:
    """Return a tag in its short form."""
    return f"!!{tag.removeprefix(PREFIX)}" if tag.startswith(PREFIX) else tag


MOST_VALUES: Final = 500_000
MOST_DEPTH: Final = 100

_UNQUOTED: Final = re.compile(r"(?:^|[:\-\[,])\s*\{\{")
_QUOTED: Final = 'a text that begins with {{ must be quoted: "{{ ... }}"'

_COLLECTIONS: Final = {"Mapping": f"{PREFIX}map", "Sequence": f"{PREFIX}seq"}


def compose_yaml(text: str, *, keeps_tags: bool = False) -> tuple[Any, SourceSpans, list[CompilerFinding]]:
    """Return the data of a YAML text, its spans, and findings that leave the rest readable.

    With `keeps_tags` a value with a tag of its own, such as ``!Http``, is an object with the tag as its only key.

    Raises:
        GraphInvalid: the text is not valid YAML, is nested too deep, or has too many values.
    """
    root = _parse_tree(text)
    if root is None:
        raise GraphInvalid("the text is empty; a graph begins with graph: NAME, and has nodes:")
    builder = _DataBuilder(text, keeps_tags=keeps_tags)
    return builder.value(root, ()), builder.spans, builder.findings


# -- the tree ----------------------------------------------------------------------------------------------------


class _YamlNode:
    """A node of the YAML tree. The children of a mapping are keys and values in turn. An alias has a `target`."""

    __slots__ = ("children", "event", "kind", "span", "target")

    def __init__(self, kind: str, event: Any, span: TextSpan) -> None:
        self.kind = kind
        self.event = event
        self.span = span
        self.children: list[_YamlNode] = []
        self.target: _YamlNode | None = None


def _parse_tree(text: str) -> _YamlNode | None:
    """Return the root of the only document; None if the text has no document."""
    root: _YamlNode | None = None
    around: list[_YamlNode] = []
    anchors: dict[str, _YamlNode] = {}
    for event in _events(text):
        name = type(event).__name__.removesuffix("Event")
        match name:
            case "DocumentStart":
                _check_document(event, is_first=root is None)
            case "MappingEnd" | "SequenceEnd":
                around.pop()
            case "MappingStart" | "SequenceStart" | "Scalar" | "Alias":
                node = _YamlNode(name.removesuffix("Start"), event, _span_of(event))
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
                        raise _yaml_error(f"this is nested deeper than {MOST_DEPTH}", node.span.position)
    return root


def _events(text: str) -> Iterator[Any]:
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.Scanner, yaml.Parser = _scanner_and_parser()
    try:
        yield from yaml.parse(text)
    except Exception as error:  # noqa: BLE001 -- the library raises many classes
        raise _parse_error(error, text) from None


@cache
def _scanner_and_parser() -> tuple[Any, Any]:
    """Return scanner and parser of the library, which here check a token for readiness only once."""
    from ruamel.yaml.parser import Parser
    from ruamel.yaml.scanner import Scanner

    class _YamlScanner(Scanner):
        is_ready = False
        """True if the first token is there, and nothing that may still be read comes before it."""

        reader: Any = None

        def __init__(self, loader: Any) -> None:
            self.reader = loader.reader
            super().__init__(loader)

        def check_token(self, *choices: Any) -> bool:
            """See `Scanner`; the token that was found ready is so until it is taken."""
            if not self.is_ready:
                while self.need_more_tokens():
                    self.fetch_more_tokens()
                self.is_ready = True
            return isinstance(self.tokens[0], choices or object) if self.tokens else False

        def get_token(self) -> Any:
            self.is_ready = False
            return super().get_token()

        def scan_to_next_token(self) -> None:
            """Skip blanks, and tabs after the first word of a line, which YAML 1.2 allows as blanks."""
            super().scan_to_next_token()
            while self.reader.peek() == "\t" and not self.allow_simple_key:
                self.reader.forward()
                super().scan_to_next_token()

    class _YamlParser(Parser):
        scanner: Any = None

        def __init__(self, loader: Any) -> None:
            self.scanner = loader.scanner
            super().__init__(loader)

    return _YamlScanner, _YamlParser


def _parse_error(error: Exception, text: str) -> GraphInvalid:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None)
    index = getattr(error, "position", None)
    if mark is None and isinstance(index, int):
        before = text[:index]
        position: Position | None = Position(before.count("\n") + 1, index - before.rfind("\n"))
        problem = f"the character U+{ord(text[index]):04X} is not allowed in YAML"
    else:
        position = None if mark is None else Position(mark.line + 1, mark.column + 1)
    reason = str(problem or type(error).__name__).replace("'<stream end>'", "the end of the text")
    context = getattr(error, "context", None)
    hint = "; indent blocks with blanks, not with tabs" if r"'\t'" in reason else ""
    if position is not None and _UNQUOTED.search("".join(text.split("\n")[position.line - 1 : position.line])):
        hint = f"; {_QUOTED}"
    return _yaml_error(f"this is not valid YAML: {reason}" + (f", {context}" if context else "") + hint, position)


def _yaml_error(message: str, position: Position | None) -> GraphInvalid:
    return invalid_graph(None, [CompilerFinding((), message, position)])


def _check_document(event: Any, *, is_first: bool) -> None:
    position = Position(event.start_mark.line + 1, event.start_mark.column + 1)
    if not is_first:
        raise _yaml_error("a second document begins here; a graph has only one", position)
    if event.version not in {None, (1, 2)}:
        raise _yaml_error("the text declares another version of YAML; only YAML 1.2 is read", position)


def _span_of(event: Any) -> TextSpan:
    start, end = event.start_mark, event.end_mark
    return TextSpan(start.index, end.index, start.line, start.column, getattr(event, "style", None) or "")


def _target(alias: _YamlNode, anchors: dict[str, _YamlNode], around: list[_YamlNode]) -> _YamlNode:
    name, position = alias.event.anchor, alias.span.position
    target = anchors.get(name)
    if target is None:
        raise _yaml_error(f"*{name} has no anchor: there is no &{name} before it", position)
    if any(each is target for each in around):
        raise _yaml_error(f"*{name} is inside its own anchor &{name}", position)
    return target


# -- the data ----------------------------------------------------------------------------------------------------


class _DataBuilder:
    """Makes plain data of the tree. The target of an alias is built, and counted, for each alias."""

    def __init__(self, text: str, *, keeps_tags: bool) -> None:
        self._n_values = 0
        self._keeps_tags = keeps_tags
        self.spans = SourceSpans(text=text, values={}, keys={})
        self.findings: list[CompilerFinding] = []

    def value(self, node: _YamlNode, path: DataPath, alias: TextSpan | None = None) -> Any:
        if node.target is not None:
            return self.value(node.target, path, alias or node.span)
        self._n_values += 1
        if self._n_values > MOST_VALUES or len(path) > MOST_DEPTH:
            raise GraphInvalid(
                f"the text has more than {MOST_VALUES} values, or is nested deeper than {MOST_DEPTH}, with its aliases "
                "expanded; this is an attack or a mistake"
            )
        # Errors in the copy that an alias makes are reported at the alias.
        self.spans.values[path] = alias or node.span
        tag = str(node.event.tag or "")
        if self._keeps_tags and len(tag) > 1 and tag.startswith("!"):
            return {tag: self._content(node, (*path, tag), alias, None)}
        return self._content(node, path, alias, node.event.tag)

    def _content(self, node: _YamlNode, path: DataPath, alias: TextSpan | None, tag: Any) -> Any:
        span = self.spans.values[path] = alias or node.span
        if node.kind == "Scalar":
            return self._scalar(node.event, tag, path, span)
        if tag not in {None, "!", _COLLECTIONS[node.kind]}:
            self._refuse(path, _tag_refusal(tag), span)
        if node.kind == "Mapping":
            return self._mapping(node, path, alias)
        return [self.value(item, (*path, number), alias) for number, item in enumerate(node.children)]

    def _scalar(self, event: Any, tag: Any, path: DataPath, span: TextSpan) -> Any:
        try:
            text = join_surrogates(event.value)
            if tag is not None:
                return tagged_value(text, str(tag))
            return plain_value(text) if event.implicit[0] else text
        except ValueError as error:
            self._refuse(path, str(error), span)
            return ""

    def _mapping(self, node: _YamlNode, path: DataPath, alias: TextSpan | None) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in zip(node.children[::2], node.children[1::2], strict=True):
            span = alias or key_node.span
            key = self._key(key_node, path, span)
            if key is None:
                continue
            inside = (*path, key)
            if key in found:
                first = self.spans.keys[inside].line + 1
                self._refuse(inside, f"{key} is repeated; it is first in line {first}", span)
                continue
            self.spans.keys[inside] = span
            found[key] = self.value(value_node, inside, alias)
        return found

    def _key(self, node: _YamlNode, path: DataPath, span: TextSpan) -> str | None:
        event = (node.target or node).event
        if (node.target or node).kind != "Scalar":
            is_expression = self.spans.text.startswith("{{", span.start - 1)
            self._refuse(path, _QUOTED if is_expression else "a key must be a text, not a list or a mapping", span)
            return None
        if event.tag not in {None, "!", f"{PREFIX}str"}:
            self._refuse(path, _tag_refusal(event.tag), span)
            return None
        if event.value == "<<" and event.implicit[0]:
            self._refuse(path, "YAML 1.2 has no merge key <<; write the keys out", span)
            return None
        try:
            return join_surrogates(event.value)
        except ValueError as error:
            self._refuse(path, f"a key: {error}", span)
            return None

    def _refuse(self, path: DataPath, message: str, span: TextSpan) -> None:
        self.findings.append(CompilerFinding(path, message, span.position))


def _tag_refusal(tag: Any) -> str:
    return f"the tag {_format_tag(str(tag))} is refused: values must be plain data, as in JSON"
