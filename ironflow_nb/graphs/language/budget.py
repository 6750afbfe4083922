"""Budgets: a bound on the work of one expression or template, because a short text can demand very much of it.

A budget counts steps and size. A step is one value that the evaluation visits. The size of a value is the number of
its characters, and more for each value and each list or object, with everything nested in it. Only what can grow is
counted: the items of projections, the arguments and results of functions, and lists and objects that contain the same
value more than once. The syntax tree
tells in advance which expressions need that (`is_repeating`) and how many steps an item costs (`weigh`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from itertools import pairwise
from typing import Any, Final, TypeAlias

import msgspec

from ironflow_nb.execution import SystemClock
from ironflow_nb.graphs.language.data import Tree

STEPS: Final = "IRONFLOW_EXPRESSION_STEPS"
SIZE: Final = "IRONFLOW_EXPRESSION_SIZE"
"""Environment variables that raise the bounds. A graph cannot raise them by its own text."""

MOST_STEPS: Final = 10_000_000
MOST_SIZE: Final = 100_000_000

PATTERNS_S: Final = 10.0
"""Search time of all patterns of one expression together."""


_OF_ITEM: Final = 4
_OF_CONTAINER: Final = 48
"""What an item of a list or object counts, and one of these itself: about as much more memory than a character."""

Measured: TypeAlias = dict[int, tuple[Any, int]]
"""Lists and objects by `id()`, each with its size, so that a value that occurs many times is measured once."""


class BudgetExceeded(ValueError):
    """An expression or template exceeds its budget."""


@cache
def bounds() -> tuple[int, int]:
    """Return the largest number of steps and the largest size of results."""
    return _bound(STEPS, MOST_STEPS), _bound(SIZE, MOST_SIZE)


def _bound(variable: str, default: int) -> int:
    text = os.environ.get(variable, "")
    return int(text) if text.isascii() and text.isdigit() else default


class Budget:
    """The remaining budget of one evaluation. A new one reads the class attributes, so it is cheap to make."""

    steps, size = bounds()
    patterns_s = PATTERNS_S
    measured: Measured | None = None

    def spend(self, n_steps: int) -> None:
        """Subtract steps.

        Raises:
            BudgetExceeded: fewer are left.
        """
        self.steps -= n_steps
        if self.steps < 0:
            raise BudgetExceeded(
                f"it takes more than {bounds()[0]:,} steps; give it less data, or raise the "
                f"environment variable {STEPS}"
            )

    def make(self, size: int) -> None:
        """Subtract the size of a new value.

        Raises:
            BudgetExceeded: less is left.
        """
        self.require(size)
        self.size -= size

    def require(self, size: int) -> None:
        """Check that a value of this size may be made, and subtract nothing.

        Raises:
            BudgetExceeded: less is left.
        """
        if size > self.size:
            raise BudgetExceeded(
                f"it makes more than {bounds()[1]:,} characters and values in all; make less of it, or raise the "
                f"environment variable {SIZE}"
            )

    def is_measured(self, value: Any) -> bool:
        """Return True if the list or object was measured before."""
        return self.measured is not None and id(value) in self.measured

    def measure(self, value: Any) -> int:
        """Return the size of a value, in which a nested value counts as often as it occurs.

        Raises:
            BudgetExceeded: the size is larger than what is left, or the value is nested too deep.
        """
        if self.measured is None:
            self.measured = {}
        try:
            size = _size_of(value, self.measured)
        except RecursionError:
            raise BudgetExceeded("its result is nested too deep") from None
        self.require(size)
        return size


def _size_of(value: Any, measured: Measured) -> int:
    if isinstance(value, str | bytes):
        return len(value)
    if not isinstance(value, list | tuple | dict):
        return 0
    found = measured.get(id(value))
    if found is None:
        inside = value.values() if isinstance(value, dict) else value
        content = sum([_size_of(each, measured) for each in inside])
        found = measured[id(value)] = value, _OF_CONTAINER + _OF_ITEM * len(value) + content
    return found[1]


class Stopwatch:
    """Measures one search of a pattern and subtracts its time from a budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._started_s = 0.0

    def __enter__(self) -> float:
        """Start, and return the seconds that are left."""
        self._started_s = monotonic()
        return max(self._budget.patterns_s, 0.001)

    def __exit__(self, *_: object) -> None:
        self._budget.patterns_s -= monotonic() - self._started_s


monotonic: Final = SystemClock().monotonic


# -- what a syntax tree tells ------------------------------------------

FieldPath: TypeAlias = tuple[str, ...]
"""Field names from the context of an expression down to a part of it."""

_CONSTRUCTORS: Final = frozenset({"multi_select_list", "multi_select_dict"})
_COMBINING: Final = frozenset({"zip", "concat", "merge"})
"""Functions whose result contains all of their arguments."""

_CONTAINING: Final = _COMBINING | {
    "coalesce", "default", "from_json", "group_by", "map", "max_by", "min_by", "not_null", "reverse", "sort", "sort_by",
    "rename", "to_array", "unique", "values",
}  # fmt: skip
"""Functions whose result contains an argument itself, or parts of it."""

_PROJECTIONS: Final = frozenset({"projection", "value_projection", "filter_projection"})


def paths_of(tree: Tree) -> tuple[FieldPath, ...]:
    """Return the paths in the context that the result is taken from. A path may cover more than the result takes."""
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
            is_containing = tree["value"] in _CONTAINING
            given = [child for child in children if child["type"] != "expref"] if is_containing else []
            return tuple(path for child in given for path in paths_of(child))
        case "literal" | "comparator" | "arithmetic" | "not_expression" | "expref":
            return ()
        case _:
            return paths_of(children[0]) if children else ((),)


def is_repeating(tree: Tree) -> bool:
    """Return True if the node makes one value of two parts that come from the same path."""
    is_combining = tree["type"] == "function_expression" and tree["value"] in _COMBINING
    if tree["type"] not in _CONSTRUCTORS and not is_combining:
        return False
    return overlap(path for child in tree["children"] for path in set(paths_of(child)))


def overlap(paths: Iterable[FieldPath]) -> bool:
    """Return True if one path equals another one or is a prefix of it."""
    return any(after[: len(before)] == before for before, after in pairwise(sorted(paths)))


def weigh(tree: Tree) -> int:
    """Store, in each subtree that is applied to items, its steps per item as ``weight``; return those of the tree."""
    children = [child for child in tree.get("children", ()) if isinstance(child, dict)]
    weights = [weigh(child) for child in children]
    if tree["type"] in _PROJECTIONS:
        for child, weight in zip(children, weights, strict=True):
            child["weight"] = weight
    applied = [weight for child, weight in zip(children, weights, strict=True) if child["type"] == "expref"]
    if applied:
        tree["weight"] = sum(applied)
    size = len(msgspec.json.encode(tree["value"])) if tree["type"] == "literal" else 0
    return 1 + size + sum(weights)
