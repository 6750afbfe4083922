"""JMESPath expressions: compiled once, with what they refer to known before anything runs.

What an expression may have in it more than once: known from its text, so that most results need no look.

An object or list in an expression holds something twice only if two of its parts come from the same place, or one from
inside of the other. Where no text says that, what is made is not larger than what was there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Final, TypeAlias

import msgspec

from ironflow_nb.graphs.language import parser
from ironflow_nb.graphs.language.data import near
from ironflow_nb.graphs.language.functions import EXTRA, known_functions
from ironflow_nb.graphs.language.parser import SHOWN, Tree

FieldPath: TypeAlias = tuple[str, ...]
"""Fields, one inside of the other, from the value that an expression looks at down to a part of it."""

_MAKING: Final = frozenset({"multi_select_list", "multi_select_dict"})
_JOINING: Final = frozenset({"zip", "concat", "merge"})
"""Functions that put what they are given into one value."""

_KEEPING: Final = _JOINING | {
    "coalesce", "default", "from_json", "group_by", "map", "max_by", "min_by", "not_null", "reverse", "sort", "sort_by",
    "to_array", "values",
}  # fmt: skip
"""Functions whose results have what they were given in them, and are not texts or numbers made of it."""

_APPLIED: Final = frozenset({"projection", "value_projection", "filter_projection"})


def paths_of(tree: Tree) -> tuple[FieldPath, ...]:
    """Return the places that what the tree gives comes from; a place may stand for more than is taken of it."""
    children = [child for child in tree.get("children", ()) if isinstance(child, dict)]
    match tree["type"]:
        case "field":
            return ((tree["value"],),)
        case "current" | "identity":
            return ((),)
        case "subexpression":
            first, *others = map(paths_of, children)
            for then in others:
                first = tuple(one + each for one in first for each in then) if len(first) == 1 else first
            return first
        case "multi_select_list" | "multi_select_dict" | "key_val_pair" | "or_expression" | "and_expression":
            return tuple(path for child in children for path in paths_of(child))
        case "function_expression":
            is_keeping = tree["value"] in _KEEPING
            given = [child for child in children if child["type"] != "expref"] if is_keeping else []
            return tuple(path for child in given for path in paths_of(child))
        case "literal" | "comparator" | "not_expression" | "expref":
            return ()
        case _:
            return paths_of(children[0]) if children else ((),)


def is_repeating(tree: Tree) -> bool:
    """Tell whether two parts of what is made there come from the same place."""
    is_joining = tree["type"] == "function_expression" and tree["value"] in _JOINING
    if tree["type"] not in _MAKING and not is_joining:
        return False
    return overlap(path for child in tree["children"] for path in set(paths_of(child)))


def overlap(paths: Iterable[FieldPath]) -> bool:
    """Tell whether one of the places is another one, or around it."""
    return any(after[: len(before)] == before for before, after in pairwise(sorted(paths)))


def weigh(tree: Tree) -> int:
    """Note of every part that is applied to each item of something how many steps that takes, and return the tree's."""
    children = [child for child in tree.get("children", ()) if isinstance(child, dict)]
    weights = [weigh(child) for child in children]
    if tree["type"] in _APPLIED:
        for child, weight in zip(children, weights, strict=True):
            child["weight"] = weight
    applied = [weight for child, weight in zip(children, weights, strict=True) if child["type"] == "expref"]
    if applied:
        tree["weight"] = sum(applied)
    size = len(msgspec.json.encode(tree["value"])) if tree["type"] == "literal" else 0
    return 1 + size + sum(weights)


EVERYTHING: Final = "@"
"""Among the names of an expression: it takes the whole context, so everything that can be seen."""

VARYING: Final = frozenset({"now", "uuid"})

LENIENT_FUNCTIONS: Final = frozenset({"default", "coalesce", "not_null"})
"""Functions for what may be missing: their arguments are null where nothing is found."""


MOST_DEPTH: Final = 100
"""An expression is not nested deeper: where the stack ends would depend on who evaluates it."""

ExpressionSyntaxError = parser.ExpressionSyntaxError


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
    tree = parser.parse(text)
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
