"""The completed run that a new run is built on: what an edit does not touch is taken over, and not done again."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ironflow_nb.core.events import StepReused
from ironflow_nb.core.ids import Digest, RunId, StepRef
from ironflow_nb.core.memo import Memo, Record
from ironflow_nb.core.rows import StepRow
from ironflow_nb.execution.jobs import Place
from ironflow_nb.execution.stream import Piece
from ironflow_nb.values.stored import StoredValue


class Origin:
    """What is recorded of that run. Not thread-safe: the lock of the new run's session is held.

    `children` has, by step of the new run, the child that the same step of the completed run had begun.
    """

    def __init__(
        self, run_id: RunId, recorded: Iterable[tuple[StepRow, StoredValue | None]], defer: Callable[[Piece], object]
    ) -> None:
        """Take its recorded steps; `defer` writes what is taken over with the next commit of the new run.

        A piece that is lost with its process is taken over again: the completed run is still there.
        """
        rows = list(recorded)
        self.run_id = run_id
        self.memo = Memo(row for row, _ in rows)
        self.outputs = {(row.step, row.attempt): stored for row, stored in rows if stored is not None}
        self.children: dict[StepRef, RunId] = {}
        self.n_taken_over = 0
        self._defer = defer

    def find(self, place: Place) -> Record | None:
        """Return the record that answers the call."""
        return self.memo.find(*place)

    def take_over(self, row: StepRow, ref: tuple[StepRef, int, int], place: Place, code: Digest) -> None:
        """Note that the step `ref` of the new run has the result of that attempt."""
        assert row.output_id is not None
        identity, branch, nth = place
        reused = StepReused(
            name=row.name,
            index=ref[1],
            identity=identity.hex(),
            code=code.hex(),
            output=row.output_id.hex(),
            origin_run_id=row.run_id,
            origin_step=row.step,
            branch=branch,
            nth=nth,
            duration_s=row.duration_s,
        )
        self._defer(Piece(reused, ref[0], ref[2]))
        self.n_taken_over += 1
