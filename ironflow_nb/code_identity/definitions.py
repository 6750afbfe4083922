"""Functions and classes one at a time: their own content, and what they refer to."""

from __future__ import annotations

import ast
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property, partial, partialmethod
from operator import is_
from typing import Any, Final

import msgspec

from ironflow_nb.code_identity.references import (
    Chain,
    References,
    assigned_globals,
    changed_names,
    global_names,
    read_references,
)
from ironflow_nb.code_identity.source import NO_SOURCE_OF_CLASS, class_source, function_source
from ironflow_nb.code_identity.syntax import bytecode, dotted, stripped, written
from ironflow_nb.code_identity.user_code import is_generated
from ironflow_nb.core.identity import Digest, digest_bytes
from ironflow_nb.values.stored_code import note_of

DECORATOR_MARK: Final = "__ironflow_decorator__"
"""Set on our own decorators, which say how a function is run and not what it does."""


class Reading(msgspec.Struct, frozen=True):
    """What is written in one function or class."""

    content: Digest
    chains: tuple[Chain, ...] = ()
    decorators: tuple[Chain, ...] = ()
    imports: dict[str, tuple[str, str | None]] = {}
    assigned: frozenset[str] = frozenset()
    changed: tuple[Chain, ...] = ()
    """What the code itself puts something into."""
    source: str = ""
    file: str = ""
    line: int = 0
    trouble: str | None = None


# Keyed by id, because codes that differ only in an annotation or a comment are equal; the weak reference takes the
# reading away with its code. Operations of a dict are atomic, and a code that two threads read is read alike.
_READINGS: Final[dict[int, tuple[weakref.ref[types.CodeType], Reading]]] = {}
# Here the attributes refer back to their class, so nothing would ever go; from so many on they are all forgotten.
_CLASSES: Final[dict[int, tuple[list[Any], Reading]]] = {}
_MOST_CLASSES: Final = 256


def read_function(function: types.FunctionType) -> Reading:
    """Return what is written in the function itself, whatever it wraps; every code is read once."""
    code = function.__code__
    known = _READINGS.get(id(code))
    if known is not None and known[0]() is code:
        return known[1]
    reading = _read_function(function)
    _READINGS[id(code)] = weakref.ref(code, _forget(id(code))), reading
    return reading


def read_class(kind: type) -> Reading:
    """Return what is written in the class, methods included; it is read again after a reload changed it in place."""
    state = [kind, *vars(kind).values(), *(method.__code__ for method in own_methods(kind))]
    known = _CLASSES.get(id(kind))
    if known is not None and len(known[0]) == len(state) and all(map(is_, known[0], state)):
        return known[1]
    reading = _read_class(kind)
    if len(_CLASSES) >= _MOST_CLASSES:
        _CLASSES.clear()
    _CLASSES[id(kind)] = state, reading
    return reading


def written_note(code: Any) -> bytes:
    """Return how the function or class was read, as its pickle keeps it."""
    return msgspec.json.encode(read_class(code) if isinstance(code, type) else read_function(code))


def _noted(code: Any) -> Reading | None:
    """Return how a function or class was read that came back from a pickle, if the note can be read here."""
    note = note_of(code)
    with suppress(msgspec.MsgspecError):
        return None if note is None else msgspec.json.decode(note, type=Reading)
    return None


def _read_class(kind: type) -> Reading:
    source = class_source(kind, own_methods(kind), class_namespace(kind))
    noted = _noted(kind) if source is None else None
    if noted is not None:
        return noted
    if source is None:
        annotations = vars(kind).get("__annotations__")  # of C, it is a descriptor
        shape = [f"class {kind.__qualname__}", *sorted(annotations if isinstance(annotations, dict) else ())]
        return Reading(digest_bytes("\0".join(shape).encode()), trouble=NO_SOURCE_OF_CLASS)
    tree = stripped(source.tree, partial(_is_ours, class_namespace(kind)))
    module = ast.Module([tree], [])  # type: ignore[list-item]
    compiled = compile(ast.fix_missing_locations(module), "<tracking>", "exec", dont_inherit=True)
    names = global_names(compiled) - {kind.__name__}
    reading = _reading(
        digest_bytes(written(tree)), read_references(tree, names), (source.text, source.file, source.line)
    )
    return msgspec.structs.replace(reading, changed=changed_names(tree, names))


def _forget(key: int) -> Callable[[object], None]:
    def forget(_reference: object) -> None:
        _READINGS.pop(key, None)

    return forget


def own_methods(kind: type) -> list[types.FunctionType]:
    """Return the functions that are written in the body of the class."""
    found = (inner for value in vars(kind).values() for inner in functions_in(value))
    return [each for each in found if is_written_in(each, kind)]


def is_written_in(function: types.FunctionType, kind: type) -> bool:
    """Return True if the function stands in the body of the class."""
    # A reload in place brings codes of other qualified names, and leaves the functions theirs.
    names = {function.__code__.co_qualname, function.__qualname__}
    return f"{kind.__qualname__}.{function.__code__.co_name}" in names and not is_generated(function)


def functions_in(value: Any) -> Iterator[types.FunctionType]:
    """Yield the functions that an attribute of a class consists of, unwrapped."""
    match value:
        case types.FunctionType():
            yield innermost(value)
        case staticmethod() | classmethod():
            yield from functions_in(value.__func__)
        case property():
            for each in (value.fget, value.fset, value.fdel):
                yield from functions_in(each)
        case partialmethod() | cached_property():
            yield from functions_in(value.func)
        case _ if is_definition(value):
            yield from functions_in(value.fn)


def innermost(function: types.FunctionType) -> types.FunctionType:
    """Return the function that is wrapped in the end."""
    seen = {id(function)}
    found: Any = function
    while (following := wrapped_by(found)) is not None and id(following) not in seen:
        seen.add(id(following))
        found = following
    return found if isinstance(found, types.FunctionType) else function


def wrapped_by(value: Any) -> Any:
    """Return what `functools.wraps` noted on the value, without asking the value itself."""
    return getattr(value, "__dict__", {}).get("__wrapped__")


def is_definition(value: object) -> bool:
    """Return True if the value is a step or a flow."""
    return hasattr(type(value), "__ironflow_definition__")


CODE_TYPES: Final = (
    types.FunctionType, types.BuiltinFunctionType, types.MethodType, staticmethod, classmethod, property,
    partial, partialmethod, cached_property,
)  # fmt: skip


def is_code(value: Any) -> bool:
    """Return True if the value is a function, or something that is made of one."""
    if isinstance(value, CODE_TYPES):
        return True
    return is_definition(value) or (wrapped_by(value) is not None and callable(value))


def _read_function(function: types.FunctionType) -> Reading:
    code = function.__code__
    arguments = code.co_varnames[: min(1, code.co_argcount)]  # `self`, perhaps
    names = global_names(code) | {*code.co_freevars, *arguments}
    source = function_source(function)
    noted = _noted(function) if isinstance(source, str) else None
    if noted is not None:
        return noted
    if isinstance(source, str):
        chains = tuple((name,) for name in sorted(names - set(arguments)))
        where = {"file": code.co_filename, "line": code.co_firstlineno}
        return Reading(digest_bytes(b"bytecode\0" + bytecode(code)), chains, trouble=source, **where)  # type: ignore[arg-type]
    is_ours = partial(_is_ours, function.__globals__)
    tree = source.tree if isinstance(source.tree, ast.Lambda) else stripped(source.tree, is_ours)
    found = read_references(tree, names)
    decorators = [chain for node in getattr(tree, "decorator_list", ()) for chain in _chains_in(node)]
    reading = _reading(digest_bytes(written(tree)), found, (source.text, source.file, source.line))
    changed = changed_names(tree, names - set(arguments))
    return msgspec.structs.replace(
        reading, decorators=tuple(sorted(set(decorators))), assigned=assigned_globals(code), changed=changed
    )


def _reading(content: Digest, found: References, source: tuple[str, str, int]) -> Reading:
    text, file, line = source
    chains = tuple(sorted(found.chains))
    return Reading(content, chains, imports=found.imports, source=text, file=file, line=line)


def _chains_in(node: ast.expr) -> set[Chain]:
    names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    return read_references(node, names).chains


def class_namespace(kind: type) -> dict[str, Any]:
    """Return the globals of where the class was made, as far as that is known."""
    methods = own_methods(kind)
    module = sys.modules.get(kind.__module__)
    return methods[0].__globals__ if methods else vars(module) if module is not None else {}


def has_our_decorator(node: ast.AST, namespace: dict[str, Any]) -> bool:
    """Return True if this is the definition of a flow or step."""
    return any(_is_ours(namespace, each) for each in getattr(node, "decorator_list", ()))


def _is_ours(namespace: dict[str, Any], node: ast.expr) -> bool:
    """Return True if the decorator expression, looked up where the function lives, is one of ours."""
    names = dotted(node.func if isinstance(node, ast.Call) else node)
    if not names:
        return False
    found: Any = namespace.get(names[0])
    for name in names[1:]:
        found = getattr(found, name, None)
    return getattr(found, DECORATOR_MARK, False) is True
