"""Reads of objects that another thread may change at the same time.

A container is copied by one call in C, and the copy is walked. Where such a copy calls methods of users, for instance
the hash of a key, another thread may still change the container meanwhile. Then the copy is made again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

from ironflow_nb.errors import ValueNotStorable
from ironflow_nb.values.classes import class_name

T = TypeVar("T")

MOST_READS: Final = 100
_CHANGED: Final = re.compile(r"(changed( size)?|mutated) during (iteration|update)")


def undisturbed(read: Callable[[Any], T], value: Any) -> T:
    """Return `read(value)`. The read is repeated while it ends because the value was changed.

    Raises:
        ValueNotStorable: each of many reads was disturbed.
    """
    for _ in range(MOST_READS):
        try:
            return read(value)
        except RuntimeError as error:
            if not is_disturbance(error):
                raise
            last = error
    kind = class_name(type(value))
    raise ValueNotStorable(
        f"an object of type {kind} was changed by another thread, or by its own methods, during each of {MOST_READS} "
        f"attempts to read it ({type(last).__name__}: {last}); pass a copy, or stop what changes it first"
    ) from last


def is_disturbance(error: Exception) -> bool:
    """Return True if the error says that a container was changed while it was read."""
    return type(error) is RuntimeError and bool(_CHANGED.search(str(error)))
