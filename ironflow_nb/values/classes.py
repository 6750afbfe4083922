"""Classes by name, and what their objects consist of.

A stored value says what its class is called, and whatever has that name now rebuilds it: a class of a cell is another
object after the cell ran again, and in the next kernel, but by name it stays the same. The search looks into
``__main__`` and the modules that are loaded, and never imports anything.
"""

from __future__ import annotations

import copyreg
import sys
from collections.abc import Callable
from functools import cached_property
from struct import calcsize
from typing import Any, Final

from ironflow_nb.core.identity import step_name
from ironflow_nb.errors import ValueUnreadable

# Where classes of this package that values may hold stood when older journals were written.
FORMER_MODULES: Final = {
    "ironflow_nb.core.retrying": "ironflow_nb.core.retry",
    "ironflow_nb.flows.steps": "ironflow_nb.flows.step",
    "ironflow_nb.values.input_file": "ironflow_nb.values.argument_types",
    "ironflow_nb.values.resource": "ironflow_nb.values.argument_types",
}
_RECORDED_NAMES: Final = {"ironflow_nb.core.retry.Retry": "ironflow_nb.core.retrying.Retry"}
_CURRENT_NAMES: Final = {recorded: current for current, recorded in _RECORDED_NAMES.items()}


def class_name(kind: type) -> str:
    """Return the name of the class in the journal: its qualname, with its module unless that is ``__main__``."""
    name = step_name(kind.__module__, kind.__qualname__)
    return _RECORDED_NAMES.get(name, name)


def is_findable(kind: Any) -> bool:
    """Tell whether the name of the class or function leads back to this very one."""
    return lookup(step_name(kind.__module__, kind.__qualname__)) is kind


def find_class(name: str, fits: Callable[[type], bool]) -> type:
    """Return the class that has that name now.

    Raises:
        ValueUnreadable: there is none, or what has the name does not fit.
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
            f"the value was a {name}, and what has that name now is another kind of class; define it again as it was, "
            "then read the value again",
            class_name=name,
        )
    return found


def lookup(name: str) -> Any:
    """Return what the dotted name stands for in ``__main__`` or the loaded modules, or None."""
    parts = _CURRENT_NAMES.get(name, name).split(".")
    for length in range(len(parts) - 1, -1, -1):
        found: Any = sys.modules.get(".".join(parts[:length]) or "__main__")
        for part in parts[length:]:
            # Not by getattr: a module may answer that with an import.
            found = getattr(found, "__dict__", {}).get(part)
        if found is not None:
            return found
    return None


def attributes(value: object) -> dict[str, Any] | None:
    """Return the attributes of an object that consists of nothing else, or None.

    Cached properties are left out: whether somebody has looked at them already says nothing about the object.
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
    """Tell whether objects of the class hold what those of `base` hold, a dict, slots, and no other fields of C.

    It is the test that `object.__reduce_ex__` makes before it trusts attributes to be everything.
    """
    has_dict = kind.__dictoffset__ and not base.__dictoffset__ and not kind.__flags__ & _MANAGED_DICT
    has_weakref = kind.__weakrefoffset__ > 0 and base.__weakrefoffset__ <= 0
    n_pointers = bool(has_dict) + has_weakref + len(copyreg._slotnames(kind))  # type: ignore[attr-defined]
    return kind.__basicsize__ <= base.__basicsize__ + _POINTER * n_pointers and kind.__itemsize__ == base.__itemsize__


_COPYING_METHODS: Final = ("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__")


def _copies_itself(kind: type) -> bool:
    """Tell whether the class has its own idea of what its objects consist of."""
    own = (vars(base)[name] for base in kind.__mro__[:-1] for name in _COPYING_METHODS if name in vars(base))
    # Frozen dataclasses with slots get two of these from dataclasses itself.
    return any(getattr(method, "__module__", None) != "dataclasses" for method in own)


def _is_cached(kind: type, name: str) -> bool:
    return any(isinstance(vars(base).get(name), cached_property) for base in kind.__mro__)
