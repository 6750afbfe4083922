"""The completed run that a new run is built on: what an edit does not touch is taken over, and not done again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from ironflow_nb.core.events import StepReused
from ironflow_nb.core.identity import RunId, StepRef
from ironflow_nb.core.recorded_steps import RecordedStep, RecordedSteps
from ironflow_nb.core.run_state import RunRow, StepRow
from ironflow_nb.core.status import StepStatus
from ironflow_nb.execution.recording.journal_access import PendingEvent
from ironflow_nb.execution.recording.signatures import own_runs
from ironflow_nb.execution.session.attempts import Place
from ironflow_nb.journal.ports import Reader, Select
from ironflow_nb.values.signed_pickles import Signer
from ironflow_nb.values.stored_value import StoredValue, fits_row

N_GENERATIONS: Final = 8
"""How many runs back it is looked for what was completed with the code of now: an edit may be taken back."""


def lineage(signer: Signer, reader: Reader, run_id: RunId | None) -> list[RunRow]:
    """Return that run and those that it was built on, newest first, as far as this user began them."""
    runs: list[RunRow] = []
    while run_id is not None and len(runs) <= N_GENERATIONS:
        found = reader.runs(Select(run_ids=[run_id]))
        if not own_runs(signer, reader, found):
            break
        runs += found
        run_id = found[0].origin_run_id
    return runs


def completed_in(reader: Reader, runs: Iterable[RunRow]) -> list[StepRow]:
    """Return the attempts that each of the runs completed itself, the newest first."""
    done = {StepStatus.COMPLETED}
    found = (reader.steps(Select(run_ids=[run.run_id], step_statuses=done)) for run in runs)
    return [row for rows in found for row in reversed(rows) if row.origin_run_id is None]


class BaseRun:
    """What is recorded of that run. Not thread-safe: the lock of the new run's session is held.

    `children` has, by step of the new run, the child that the same step of the completed run had begun.
    """

    def __init__(
        self,
        run_id: RunId,
        recorded: Iterable[tuple[StepRow, StoredValue | None]],
        older: Iterable[StepRow],
        defer: Callable[[PendingEvent], object],
    ) -> None:
        """Take its recorded steps, and those that the runs it was built on completed, newest first.

        `defer` writes what is taken over with the next commit of the new run. A piece that is lost with its process
        is taken over again: the completed run is still there.
        """
        rows = list(recorded)
        self.run_id = run_id
        self.memo = RecordedSteps(row for row, _ in rows)
        self.memo.learn_older(older)
        self.outputs = {(row.step, row.attempt): stored for row, stored in rows if stored is not None}
        self.children: dict[StepRef, RunId] = {}
        self.n_taken_over = 0
        self._defer = defer

    def outputs_of(self, row: StepRow) -> dict[tuple[StepRef, int], StoredValue]:
        """Return the results that were read together with the attempt, by step and attempt."""
        return self.outputs if row.run_id == self.run_id else {}

    def find(self, place: Place) -> RecordedStep | None:
        """Return the record that answers the call."""
        return self.memo.find(*place)

    def take_over(
        self, row: StepRow, stored: StoredValue, ref: tuple[StepRef, int, int], place: Place, site: str
    ) -> None:
        """Note that the step `ref` of the new run has the stored result of that attempt."""
        assert row.output_id is not None
        identity, branch, nth = place
        reused = StepReused(
            name=row.name,
            index=ref[1],
            identity=identity,
            code=row.code,
            output=row.output_id,
            origin_run_id=row.run_id,
            origin_step=row.step,
            branch=branch,
            nth=nth,
            duration_s=row.duration_s,
            child_run_id=row.child_run_id,
            site=site,
        )
        self._defer(PendingEvent(reused, ref[0], ref[2], values=(stored,) if fits_row(stored) else ()))
        self.n_taken_over += 1
