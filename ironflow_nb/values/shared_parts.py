"""Values that share parts: how much they grow when they are written out, and numbers for their parts.

A list that contains another list twice, thirty levels deep, has thirty parts. Written out, it has a thousand million. A
value that contains itself can't be written out at all. Such values are stored with numbered parts.
"""

from __future__ import annotations

import gc
import types
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

T = TypeVar("T")

REPEATS: Final = 16
"""How many times longer a value may become when it is written out."""

_LONG: Final = 20_000
_CONTAINERS: Final = (list, dict, tuple, set, frozenset)


class SharedTooOften(RecursionError):
    """The value shares its parts too often to be written out."""


class Extent:
    """Counts the parts that a walk visits, and stops the walk if it visits few parts too often."""

    def __init__(self) -> None:
        self._met: list[Any] = []
        self._owners: dict[int, Any] = {}
        self._copies: list[Any] = []  # kept alive, so that no id is reused
        self._n_written = 0
        self._next_look = _LONG

    def stand_for(self, owner: Any, parts: list[Any]) -> None:
        """Count these `parts`, which are made anew at each visit of `owner`, as `owner`."""
        copies = [parts, *(part for part in parts if isinstance(part, _CONTAINERS))]
        self._copies += copies
        self._owners |= dict.fromkeys(map(id, copies), owner)

    def mark(self) -> tuple[int, int]:
        """Return the progress of the walk, for `reset`."""
        return len(self._met), self._n_written

    def reset(self, mark: tuple[int, int]) -> None:
        """Forget the parts that were visited since `mark`."""
        del self._met[mark[0] :]
        self._n_written = mark[1]

    def meet(self, part: Any) -> None:
        """Count one visit of the part.

        Raises:
            SharedTooOften: the walk visits few parts too often.
        """
        owner = self._owners.get(id(part), part)
        self._met.append(owner)
        self._n_written += _size(owner)
        if self._n_written >= self._next_look:
            self._next_look = 4 * self._n_written
            if share_too_often(self._met, self._n_written):
                raise SharedTooOften


def share_too_often(met: Sequence[Any], n_written: int) -> bool:
    """Return True if `n_written` is more than `REPEATS` times the size of the distinct parts in `met`."""
    if n_written < _LONG:
        return False
    distinct = {id(part): part for part in met}
    return n_written > REPEATS * (sum(map(_size, distinct.values())) + len(distinct))


def _size(part: Any) -> int:
    return len(part) if isinstance(part, _CONTAINERS) else 8


def is_short_written_out(root: object) -> bool:
    """Return True if the written-out object has few parts, so that its repr is short."""
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
    has_parts = isinstance(value, _CONTAINERS) or gc.is_tracked(value)
    return has_parts and not isinstance(value, type | types.ModuleType | types.FunctionType)


class Numbering:
    """Numbers parts in the order of their first visit."""

    def __init__(self) -> None:
        self._parts: list[object] = []  # kept alive, so that no id is reused
        self._numbers: dict[int, int] = {}

    def number(self, part: object) -> int:
        """Return the number of the part; a new part gets the next number."""
        found = self._numbers.setdefault(id(part), len(self._parts))
        if found == len(self._parts):
            self._parts.append(part)
        return found

    def forms(self, root: object, form: Callable[[Any], T]) -> list[T]:
        """Return the form of each part by number; `form` numbers the parts inside. No stack grows with the depth."""
        self.number(root)
        return [form(part) for part in self._parts]  # the list grows during the loop
