"""Constants that are computed when their module or cell is executed: another process may get others.

Global values that count as code: those that can't change in place.
"""

from __future__ import annotations

import ast
import builtins
import datetime as dt
import linecache
import re
import sys
import types
from collections.abc import Iterator
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Final

from ironflow_nb.code_identity.code_parts import Change
from ironflow_nb.code_identity.source import parsed
from ironflow_nb.code_identity.syntax import dotted
from ironflow_nb.code_identity.user_code import is_user_module
from ironflow_nb.core.identity import Digest, digest_bytes
from ironflow_nb.values.classes import class_name
from ironflow_nb.values.digest import Digested, Digester, Provenance
from ironflow_nb.values.stored_code import CodeKnowledge

_CONSTANT_TYPES: Final = frozenset({
    int, float, complex, str, bytes, bool, type(None), type(Ellipsis), range, Decimal, re.Pattern,
    dt.date, dt.datetime, dt.time, dt.timedelta, dt.timezone,
})  # fmt: skip
# Of modules that are not imported for this.
_CONSTANT_NAMES: Final = frozenset({"uuid.UUID", "fractions.Fraction", "zoneinfo.ZoneInfo"})
_SHOWN: Final = 200


def is_constant(value: object) -> bool:
    """Return True if the value can't change in place: then it counts by its content."""
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
    """Return the digest of any value, as it would be as an argument."""
    return _DIGESTER.digest(value)


def shown(value: Any) -> str:
    """Return the value as a line of text that is not long."""
    ordered = sorted(map(shown, value)) if type(value) is frozenset else None
    text = repr(value) if ordered is None else f"frozenset({{{', '.join(ordered)}}})"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _no_code(function: types.FunctionType) -> bytes:
    return function.__qualname__.encode()


# Constants come from nowhere, so no entropy is ever asked for: `bytes` returns as many zeros.
_DIGESTER: Final = Digester(Provenance(bytes), CodeKnowledge(_no_code, lambda _: None, lambda _: b""))


_DEEPEST: Final = 8
# What functions of these return follows from their arguments; so does what a class makes of its arguments.
_PURE: Final = frozenset({"builtins", "math", "re"})
_ASKING: Final = frozenset({"eval", "exec", "getattr", "hash", "id", "input", "open", "vars", "__import__"})


_Given = ast.expr | tuple[str, str]
"""An expression; or a module and the name that is imported from it."""


def explained(change: Change) -> str:
    """Return the reason of the change; of a constant that was computed, how to take it out of the code as well."""
    if change.old is None or change.new is None or change.new.kind != "constant":
        return change.reason
    module, path = _module_and_path(change.new.name)
    text = _computed(module, path, _DEEPEST)
    if text is None:
        return change.reason
    way_out = f"(passed to the step as iron.resource({'.'.join(path)}) it would not count)"
    return f"{change.reason}, computed from `{text}` {way_out}"


def _computed(module: types.ModuleType, path: list[str], depth: int) -> str | None:
    """Return what the constant is computed from; None if it stands in the source as it is."""
    for text in _texts(module):
        tree = parsed(text)
        given = [] if tree is None else [*_given(tree.body, path)]
        if given:  # of a notebook the last cell that gives it
            return next((found for each in given if (found := _asked(each, module, depth)) is not None), None)
    return None


def _module_and_path(name: str) -> tuple[types.ModuleType, list[str]]:
    names = name.split(".")
    known = (end for end in range(len(names) - 1, 0, -1) if ".".join(names[:end]) in sys.modules)
    end = next(known, 0)
    return sys.modules[".".join(names[:end]) or "__main__"], names[end:]


def _texts(module: types.ModuleType) -> Iterator[str]:
    """Yield the source of the module; in a notebook that of its cells, the last one first."""
    if isinstance(file := getattr(module, "__file__", None), str):
        yield "".join(linecache.getlines(file))
    elif module.__name__ == "__main__":
        for entry in reversed([*linecache.cache.values()]):
            if len(entry) > 2 and entry[1] is None:
                yield "".join(entry[2])


def _given(body: list[ast.stmt], path: list[str]) -> Iterator[_Given]:
    """Yield what the name is given, and the conditions under which it is."""
    for node in body:
        match node:
            case ast.ClassDef(name=name) if len(path) > 1 and name == path[0]:
                yield from _given(node.body, path[1:])
            case ast.Assign() | ast.AnnAssign() | ast.AugAssign() if node.value is not None:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                yield from (value for target in targets for name, value in _pairs(target, node.value) if [name] == path)
            case ast.ImportFrom(level=0, module=str(origin)):
                found = [each.name for each in node.names if [each.asname or each.name] == path]
                yield from ((origin, name) for name in found)
            case ast.If() | ast.For() | ast.While() | ast.With() | ast.Try():
                blocks = [getattr(node, block, []) for block in ("body", "orelse", "finalbody")]
                inside = [each for block in blocks for each in _given(block, path)]
                yield from [node.test, *inside] if inside and isinstance(node, ast.If) else inside


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        for each, part in zip(target.elts, value.elts, strict=True):
            yield from _pairs(each, part)
    else:
        yield from ((each.id, value) for each in ast.walk(target) if isinstance(each, ast.Name))


def _asked(given: _Given, module: types.ModuleType, depth: int) -> str | None:
    """Return the expression, or that of a constant in it, if it asks for what may be otherwise in another process."""
    if isinstance(given, tuple):
        return _computed_elsewhere(sys.modules.get(given[0]), [given[1]], depth)
    pure = [node.func for node in ast.walk(given) if isinstance(node, ast.Call) and _is_pure(node.func, module)]
    for node in ast.walk(given):
        names = dotted(node) if isinstance(node, ast.Name | ast.Attribute) else ()
        owner = _meant(names[:-1], module)
        if isinstance(owner, types.ModuleType) and is_user_module(owner):
            found = _computed_elsewhere(owner, [names[-1]], depth)
        elif len(names) == 1:
            found = _computed_elsewhere(module, [*names], depth)
        else:
            is_fixed = isinstance(owner, type) or getattr(owner, "__name__", None) in _PURE
            is_asked = node.func not in pure if isinstance(node, ast.Call) else names and not is_fixed
            found = ast.unparse(given) if is_asked and node not in pure else None
        if found is not None:
            return found
    return None


def _computed_elsewhere(module: types.ModuleType | None, path: list[str], depth: int) -> str | None:
    return None if module is None or not depth else _computed(module, path, depth - 1)


def _is_pure(function: ast.expr, module: types.ModuleType) -> bool:
    """Return True if what a call returns follows from its arguments, as far as that is known."""
    found, names = _meant(dotted(function), module), dotted(function)
    is_of_text = isinstance(function, ast.Attribute) and isinstance(function.value, ast.Constant)
    is_known = getattr(found, "__module__", None) in _PURE and names[-1] not in _ASKING
    return is_of_text or isinstance(found, type) or is_known


def _meant(names: tuple[str, ...], module: types.ModuleType) -> Any:
    """Return what the names stand for, as far as nothing is run for it."""
    found = (vars(builtins) | vars(module)).get(names[0]) if names else None
    for name in names[1:]:
        found = getattr(found, name, None) if isinstance(found, types.ModuleType | type) else None
    return found
