"""The run that a new one is built on, or is a fork of: what it has done is taken over, and not done again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Final

from ironflow_nb.core.event_codec import decode_event
from ironflow_nb.core.events import RecordedEvent, StepReused, StepStarted
from ironflow_nb.core.identity import RunId, StepRef
from ironflow_nb.core.recorded_steps import RecordedStep, RecordedSteps
from ironflow_nb.core.run_state import RunRow, RunState, StepRow, evolve
from ironflow_nb.core.status import StepStatus
from ironflow_nb.execution.recording.journal_access import PendingEvent
from ironflow_nb.execution.recording.signatures import own_runs
from ironflow_nb.execution.session.attempts import Place
from ironflow_nb.journal.ports import Reader, Select
from ironflow_nb.values.signed_pickles import Signer
from ironflow_nb.values.stored_value import ROW_LIMIT, StoredValue, fits_row

N_GENERATIONS: Final = 8
"""The number of earlier runs in which results of the current code are looked for: an edit may have been taken back."""


def lineage(signer: Signer, reader: Reader, run_id: RunId | None) -> list[RunRow]:
    """Return the run and those that it was built on, the newest first, as long as this user began them."""
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


def prefix(reader: Reader, run_id: RunId, position: int) -> list[tuple[StepRow, StoredValue | None]]:
    """Return the attempts of the run as they were at the position, with outputs where they are small.

    What runs once and was done later stands in it, too: it is not done again in a fork.
    """
    state, once = RunState(run_id), set[StepRef]()
    for row in reader.events(Select(run_ids=[run_id])):
        event = decode_event(row.type, row.data)
        if row.step is not None and isinstance(event, StepStarted) and event.once:
            once.add(row.step)
        if row.position <= position:
            evolve(state, RecordedEvent(row.version, row.at, event, row.step, row.attempt))
    rows = list(state.steps.values())
    done = {row.step for row in rows if row.status is StepStatus.COMPLETED}
    if once - done:
        now = reader.steps(Select(run_ids=[run_id], step_statuses={StepStatus.COMPLETED}))
        later = [row for row in now if row.step in once - done]
        rows = [row for row in rows if row.step not in {each.step for each in later}] + later
    ids = {row.output_id for row in rows if row.output_id is not None}
    values = reader.values(ids, of=[row.row_key for row in rows], content_limit=ROW_LIMIT)
    return [(row, values.get(row.output_id) if row.output_id is not None else None) for row in rows]


def base_run_of(
    signer: Signer, reader: Reader, run_id: RunId | None, position: int | None, defer: Callable[[PendingEvent], object]
) -> BaseRun | None:
    """Return the run that another one is built on, or with a position is a fork of; None if it is a stranger's."""
    runs = lineage(signer, reader, run_id)
    if not runs:
        return None
    older = [row for newer, run in pairwise(runs) for row in _completed_before(reader, run, newer.origin_position)]
    first = runs[0].run_id
    recorded = reader.attempts(first) if position is None else prefix(reader, first, position)
    return BaseRun(first, recorded, older, defer, position)


def _completed_before(reader: Reader, run: RunRow, position: int | None) -> Iterable[StepRow]:
    if position is None:
        return completed_in(reader, [run])
    done = [row for row, _ in prefix(reader, run.run_id, position) if row.status is StepStatus.COMPLETED]
    return [row for row in reversed(done) if row.origin_run_id is None]


class BaseRun:
    """What is recorded of that run. Not thread-safe: the lock of the new run's session is held.

    `children` has, by step of the new run, the child that the same step of the completed run had begun. Of a fork it is
    what the origin was at the `position`.
    """

    def __init__(
        self,
        run_id: RunId,
        recorded: Iterable[tuple[StepRow, StoredValue | None]],
        older: Iterable[StepRow],
        defer: Callable[[PendingEvent], object],
        position: int | None = None,
    ) -> None:
        """Take its recorded steps, and those that the runs it was built on completed, newest first.

        `defer` writes what is taken over with the next commit of the new run. A piece that is lost with its process
        is taken over again: the completed run is still there.
        """
        rows = list(recorded)
        self.run_id = run_id
        self.position = position
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
