"""JMESPath expressions: compiled once, with what they refer to known before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final

import msgspec

from ironflow_nb.graphs.language import parsing
from ironflow_nb.graphs.language.functions import EXTRA, known_functions
from ironflow_nb.graphs.language.parsing import SHOWN, Tree
from ironflow_nb.graphs.language.repeating import FieldPath, is_repeating, paths_of, weigh
from ironflow_nb.graphs.language.wording import near

EVERYTHING: Final = "@"
"""Among the names of an expression: it takes the whole context, so everything that can be seen."""

VARYING: Final = frozenset({"now", "uuid"})

LENIENT_FUNCTIONS: Final = frozenset({"default", "coalesce", "not_null"})
"""Functions for what may be missing: their arguments are null where nothing is found."""


MOST_DEPTH: Final = 100
"""An expression is not nested deeper: where the stack ends would depend on who evaluates it."""

ExpressionSyntaxError = parsing.ExpressionSyntaxError


class Expression(msgspec.Struct, frozen=True):
    """A compiled expression.

    `names` are what it takes from its context: names of nodes, ``input``, ``env``, ``secrets``, loop variables.
    `fields` are pairs of a name and the field that is taken of it, where the text itself says which. `paths` are where
    in its context all that it can give comes from; what `is_repeating` may hold something of it more than once.
    """

    text: str
    tree: Tree
    names: frozenset[str]
    fields: frozenset[tuple[str, str]]
    is_varying: bool
    paths: tuple[FieldPath, ...]
    is_repeating: bool


@lru_cache(maxsize=8192)
def compile_expression(text: str) -> Expression:
    """Compile the text.

    Raises:
        ExpressionSyntaxError: it is no JMESPath, or calls a function that there is none of, or with too many or few
            arguments, or is nested too deep.
    """
    tree = parsing.parse(text)
    _check_depth(tree, text)
    functions = set(_check_functions(tree))
    looking = list(_of_context(tree))
    weigh(tree)
    return Expression(
        text=text,
        tree=tree,
        names=frozenset(_names(looking)),
        fields=frozenset(_fields(looking)),
        is_varying=bool(functions & VARYING),
        paths=paths_of(tree),
        is_repeating=any(map(is_repeating, _walk(tree))),
    )


# -- what must not be --------------------------------------------------------------------------------------------


def _check_depth(tree: Tree, text: str) -> None:
    level, depth = [tree], 0
    while level:
        level = [child for node in level for child in _children(node)]
        depth += 1
        if depth > MOST_DEPTH:
            raise ExpressionSyntaxError(f"{text[:SHOWN]!r} is nested deeper than {MOST_DEPTH}", 0)


def _check_functions(tree: Tree) -> Iterator[str]:
    """Yield the name of every function that is called, and see that each gets what it takes."""
    if tree["type"] == "expref":
        raise _stray(tree)
    for node in _walk(tree):
        if node["type"] == "function_expression":
            _check_call(node)
            yield node["value"]
        else:
            for child in _children(node):
                if child["type"] == "expref":
                    raise _stray(child)


def _check_call(node: Tree) -> None:
    name, arguments, start = node["value"], node["children"], node["start"]
    known = known_functions().get(name)
    if known is None:
        raise ExpressionSyntaxError(f"there is no function {name}(){_near(name)}", start)
    if not known.takes(len(arguments)):
        raise ExpressionSyntaxError(f"{name}() takes {known.arity}, not {len(arguments)}", start)
    for number, argument in enumerate(arguments):
        is_wanted = number in known.expressions
        if argument["type"] == "expref" and not is_wanted:
            raise _stray(argument)
        if is_wanted and argument["type"] != "expref":
            wanted = f"{name}() takes an expression as argument {number + 1}: a field with & before it"
            raise ExpressionSyntaxError(wanted, start)


def _stray(expression: Tree) -> ExpressionSyntaxError:
    takers = ", ".join(f"{name}()" for name, known in sorted(known_functions().items()) if known.expressions)
    return ExpressionSyntaxError(f"& stands before an argument of {takers}, and nowhere else", expression["start"])


def _near(name: str) -> str:
    meant = near(name, known_functions())
    return f"; did you mean {meant}()?" if meant else f"; besides JMESPath's own there are: {', '.join(sorted(EXTRA))}"


def _children(node: Tree) -> list[Tree]:
    return [child for child in node.get("children", ()) if isinstance(child, dict)]


def _walk(tree: Tree) -> Iterator[Tree]:
    left = [tree]
    while left:
        node = left.pop()
        yield node
        left += reversed(_children(node))


# -- what is taken from the context ------------------------------------------------------------------------------

# What a node of these types does to its second child, and a filter's third: it looks at another value than the whole.
_LOOKING_ON: Final = frozenset(
    {"subexpression", "index_expression", "pipe", "projection", "value_projection", "filter_projection"}
)


def _of_context(tree: Tree) -> Iterator[Tree]:
    """Yield the parts that look at the whole context, and not at what another part has given."""
    left = [tree]
    while left:
        node = left.pop()
        yield node
        if node["type"] in _LOOKING_ON:
            left.append(node["children"][0])
        elif node["type"] != "expref":  # which is applied to the elements of something else
            left += _children(node)


def _names(looking: Iterable[Tree]) -> Iterator[str]:
    for node in looking:
        if node["type"] == "field":
            yield node["value"]
        elif node["type"] in {"current", "identity", "index", "slice"}:
            yield EVERYTHING


def _fields(looking: Iterable[Tree]) -> Iterator[tuple[str, str]]:
    for node in looking:
        found = field_of(node)
        if found is not None:
            yield found


def field_of(node: Tree) -> tuple[str, str] | None:
    """Return the name and the field that is taken of it, where that is how the node begins: ``a.b``, ``a.b[0].c``."""
    if node["type"] != "subexpression":
        return None
    first, second = node["children"][:2]
    while second["type"] in _LOOKING_ON:
        second = second["children"][0]
    return (first["value"], second["value"]) if first["type"] == second["type"] == "field" else None
