"""Budgets: how much work one expression or template may make, however short its text is.

A step is a value that is looked at, the size of a value how many characters and values it has, with all that is in it.
Ordinary expressions spend next to nothing: what is counted is what grows, which are the items of projections, what
functions are given and give, and objects and lists that hold the same thing more than once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from itertools import pairwise
from typing import Any, Final, TypeAlias

import msgspec

from ironflow_nb.execution.system.system import SystemClock
from ironflow_nb.graphs.language.data import Tree

STEPS: Final = "IRONFLOW_EXPRESSION_STEPS"
SIZE: Final = "IRONFLOW_EXPRESSION_SIZE"
"""Variables of the environment that raise the bounds, for texts cannot raise them themselves."""

MOST_STEPS: Final = 10_000_000
MOST_SIZE: Final = 100_000_000

PATTERNS_S: Final = 10.0
"""How long all patterns of one expression may search."""


Measured: TypeAlias = dict[int, tuple[Any, int]]
"""Lists and objects by their identity, each with its size: what is there many times is measured once."""


class BudgetExceeded(ValueError):
    """An expression or template takes more work than it may."""


@cache
def bounds() -> tuple[int, int]:
    """Return how many steps there may be, and how large what is made may be."""
    return _bound(STEPS, MOST_STEPS), _bound(SIZE, MOST_SIZE)


def _bound(variable: str, otherwise: int) -> int:
    written = os.environ.get(variable, "")
    return int(written) if written.isascii() and written.isdigit() else otherwise


class Budget:
    """What one evaluation may still do. Its numbers are those of the class until the first is spent."""

    steps, size = bounds()
    patterns_s = PATTERNS_S
    measured: Measured | None = None

    def spend(self, n_steps: int) -> None:
        """Take steps.

        Raises:
            BudgetExceeded: there are not so many left.
        """
        self.steps -= n_steps
        if self.steps < 0:
            raise BudgetExceeded(
                f"it takes more than {bounds()[0]:,} steps; give it less data, or raise the variable {STEPS} of the "
                "environment"
            )

    def make(self, size: int) -> None:
        """Take the size of something.

        Raises:
            BudgetExceeded: there is not so much left.
        """
        self.require(size)
        self.size -= size

    def require(self, size: int) -> None:
        """See that something so large may be made.

        Raises:
            BudgetExceeded: it may not.
        """
        if size > self.size:
            raise BudgetExceeded(
                f"it makes more than {bounds()[1]:,} characters and values in all; make less of it, or raise the "
                f"variable {SIZE} of the environment"
            )

    def is_measured(self, value: Any) -> bool:
        """Tell whether a list or object has been measured before."""
        return self.measured is not None and id(value) in self.measured

    def measure(self, value: Any) -> int:
        """Return the size of a value with everything in it counted as often as it is in there, if it may be so large.

        Raises:
            BudgetExceeded: it may not.
        """
        if self.measured is None:
            self.measured = {}
        try:
            size = _size_of(value, self.measured)
        except RecursionError:
            raise BudgetExceeded("what it makes is nested too deep") from None
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
        found = measured[id(value)] = value, len(value) + sum([_size_of(each, measured) for each in inside])
    return found[1]


class Stopwatch:
    """The time of one search with a pattern, taken from a budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._begun_s = 0.0

    def __enter__(self) -> float:
        """Begin, and return how long it may take."""
        self._begun_s = monotonic()
        return max(self._budget.patterns_s, 0.001)

    def __exit__(self, *_: object) -> None:
        self._budget.patterns_s -= monotonic() - self._begun_s


monotonic: Final = SystemClock().monotonic


# -- what a text says ------------------------------------------

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
