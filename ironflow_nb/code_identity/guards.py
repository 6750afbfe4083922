"""Guards: the names and objects that a walk looked at. As long as they are unchanged, its result holds.

The check takes microseconds, because it runs before each call of a step.
"""

from __future__ import annotations

import copyreg
import types
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import starmap
from operator import attrgetter, contains, is_, itemgetter
from pathlib import Path
from typing import Any, Final

from ironflow_nb.code_identity.referenced_values import are_same, members_now

MISSING: Final = object()
"""Stands for the value of a name that is not defined."""

_code_of = attrgetter("__code__")


class Guards:
    """The names that one walk looked up, with the objects that it found.

    One thread fills it before any other thread sees it; after `settle` it is only read. Objects are compared by
    identity in loops that run in C: an equal value may have another type, and an `__eq__` may be slow or raise.

    Lock: none.
    """

    def __init__(self) -> None:
        self._found: dict[int, tuple[Mapping[str, Any], dict[str, Any]]] = {}
        self._counting: Counter[tuple[int, str]] = Counter()
        self._absent: list[tuple[Mapping[str, Any], str]] = []
        self._functions: dict[int, tuple[Any, types.CodeType]] = {}
        self._cells: list[tuple[types.CellType, Any]] = []
        self._mappings: dict[int, tuple[object, Mapping[Any, Any], list[Any]]] = {}
        self._members: list[tuple[Callable[[], Any], list[Any]]] = []
        self._files: dict[Path, tuple[int, int] | None] = {}
        self._plan: list[tuple[itemgetter[Any], Mapping[str, Any], Sequence[Any]]] = []
        self._types: list[tuple[itemgetter[Any], Mapping[str, Any], Sequence[type]]] = []
        self._watched: list[Any] = []
        self._codes: list[types.CodeType] = []
        self.has_files = False

    def item(self, namespace: Mapping[str, Any], name: str) -> Any:
        """Return the object of the name, or MISSING, and watch it."""
        found = namespace.get(name, MISSING)
        if found is MISSING:
            self._absent.append((namespace, name))
        else:
            self._found.setdefault(id(namespace), (namespace, {}))[1][name] = found
            self._counting[id(namespace), name] += 1
        return found

    def only_type(self, namespace: Mapping[str, Any], name: str) -> None:
        """Watch only the type of the object that `item` just found; other calls of `item` still watch the object."""
        self._counting[id(namespace), name] -= 1

    def function(self, function: types.FunctionType) -> None:
        """Watch the code of the function, which a reload replaces in place."""
        self._functions[id(function)] = function, function.__code__

    def cell(self, cell: types.CellType) -> Any:
        """Return the content of the cell, or MISSING, and watch it."""
        content = cell_content(cell)
        self._cells.append((cell, content))
        return content

    def attributes(self, kind: type) -> None:
        """Watch all attributes of the class."""
        copyreg._slotnames(kind)  # type: ignore[attr-defined]  # otherwise the first copy of an object would add an attribute later
        self._mappings[id(kind)] = kind, vars(kind), list(vars(kind).values())

    def registry(self, mapping: Mapping[Any, Any]) -> None:
        """Watch all values of the mapping."""
        self._mappings[id(mapping)] = mapping, mapping, list(mapping.values())

    def members(self, look_up: Callable[[], Any], found: list[Any]) -> None:
        """Watch the code in a container or object, which `look_up` returns."""
        self._members.append((look_up, found))

    def file(self, path: Path) -> None:
        """Watch the size and the modification time of the file."""
        self._files[path] = _file_state(path)

    def settle(self) -> None:
        """Prepare the lists for `holds`; nothing is added afterwards."""
        for key, (namespace, names) in self._found.items():
            counting = {name: value for name, value in names.items() if self._counting[key, name] > 0}
            types = {name: type(value) for name, value in names.items() if name not in counting}
            self._plan += [(_getter(counting), namespace, [*counting.values()])] if counting else []
            self._types += [(_getter(types), namespace, [*types.values()])] if types else []
        self._watched = [function for function, _ in self._functions.values()]
        self._codes = [code for _, code in self._functions.values()]
        self.has_files = bool(self._files)

    def holds(self) -> bool:
        """Return True if every name, attribute, code and cell is unchanged."""
        try:
            for get, namespace, found in self._plan:
                if not all(map(is_, get(namespace), found)):
                    return False
            for get, namespace, types_found in self._types:
                if not all(map(is_, map(type, get(namespace)), types_found)):
                    return False
        except KeyError:  # a name was deleted
            return False
        return all(map(is_, map(_code_of, self._watched), self._codes)) and (
            not (self._absent or self._cells or self._mappings or self._members) or self._rest_holds()
        )

    def files_hold(self) -> bool:
        """Return True if the files are unchanged."""
        return all(_file_state(path) == state for path, state in self._files.items())

    def _rest_holds(self) -> bool:
        return (
            not any(starmap(contains, self._absent))
            and all(cell_content(cell) is content for cell, content in self._cells)
            and all(starmap(_has_values, self._mappings.values()))
            and all(are_same(members_now(look_up()), found) for look_up, found in self._members)
        )


def _has_values(_: object, mapping: Mapping[Any, Any], values: list[Any]) -> bool:
    return len(mapping) == len(values) and all(map(is_, mapping.values(), values))


def _getter(names: dict[str, Any]) -> itemgetter[Any]:
    first, *others = names
    return itemgetter(first, *others or (first,))  # with one name only, itemgetter would not return a tuple


def cell_content(cell: types.CellType) -> Any:
    """Return the content of the cell, or MISSING."""
    try:
        return cell.cell_contents
    except ValueError:  # it is empty
        return MISSING


def _file_state(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
