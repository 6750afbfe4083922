"""The state of the random numbers of a process: those of `random`, and the old ones of numpy."""

from __future__ import annotations

import sys
from typing import Any, TypeAlias

RandomState: TypeAlias = tuple[list[Any] | None, list[Any] | None]
"""The states of `random` and of `numpy.random` as lists of plain numbers; None for a module that is not imported."""


def random_state() -> RandomState:
    """Return the state now."""
    python, numpy = sys.modules.get("random"), sys.modules.get("numpy.random")
    version, numbers, spare = (None, (), None) if python is None else python.getstate()
    of_python = None if python is None else [version, list(numbers), spare]
    if numpy is None:
        return of_python, None
    name, keys, *others = numpy.get_state()
    return of_python, [name, keys.tolist(), *others]


def set_random_state(state: RandomState) -> None:
    """Set the state of the modules that are imported by now."""
    of_python, of_numpy = state
    python, numpy = sys.modules.get("random"), sys.modules.get("numpy.random")
    if python is not None and of_python is not None:
        version, numbers, spare = of_python
        python.setstate((version, tuple(numbers), spare))
    if numpy is not None and of_numpy is not None:
        numpy.set_state(tuple(of_numpy))
