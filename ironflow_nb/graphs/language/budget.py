"""Budgets: how much work one expression or template may make, however short its text is.

A step is a value that is looked at, the size of a value how many characters and values it has, with all that is in it.
Ordinary expressions spend next to nothing: what is counted is what grows, which are the items of projections, what
functions are given and give, and objects and lists that hold the same thing more than once.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any, Final, TypeAlias

from ironflow_nb.execution.system.system import SystemClock

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
