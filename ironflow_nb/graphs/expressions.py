"""JMESPath expressions: compiled once, with what they refer to known before anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

import msgspec

from ironflow_nb.graphs.functions import EXTRA, known_functions

Tree = dict[str, Any]
"""A node of JMESPath's syntax tree: ``type``, ``children``, and ``value`` where it has one."""

EVERYTHING: Final = "@"
"""Among the names of an expression: it takes the whole context, so everything that can be seen."""

VARYING: Final = frozenset({"now", "uuid"})

LENIENT_FUNCTIONS: Final = frozenset({"default", "coalesce", "not_null"})
"""Functions for what may be missing: their arguments are null where nothing is found."""


class ExpressionSyntaxError(ValueError):
    """An expression can't be compiled; `offset` is where in its text, from zero."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


class Expression(msgspec.Struct, frozen=True):
    """A compiled expression.

    `names` are what it takes from its context: names of nodes, ``input``, ``env``, ``secrets``, loop variables.
    `fields` are pairs of a name and the field that is taken of it, where the text itself says which.
    """

    text: str
    tree: Tree
    names: frozenset[str]
    fields: frozenset[tuple[str, str]]
    is_varying: bool


@lru_cache(maxsize=8192)
def compile_expression(text: str) -> Expression:
    """Compile the text.

    Raises:
        ExpressionSyntaxError: it is no JMESPath, or calls a function that there is none of, or with too many or few
            arguments.
    """
    tree = _parse(text)
    functions = set(_check_functions(tree, text))
    return Expression(
        text=text,
        tree=tree,
        names=frozenset(_names(tree)),
        fields=frozenset(_fields(tree)),
        is_varying=bool(functions & VARYING),
    )


def _parse(text: str) -> Tree:
    from jmespath.exceptions import JMESPathError, LexerError, ParseError  # noqa: PLC0415 -- only graphs need it
    from jmespath.parser import Parser  # noqa: PLC0415

    if not text.strip():
        raise ExpressionSyntaxError("the expression is empty", 0)
    try:
        parsed: Tree = Parser().parse(text).parsed
    except LexerError as error:
        raise ExpressionSyntaxError(f"{error.message} in {text!r}", error.lexer_position) from None
    except ParseError as error:
        met = "the end" if error.token_value is None else repr(str(error.token_value))
        raise ExpressionSyntaxError(f"{met} was not expected in {text!r}", min(error.lex_position, len(text))) from None
    except (JMESPathError, RecursionError) as error:
        raise ExpressionSyntaxError(f"{error} in {text[:200]!r}", 0) from None
    return parsed


def _check_functions(tree: Tree, text: str) -> Iterator[str]:
    for node in _walk(tree):
        if node["type"] != "function_expression":
            continue
        name = node["value"]
        known = known_functions().get(name)
        offset = max(text.find(f"{name}("), 0)
        if known is None:
            raise ExpressionSyntaxError(f"there is no function {name}(){_near(name)}", offset)
        n_given = len(node["children"])
        if not known.takes(n_given):
            raise ExpressionSyntaxError(f"{name}() takes {known.arity}, not {n_given}", offset)
        yield name


def _near(name: str) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 -- only who mistypes needs it

    near = get_close_matches(name, known_functions(), n=1)
    return f"; did you mean {near[0]}()?" if near else f"; besides JMESPath's own there are: {', '.join(sorted(EXTRA))}"


def _walk(tree: Tree) -> Iterator[Tree]:
    left = [tree]
    while left:
        node = left.pop()
        yield node
        left += [child for child in node.get("children", ()) if isinstance(child, dict)]


# What a node of these types does to its second child, and a filter's third: it looks at another value than the whole.
_CHAINS: Final = frozenset({"subexpression", "index_expression", "pipe"})
_PROJECTIONS: Final = frozenset({"projection", "value_projection", "filter_projection"})


def _names(tree: Tree) -> Iterator[str]:
    """Yield what the expression takes from the whole context."""
    match tree["type"]:
        case "field":
            yield tree["value"]
        case "current" | "identity":
            yield EVERYTHING
        case kind if kind in _CHAINS or kind in _PROJECTIONS:
            yield from _names(tree["children"][0])
        case "expref":
            return  # it is applied to the elements of something else
        case _:
            for child in tree.get("children", ()):
                if isinstance(child, dict):
                    yield from _names(child)


def _fields(tree: Tree) -> Iterator[tuple[str, str]]:
    """Yield pairs of a name and the field that is taken of it."""
    for node in _walk(tree):
        if node["type"] == "subexpression":
            first, second = node["children"][:2]
            if first["type"] == second["type"] == "field":
                yield first["value"], second["value"]
