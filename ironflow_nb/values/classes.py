"""Classes by name, the attributes of their objects, and notes about code in pickles.

A stored value names its class, and the class that has this name now rebuilds it. A class of a cell is a new object each
time the cell runs and in each kernel, but it keeps its name. The search looks into ``__main__`` and the loaded modules,
and never imports anything.

A function of a cell is pickled as bytecode, and its source is missing in the process that loads it. So the pickle
contains a note with the result of reading the source. The loaded function is identified by this note.
"""

from __future__ import annotations

import copyreg
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from struct import calcsize
from types import CodeType, FunctionType
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from ironflow_nb.core.identity import step_name
from ironflow_nb.errors import ValueUnreadable

# Former modules of this package's classes, as older journals name them.
FORMER_MODULES: Final = {
    "ironflow_nb.core.retrying": "ironflow_nb.core.retry",
    "ironflow_nb.flows.steps": "ironflow_nb.flows.step",
    "ironflow_nb.values.input_file": "ironflow_nb.values.argument_types",
    "ironflow_nb.values.resource": "ironflow_nb.values.argument_types",
    "ironflow_nb.values.stored_code": "ironflow_nb.values.classes",
}
_RECORDED_NAMES: Final = {"ironflow_nb.core.retry.Retry": "ironflow_nb.core.retrying.Retry"}
_CURRENT_NAMES: Final = {recorded: current for current, recorded in _RECORDED_NAMES.items()}


def class_name(kind: type) -> str:
    """Return the name of the class in the journal: its qualname, after its module unless that is ``__main__``."""
    name = step_name(kind.__module__, kind.__qualname__)
    return _RECORDED_NAMES.get(name, name)


def is_findable(kind: Any) -> bool:
    """Return True if a search for its name finds this very class or function."""
    return lookup(step_name(kind.__module__, kind.__qualname__)) is kind


def find_class(name: str, fits: Callable[[type], bool]) -> type:
    """Return the class that has that name now.

    Raises:
        ValueUnreadable: no class has that name, or `fits` refuses it.
    """
    found = lookup(name)
    if not isinstance(found, type):
        raise ValueUnreadable(
            f"the value is a {name}, and no class of that name exists here; run the cell or import the module that "
            "defines it, then read the value again",
            class_name=name,
        )
    if not fits(found):
        raise ValueUnreadable(
            f"the value was a {name}, and that name now belongs to another kind of class; define it again as it was, "
            "then read the value again",
            class_name=name,
        )
    return found


def lookup(name: str) -> Any:
    """Return the object of that dotted name in ``__main__`` or the loaded modules, or None."""
    parts = _CURRENT_NAMES.get(name, name).split(".")
    for length in range(len(parts) - 1, -1, -1):
        found: Any = sys.modules.get(".".join(parts[:length]) or "__main__")
        for part in parts[length:]:
            # Not by getattr: a module's `__getattr__` may import something.
            found = getattr(found, "__dict__", {}).get(part)
        if found is not None:
            return found
    return None


def attributes(value: object) -> dict[str, Any] | None:
    """Return the attributes of an object that has no other state, or None.

    Cached properties are left out: they depend on earlier reads of the object.
    """
    kind = type(value)
    if not adds_only_attributes(kind, object) or _copies_itself(kind):
        return None
    state: Any = object.__getstate__(value)
    in_dict, in_slots = state if isinstance(state, tuple) else (state, None)
    found = {**(in_dict or {}), **(in_slots or {})}
    return {name: item for name, item in found.items() if not _is_cached(kind, name)}


_POINTER: Final = calcsize("P")
_MANAGED_DICT: Final = 1 << 4  # Py_TPFLAGS_MANAGED_DICT: the dict lies before the object


def adds_only_attributes(kind: type, base: type) -> bool:
    """Return True if the class adds to `base` only a dict and slots, and no fields in C.

    `object.__reduce_ex__` makes the same test before it treats the attributes as the whole state.
    """
    has_dict = kind.__dictoffset__ and not base.__dictoffset__ and not kind.__flags__ & _MANAGED_DICT
    has_weakref = kind.__weakrefoffset__ > 0 and base.__weakrefoffset__ <= 0
    n_pointers = bool(has_dict) + has_weakref + len(copyreg._slotnames(kind))  # type: ignore[attr-defined]
    return kind.__basicsize__ <= base.__basicsize__ + _POINTER * n_pointers and kind.__itemsize__ == base.__itemsize__


_COPYING_METHODS: Final = ("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__")


def _copies_itself(kind: type) -> bool:
    """Return True if the class defines the state of its objects itself."""
    own = (vars(base)[name] for base in kind.__mro__[:-1] for name in _COPYING_METHODS if name in vars(base))
    # dataclasses adds two of these methods to frozen dataclasses with slots.
    return any(getattr(method, "__module__", None) != "dataclasses" for method in own)


def _is_cached(kind: type, name: str) -> bool:
    return any(isinstance(vars(base).get(name), cached_property) for base in kind.__mro__)


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


PYTHON: Final = f"{sys.implementation.name} {sys.version_info[0]}.{sys.version_info[1]}"
"""The Python whose bytecode this one executes; that of another one would crash it, or mean something else."""


def with_note(code: Any, reduced: tuple[Any, ...], note: bytes | None) -> tuple[Any, ...]:
    """Return cloudpickle's reduction of a function or class, extended so that loading restores its name and note."""
    if len(reduced) < 6:
        return reduced
    make, args, state, items, pairs, set_state = reduced
    made_of = PYTHON, code.__qualname__, make, *args
    return make_code, made_of, (set_state, state, note, code.__qualname__), items, pairs, restore_code


def make_code(python: str, qualname: str, make: Callable[..., Any], *args: Any) -> Any:
    """Make a function or class before its state is loaded; pickles refer to this function by its name.

    Raises:
        ValueUnreadable: another Python has compiled it.
    """
    if python != PYTHON:
        raise _foreign(qualname, python)
    return make(*args)


def restore_code(code: Any, state: tuple[Any, ...]) -> None:
    """Give the function or class its state, its name and its note; pickles refer to this function by its name.

    Raises:
        ValueUnreadable: the pickle is older than `make_code`, and another Python has compiled the function.
    """
    set_state, own, note, *qualname = state
    if not qualname and isinstance(code, FunctionType) and not _is_executable(code.__code__):
        raise _foreign(code.__qualname__, "another Python")
    set_state(code, own)
    if qualname:  # that of a class is lost with cloudpickle
        code.__qualname__ = qualname[0]
    with suppress(TypeError):
        if note is not None:
            _NOTES[code] = note


def _foreign(qualname: str, python: str) -> ValueUnreadable:
    return ValueUnreadable(
        f"{qualname} was compiled by {python}, and this is {PYTHON}, which can't execute it; read it there, or make it "
        "again here",
        python=python,
    )


def _is_executable(code: CodeType) -> bool:
    """Return False if the bytecode can't be that of this Python."""
    import dis

    try:
        names = {each.opname for each in dis.get_instructions(code)}
    except (IndexError, KeyError, ValueError):
        return False
    is_known = "CACHE" not in names and not any(name.startswith("<") for name in names)
    return is_known and all(_is_executable(each) for each in code.co_consts if isinstance(each, CodeType))
