"""Writing what happens in one stretch of a run, and what becomes of results that can't be written."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from ironflow_nb.core.events import StepRetryScheduled, StepReused
from ironflow_nb.core.run_state import StepRow
from ironflow_nb.core.status import StepStatus
from ironflow_nb.errors import IronflowError, JournalConflict, JournalError, RunTakenOver
from ironflow_nb.execution.recording.run_writer import PendingEvent, RunWriter
from ironflow_nb.execution.session.attempts import Attempt, AttemptResult
from ironflow_nb.execution.session.cache_claims import CacheClaims
from ironflow_nb.execution.session.replay import Replayer
from ironflow_nb.execution.system.frontend import logger


class Recorder:
    """Commits the results of one stretch of a run. Not thread-safe: the session's lock is held around every call.

    `stopped_by` is the error that the flow can't get past, whatever it swallows.
    """

    def __init__(self, stream: RunWriter, recall: Replayer, claims: CacheClaims) -> None:
        self.stopped_by: IronflowError | None = None
        self._stream = stream
        self._recall = recall
        self._claims = claims

    def record(self, batch: list[AttemptResult]) -> IronflowError | None:
        """Commit the results of attempts in one transaction; return the error because of which none is recorded."""
        try:
            self._commit(batch)
        except IronflowError as error:
            return error
        return None

    def _commit(self, batch: list[AttemptResult]) -> None:
        pieces: list[PendingEvent] = []
        jobs: list[Attempt] = []
        for settled in batch:
            job = settled.job
            pieces.append(settled.piece)
            jobs.append(job)
            if job.failed is not None and type(settled.piece.event) is StepReused:  # so it never began
                self._stream.put(replace(job.failed, status=StepStatus.FAILED))
            if settled.retry_at is not None:
                pieces.append(PendingEvent(StepRetryScheduled(due_at=settled.retry_at), job.step, job.attempt))
                jobs.append(job)
        try:
            rows = self.append(*pieces)
        except JournalError as error:
            self.stopped_by = error  # what was finished is not recorded: a flow that swallows this can't go on
            raise
        for job, row in zip(jobs, rows, strict=True):
            self.take(job, row)
        for settled in batch:
            if settled.piece.cached is not None:
                self._claims.settle(settled.job)
        self._recall.n_reused += sum(type(settled.piece.event) is StepReused for settled in batch)
        for settled in batch:
            if settled.error is None:
                self._recall.note_finished(settled.job.step)

    def take(self, job: Attempt, row: StepRow | None) -> None:
        """Take the attempt as it is recorded now; what ends late is told to the memory of the current stretch.

        That memory was read from the journal while the body still ran, and under the session's lock: so it has the
        attempt as begun, and whatever becomes of it afterwards comes along here. Every way to record a step does.
        """
        assert row is not None
        job.row = row
        if self.is_late(job):
            self._recall.learn(row)

    def is_late(self, job: Attempt) -> bool:
        """Tell whether the job is of an earlier stretch, and answers no call of this one."""
        return job.stretch is not self._recall

    def is_void(self, settled: AttemptResult) -> bool:
        """Tell whether nothing of a late job is recorded.

        One that took another run's result never began, and its step may be another one's now. A child has a record of
        its own, which the attempt of the current stretch reads.
        """
        job = settled.job
        return self.is_late(job) and (not job.is_started or job.child_run_id is not None)

    def append(self, *pieces: PendingEvent) -> list[StepRow | None]:
        """Commit the pieces with all that is pending; return the attempt of each after it.

        Raises:
            RunTakenOver: another process continues the run.
            JournalError: the journal refuses; everything pending stays so.
        """
        if not isinstance(self.stopped_by, RunTakenOver):
            try:
                return self._tried_twice(pieces)
            except JournalConflict as error:
                run_id = self._stream.run_id
                self.stopped_by = RunTakenOver(
                    f"run {run_id} is continued by another process now; what this one still does is not recorded",
                    run_id=run_id,
                )
                self.stopped_by.__cause__ = error
                logger().warning("%s", self.stopped_by)
        self._claims.give_back_all_but(())
        self._stream.give_up()
        raise self.stopped_by

    def _tried_twice(self, pieces: Sequence[PendingEvent]) -> list[StepRow | None]:
        """Commit, and once more after an error that the journal does not know: no memory, the end of the stack."""
        try:
            return self._stream.commit(*pieces)
        except IronflowError:
            raise
        except Exception as error:  # noqa: BLE001 -- of any kind, for others wait for this commit
            self._stream.ledger.troubles.note("writing to the journal", error)
        try:
            return self._stream.commit(*pieces)
        except IronflowError:
            raise
        except Exception as error:
            what = f"run {self._stream.run_id} could not be written to the journal: {type(error).__name__}: {error}"
            raise JournalError(what) from error
