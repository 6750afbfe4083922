"""A notebook whose cells are restored in their order, without being run by a person."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterable
from typing import Final, TypeAlias

from IPython.core.error import UsageError
from IPython.utils.capture import capture_output

from ironflow_nb.code_identity.syntax import dotted
from ironflow_nb.core.durations import spoken
from ironflow_nb.core.run_state import StepRow
from ironflow_nb.durable_cells.cell import Cell
from ironflow_nb.durable_cells.cell_attempt import execute_statements
from ironflow_nb.durable_cells.cell_lookup import (
    CellCall,
    CellContext,
    NoExecution,
    RegisteredCell,
    call_of,
    find_execution,
)
from ironflow_nb.durable_cells.cell_record import about_of, digests_of, record_of
from ironflow_nb.durable_cells.listing import CellFreshness, CellStatus, NotebookFreshness
from ironflow_nb.durable_cells.run_cell import restore_cell, run_cell
from ironflow_nb.durable_cells.shared_values import QUICK_S
from ironflow_nb.errors import IronflowError, ValueUnreadable
from ironflow_nb.execution import REGISTRY

FoundCell: TypeAlias = tuple[int, Cell, Callable[[], str | None]]
"""The number of a cell in its notebook, the cell, and what says why it is left to IPython."""
IS_CODE: Final = "it only imports and defines"
_CHANGING: Final = frozenset(
    {"append", "extend", "insert", "update", "add", "pop", "remove", "clear", "sort", "reverse", "fit", "setdefault"}
)


class RestoredNotebook:
    """What becomes of the cells of a notebook, which are added in their order."""

    def __init__(self, context: CellContext) -> None:
        self.left: list[str] = []
        self._context = context
        self._work_s = 0.0
        self._n_restored = 0
        self._again: list[str] = []
        self._outdated: dict[str, int] = {}
        """The numbers of the cells that were not restored, by the names that they make or change."""

    def add(self, number: int, cell: Cell, why: str | None) -> None:
        """Restore the cell, or execute it if it only defines or is quick; not if it is left to IPython for a reason."""
        row: StepRow | None = None
        needed = [name for name in cell.uses.reads if name in self._outdated]
        if needed:
            why = f"needs {needed[0]} of cell {self._outdated[needed[0]]}"
        elif why == IS_CODE:
            why = self._define(cell)
        elif why is None:
            why, row = self._restore(cell)
        made = (*cell.uses.assigns, *cell.uses.defines)
        if why is None:
            for name in made:
                self._outdated.pop(name, None)
        else:
            self.left.append(f"cell {number} ({cell.label}): {why}")
            self._outdated |= dict.fromkeys((*made, *_changed_names(cell.tree), *self._recorded_names(row)), number)

    def add_needed(self, cells: Collection[FoundCell], names: Iterable[str]) -> None:
        """Restore what these variables need: the cells that make them, and what those read that can't be loaded.

        Raises:
            UsageError: no cell makes a variable.
        """
        for number, cell, why in cells:  # with the definitions it is seen which cells are fresh
            if why() == IS_CODE:
                self.add(number, cell, IS_CODE)
        engine, namespace = self._context.engine, self._context.namespace
        judge = NotebookFreshness(engine, self._context.key, namespace)
        judged = [(number, cell, judge.judge(cell)) for number, cell, why in cells if why() is None]
        wanted, needed = set(names), []
        for number, cell, fresh in reversed(judged):
            made = wanted.intersection(fresh.outs)
            if made:
                wanted -= made
                wanted |= set() if _is_loadable(fresh) else set(fresh.ins)
                needed.append((number, cell, fresh))
        if unknown := sorted(set(names).intersection(wanted) - namespace.keys()):
            raise UsageError(f"%ironflow cells restore: no recorded cell makes {', '.join(unknown)}")
        for number, cell, fresh in reversed(needed):
            if not _is_loadable(fresh) or not self._load(cell, fresh.row):
                self.add(number, cell, None)

    def summary(self, took_s: float) -> str:
        """Return one line on what was restored, and one for each cell that has to be run."""
        n = self._n_restored
        first = f"restored {n} cell{'s' * (n != 1)} ({spoken(self._work_s)} of work) in {spoken(took_s)}"
        again = f"; executed again: {', '.join(self._again)}" if self._again else ""
        return "\n".join([first + again, *(f"not restored: {each}" for each in self.left)])

    def _define(self, cell: Cell) -> str | None:
        try:
            execute_statements(cell, cell.tree.body, self._context.namespace)
        except Exception as error:  # noqa: BLE001 -- code of the user may raise anything
            return f"{type(error).__name__}: {error}"
        return None

    def _restore(self, cell: Cell) -> tuple[str | None, StepRow | None]:
        """Restore the cell; return why not, or None, and the execution that is most similar."""
        context, row = self._context, None
        try:
            wanted = call_of(context.engine, cell, context.namespace, context.known)
            found = find_execution(context.engine, context.key, wanted, context.namespace)
            row = found.row
            if isinstance(found, NoExecution):
                return self._execute(wanted, found), row
            restore_cell(context, cell, found.record)
            self._note_restored(cell, found.row)
        except IronflowError as error:
            return str(error), row
        return None, row

    def _load(self, cell: Cell, row: StepRow | None) -> bool:
        """Restore the cell from that execution, whatever its inputs are here; return False if it can't be read."""
        engine = self._context.engine
        if row is None or row.output_id is None:
            return False
        try:
            restore_cell(self._context, cell, record_of(engine, engine.access.value(row.output_id, row.row_key)))
        except ValueUnreadable:
            return False
        self._note_restored(cell, row)
        return True

    def _note_restored(self, cell: Cell, row: StepRow) -> None:
        self._n_restored += 1
        self._work_s += row.duration_s or 0.0
        registered_cell(cell).outcome = "restored"

    def _execute(self, wanted: CellCall, missing: NoExecution) -> str | None:
        """Execute a quick cell whose code is as it was executed before; return why not, or None."""
        row, cell = missing.row, wanted.cell
        if row is None:
            return "never run"
        is_quick = (row.duration_s or 0.0) < QUICK_S
        if row.code != wanted.spec.code or missing.untrusted is not None or not is_quick:
            return ", ".join(missing.reasons) or "it has changed"
        try:
            with capture_output():
                run_cell(cell, self._context)
        except IronflowError:
            raise
        except Exception as error:  # noqa: BLE001 -- code of the user may raise anything
            return f"{type(error).__name__}: {error}"
        registered_cell(cell).outcome = "computed"
        self._again.append(f"{cell.label} ({', '.join(missing.reasons)})")
        return None

    def _recorded_names(self, row: StepRow | None) -> Collection[str]:
        """Return the names that the execution has left behind, also those that it changed in place."""
        engine = self._context.engine
        if row is None or row.output_id is None:
            return ()
        try:
            record = record_of(engine, engine.access.value(row.output_id, row.row_key))
            about = about_of(record)
        except ValueUnreadable:
            return ()
        return [*digests_of(record), *about.same, *about.lost]


def registered_cell(cell: Cell) -> RegisteredCell:
    """Register the cell in this kernel, and return it as that."""
    registered = RegisteredCell(cell, REGISTRY.engine().clock.now())
    REGISTRY.define(registered)
    return registered


def _is_loadable(fresh: CellFreshness) -> bool:
    """Return True if the cell is restored without being executed, as far as is known."""
    return fresh.status is CellStatus.FRESH and fresh.reason is None


def _changed_names(tree: ast.Module) -> list[str]:
    """Return the names whose objects the code seems to change in place."""
    found: list[str] = []
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(ctx=ast.Store() | ast.Del(), value=changed):
                found += dotted(changed)[:1]
            case ast.Attribute(ctx=ast.Store() | ast.Del()):
                found += dotted(node)[:1]
            case ast.Call(func=ast.Attribute(attr=name)) if name in _CHANGING:
                found += dotted(node.func)[:1]
    return found
