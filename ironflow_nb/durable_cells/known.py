"""The durable cells of this process, by name: what they are now, and where they stand."""

from __future__ import annotations

from typing import Final

from ironflow_nb.core.ids import RunId
from ironflow_nb.core.orders import NONE, Orders
from ironflow_nb.core.rows import RunRow
from ironflow_nb.core.verdict import OnChange
from ironflow_nb.durable_cells.cell import KIND, Cell
from ironflow_nb.errors import FlowNotDefined
from ironflow_nb.execution.engine import Engine


class KnownCell:
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

    def continue_run(self, engine: Engine, run: RunRow, orders: Orders = NONE) -> RunId:
        """Refuse: what a cell does belongs to its notebook.

        Raises:
            FlowNotDefined: always.
        """
        raise FlowNotDefined(
            f"run {run.run_id} is of the cell {self.name}; run the cell again instead, and it is executed or restored",
            run_id=run.run_id,
            name=self.name,
        )
