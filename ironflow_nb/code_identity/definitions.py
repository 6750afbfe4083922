"""Functions and classes one at a time: the digest of their own code, and the names that it refers to.

The references of code are global and closure names with their attributes, and its own imports. Names that occur only in
annotations of functions are left out.
"""

from __future__ import annotations

import ast
import dis
import opcode
import sys
import types
import weakref
from collections.abc import Collection, Iterable, Iterator, Set
from contextlib import suppress
from functools import cached_property, partial, partialmethod
from operator import is_
from typing import Any, Final

import msgspec

from ironflow_nb.code_identity.source import (
    NO_SOURCE_OF_CLASS,
    Source,
    class_source,
    codes,
    function_source,
    is_generated,
)
from ironflow_nb.code_identity.syntax import FunctionNode, bytecode, dotted, stripped, written
from ironflow_nb.core.identity import Digest, digest_bytes
from ironflow_nb.values.classes import note_of

Chain = tuple[str, ...]
"""``("np", "linalg", "norm")``: a name and the attributes that are read from it."""

SUPER: Final = "super()"
_GLOBAL_LOADS: Final = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_GLOBAL_CODES: Final = {
    opcode.opmap[name]: int(name == "LOAD_GLOBAL") for name in _GLOBAL_LOADS if name in opcode.opmap
}
_STORE_NAME: Final = opcode.opmap["STORE_NAME"]
_STORE_GLOBAL: Final = opcode.opmap["STORE_GLOBAL"]
_CHANGING: Final = frozenset({
    "add", "append", "appendleft", "clear", "difference_update", "discard", "extend", "extendleft", "insert",
    "intersection_update", "pop", "popitem", "popleft", "register", "remove", "reverse", "setdefault", "sort",
    "symmetric_difference_update", "update",
})  # fmt: skip
_JUMPS: Final = frozenset({*opcode.hasjrel, *opcode.hasjabs})
_EXTENDED: Final = opcode.EXTENDED_ARG


class References(msgspec.Struct, frozen=True):
    """The chains in some code, and the names that its own import statements bind."""

    chains: set[Chain]
    imports: dict[str, tuple[str, str | None]]
    """By bound name: the module, and the name in it for ``from module import name``. Relative modules have dots."""


def global_names(code: types.CodeType) -> frozenset[str]:
    """Return the global names that the code and its nested codes look up."""
    return frozenset(name for each in codes(code) for name in _globals_of(each))


def read_references(tree: ast.AST, names: Iterable[str]) -> References:
    """Return the references of the tree that begin with one of the names, with `super()` or with an import."""
    reader = _NameReader()
    reader.visit(tree)
    known = {*names, *reader.imports, SUPER}
    return References({chain for chain in reader.chains if chain[0] in known}, reader.imports)


def assigned_globals(code: types.CodeType) -> frozenset[str]:
    """Return the globals that the code assigns: they are its results, and not a part of it."""
    return frozenset(
        each.co_names[index] for each in codes(code) for op, index in _operations(each) if op == _STORE_GLOBAL
    )


def changed_names(tree: ast.AST, names: Collection[str]) -> tuple[Chain, ...]:
    """Return the chains, beginning with one of the names, of the objects that the tree changes in place."""
    found = {dotted(_without_subscripts(node)) for each in ast.walk(tree) for node in _changed_objects(each)}
    return tuple(sorted(chain for chain in found if chain and chain[0] in names))


def _changed_objects(node: ast.AST) -> Iterator[ast.expr]:
    match node:
        case ast.Subscript(ctx=ast.Store() | ast.Del()) | ast.Attribute(ctx=ast.Store() | ast.Del()):
            yield node.value
        case ast.AugAssign():
            yield node.target
        case ast.Call(func=ast.Attribute(attr=attr)) if attr in _CHANGING:
            yield node.func.value  # type: ignore[attr-defined]


def _without_subscripts(node: ast.expr) -> ast.expr:
    while isinstance(node, ast.Subscript):
        node = node.value
    return node


def _globals_of(code: types.CodeType) -> set[str]:
    if _STORE_NAME in code.co_code[::2]:
        return _globals_of_class_body(code)
    return {
        code.co_names[number >> _GLOBAL_CODES[operation]]
        for operation, number in _operations(code)
        if operation in _GLOBAL_CODES
    }


def _globals_of_class_body(code: types.CodeType) -> set[str]:
    """Return the names that a class body loads before it has certainly stored them, as in ``n = n``."""
    loaded: set[str] = set()
    stored: set[str] = set()
    skipped_until = 0
    for each in dis.get_instructions(code):
        if each.opcode in _JUMPS:
            skipped_until = max(skipped_until, each.argval)
        elif each.opcode in _GLOBAL_CODES and each.argval not in stored:
            loaded.add(each.argval)
        elif each.opcode == _STORE_NAME and each.offset >= skipped_until:
            stored.add(each.argval)
    return loaded


def _operations(code: types.CodeType) -> Iterator[tuple[int, int]]:
    """Yield operations with their arguments, faster than ``dis``."""
    extended = 0
    raw = code.co_code
    for operation, argument in zip(raw[::2], raw[1::2], strict=True):
        number = argument | extended
        extended = number << 8 if operation == _EXTENDED else 0
        yield operation, number


class _NameReader(ast.NodeVisitor):
    def __init__(self) -> None:
        self.chains: set[Chain] = set()
        self.imports: dict[str, tuple[str, str | None]] = {}
        self._outermost = True

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            name = alias.asname or alias.name.partition(".")[0]
            self.imports[name] = (alias.name if alias.asname else name, None)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = "." * node.level + (node.module or "")
        self.imports.update({alias.asname or alias.name: (module, alias.name) for alias in node.names})

    def visit_Name(self, node: ast.Name) -> None:
        self.chains.add((node.id,))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        match node.value:
            case ast.Call(func=ast.Name(id="super")):
                self.chains.add((SUPER, node.attr))
        chain = dotted(node)
        if chain:
            self.chains.add(chain)
        else:
            self.visit(node.value)

    def visit_arg(self, node: ast.arg) -> None:
        """Skip annotations of arguments: they have no effect."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.target)
        if node.value is not None:
            self.visit(node.value)

    def visit_FunctionDef(self, node: FunctionNode) -> None:
        """Visit the body; of nested functions also decorators and defaults.

        For the outermost function, the walk looks at the values that its decorators and defaults gave.
        """
        nested = [] if self._outermost else [*node.decorator_list, *node.args.defaults, *node.args.kw_defaults]
        self._outermost = False
        for child in [*nested, *node.body]:
            if child is not None:
                self.visit(child)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 -- how `ast` calls it

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Visit the annotations of fields too: dataclasses, msgspec and pydantic read them."""
        self._outermost = False
        annotations = [item.annotation for item in node.body if isinstance(item, ast.AnnAssign)]
        for child in [*node.decorator_list, *node.bases, *node.keywords, *annotations, *node.body]:
            self.visit(child)


DECORATOR_MARK: Final = "__ironflow_decorator__"
"""An attribute of our own decorators. They say how a function is run, and are not part of its code."""


# -- readings ----------------------------------------------------------------------------------------------------------


class Reading(msgspec.Struct, frozen=True):
    """What was read in one function or class: the digest of its own code and its references.

    Pickles contain it as JSON (`written_note`), so the encoded names of the fields do not change.
    """

    content: Digest
    chains: tuple[Chain, ...] = ()
    decorators: tuple[Chain, ...] = ()
    imports: dict[str, tuple[str, str | None]] = {}
    assigned: frozenset[str] = frozenset()
    changed: tuple[Chain, ...] = ()
    """The containers and objects that the code itself changes."""
    source: str = ""
    file: str = ""
    line: int = 0
    no_source: str | None = msgspec.field(default=None, name="trouble")
    """Why the source could not be read; the digest is then that of the bytecode or of the names."""


# Keyed by id, because code objects that differ only in an annotation are equal; the weak reference removes the entry
# with its code. No lock: single dict operations are atomic, and two threads read the same code to equal readings.
_READINGS: Final[dict[int, tuple[weakref.ref[types.CodeType], Reading]]] = {}
# The attributes refer to their class and keep it alive, so this cache is cleared when it is full.
_CLASSES: Final[dict[int, tuple[list[Any], Reading]]] = {}
_MOST_CLASSES: Final = 256


def read_function(function: types.FunctionType) -> Reading:
    """Return the reading of the function itself, not of a function that it wraps; each code object is read once."""
    code = function.__code__
    known = _READINGS.get(id(code))
    if known is not None and known[0]() is code:
        return known[1]
    reading = _read_function(function)
    _READINGS[id(code)] = weakref.ref(code, partial(_forget_reading, id(code))), reading
    return reading


def _forget_reading(key: int, _reference: object) -> None:
    _READINGS.pop(key, None)


def read_class(kind: type) -> Reading:
    """Return the reading of the class with its methods; it is read again after a reload changed the class in place."""
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
    """Return the reading of the function or class as bytes, for the note in its pickle."""
    return msgspec.json.encode(read_class(code) if isinstance(code, type) else read_function(code))


def _reading_from_note(code: Any) -> Reading | None:
    """Return the reading in the note of a function or class that was loaded from a pickle, or None."""
    note = note_of(code)
    with suppress(msgspec.MsgspecError):
        return None if note is None else msgspec.json.decode(note, type=Reading)
    return None


def _read_class(kind: type) -> Reading:
    noted = _reading_from_note(kind)
    if noted is not None:
        return noted
    source = class_source(kind, own_methods(kind), class_namespace(kind))
    if source is None:
        annotations = vars(kind).get("__annotations__")  # a descriptor in classes written in C
        shape = [f"class {kind.__qualname__}", *sorted(annotations if isinstance(annotations, dict) else ())]
        return Reading(digest_bytes("\0".join(shape).encode()), no_source=NO_SOURCE_OF_CLASS)
    tree = stripped(source.tree, partial(_is_our_decorator, class_namespace(kind)))
    module = ast.Module([tree], [])  # type: ignore[list-item]
    compiled = compile(ast.fix_missing_locations(module), "<tracking>", "exec", dont_inherit=True)
    names = global_names(compiled) - {kind.__name__}
    return _reading(tree, source, names, changing=names)


def own_methods(kind: type) -> list[types.FunctionType]:
    """Return the functions that the body of the class defines."""
    found = (inner for value in [*vars(kind).values()] for inner in functions_in(value))
    return [each for each in found if is_written_in(each, kind)]


def is_written_in(function: types.FunctionType, kind: type) -> bool:
    """Return True if the body of the class defines the function."""
    # A reload in place may change the qualified name of the code, and keeps that of the function.
    names = {function.__code__.co_qualname, function.__qualname__}
    return f"{kind.__qualname__}.{function.__code__.co_name}" in names and not is_generated(function)


def functions_in(value: Any) -> Iterator[types.FunctionType]:
    """Yield the unwrapped functions inside of an attribute of a class."""
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
    """Return the innermost function of a chain of `functools.wraps`."""
    seen = {id(function)}
    found: Any = function
    while (following := wrapped_by(found)) is not None and id(following) not in seen:
        seen.add(id(following))
        found = following
    return found if isinstance(found, types.FunctionType) else function


def wrapped_by(value: Any) -> Any:
    """Return the function that `functools.wraps` recorded on the value, or None; no `__getattr__` is called."""
    return getattr(value, "__dict__", {}).get("__wrapped__")


def is_definition(value: object) -> bool:
    """Return True if the value is a step or a flow."""
    return hasattr(type(value), "__ironflow_definition__")


CODE_TYPES: Final = (
    types.FunctionType, types.BuiltinFunctionType, types.MethodType, staticmethod, classmethod, property,
    partial, partialmethod, cached_property,
)  # fmt: skip


def is_code(value: Any) -> bool:
    """Return True if the value is a function, a method or a wrapper of one."""
    if isinstance(value, CODE_TYPES):
        return True
    return is_definition(value) or (wrapped_by(value) is not None and callable(value))


def _read_function(function: types.FunctionType) -> Reading:
    # Not its source, even if that is here: the globals of a loaded function lack what only its decorators need.
    noted = _reading_from_note(function)
    if noted is not None:
        return noted
    code = function.__code__
    arguments = code.co_varnames[: min(1, code.co_argcount)]  # it may be `self`
    names = global_names(code) | {*code.co_freevars, *arguments}
    source = function_source(function)
    if isinstance(source, str):
        chains = tuple((name,) for name in sorted(names - set(arguments)))
        content = digest_bytes(b"bytecode\0" + bytecode(code))
        return Reading(content, chains, no_source=source, file=code.co_filename, line=code.co_firstlineno)
    is_ours = partial(_is_our_decorator, function.__globals__)
    tree = source.tree if isinstance(source.tree, ast.Lambda) else stripped(source.tree, is_ours)
    reading = _reading(tree, source, names, changing=names - set(arguments))
    decorators = {chain for node in getattr(tree, "decorator_list", ()) for chain in _chains_in(node)}
    return msgspec.structs.replace(reading, decorators=tuple(sorted(decorators)), assigned=assigned_globals(code))


def _reading(tree: ast.AST, source: Source, names: Set[str], *, changing: Set[str]) -> Reading:
    found = read_references(tree, names)
    return Reading(
        digest_bytes(written(tree)),
        tuple(sorted(found.chains)),
        imports=found.imports,
        changed=changed_names(tree, changing),
        source=source.text,
        file=source.file,
        line=source.line,
    )


def _chains_in(node: ast.expr) -> set[Chain]:
    names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    return read_references(node, names).chains


def class_namespace(kind: type) -> dict[str, Any]:
    """Return the globals of the module or cell that made the class; empty if they can't be found."""
    methods = own_methods(kind)
    module = sys.modules.get(kind.__module__)
    return methods[0].__globals__ if methods else vars(module) if module is not None else {}


def has_our_decorator(node: ast.AST, namespace: dict[str, Any]) -> bool:
    """Return True if the node defines a flow or step."""
    return any(_is_our_decorator(namespace, each) for each in getattr(node, "decorator_list", ()))


def _is_our_decorator(namespace: dict[str, Any], node: ast.expr) -> bool:
    """Return True if the expression stands for one of our decorators in the namespace of the function."""
    names = dotted(node.func if isinstance(node, ast.Call) else node)
    if not names:
        return False
    found: Any = namespace.get(names[0])
    for name in names[1:]:
        found = getattr(found, name, None)
    return getattr(found, DECORATOR_MARK, False) is True
