"""What single statements and expressions of a cell read, bind and have in texts."""

from __future__ import annotations

import ast
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from ironflow_nb.tracking.references import global_names

_FLAGS: Final = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_BY_TEXT: Final = frozenset({"run_line_magic", "run_cell_magic", "system", "getoutput", "exec", "eval"})
"""What takes code, or names of variables, as text."""
_IN_THE_DARK: Final = _BY_TEXT - {"system", "getoutput", "eval"} | {"globals"}
"""What may assign names that the cell does not show."""
_SWALLOWING: Final = frozenset({"suppress", "ignored", "raises", "assertRaises", "move_on_after", "move_on_at"})
"""Managers of contexts that end a body early, and go on after it."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


def is_definition(node: ast.stmt) -> bool:
    """Tell whether the statement only defines code: a function, a class, or a name for a lambda."""
    is_lambda = isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda)
    return isinstance(node, Function | ast.ClassDef) or (
        is_lambda and all(isinstance(target, ast.Name) for target in node.targets)  # type: ignore[attr-defined]
    )


def header_reads(node: ast.stmt) -> set[str]:
    """Return the names that a definition reads when it is executed."""
    if isinstance(node, Function):
        given = [*node.decorator_list, *node.args.defaults, *node.args.kw_defaults]
        return {name for each in given if each is not None for name in expression_reads(each)}
    if isinstance(node, ast.ClassDef):
        return set(global_names(compiled([node])))
    assert isinstance(node, ast.Assign)
    assert isinstance(node.value, ast.Lambda)
    given = [*node.value.args.defaults, *node.value.args.kw_defaults]
    return {name for each in given if each is not None for name in expression_reads(each)}


def defined_names(node: ast.stmt) -> list[str]:
    """Return the names that a definition defines; none for any other statement."""
    if isinstance(node, Function | ast.ClassDef):
        return [node.name]
    return list(stored_names(node.targets)) if is_definition(node) else []  # type: ignore[attr-defined]


def names_in(node: ast.AST) -> set[str]:
    """Return every name that is looked up anywhere in the node."""
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load)}


def read_at_once(node: ast.AST) -> set[str]:
    """Return the names that are looked up when the node is executed, and not when a function in it is called."""
    if isinstance(node, ast.Name):
        return {node.id}
    inside = [*(node.body if isinstance(node, Function) else [node.body] if isinstance(node, ast.Lambda) else [])]
    return {name for each in ast.iter_child_nodes(node) if each not in inside for name in read_at_once(each)}


def reached(names: Iterable[str], later: Mapping[str, set[str]]) -> set[str]:
    """Return the names, and those that the functions behind them read when they are called."""
    found: set[str] = set()
    to_do = list(names)
    while to_do:
        name = to_do.pop()
        if name not in found:
            found.add(name)
            to_do += later.get(name, ())
    return found


def expression_reads(node: ast.expr) -> set[str]:
    """Return the names that the expression, and what is nested in it, looks up outside of itself."""
    if any(isinstance(each, ast.NamedExpr) for each in ast.walk(node)):
        return names_in(node)
    return set(global_names(compiled([ast.Expr(node)])))


def compiled(body: list[ast.stmt]) -> types.CodeType:
    """Return the statements as the code of a cell, which may await."""
    module = ast.fix_missing_locations(ast.Module(body, []))
    code: types.CodeType = compile(module, "<uses>", "exec", flags=_FLAGS, dont_inherit=True)
    return code


def is_dark(call: ast.Call) -> bool:
    """Tell whether the call may assign names that it does not show."""
    return _called(call) in _IN_THE_DARK


def is_swallowing(manager: ast.expr) -> bool:
    """Tell whether a ``with`` of that manager may leave out the rest of its body, as `contextlib.suppress` does."""
    return isinstance(manager, ast.Call) and _called(manager) in _SWALLOWING


def named_in(node: ast.AST, *, is_sure: bool = True) -> Iterator[tuple[str, bool]]:
    """Yield the names that ``:=`` binds in the expression, and whether it surely does when that is evaluated."""
    if isinstance(node, ast.NamedExpr):
        yield node.target.id, is_sure
    if not isinstance(node, ast.Lambda):
        skippable = _skippable(node)
        for child in ast.iter_child_nodes(node):
            yield from named_in(child, is_sure=is_sure and child not in skippable)


def _skippable(node: ast.AST) -> Sequence[ast.AST]:
    """Return the parts of an expression that may not be evaluated when it is."""
    match node:
        case ast.BoolOp():
            return node.values[1:]
        case ast.IfExp():
            return [node.body, node.orelse]
        case ast.Compare():
            return node.comparators[1:]
        case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            return list(ast.iter_child_nodes(node))
    return []


def texts_in(call: ast.Call) -> list[ast.expr]:
    """Return the arguments that may be code; the first one of a magic is its name."""
    called = _called(call)
    if called not in _BY_TEXT:
        return []
    return call.args[1:] if called.endswith("_magic") else call.args


def reads_of(node: ast.expr) -> set[str]:
    """Return what an expression reads; of a target, what stands in its brackets and before its dots."""
    if isinstance(node, ast.Tuple | ast.List) and not isinstance(node.ctx, ast.Load):
        return {name for each in node.elts for name in reads_of(each)}
    if isinstance(node, ast.Starred):
        return reads_of(node.value)
    if isinstance(node, ast.Name):
        return {node.id} if isinstance(node.ctx, ast.Load) else set()
    if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
        return expression_reads(node.value)
    if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
        return expression_reads(node.value) | expression_reads(node.slice)
    return expression_reads(node)


def stored_names(targets: Iterable[ast.expr]) -> Iterator[str]:
    """Yield the names that assigning to the targets, or deleting them, binds or unbinds."""
    for target in targets:
        for each in ast.walk(target):
            if isinstance(each, ast.Name) and not isinstance(each.ctx, ast.Load):
                yield each.id


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
