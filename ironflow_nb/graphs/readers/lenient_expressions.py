"""Expressions of a workflow in which whatever is missing is null, in our form: with our names, strict or wrapped."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from jmespath.exceptions import JMESPathError
from jmespath.lexer import Lexer
from jmespath.parser import Parser

from ironflow_nb.graphs.language.expression import compile_expression, parse_expression

Block = tuple[tuple[str, str], ...]
"""The nodes around a node, from the outside: how each is accessed, and which of its blocks it is."""

_IDENTIFIERS: Final = frozenset({"unquoted_identifier", "quoted_identifier"})
_OPENING: Final = {"lparen", "lbrace", "lbracket", "filter"}
_CLOSING: Final = {"rparen", "rbrace", "rbracket"}
_PATHS: Final = {"dot", "lbracket", "filter", "flatten", "star"}
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_BOOLEAN: Final = {"comparator", "not_expression"}

_NOTES: Final = {
    "now": "now() gives milliseconds since 1970 there, and a text of ISO 8601 here",
    "split": "split(text, separator): there the first one was taken as the separator",
    "concat": "concat joined nothing but texts there; join('', ...) is its meaning here",
}


class NodePlace(NamedTuple):
    """The new id of a node, and the blocks around it."""

    name: str
    block: Block

    def seen_from(self, block: Block) -> str:
        """Return the way to the output of the node from a node in the other block."""
        n_common = 0
        while n_common < min(len(block), len(self.block)) and block[n_common] == self.block[n_common]:
            n_common += 1
        return ".".join([*(access for access, _ in self.block[n_common:]), self.name])


class LenientExpression:
    """One expression, read for the names that a node in that block sees. `notes` tell what means something else here.

    `variables` are the environment variables that it reads.

    Raises:
        ValueError: it is no JMESPath, or asks for what there is not here.
    """

    def __init__(self, text: str, places: Mapping[str, NodePlace], block: Block, loops: Mapping[str, str]) -> None:
        self._tree = compile_expression(text).tree
        try:
            Parser().parse(text)
        except JMESPathError:
            raise ValueError("it is no JMESPath there: arithmetic and plain numbers are an extension here") from None
        self._text = text
        self._places = places
        self._block = block
        self._loops = loops
        self._tokens: list[dict[str, Any]] = list(Lexer().tokenize(text))
        self.notes: list[str] = []
        self.variables: list[str] = []
        self._changes: list[tuple[int, int, str]] = []
        self._read_names()
        self.may_lack = any(token["type"] in _PATHS for token in self._tokens)

    # -- names ---------------------------------------------------------------------------------------------------

    def _read_names(self) -> None:
        """Note the change of each name that stands at the root, not for a field of an item."""
        of_items = [False]
        for number, token in enumerate(self._tokens):
            before = self._tokens[number - 1]["type"] if number else ""
            match token["type"]:
                case kind if kind in _OPENING:
                    is_of_item = kind == "filter" or (kind != "lparen" and before == "dot")
                    of_items.append(of_items[-1] or is_of_item)
                case kind if kind in _CLOSING:
                    of_items.pop()
                case "pipe" | "expref":
                    of_items[-1] = True
                case "comma":
                    of_items[-1] = of_items[-2] if len(of_items) > 1 else False
                case kind if kind in _IDENTIFIERS and before != "dot":
                    self._read_name(number, token, is_of_item=of_items[-1])
                case _:
                    pass

    def _read_name(self, number: int, token: Mapping[str, Any], *, is_of_item: bool) -> None:
        name, after = str(token["value"]), self._tokens[number + 1]
        if after["type"] == "lparen":
            self._read_function(name, token, after)
        elif after["type"] == "colon" or is_of_item:
            return
        elif name in self._loops:
            self._change(token, self._loops[name])
        elif name in self._places:
            place = self._places[name]
            self._change(token, place.seen_from(self._block))
            if place.block != self._block[: len(place.block)]:
                self.notes.append(f"{name} is inside of another node: {place.seen_from(self._block)}, if that ran")
        elif name == "env":
            if after["type"] != "dot":
                raise ValueError("env as a whole is not there; name its variables: env.NAME")
            self.variables.append(str(self._tokens[number + 2]["value"]))

    def _read_function(self, name: str, token: Mapping[str, Any], paren: Mapping[str, Any]) -> None:
        if name in _NOTES:
            self.notes.append(_NOTES[name])
        if name == "capitalize":
            self._change(token, "upper")
        elif name == "concat":
            self._changes.append((token["start"], paren["end"], "join('', "))

    def _change(self, token: Mapping[str, Any], text: str) -> None:
        start, end = token["start"], token["end"]
        quoted = _QUOTED.match(self._text, start)  # the library leaves out the last quote
        self._changes.append((start, quoted.end() if quoted else end, text))

    def _written(self, start: int, end: int) -> str:
        made, at = "", start
        for first, last, text in self._changes:
            if start <= first and last <= end:
                made, at = made + self._text[at:first] + text, last
        return (made + self._text[at:end]).strip()

    # -- templates -----------------------------------------------------------------------------------------------

    def template(self, *, is_lenient: bool, is_condition: bool = False) -> str:
        """Return the template: an expression, or a text with expressions for texts that were joined."""
        parts = None if is_condition else self._joined_parts()
        if parts is not None:
            return "".join(parts)
        made = self._written(0, len(self._text))
        is_wrapped = is_lenient and self.may_lack
        if is_wrapped:
            made = f"default({made}, `null`)"
        if is_condition and (is_wrapped or self._tree["type"] not in _BOOLEAN):  # only true was true there
            made = f"{made} == `true`" if is_wrapped else f"({made}) == `true`"
        return f"{{{{ {made} }}}}"

    def _joined_parts(self) -> list[str] | None:
        """Return the parts of ``join('', [...])`` as templates; None for any other expression."""
        tokens = self._tokens
        kinds = [token["type"] for token in tokens]
        is_join = kinds[:5] == ["unquoted_identifier", "lparen", "literal", "comma", "lbracket"]
        if not is_join or tokens[0]["value"] != "join" or tokens[2]["value"] != "":
            return None
        parts, depth, start = [], 0, tokens[4]["end"]
        for number, token in enumerate(tokens[5:], 5):
            if depth == 0 and token["type"] in {"comma", "rbracket"}:
                parts.append(self._part(start, token["start"]))
                start = token["end"]
                if token["type"] == "rbracket":
                    return parts if kinds[number + 1 :] == ["rparen", "eof"] else None
            depth += (token["type"] in _OPENING) - (token["type"] in _CLOSING)
        return None

    def _part(self, start: int, end: int) -> str:
        made = self._written(start, end)
        literal = parse_expression(made)
        if literal["type"] == "literal" and isinstance(literal["value"], str):
            return literal["value"].replace("{{", r"\{{")
        return f"{{{{ {made} }}}}"
