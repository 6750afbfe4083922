"""The durable cells of this process, by name: what they are now, and where they stand.

Where a cell is executed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from ironflow_nb.core.identity import RunId
from ironflow_nb.core.plan import NONE, ResumeOptions
from ironflow_nb.core.replay_decision import OnChange
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.durable_cells.cell import KIND, Cell
from ironflow_nb.durable_cells.cell_lookup import key_of
from ironflow_nb.durable_cells.cell_record import OutputSink
from ironflow_nb.errors import FlowNotDefined
from ironflow_nb.execution import Engine


@dataclass(frozen=True, slots=True)
class CellContext:
    """Where a cell is executed: which journal and notebook, whose names, and where its output goes."""

    engine: Engine
    key: str
    namespace: dict[str, Any]
    stage: OutputSink


def place_of(engine: Engine, namespace: dict[str, Any], stage: OutputSink, notebook: str | None = None) -> CellContext:
    """Return the place for the cells of a notebook."""
    return CellContext(engine, key_of(engine, notebook), namespace, stage)


class RegisteredCell:
    """The definition that runs of a cell have. Two cells of one notebook can't have one name.

    `noted_at` is when it was executed or restored last, in microseconds UTC.
    """

    kind: Final = KIND

    def __init__(self, cell: Cell, noted_at: int) -> None:
        self.cell = cell
        self.noted_at = noted_at
        self._challenger: str | None = None

    on_change: Final = OnChange.REFRESH

    @property
    def name(self) -> str:
        """The name of the cell."""
        return self.cell.name

    def rival(self, cell: Cell) -> str | None:
        """Return how the other cell of that name begins, if there is one; whoever asks twice takes the name over."""
        mine, its = self.cell.cell_id, cell.cell_id
        if mine is None or its is None or its in {mine, self._challenger}:
            return None
        self._challenger = its
        lines = [line for line in self.cell.text.splitlines()[1:] if line.strip()]
        return lines[0].strip() if lines else self.cell.text.strip()

    def continue_run(self, engine: Engine, run: RunRow, orders: ResumeOptions = NONE) -> RunId:
        """Refuse: what a cell does belongs to its notebook.

        Raises:
            FlowNotDefined: always.
        """
        raise FlowNotDefined(
            f"run {run.run_id} is of the cell {self.name}; run the cell again instead, and it is executed or restored",
            run_id=run.run_id,
            name=self.name,
        )
