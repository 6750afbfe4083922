"""A notebook run from top to bottom without a front end, every code cell a durable cell.

``python -m ironflow_nb.notebook.headless_shell REQUEST`` does it in a process of its own, for `run_notebook`.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import msgspec
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from ironflow_nb.durable_cells.cell_lookup import CellContext, context_of
from ironflow_nb.durable_cells.cell_record import NO_VARIABLES, Output, within_limit
from ironflow_nb.durable_cells.notebook_file import (
    cell_source,
    default_cell_name,
    make_cell_of_text,
    read_notebook,
    write_notebook,
)
from ironflow_nb.durable_cells.run_cell import CellResult, run_cell
from ironflow_nb.errors import DefinitionError
from ironflow_nb.execution import Engine
from ironflow_nb.execution import api as engine_api
from ironflow_nb.notebook.output_capture import OutputCapture
from ironflow_nb.notebook.run_notebook import CellOutcome, CellReport, NotebookReport, NotebookRequest
from ironflow_nb.notebook.tracebacks import render_traceback

PARAMETERS: Final = "parameters"
INJECTED: Final = "injected-parameters"
MAY_FAIL: Final = "raises-exception"
_INLINE: Final = "module://matplotlib_inline.backend_inline"


class RecordingCapture(OutputCapture):
    """Captures the output of the latest cell, executed or restored."""

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        self.outputs: list[Output] = []

    @contextmanager
    def recording(self) -> Iterator[list[Output]]:
        """Collect the outputs, also in `outputs`."""
        with super().recording() as self.outputs:
            yield self.outputs

    def show(self, outputs: list[Output]) -> None:
        """Keep the recorded outputs in `outputs`."""
        self.outputs = outputs


class NotebookRunner:
    """Runs the cells of one notebook."""

    def __init__(self, request: NotebookRequest, shell: Any, engine: Engine) -> None:
        self.reports: list[CellReport] = []
        self.notebook = read_notebook(Path(request.path))
        self._request = request
        self._inputs = request.inputs
        self._shell = shell
        self._engine = engine
        self._output = RecordingCapture(shell)
        self._context: CellContext = context_of(engine, shell.user_ns, self._output, request.path)
        self._names: dict[str, int] = {}

    def run(self) -> bool:
        """Run all cells; return True if none failed. The result files are written before each cell and at the end."""
        for cell in self.notebook["cells"]:
            if cell.get("cell_type") == "code":  # outputs of an earlier run
                cell["outputs"], cell["execution_count"] = [], None
                cell.get("metadata", {}).pop("ironflow", None)
        try:
            return self._run_cells(list(self.notebook["cells"]))
        finally:
            self._save(is_over=True)

    def _run_cells(self, cells: list[dict[str, Any]]) -> bool:
        takes_inputs = [cell for cell in cells if PARAMETERS in _tags(cell)]
        if self._inputs and not takes_inputs:
            self._inject_inputs(before=cells[0] if cells else None)
        for number, cell in enumerate(cells, 1):
            if cell.get("cell_type") == "code" and not self._run_cell(number, cell):
                return False
            if takes_inputs and cell is takes_inputs[0] and self._inputs:
                self._inject_inputs(after=cell)
        return True

    def _run_cell(self, number: int, cell: dict[str, Any]) -> bool:
        report = CellReport(number, default_cell_name(number, cell), printed=(_n_printed(1), _n_printed(2)))
        self.reports.append(report)
        self._output.outputs = []
        cell.setdefault("metadata", {})["ironflow"] = {"status": report.status.value}
        clock, began_s = self._engine.access.clock, self._engine.access.clock.monotonic()
        file = ""
        try:
            made = make_cell_of_text(cell_source(cell), report.name, self._shell.transform_cell, cell.get("id"))
            if made is None:
                report.status = CellOutcome.EMPTY
                return True
            report.name, file = made.name, made.file
            self._refuse_duplicate(number, made.name)
            self._save()  # if the process dies now, the report says in which cell
            with self._executing(made.text):
                result = run_cell(made, self._context)
            _record_result(report, result)
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- any error of a cell is its result
            report.status = CellOutcome.FAILED
            self._record_failure(report, cell, error, file)
            return MAY_FAIL in _tags(cell)
        except BaseException:
            report.status = CellOutcome.INTERRUPTED
            raise
        finally:
            report.duration_s = clock.monotonic() - began_s
            outputs = [
                _notebook_output(output, self._shell.execution_count - 1)
                for output in within_limit(self._output.outputs)
            ]
            cell["outputs"] = [*outputs, *cell["outputs"]]
            cell["metadata"]["ironflow"] = {"status": report.status.value, "duration_s": report.duration_s}
            cell["execution_count"] = None if report.status is CellOutcome.EMPTY else self._shell.execution_count - 1
        return True

    def _save(self, *, is_over: bool = False) -> None:
        """Write the notebook and the report; `is_over` means that no cell is being executed any more."""
        if self._request.output is not None:
            write_notebook(self.notebook, Path(self._request.output))
        report = Path(self._request.report)
        unfinished = report.with_suffix(".unfinished")
        unfinished.write_bytes(msgspec.json.encode(NotebookReport(is_over, self.reports)))
        unfinished.replace(report)

    @contextmanager
    def _executing(self, text: str) -> Iterator[None]:
        """Record the input, trigger the events and set the traps of the shell around a cell."""
        shell = self._shell
        shell.history_manager.store_inputs(shell.execution_count, text)
        shell.events.trigger("pre_execute")
        try:
            with shell.builtin_trap, shell.display_trap:
                yield
        finally:
            shell.events.trigger("post_execute")
            shell.execution_count += 1

    def _refuse_duplicate(self, number: int, name: str) -> None:
        other = self._names.setdefault(name, number)
        if other != number:
            raise DefinitionError(f"cells {other} and {number} are both called {name!r}; give one another name")

    def _record_failure(self, report: CellReport, cell: dict[str, Any], error: BaseException, file: str) -> None:
        lines = render_traceback(self._shell, error, file)
        kind, text = type(error).__name__, str(error)
        if isinstance(error, SystemExit):
            text = f"the cell ended the notebook, with code {0 if error.code is None else error.code}"
        report.error, report.traceback = f"{kind}: {text}", "\n".join(lines)
        cell["outputs"] = [{"output_type": "error", "ename": kind, "evalue": text, "traceback": lines}]

    def _inject_inputs(self, *, before: dict[str, Any] | None = None, after: dict[str, Any] | None = None) -> None:
        """Assign the inputs, and insert a cell with these assignments into the executed notebook."""
        self._shell.user_ns.update(self._inputs)
        source = "\n".join(
            ["# the inputs of this run", *(f"{name} = {_safe_repr(v)}" for name, v in self._inputs.items())]
        )
        cell = {"cell_type": "code", "id": INJECTED, "metadata": {"tags": [INJECTED]}, "source": source}
        cells = self.notebook["cells"]
        place = cells.index(after) + 1 if after is not None else cells.index(before) if before is not None else 0
        cells.insert(place, cell | {"outputs": [], "execution_count": None})


def _n_printed(descriptor: int) -> int:
    """Return the number of bytes printed so far; the stream is a file."""
    return os.fstat(descriptor).st_size


def _record_result(report: CellReport, result: CellResult) -> None:
    report.status = CellOutcome.RESTORED if result.is_restored else CellOutcome.EXECUTED
    if result.record is not None:
        parts = result.record.parts.items()
        report.values = {name: part.value_id for name, part in parts if name not in NO_VARIABLES}


def _tags(cell: dict[str, Any]) -> list[str]:
    found = cell.get("metadata", {}).get("tags", [])
    return found if isinstance(found, list) else []


def _safe_repr(value: object) -> str:
    try:
        shown = repr(value)
    except Exception:  # noqa: BLE001 -- a foreign __repr__ may raise anything
        shown = object.__repr__(value)
    return shown if len(shown) <= 1000 else f"...  # {type(value).__name__}"


def _notebook_output(output: Output, count: int) -> dict[str, Any]:
    """Return the output in the format of notebook files."""
    if output.kind == "stream":
        return {"output_type": "stream", "name": output.name, "text": output.text}
    found = {"output_type": output.kind, "data": output.data, "metadata": output.metadata}
    return found | ({"execution_count": count} if output.kind == "execute_result" else {})


def make_shell() -> Any:
    """Return an IPython shell that keeps no history of its own."""
    if find_spec("matplotlib_inline") is not None:
        os.environ.setdefault("MPLBACKEND", _INLINE)
    config = Config(HistoryManager={"enabled": False}, InteractiveShell={"colors": "nocolor"})
    shell = InteractiveShell.instance(config=config)
    shell.__dict__["ask_exit"] = sys.exit  # exit() calls it
    return shell


def main(request_file: str) -> int:
    """Run the notebook of the request, write the executed notebook and the report; return the exit code."""
    with Path(request_file).open("rb") as file:  # written by the process that started this one, for this user only
        request: NotebookRequest = pickle.load(file)  # noqa: S301
    engine = engine_api.use(request.journal, durability=request.durability)
    is_fine = NotebookRunner(request, make_shell(), engine).run()
    with suppress(Exception):
        engine.close()
    return 0 if is_fine else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
