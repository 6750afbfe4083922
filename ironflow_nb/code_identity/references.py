"""The references of code: global and closure names with their attributes, and its own imports.

Names that occur only in annotations of functions are left out.
"""

from __future__ import annotations

import ast
import dis
import opcode
import types
from collections.abc import Collection, Iterable, Iterator
from typing import Final

import msgspec

from ironflow_nb.code_identity.source import codes
from ironflow_nb.code_identity.syntax import dotted

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

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._function(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        """Visit the body; of nested functions also decorators and defaults.

        For the outermost function, the walk looks at the values that its decorators and defaults gave.
        """
        nested = [] if self._outermost else [*node.decorator_list, *node.args.defaults, *node.args.kw_defaults]
        self._outermost = False
        for child in [*nested, *node.body]:
            if child is not None:
                self.visit(child)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Visit the annotations of fields too: dataclasses, msgspec and pydantic read them."""
        self._outermost = False
        annotations = [item.annotation for item in node.body if isinstance(item, ast.AnnAssign)]
        for child in [*node.decorator_list, *node.bases, *node.keywords, *annotations, *node.body]:
            self.visit(child)
