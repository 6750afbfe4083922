"""What the engine sees of the notebook: which cell is executed, where to say a line, who shows a run."""

from __future__ import annotations

from typing import Any

from ironflow_nb.core.ids import RunId
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.seams import SystemThreads
from ironflow_nb.execution.surroundings import logger
from ironflow_nb.handles.run import Run
from ironflow_nb.notebook.live import CellPicture, show_run


class NotebookFace:
    """The extension of one shell. Its hooks run in the thread that executes the cell."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._threads = SystemThreads()
        self._n_cells = 0
        self._thread: int | None = None
        self._picture: CellPicture | None = None

    def attach(self) -> None:
        """Hook into the shell."""
        self._shell.events.register("pre_run_cell", self._begin_cell)
        self._shell.events.register("post_run_cell", self._end_cell)
        self._begin_cell()  # the cell that loads the extension
        formatter = self._shell.display_formatter.ipython_display_formatter
        formatter.for_type(Run, show_run)

    def detach(self) -> None:
        """Unhook."""
        self._shell.events.unregister("pre_run_cell", self._begin_cell)
        self._shell.events.unregister("post_run_cell", self._end_cell)
        self._shell.display_formatter.ipython_display_formatter.pop(Run, None)

    def _begin_cell(self, *_: object) -> None:
        self._n_cells += 1
        self._thread = self._threads.ident()
        self._picture = None

    def _end_cell(self, *_: object) -> None:
        self._thread = None
        if self._picture is not None:
            self._picture.finish()
            self._picture = None

    # -- the port of the engine ----------------------------------------------------------------------------------

    def cell(self) -> int | None:
        """Return the number of the cell that the calling thread executes, or None if it executes none."""
        return self._n_cells if self._thread == self._threads.ident() else None

    def say(self, line: str) -> None:
        """Print one line into the cell; other threads have no cell of their own and log it."""
        if self.cell() is None:
            logger().info("%s", line)
        else:
            print(line)  # noqa: T201 -- this is what a cell shows

    def began(self, engine: Engine, run_id: RunId) -> None:
        """Show the picture of a run that the cell runs directly; a cell has one, of the run that began last."""
        if self.cell() is None or not hasattr(self._shell, "kernel"):
            return
        if self._picture is None:
            self._picture = CellPicture()
        self._picture.follow(engine, run_id)
