"""What a pickle keeps of the code in it: how that was read where it was written.

A function of a cell is pickled as it is compiled, and its source is not there any more where it comes back. So its
pickle carries a note of what was known of it, and it identifies by that, whatever the pickler makes of its code.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from types import FunctionType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary


class CodeKnowledge(NamedTuple):
    """What is known of code: of functions, and of classes, whose identity is None if they are not the user's."""

    of_function: Callable[[FunctionType], bytes]
    of_class: Callable[[type], bytes | None]
    note: Callable[[Any], bytes]
    """Returns how a function or class was read, to be kept with its pickle."""


# Functions and classes are equal only to themselves, and nothing is kept alive.
_NOTES: WeakKeyDictionary[Any, bytes] = WeakKeyDictionary()


def note_of(code: Any) -> bytes | None:
    """Return the note that the function or class came back with from a pickle."""
    try:
        return _NOTES.get(code)
    except TypeError:  # a class whose metaclass forbids it
        return None


def noting(reduced: tuple[Any, ...], note: bytes) -> tuple[Any, ...]:
    """Return what cloudpickle reduces a function or class to, so that it comes back with the note."""
    if len(reduced) < 6:
        return reduced
    make, args, state, items, pairs, set_state = reduced
    return make, args, (set_state, state, note), items, pairs, restore_code


def restore_code(code: Any, state: tuple[Callable[[Any, Any], object], Any, bytes]) -> None:
    """Give the function or class its state and its note; pickles call this by its name."""
    set_state, own, note = state
    set_state(code, own)
    with suppress(TypeError):
        _NOTES[code] = note
