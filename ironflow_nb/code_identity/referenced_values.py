"""Values that code refers to: constants, and the code in containers and objects.

Constants are global values that can't change in place, and so belong to the code that refers to them.

A constant may be computed when its module or cell runs, from the clock for instance. Then another process gets another
value, and the code seems edited. `explained` finds such an expression in the source and names it.

Functions and classes are found in containers and objects too: handlers in a dict, a function in an attribute. Objects
in a mutable container are data, and their classes are not tracked. Otherwise a list that a flow fills would be other
code after each item. Objects in a tuple or a frozen dataclass stay there, and are followed.
"""

from __future__ import annotations

import ast
import builtins
import datetime as dt
import linecache
import re
import sys
import types
from collections import deque
from collections.abc import Iterator
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from itertools import islice
from operator import is_, itemgetter
from pathlib import PurePath
from typing import Any, Final

from ironflow_nb.code_identity.code_parts import Change, PartKind
from ironflow_nb.code_identity.definitions import CODE_TYPES, is_code
from ironflow_nb.code_identity.source import is_user_class, is_user_module, parsed
from ironflow_nb.code_identity.syntax import dotted
from ironflow_nb.core.identity import Digest, digest_bytes
from ironflow_nb.values.classes import CodeKnowledge, class_name
from ironflow_nb.values.digest import Digested, Digester, Provenance

_CONSTANT_TYPES: Final = frozenset({
    int, float, complex, str, bytes, bool, type(None), type(Ellipsis), range, Decimal, re.Pattern,
    dt.date, dt.datetime, dt.time, dt.timedelta, dt.timezone,
})  # fmt: skip
# Constant types by name, so that their modules are not imported here.
_CONSTANT_NAMES: Final = frozenset({"uuid.UUID", "fractions.Fraction", "zoneinfo.ZoneInfo"})
_SHOWN: Final = 200


def is_constant(value: object) -> bool:
    """Return True if the value can't change in place. Its content is then part of the code."""
    kind = type(value)
    if kind is tuple or kind is frozenset:
        return all(map(is_constant, value))  # type: ignore[call-overload]
    return kind in _CONSTANT_TYPES or class_name(kind) in _CONSTANT_NAMES or isinstance(value, PurePath | Enum)


def constant_digest(value: object) -> Digest:
    """Return the digest of a constant."""
    if isinstance(value, re.Pattern):
        return digest_bytes(b"pattern\0" + constant_digest((value.pattern, value.flags)))
    if type(value) in {tuple, frozenset}:
        items = [constant_digest(item) for item in value]  # type: ignore[attr-defined]
        ordered = items if type(value) is tuple else sorted(items)
        return digest_bytes(f"{type(value).__name__}\0".encode() + b"".join(ordered))
    return value_digest(value).digest


def value_digest(value: object) -> Digested:
    """Return the digest that the value would have as an argument."""
    return _DIGESTER.digest(value)


def shown(value: Any) -> str:
    """Return the value as text of at most 200 characters."""
    ordered = sorted(map(shown, value)) if type(value) is frozenset else None
    text = repr(value) if ordered is None else f"frozenset({{{', '.join(ordered)}}})"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


# Constants are never opaque, so the entropy is not used: `bytes` returns zeros.
_DIGESTER: Final = Digester(
    Provenance(bytes), CodeKnowledge(lambda function: function.__qualname__.encode(), lambda _: None, lambda _: b"")
)


# -- how a constant is computed ----------------------------------------------------------------------------------------

_DEEPEST: Final = 8
# Functions of these modules are pure, except the impure ones; classes are treated as pure functions.
_PURE: Final = frozenset({"builtins", "math", "re"})
_IMPURE: Final = frozenset({"eval", "exec", "getattr", "hash", "id", "input", "open", "vars", "__import__"})


_Definition = ast.expr | tuple[str, str]
"""The expression that is assigned to a name; or a module and the name that is imported from it."""


def explained(change: Change) -> str:
    """Return the reason of the change; for a computed constant also the expression and the way to exclude it."""
    if change.old is None or change.new is None or change.new.kind is not PartKind.CONSTANT:
        return change.reason
    module, path = _split_name(change.new.name)
    text = _impure_expression(module, path, _DEEPEST)
    if text is None:
        return change.reason
    way_out = f"(if it is passed to the step as iron.resource({'.'.join(path)}), it does not count)"
    return f"{change.reason}, computed from `{text}` {way_out}"


def _impure_expression(module: types.ModuleType, path: list[str], depth: int) -> str | None:
    """Return the impure expression that the constant is computed from; None if there is none."""
    for text in _source_texts(module):
        tree = parsed(text)
        found = [] if tree is None else [*_definitions_of(path, tree.body)]
        if found:  # in a notebook, the last cell that defines the constant
            texts = (_impure_text(each, module, depth) for each in found)
            return next((each for each in texts if each is not None), None)
    return None


def _split_name(name: str) -> tuple[types.ModuleType, list[str]]:
    names = name.split(".")
    known = (end for end in range(len(names) - 1, 0, -1) if ".".join(names[:end]) in sys.modules)
    end = next(known, 0)
    return sys.modules[".".join(names[:end]) or "__main__"], names[end:]


def _source_texts(module: types.ModuleType) -> Iterator[str]:
    """Yield the source of the module; for a notebook the sources of its cells, the last one first."""
    if isinstance(file := getattr(module, "__file__", None), str):
        yield "".join(linecache.getlines(file))
    elif module.__name__ == "__main__":
        for entry in reversed([*linecache.cache.values()]):
            if len(entry) > 2 and entry[1] is None:
                yield "".join(entry[2])


def _definitions_of(path: list[str], body: list[ast.stmt]) -> Iterator[_Definition]:
    """Yield the expressions that are assigned to the name, and the conditions of these assignments."""
    for node in body:
        match node:
            case ast.ClassDef(name=name) if len(path) > 1 and name == path[0]:
                yield from _definitions_of(path[1:], node.body)
            case ast.Assign() | ast.AnnAssign() | ast.AugAssign() if node.value is not None:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                pairs = [pair for target in targets for pair in _assigned_names(target, node.value)]
                yield from (value for name, value in pairs if [name] == path)
            case ast.ImportFrom(level=0, module=str(origin)):
                found = [each.name for each in node.names if [each.asname or each.name] == path]
                yield from ((origin, name) for name in found)
            case ast.If() | ast.For() | ast.While() | ast.With() | ast.Try():
                blocks = [getattr(node, block, []) for block in ("body", "orelse", "finalbody")]
                inside = [each for block in blocks for each in _definitions_of(path, block)]
                yield from [node.test, *inside] if inside and isinstance(node, ast.If) else inside


def _assigned_names(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        for each, part in zip(target.elts, value.elts, strict=True):
            yield from _assigned_names(each, part)
    else:
        yield from ((each.id, value) for each in ast.walk(target) if isinstance(each, ast.Name))


def _impure_text(definition: _Definition, module: types.ModuleType, depth: int) -> str | None:
    """Return the expression, or that of a constant in it, if its value may differ in another process."""
    if isinstance(definition, tuple):
        return _impure_constant(sys.modules.get(definition[0]), [definition[1]], depth)
    pure = [node.func for node in ast.walk(definition) if isinstance(node, ast.Call) and _is_pure(node.func, module)]
    for node in ast.walk(definition):
        names = dotted(node) if isinstance(node, ast.Name | ast.Attribute) else ()
        owner = _object_of(names[:-1], module)
        if isinstance(owner, types.ModuleType) and is_user_module(owner):
            found = _impure_constant(owner, [names[-1]], depth)
        elif len(names) == 1:
            found = _impure_constant(module, [*names], depth)
        else:
            is_fixed = isinstance(owner, type) or getattr(owner, "__name__", None) in _PURE
            is_impure = node.func not in pure if isinstance(node, ast.Call) else names and not is_fixed
            found = ast.unparse(definition) if is_impure and node not in pure else None
        if found is not None:
            return found
    return None


def _impure_constant(module: types.ModuleType | None, path: list[str], depth: int) -> str | None:
    return None if module is None or not depth else _impure_expression(module, path, depth - 1)


def _is_pure(function: ast.expr, module: types.ModuleType) -> bool:
    """Return True if the function is known to depend on its arguments only."""
    found, names = _object_of(dotted(function), module), dotted(function)
    is_method_of_literal = isinstance(function, ast.Attribute) and isinstance(function.value, ast.Constant)
    is_known = getattr(found, "__module__", None) in _PURE and names[-1] not in _IMPURE
    return is_method_of_literal or isinstance(found, type) or is_known


def _object_of(names: tuple[str, ...], module: types.ModuleType) -> Any:
    """Return the object of the dotted name, or None; no code runs for it."""
    found = (vars(builtins) | vars(module)).get(names[0]) if names else None
    for name in names[1:]:
        found = getattr(found, name, None) if isinstance(found, types.ModuleType | type) else None
    return found


# -- code in containers and objects ------------------------------------------------------------------------------------

MOST: Final = 256
"""The number of items of one value that are looked at; a longer value counts as data."""

_DEEPEST_MEMBER: Final = 4
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
            if self._n_seen > MOST or depth > _DEEPEST_MEMBER:
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
            elif depth < _DEEPEST_MEMBER and id(item) not in seen and _is_followed(item, each):
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
    """Return the direct items of the value by key or attribute; in sequences and sets the key is None.

    They are copied by one call in C: another thread may change the value meanwhile.
    """
    kind, found = type(value), []
    base = next((base for base in _CONTAINERS if issubclass(kind, base)), None)
    if base in _MAPPINGS:
        found = list(islice(base.items(value), MOST + 1))
    elif base is not None:  # not by the `__iter__` of a user's class
        found = [(None, item) for item in list(islice(base.__iter__(value), MOST + 1))]
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
