"""What an expression may have in it more than once: known from its text, so that most results need no look.

An object or list in an expression holds something twice only if two of its parts come from the same place, or one from
inside of the other. Where no text says that, what is made is not larger than what was there.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Final, TypeAlias

import msgspec

from ironflow_nb.graphs.language.parsing import Tree

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
