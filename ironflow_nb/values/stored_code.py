"""Notes about code in pickles: how a function or class was read in the process that pickled it.

A function of a cell is pickled as bytecode, and its source is missing in the process that loads it. So the pickle
contains a note with the result of reading the source. The loaded function is identified by this note.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from types import FunctionType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary


class CodeKnowledge(NamedTuple):
    """Functions that identify code; `of_class` returns None for a class that the user did not write."""

    of_function: Callable[[FunctionType], bytes]
    of_class: Callable[[type], bytes | None]
    note: Callable[[Any], bytes]
    """Returns the note about a function or class for its pickle."""


# Weak keys keep no code alive; functions and classes are equal only to themselves.
_NOTES: WeakKeyDictionary[Any, bytes] = WeakKeyDictionary()


def note_of(code: Any) -> bytes | None:
    """Return the note with which the function or class was loaded from a pickle, or None."""
    try:
        return _NOTES.get(code)
    except TypeError:  # the metaclass of the class forbids hashes or weak references
        return None


def with_note(reduced: tuple[Any, ...], note: bytes) -> tuple[Any, ...]:
    """Return cloudpickle's reduction of a function or class, extended so that loading restores the note."""
    if len(reduced) < 6:
        return reduced
    make, args, state, items, pairs, set_state = reduced
    return make, args, (set_state, state, note), items, pairs, restore_code


def restore_code(code: Any, state: tuple[Callable[[Any, Any], object], Any, bytes]) -> None:
    """Give the function or class its state and its note; pickles refer to this function by its name."""
    set_state, own, note = state
    set_state(code, own)
    with suppress(TypeError):
        _NOTES[code] = note
