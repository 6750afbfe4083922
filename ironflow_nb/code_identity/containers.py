"""Code in containers and objects: handlers in a dict, a function in an attribute.

Objects in a mutable container are data, and their classes are not tracked. Otherwise a list that a flow fills would be
other code after each item. Objects in a tuple or a frozen dataclass stay there, and are followed.
"""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from operator import is_, itemgetter
from typing import Any, Final

from ironflow_nb.code_identity.definitions import CODE_TYPES, is_code
from ironflow_nb.code_identity.source import is_user_class
from ironflow_nb.values.classes import class_name

MOST: Final = 256
"""The number of items of one value that are looked at; a longer value counts as data."""

_DEEPEST: Final = 4
_FEW: Final = 16
_MAPPINGS: Final = (dict, types.MappingProxyType)
_SEQUENCES: Final = (list, tuple, deque)
_SETS: Final = (set, frozenset)
_FIXED: Final = (tuple, frozenset)
_CONTAINERS: Final[tuple[Any, ...]] = (*_MAPPINGS, *_SEQUENCES, *_SETS)
_SCALARS: Final = frozenset({str, int, float, bool, bytes, type(None)})


class Members:
    """The functions, classes and steps in a value and in the values inside of it, each with its place."""

    def __init__(self, value: Any, left_out: frozenset[int] = frozenset()) -> None:
        self.found: list[tuple[str, Any]] = []
        self.has_data = False
        """Whether it contains data too, or more items than are looked at."""
        self.has_left_out = False
        """Whether it contains one of the values that `left_out` has the ids of."""
        self._n_seen = 0
        self._seen = {id(value)}
        self._left_out = left_out
        self._collect(value, "", 0)

    @property
    def are_watched(self) -> bool:
        """Whether a guard looks at the value at each call: it contains code, or is so short that code may be added."""
        return bool(self.found) or self._n_seen <= _FEW

    def _collect(self, value: Any, place: str, depth: int) -> None:
        for name, item in _sorted_items(value):
            self._n_seen += 1
            if self._n_seen > MOST or depth > _DEEPEST:
                self.has_data = True
                return
            if _is_member(item):
                self.found.append((f"{place}{name}", item))
            elif id(item) in self._left_out:
                self.has_data = self.has_left_out = True
            elif not _is_followed(item, value):
                self.has_data = True
            elif id(item) not in self._seen:
                self._seen.add(id(item))
                if not issubclass(type(item), _CONTAINERS) and is_user_class(type(item)):
                    self.found.append((f"{place}{name}", type(item)))
                self._collect(item, f"{place}{name}", depth + 1)


def may_have_members(value: Any) -> bool:
    """Return True for a container, and for an object of a user's class without `__ironflow_digest__`."""
    kind = type(value)  # not isinstance, which would ask a proxy for its target
    is_object = is_user_class(kind) and not hasattr(kind, "__ironflow_digest__")
    return is_object or issubclass(kind, (*_CONTAINERS, types.SimpleNamespace))


@lru_cache(maxsize=1024)
def _is_data(kind: type) -> bool:
    """Return True if no object of the class is code or contains code; cached, because guards ask at each call."""
    if kind in _SCALARS:
        return True
    may_be_code = hasattr(kind, "__ironflow_definition__") or issubclass(kind, (type, *CODE_TYPES))
    has_more = kind.__dictoffset__ != 0 or issubclass(kind, _CONTAINERS) or is_user_class(kind)
    return not (may_be_code or has_more)


def members_now(value: Any) -> list[Any]:
    """Return the keys and code in the value as a flat list, to be compared by `are_same`; faster than `Members`."""
    found: list[Any] = []
    pending, seen = [(value, 0)], {id(value)}
    for each, depth in pending:  # the list grows during the loop
        for key, item in () if _has_only_scalars(each) else _items(each):
            if _is_data(type(item)):  # type: ignore[arg-type]  # classes are hashable
                continue
            if _is_member(item):
                found += (key, item)
            elif depth < _DEEPEST and id(item) not in seen and _is_followed(item, each):
                seen.add(id(item))
                pending.append((item, depth + 1))
                found.append(type(item))
        if len(pending) > MOST:
            break
    return found


def _has_only_scalars(value: Any) -> bool:
    """Return True for a plain container of scalars; the loop runs in C."""
    kind = type(value)
    if kind is dict:
        return _SCALARS.issuperset(map(type, value.values()))
    return (kind is list or kind is tuple) and _SCALARS.issuperset(map(type, value))


def are_same(now: list[Any], before: list[Any]) -> bool:
    """Return True if two results of `members_now` have the same objects in the same order."""
    return len(now) == len(before) and all(map(is_, now, before))


def _is_followed(item: Any, container: Any) -> bool:
    if issubclass(type(item), _CONTAINERS):
        return True
    is_frozen = getattr(getattr(type(container), "__dataclass_params__", None), "frozen", False)
    return (is_frozen or issubclass(type(container), _FIXED)) and may_have_members(item)


def _is_member(item: Any) -> bool:
    return is_code(item) or (isinstance(item, type) and is_user_class(item))


def _items(value: Any) -> list[tuple[Any, Any]]:
    """Return the direct items of the value by key or attribute; in sequences and sets the key is None."""
    kind, found = type(value), []
    base = next((base for base in _CONTAINERS if issubclass(kind, base)), None)
    if base in _MAPPINGS:
        found = list(islice(base.items(value), MOST + 1))
    elif base is not None:  # not by the `__iter__` of a user's class
        found = [(None, item) for item in islice(base.__iter__(value), MOST + 1)]
    if kind is not base:
        state: Any = object.__getstate__(value)
        for part in state if isinstance(state, tuple) else (state,):
            found += (part or {}).items()
    return found


def _sorted_items(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the place and the item of each direct item, in the same order in every process."""
    found = _items(value)
    is_sequence = issubclass(type(value), _SEQUENCES)
    if is_sequence:
        places = (f"[{index}]" if key is None else f".{key}" for index, (key, _) in enumerate(found))
    elif issubclass(type(value), _SETS):
        places = (f"[{_format_key(item)}]" for _, item in found)
    else:
        places = (f"[{_format_key(key)}]" for key, _ in found)
    named = [(place, item) for place, (_, item) in zip(places, found, strict=True)]
    yield from named if is_sequence else sorted(named, key=itemgetter(0))


def _format_key(key: Any) -> str:
    if type(key) in _SCALARS:
        return repr(key)
    name = getattr(key, "__qualname__", None)
    return f"{getattr(key, '__module__', '')}.{name}" if isinstance(name, str) else class_name(type(key))
