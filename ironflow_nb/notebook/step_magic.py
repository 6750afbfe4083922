"""``%%step``: a whole cell is a durable step."""

from __future__ import annotations

import inspect
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, magics_class, no_var_expand

from ironflow_nb.durable_cells.cell import KIND, MAGIC, OPTIONS, Cell, parse_magic_line
from ironflow_nb.durable_cells.cell_lookup import RegisteredCell, context_of
from ironflow_nb.durable_cells.notebook_file import as_python
from ironflow_nb.durable_cells.run_cell import run_cell
from ironflow_nb.errors import DefinitionError, NotAllowedInStep
from ironflow_nb.execution import REGISTRY, durable_calls, frontend
from ironflow_nb.notebook.notebook_hooks import NotebookHooks
from ironflow_nb.notebook.output_capture import OutputCapture
from ironflow_nb.notebook.tracebacks import show_own_frames


@magics_class
class StepMagics(Magics):
    """The magic of durable cells."""

    @no_var_expand
    @cell_magic
    def step(self, line: str, cell: str) -> None:
        """Make the cell a durable step: after it is done it is not executed again until something changes.

        %%step NAME [--in a,b] [--out df,model] [--retries N] [--timeout-s S] [--cache [7d]]

        --in         its inputs; by default the data that it reads before it assigns it
        --out        its results; by default what it assigns or changes in place, except for _names
        --retries    the number of further attempts after a failure, after 1, 2, 4, ... seconds
        --timeout-s  the time limit of an attempt in seconds
        --cache      share its results with all notebooks on the journal, for ever or for this time

        When the notebook is run again, the cell is restored: its variables, definitions, imports and outputs. It is
        executed again when its code, the code of yours that it refers to, or an input has changed.
        In Python: iron.cell_step(NAME, source).
        """
        __tracebackhide__ = True
        assert self.shell is not None
        made = make_cell(self.shell, line, cell)
        register_cell(made)
        try:
            context = context_of(REGISTRY.engine(), self.shell.user_ns, OutputCapture(self.shell))
            run_cell(made, context)
        except (DefinitionError, NotAllowedInStep) as error:
            if durable_calls.is_step_failure(error):  # the body itself raised it
                show_own_frames(self.shell, error, made.file)
                raise
            raise UsageError(f"{MAGIC}: {error}") from None
        except BaseException as error:
            show_own_frames(self.shell, error, made.file)
            raise


def complete_options(_shell: Any, event: Any) -> list[str]:
    """Complete the options, and before them the names of the cells of this kernel."""
    words = event.line.split()
    if event.symbol.startswith("-") or len(words) > 2:
        return [option for option in OPTIONS if option not in words or option == event.symbol]
    return [known.name for known in REGISTRY.definitions(KIND)] or list(OPTIONS)


def make_cell(shell: Any, line: str, body: str) -> Cell:
    """Return the cell; its lines have the numbers of the notebook, with the line of the magic as the first.

    Raises:
        UsageError: it can't be a durable cell.
    """
    text = f"{MAGIC} {line}\n{body}"
    source = as_python(text, shell.transform_cell)
    file = shell.compile.cache(source, _cell_number(shell), text)
    try:
        name, options = parse_magic_line(line)
        return Cell(name, text, source, options, file, cell_id())
    except DefinitionError as error:
        raise UsageError(f"{MAGIC}: {error}") from None


def _cell_number(shell: Any) -> int:
    """Return the number of the cell that is being executed.

    Newer releases of IPython count up before they execute a cell, and older ones afterwards. The frame of the cell has
    a file with its number.
    """
    numbers: dict[str, int] = getattr(shell.compile, "_filename_map", {})
    number: int = shell.execution_count
    frame = inspect.currentframe()
    while frame is not None:  # the outermost frame counts: inner ones may be of functions of other cells
        number = numbers.get(frame.f_code.co_filename, number)
        frame = frame.f_back
    return number


def cell_id() -> str | None:
    """Return the id of the cell that is being executed, or None if the front end gives none."""
    found: Any = frontend()
    return found.cell_id() if isinstance(found, NotebookHooks) else None


def register_cell(cell: Cell) -> None:
    """Register the cell in this kernel.

    Raises:
        UsageError: another cell of the notebook has its name.
    """
    known = REGISTRY.find(KIND, cell.name)
    if isinstance(known, RegisteredCell) and (rival := known.rival(cell)) is not None:
        raise UsageError(
            f"{MAGIC}: two cells of this notebook are called {cell.name!r}: this one, and the one that begins with\n"
            f"    {rival}\nGive one of them another name; if the other one is gone, run this one once more."
        )
    for other in REGISTRY.definitions(KIND):  # the same cell under an earlier name
        is_same = isinstance(other, RegisteredCell) and other.cell.cell_id == cell.cell_id is not None
        if is_same and other.name != cell.name:  # an unchanged name keeps its position in the order
            REGISTRY.forget(KIND, other.name)
    REGISTRY.define(RegisteredCell(cell, REGISTRY.engine().clock.now()))
