"""Restoring a cell: recorded values are bound again; imports, definitions and process settings are executed again."""

from __future__ import annotations

import ast
from typing import Any, Final

from ironflow_nb.code_identity.syntax import dotted
from ironflow_nb.durable_cells.cell import Cell
from ironflow_nb.durable_cells.cell_attempt import execute_statements
from ironflow_nb.durable_cells.cell_lookup import CellContext
from ironflow_nb.durable_cells.cell_record import Output, Restorable, read_restorable, rebind_names
from ironflow_nb.durable_cells.name_analysis import (
    defined_names,
    immediate_reads,
    is_definition,
    names_in,
    with_called_reads,
)
from ironflow_nb.errors import ValueUnreadable
from ironflow_nb.values.stored_value import ValueRecord

_MAGICS: Final = frozenset(
    {"load_ext", "reload_ext", "matplotlib", "config", "cd", "env", "set_env", "autoreload", "precision", "xmode"}
)
_CALLS: Final = frozenset(
    {
        "path.append", "path.insert", "chdir", "set_option", "seed", "style.use", "rcParams.update", "filterwarnings",
        "simplefilter", "set_theme", "set_style", "basicConfig", "load_dotenv", "setlocale", "environ.setdefault",
        "environ.update", "options.display",
    }
)  # fmt: skip
_TARGETS: Final = frozenset({"environ", "options", "rcParams"})


def is_setup(node: ast.stmt) -> bool:
    """Return True if the statement is known to only set up the process: a search path, an option, a seed."""
    match node:
        case ast.Expr(value=ast.Call() as call):
            return _is_setup_call(call)
        case ast.Assign(targets=[ast.Subscript(value=target)]) | ast.Assign(targets=[ast.Attribute(value=target)]):
            return not _TARGETS.isdisjoint(dotted(target))
    return False


def _is_setup_call(call: ast.Call) -> bool:
    if isinstance(call.func, ast.Attribute) and call.func.attr == "run_line_magic":
        first = call.args[0] if call.args else None
        return isinstance(first, ast.Constant) and first.value in _MAGICS
    names = dotted(call.func)
    return ".".join(names[-2:]) in _CALLS or (bool(names) and names[-1] in _CALLS)


_Later = dict[str, set[str]]
"""Names that a function reads when it is called, by the name of the function."""
_IMPORTS: Final = (ast.Import, ast.ImportFrom)


def restore_cell(context: CellContext, cell: Cell, record: ValueRecord) -> tuple[dict[str, Any], list[Output]]:
    """Bind the recorded names in the namespace; return their values and the recorded outputs.

    Raises:
        ValueUnreadable: a value can't be read or defined again; then the namespace is as before.
    """
    __tracebackhide__ = True
    before = dict(context.namespace)
    try:
        kept = read_restorable(context.engine, record, context.namespace)
        _repeat_statements(cell, kept, context.namespace)
        outs, shown = kept.outs(), kept.shown()
    except (ValueUnreadable, NameError) as error:
        for name in context.namespace.keys() - before.keys():
            del context.namespace[name]
        context.namespace.update(before)
        if isinstance(error, ValueUnreadable):
            raise
        raise ValueUnreadable(f"it can't be defined or set up again: {error}") from error
    rebind_names(context.namespace, outs, kept.about.gone)
    return outs, shown


def _repeat_statements(cell: Cell, kept: Restorable, namespace: dict[str, Any]) -> None:
    """Execute imports, settings and definitions again, in the order of the cell.

    A value is decoded just before the first statement that needs it, when its own class is defined. A definition that
    would differ now, and so was recorded as lost, is left out.
    """
    __tracebackhide__ = True
    futures = [node for node in cell.tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    later: _Later = {}
    ready: set[str] = set()
    waiting: list[ast.stmt] = []
    for node in filter(_is_repeated, cell.tree.body):
        defined = defined_names(node)
        if defined and kept.about.lost.keys() >= set(defined):
            continue
        needed = (with_called_reads(immediate_reads(node), later) & kept.names) - ready
        if needed:
            execute_statements(cell, [*futures, *waiting], namespace)
            waiting = []
            namespace.update({name: kept.value(name) for name in sorted(needed)})
        waiting.append(node)
        ready |= {*needed, *defined}
        later |= dict.fromkeys(defined, names_in(node))
    execute_statements(cell, [*futures, *waiting], namespace)
    kept.forget_changed()


def _is_repeated(node: ast.stmt) -> bool:
    return isinstance(node, _IMPORTS) or is_definition(node) or is_setup(node)
