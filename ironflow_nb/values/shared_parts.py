"""Values whose parts are met in several places of them, and so can't be written out: they are numbered instead.

Two lists in each list, thirty levels deep, are sixty parts and a thousand million when each is written where it is
met. What contains itself has no end at all.
"""

from __future__ import annotations

import gc
import types
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

T = TypeVar("T")

REPEATS: Final = 16
"""How many times as long a value may become by being written out."""

_LONG: Final = 20_000
_CONTAINERS: Final = (list, dict, tuple, set, frozenset)


class SharedTooOften(RecursionError):
    """The value shares its parts so often that it is not written out."""


class Extent:
    """Counts the parts that a walk meets, and ends it where a few are met again and again."""

    def __init__(self) -> None:
        self._met: list[Any] = []
        self._owners: dict[int, Any] = {}
        self._copies: list[Any] = []  # kept alive, so that no id comes twice
        self._n_written = 0
        self._next_look = _LONG

    def stand_for(self, owner: Any, parts: list[Any]) -> None:
        """Let what was made of the owner only now, anew each time that it is met, count as the owner."""
        copies = [parts, *(part for part in parts if isinstance(part, _CONTAINERS))]
        self._copies += copies
        self._owners |= dict.fromkeys(map(id, copies), owner)

    def mark(self) -> tuple[int, int]:
        """Return how far the walk has come."""
        return len(self._met), self._n_written

    def reset(self, mark: tuple[int, int]) -> None:
        """Forget what was met since then."""
        del self._met[mark[0] :]
        self._n_written = mark[1]

    def meet(self, part: Any) -> None:
        """Count the part.

        Raises:
            SharedTooOften: that were too many for so few.
        """
        owner = self._owners.get(id(part), part)
        self._met.append(owner)
        self._n_written += _size(owner)
        if self._n_written >= self._next_look:
            self._next_look = 4 * self._n_written
            if share_too_often(self._met, self._n_written):
                raise SharedTooOften


def share_too_often(met: Sequence[Any], n_written: int) -> bool:
    """Tell whether so many are too many to be written for the parts that were met."""
    if n_written < _LONG:
        return False
    distinct = {id(part): part for part in met}
    return n_written > REPEATS * (sum(map(_size, distinct.values())) + len(distinct))


def _size(part: Any) -> int:
    return len(part) if isinstance(part, _CONTAINERS) else 8


def is_soon_written(root: object) -> bool:
    """Tell whether a text of the object, in which each part stands wherever it is met, can't be very long."""
    inner: dict[int, list[Any]] = {}
    n_written: dict[int, int] = {}
    pending = [root]
    while pending and len(inner) < _LONG:
        part = pending[-1]
        if id(part) in inner:
            pending.pop()
            n_written[id(part)] = 1 + sum(n_written.get(id(each), 1) for each in inner[id(part)])
        else:
            inner[id(part)] = [each for each in gc.get_referents(part) if _is_part(each)]
            pending += [each for each in inner[id(part)] if id(each) not in inner]
    return not pending and n_written[id(root)] < _LONG


def _is_part(value: object) -> bool:
    is_made_of_more = isinstance(value, _CONTAINERS) or gc.is_tracked(value)
    return is_made_of_more and not isinstance(value, type | types.ModuleType | types.FunctionType)


class Numbering:
    """Numbers parts in the order in which they are met."""

    def __init__(self) -> None:
        self._parts: list[object] = []  # they are kept alive, so that no id comes twice
        self._numbers: dict[int, int] = {}

    def number(self, part: object) -> int:
        """Return the number of the part; one that was not met before is the next one."""
        found = self._numbers.setdefault(id(part), len(self._parts))
        if found == len(self._parts):
            self._parts.append(part)
        return found

    def forms(self, root: object, form: Callable[[Any], T]) -> list[T]:
        """Return the form of each part; `form` numbers what is in it. No stack grows with the depth of the value."""
        self.number(root)
        return [form(part) for part in self._parts]  # which grow meanwhile
