"""Which statements of a notebook or script define its flows: those that a worker executes, and no others.

Executed are imports, classes and functions, what only sets up the process (`sys.path`, an option), and what the
definitions need: assignments of names that they read, directly or by other such statements, and calls of methods of
what is so assigned. The rest is left out: what shows, computes or starts something.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ironflow_nb.code_identity.definitions import global_names
from ironflow_nb.code_identity.syntax import dotted
from ironflow_nb.durable_cells.cell import Cell
from ironflow_nb.durable_cells.name_analysis import Function, compiled, header_reads
from ironflow_nb.durable_cells.run_cell import is_setup

_IMPORTS = ast.Import | ast.ImportFrom
_BLOCKS = ast.If | ast.Try | ast.TryStar | ast.With | ast.For | ast.While | ast.Match
_CELL_MAGICS = frozenset({"graph"})
"""Cell magics that define something."""
_DEFINING_CALLS = frozenset({"iron.on", "iron.use", "ironflow_nb.on", "ironflow_nb.use"})
_MAKERS = frozenset({"Decider", "Graph", "codec", "flow", "node", "projection", "queue", "step", "webhook"})
"""What makes definitions without a decorator: ``triage = iron.Graph.from_yaml(text)``."""


class Statement(NamedTuple):
    """One statement of a cell, with its place."""

    cell: Cell
    node: ast.stmt

    def __str__(self) -> str:
        first = ast.unparse(self.node).partition("\n")[0]
        return f"{self.cell.name}, line {self.node.lineno}: {first if len(first) <= 80 else f'{first[:77]}...'}"


def defining_statements(cells: Iterable[Cell]) -> list[Statement]:
    """Return the statements to execute, in the order of the cells."""
    all_of_them = [Statement(cell, node) for cell in cells for node in cell.tree.body]
    variables = {name for each in all_of_them if is_assignment(each.node) for name in bound_names(each.node)}
    bound = [
        bound_names(each.node) & variables if isinstance(each.node, ast.Expr) else bound_names(each.node)
        for each in all_of_them
    ]
    kept = {number for number, each in enumerate(all_of_them) if _is_root(each.node)}
    to_do = [name for number in kept for name in _reads_of_root(all_of_them[number].node)]
    needed: set[str] = set()
    while to_do:
        name = to_do.pop()
        if name in needed:
            continue
        needed.add(name)
        for number, each in enumerate(all_of_them):
            if name in bound[number] and not is_main_block(each.node):
                kept.add(number)
                to_do += reads(each.node)
    return [all_of_them[number] for number in sorted(kept)]


def is_assignment(node: ast.stmt) -> bool:
    """Return True if the statement binds names to what it computes; a method of a module is no method of a variable."""
    return not isinstance(node, ast.Expr | _IMPORTS | Function | ast.ClassDef)


def reads(node: ast.stmt) -> set[str]:
    """Return the global names that the statement looks up, also when functions in it are called."""
    return set(global_names(compiled([node])))


def bound_names(node: ast.stmt) -> set[str]:
    """Return the names that the statement binds, or whose objects it changes by an assignment or a plain call."""
    if isinstance(node, Function | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Expr):
        root = _root_of_call(node.value)
        return {root} if root else set()
    return {name for each in _executed(node) for name in _bound_by(each)}


def is_main_block(node: ast.stmt) -> bool:
    """Return True for ``if __name__ == "__main__":``, which a worker is not."""
    return isinstance(node, ast.If) and "__name__" in {name for each in ast.walk(node.test) for name in _name(each)}


def _is_root(node: ast.stmt) -> bool:
    if isinstance(node, _IMPORTS | Function | ast.ClassDef) or is_setup(node):
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and _is_defining_call(node.value):
        return True
    if isinstance(node, ast.Expr | ast.Assign | ast.AnnAssign):
        return any(_makes_definition(call) for call in calls_in(node))
    is_block = isinstance(node, _BLOCKS) and not is_main_block(node)
    return is_block and any(isinstance(each, _IMPORTS | Function | ast.ClassDef) for each in ast.walk(node))


def _is_defining_call(call: ast.Call) -> bool:
    if ".".join(dotted(_called(call))) in _DEFINING_CALLS:
        return True
    first = call.args[0] if call.args else None
    is_magic = isinstance(call.func, ast.Attribute) and call.func.attr == "run_cell_magic"
    return is_magic and isinstance(first, ast.Constant) and first.value in _CELL_MAGICS


def _makes_definition(call: ast.Call) -> bool:
    return _maker(call) in _MAKERS


def _maker(call: ast.Call) -> str:
    package, *chain = dotted(_called(call)) or ("",)
    return chain[0] if chain and package in {"iron", "ironflow_nb"} else package


class WithoutStart(ast.NodeTransformer):
    """Leaves the end of ``iron.queue(...).start()`` out: a worker starts a queue once it has its journal."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """See `ast.NodeTransformer`."""
        self.generic_visit(node)
        made = node.func.value if isinstance(node.func, ast.Attribute) and node.func.attr == "start" else None
        return made if isinstance(made, ast.Call) and _maker(made) == "queue" else node


def _called(call: ast.Call) -> ast.expr:
    """Return what is called: of ``on(event)(function)`` and ``Decider[State](name)`` the first name."""
    called = call.func
    while isinstance(called, ast.Call | ast.Subscript):
        called = called.func if isinstance(called, ast.Call) else called.value
    return called


def _reads_of_root(node: ast.stmt) -> set[str]:
    """Return the names that a definition needs; a plain function needs those of its body only if it is needed."""
    is_plain = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.decorator_list
    return header_reads(node) if is_plain else reads(node)


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the node and what is in it, but not what is in functions and classes."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.ClassDef):
            yield child
        elif not isinstance(child, ast.Lambda):
            yield from _executed(child)


def calls_in(node: ast.AST) -> Iterator[ast.Call]:
    """Yield the calls that are made when the statement is executed."""
    if isinstance(node, Function):
        for given in [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)]:
            yield from calls_in(given)
    elif not isinstance(node, ast.Lambda):
        if isinstance(node, ast.Call):
            yield node
        for child in ast.iter_child_nodes(node):
            yield from calls_in(child)


def _bound_by(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Name(id=name, ctx=ast.Store()):
            yield name
        case ast.alias(name=name, asname=as_name):
            yield as_name or name.partition(".")[0]
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Attribute(ctx=ast.Store()) | ast.Subscript(ctx=ast.Store()):
            if root := _root_name(node):
                yield root


def _root_of_call(node: ast.expr) -> str:
    """Return the name of the variable whose method is called; empty for any other expression."""
    is_method = isinstance(node, ast.Call) and isinstance(_called(node), ast.Attribute)
    return _root_name(node) if is_method else ""


def _root_name(node: ast.AST) -> str:
    while not isinstance(node, ast.Name):
        inner = getattr(node, "value", None) or getattr(node, "func", None)
        if not isinstance(inner, ast.AST):
            return ""
        node = inner
    return node.id


def _name(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name):
        yield node.id
