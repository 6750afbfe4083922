"""A notebook of durable cells: it is executed cell by cell, and its kernel can die."""

from __future__ import annotations

import linecache
import logging
from typing import Any

import pytest

from ironflow_nb.durable_cells.cell import Cell, CellOptions
from ironflow_nb.durable_cells.cell_lookup import context_of
from ironflow_nb.durable_cells.cell_record import NoOutputSink
from ironflow_nb.durable_cells.run_cell import CellResult, run_cell
from tests.cells import run_cell as define
from tests.conftest import Lab


class Notebook:
    """Runs cells, and knows whose bodies were executed: each calls `did("name")`."""

    def __init__(self, lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
        self.lab = lab
        self.done: list[str] = []
        self.cells: dict[str, Cell] = {}
        self._caplog = caplog
        self._n_cells = 0
        self.space: dict[str, Any] = {}
        self.restart(dies=False)

    def restart(self, *, dies: bool = True) -> None:
        """Go on in another process, which has none of the names."""
        if dies:
            self.lab.die()
        self.space = {"__name__": "__main__", "did": self.done.append}

    def define(self, source: str) -> None:
        """Execute an ordinary cell."""
        define(source, self.space)

    def step(self, name: str, source: str, **options: Any) -> CellResult:
        """Execute a durable cell, whose body notes that it was executed."""
        self._n_cells += 1
        file = f"<durable {self._n_cells}>"
        text = f'did("{name}")\n{source}'
        linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file
        cell = self.cells[name] = Cell(name, text, text, CellOptions(**options), file)
        self._caplog.clear()
        with self._caplog.at_level(logging.INFO, "ironflow_nb"):
            return run_cell(cell, context_of(self.lab.engine, self.space, NoOutputSink()))

    def bodies(self) -> list[str]:
        """Return whose bodies were executed since this was last asked."""
        found = list(self.done)
        self.done.clear()
        return found

    @property
    def said(self) -> str:
        """What the latest cell said."""
        return "\n".join(record.getMessage() for record in self._caplog.records)


@pytest.fixture
def notebook(lab: Lab, caplog: pytest.LogCaptureFixture) -> Notebook:
    """Return a notebook on either kind of journal."""
    return Notebook(lab, caplog)
