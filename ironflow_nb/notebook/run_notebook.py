"""`run_notebook`: whole notebooks, executed without a front end and continued where they stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from msgspec.structs import asdict

from ironflow_nb.core.identity import ValueId
from ironflow_nb.core.option_values import a_path
from ironflow_nb.durable_cells.notebook_file import read_notebook, write_notebook
from ironflow_nb.errors import DefinitionError, NotebookFailed, StepNotFound, ValueUnreadable
from ironflow_nb.execution import MEMORY, REGISTRY, Engine
from ironflow_nb.history.tables import TEXT, frame_of_records
from ironflow_nb.values.signed_pickles import pickled

if TYPE_CHECKING:
    import pandas as pd

MODULE: Final = "ironflow_nb.notebook.headless_shell"
COLUMNS: Final = {"number": "int64", "name": TEXT, "status": TEXT, "duration_s": "float64", "error": TEXT}
_LAST_CHARACTERS: Final = 2000


class CellOutcome(StrEnum):
    """What the run of a notebook did with a code cell; the executed notebook has it in the metadata of the cell."""

    RUNNING = "running"
    EMPTY = "empty"
    EXECUTED = "executed"
    RESTORED = "restored"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    DIED = "died"
    """The process ended while it executed the cell."""


class NotebookRequest(msgspec.Struct, frozen=True):
    """A request to run a notebook: its path, inputs and journal, and the files for the results."""

    path: str
    inputs: dict[str, Any]
    journal: str
    durability: str
    output: str | None
    report: str


class CellReport(msgspec.Struct):
    """The result of one code cell; `number` counts all cells of the notebook from 1, `values` are ids (hex)."""

    number: int
    name: str
    status: CellOutcome = CellOutcome.RUNNING
    duration_s: float = 0.0
    error: str | None = None
    traceback: str | None = None
    values: dict[str, str] = {}
    printed: tuple[int, int] = (0, 0)
    """Bytes that the process had printed on stdout and stderr when the cell began."""


class NotebookReport(msgspec.Struct):
    """The results of the cells; `is_over` means that no cell was being executed when the process ended."""

    is_over: bool = False
    cells: list[CellReport] = []


class NotebookResult:
    """The result of `run_notebook`: its cells and the values of its variables."""

    def __init__(self, engine: Engine, path: Path, output: Path | None, cells: list[CellReport]) -> None:
        self._engine = engine
        self._cells = cells
        self.path = path
        self.output = output
        self.status = "completed"

    def cells(self) -> pd.DataFrame:
        """Return the code cells, one row each, in the order of the notebook.

        Columns: number (of all cells, from 1), name, status (executed, restored, failed, empty), duration_s (of this
        run), error.
        """
        return frame_of_records(COLUMNS, [asdict(cell) for cell in self._cells])

    def value(self, name: str) -> Any:
        """Return the value of a variable that the last cell assigning it has recorded.

        Raises:
            StepNotFound: no cell has recorded it.
            ValueUnreadable: it can't be read here.
        """
        made = next((cell.values[name] for cell in reversed(self._cells) if name in cell.values), None)
        if made is None:
            known = ", ".join(dict.fromkeys(each for cell in self._cells for each in cell.values)) or "none"
            raise StepNotFound(
                f"no cell of {self.path.name} has assigned {name!r}; the variables are: {known}", name=name
            )
        stored = self._engine.access.value(ValueId(bytes.fromhex(made)))
        if stored is None:
            raise ValueUnreadable(f"{name} is missing in the journal; put that back from a copy", name=name)
        return self._engine.access.values.decode(stored)

    def __repr__(self) -> str:
        statuses = [cell.status for cell in self._cells]
        counted = ", ".join(f"{statuses.count(each)} {each}" for each in dict.fromkeys(statuses))
        return f"<notebook {self.path.name}: {self.status}; {counted or 'no cells'}>"


def run_notebook(
    path: str | os.PathLike[str], inputs: Mapping[str, Any] | None = None, output: str | os.PathLike[str] | None = None
) -> NotebookResult:
    """Run a notebook from top to bottom in a process of its own, every code cell a durable cell; wait for its end.

    Finished cells are restored: a call after a failure, an interrupt or the death of the process continues with the
    first cell that is not finished or has changed. Cells are identified by their ids, or by their ``%%step`` names, and
    are shared with the notebook in Jupyter. They are executed in the folder of the notebook, on the journal of this
    process. A restored cell repeats magics such as ``%load_ext`` and settings such as ``sys.path.append``.

    Args:
        path: the notebook, of format 4.
        inputs: variables that are assigned first, or after the cell tagged ``parameters``, whose values they replace.
        output: the path of the executed notebook with all outputs; it is also written if a cell fails.

    Raises:
        NotebookFailed: a cell failed, ended the process, or was killed with it; the message says which and what to do.
        DefinitionError: the file is not a notebook, an input is not a variable name, or the journal is in memory.
        OSError: the notebook can't be read, or the output can't be written.
    """
    engine = REGISTRY.engine()
    found = Path(a_path(path)).absolute()
    written = None if output is None else Path(a_path(output)).absolute()
    with TemporaryDirectory(prefix="ironflow-") as folder:
        asked, report_file = Path(folder) / "request", Path(folder) / "report.json"
        asked.write_bytes(pickled(_request(engine, found, inputs or {}, written, report_file)))
        engine.flush()
        end = _run_process(asked, found.parent)
        report = _read_report(report_file)
    if end.code != 0 or not report.is_over:
        raise _failure(found, written, report, end)
    return NotebookResult(engine, found, written, report.cells)


def _request(
    engine: Engine, path: Path, inputs: Mapping[str, Any], output: Path | None, report: Path
) -> NotebookRequest:
    bad = [name for name in inputs if not name.isidentifier()]
    if bad:
        raise DefinitionError(f"inputs must have names of variables, got {bad[0]!r}")
    location = engine.journal.location
    if location in {MEMORY, "memory"}:
        raise DefinitionError(
            "a notebook is run in a process of its own, which can't see a journal in memory; use one on disk: "
            "iron.use('journal.db')"
        )
    read_notebook(path)  # an unreadable notebook is reported here, not by the other process
    return NotebookRequest(
        path=str(path),
        inputs=dict(inputs),
        journal=engine.address,
        durability=engine.durability.value,
        output=None if output is None else str(output),
        report=str(report),
    )


def _run_process(asked: Path, folder: Path) -> _ProcessEnd:
    """Run the request in another process; return how that ended. An interrupt is passed on to it."""
    package = str(Path(__file__).parent.parent.parent)
    paths = [path for path in (os.environ.get("PYTHONPATH"), package) if path]
    # Unbuffered: text that it printed before it was killed is not lost.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", MODULE, str(asked)]
    streams = asked.with_name("stdout"), asked.with_name("stderr")
    with streams[0].open("wb") as printed, streams[1].open("wb") as errors:
        process = subprocess.Popen(  # noqa: S603 -- our own module, in the interpreter that runs this
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=printed, stderr=errors
        )
        try:
            code = process.wait()
        except BaseException:
            with suppress(OSError):
                process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()
            raise
    return _ProcessEnd(code, streams[0].read_bytes(), streams[1].read_bytes())


class _ProcessEnd(NamedTuple):
    """The end of the process of a notebook: its exit code and what it printed."""

    code: int
    stdout: bytes
    stderr: bytes

    def __str__(self) -> str:
        if self.code >= 0:
            return f"its process ended by itself, with code {self.code}"
        try:
            name = signal.Signals(-self.code).name
        except ValueError:
            name = str(-self.code)
        why = ", as happens where memory runs out" if name == "SIGKILL" else ""
        return f"its process was killed by {name}{why}"


def _read_report(path: Path) -> NotebookReport:
    try:
        return msgspec.json.decode(path.read_bytes(), type=NotebookReport)
    except (OSError, msgspec.MsgspecError):
        return NotebookReport()


def _failure(path: Path, output: Path | None, report: NotebookReport, end: _ProcessEnd) -> NotebookFailed:
    cell = report.cells[-1] if report.cells else None
    if cell is not None and cell.status is CellOutcome.RUNNING:
        return _death(path, output, cell, end)
    if cell is not None and cell.status in {CellOutcome.FAILED, CellOutcome.INTERRUPTED}:
        is_failed = cell.status is CellOutcome.FAILED
        what = f"failed: {cell.error}\n\n{cell.traceback}\n\n" if is_failed else "was interrupted; "
        return NotebookFailed(
            f"cell {cell.number} ({cell.name}) of {path.name} {what}{_advice(cell, 'correct it, ' * is_failed)}",
            path=str(path),
            number=cell.number,
            name=cell.name,
        )
    words = end.stderr.decode("utf-8", "replace")[-_LAST_CHARACTERS:]
    what = f"{path.name} was not run: {end}"
    if cell is not None:
        what = f"cell {cell.number} ({cell.name}) of {path.name} was executed, and then {end}; run the notebook again: "
        what += "what is done is restored"
    return NotebookFailed(f"{what}\n{words}".rstrip(), path=str(path))


def _death(path: Path, output: Path | None, cell: CellReport, end: _ProcessEnd) -> NotebookFailed:
    """Return the failure of a notebook whose process ended in a cell, and write it into the executed notebook."""
    said = f"cell {cell.number} ({cell.name}) of {path.name} was being executed when {end}; {_advice(cell, '')}"
    texts = [stream[start:].decode("utf-8", "replace") for stream, start in zip(end[1:], cell.printed, strict=True)]
    if output is not None:
        with suppress(DefinitionError, OSError):  # its disk may be full
            _write_death(output, said, texts)
    words = "".join(texts)[-_LAST_CHARACTERS:]
    return NotebookFailed(f"{said}\n{words}".rstrip(), path=str(path), number=cell.number, name=cell.name)


def _write_death(output: Path, said: str, texts: list[str]) -> None:
    notebook = read_notebook(output)
    for cell in notebook["cells"]:
        about = cell.get("metadata", {}).get("ironflow", {})
        if about.get("status") == CellOutcome.RUNNING:
            about["status"] = CellOutcome.DIED.value
            printed = [
                {"output_type": "stream", "name": name, "text": text}
                for name, text in zip(("stdout", "stderr"), texts, strict=True)
                if text
            ]
            error = {"output_type": "error", "ename": "NotebookFailed", "evalue": said, "traceback": [said]}
            cell["outputs"] = [*printed, error]
    write_notebook(notebook, output)


def _advice(cell: CellReport, first: str) -> str:
    done = "; the cells before it are done, and are restored" if cell.number > 1 else ""
    return f"{first}run the notebook again: it continues with this cell{done}"
