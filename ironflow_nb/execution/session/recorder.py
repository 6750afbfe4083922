"""Writing what happens in one continuation of a run, and what becomes of results that can't be written."""

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
    """Commits the results of one continuation of a run. Not thread-safe: the session's lock is held around every call.

    `fatal_error` is the error that the flow can't get past, whatever it swallows.
    """

    def __init__(self, writer: RunWriter, replayer: Replayer, claims: CacheClaims) -> None:
        self.fatal_error: IronflowError | None = None
        self._writer = writer
        self._replayer = replayer
        self._claims = claims

    def record(self, batch: list[AttemptResult]) -> IronflowError | None:
        """Commit the results of attempts in one transaction; return the error because of which none is recorded."""
        events: list[PendingEvent] = []
        attempts: list[Attempt] = []
        for result in batch:
            attempt = result.performed
            events.append(result)
            attempts.append(attempt)
            if attempt.failed is not None and type(result.event) is StepReused:  # so it never began
                self._writer.put(replace(attempt.failed, status=StepStatus.FAILED))
            if result.retry_at is not None:
                events.append(PendingEvent(StepRetryScheduled(due_at=result.retry_at), attempt.step, attempt.number))
                attempts.append(attempt)
        try:
            rows = self.append(*events)
        except IronflowError as error:
            if isinstance(error, JournalError):  # it is not recorded: a flow that swallows this can't go on
                self.fatal_error = error
            return error
        for attempt, row in zip(attempts, rows, strict=True):
            self.take(attempt, row)
        for result in batch:
            if result.cached is not None:
                self._claims.settle(result.performed)
            self._replayer.n_reused += type(result.event) is StepReused
            if result.error is None:
                self._replayer.note_finished(result.performed.step)
        return None

    def take(self, attempt: Attempt, row: StepRow | None) -> None:
        """Take the attempt as it is recorded now; what ends late is told to the memory of the current continuation.

        That memory was read from the journal while the body still ran, and under the session's lock: so it has the
        attempt as begun, and whatever becomes of it afterwards comes along here. Every way to record a step does.
        """
        assert row is not None
        attempt.row = row
        if self.is_late(attempt):
            self._replayer.learn(row)

    def is_late(self, attempt: Attempt) -> bool:
        """Return True if the attempt is of an earlier continuation, and answers no call of this one."""
        return attempt.continuation is not self._replayer

    def is_void(self, result: AttemptResult) -> bool:
        """Return True if nothing of a late attempt is recorded.

        One that took another run's result never began, and its step may be another one's now. A child has a record of
        its own, which the attempt of the current continuation reads.
        """
        attempt = result.performed
        return self.is_late(attempt) and (not attempt.is_started or attempt.child_run_id is not None)

    def append(self, *events: PendingEvent) -> list[StepRow | None]:
        """Commit the events with all that is pending; return the attempt of each after it.

        Raises:
            RunTakenOver: another process continues the run.
            JournalError: the journal refuses; everything pending stays so.
        """
        if not isinstance(self.fatal_error, RunTakenOver):
            try:
                return self._tried_twice(events)
            except JournalConflict as error:
                run_id = self._writer.run_id
                self.fatal_error = RunTakenOver(
                    f"run {run_id} is continued by another process now; what this one still does is not recorded",
                    run_id=run_id,
                )
                self.fatal_error.__cause__ = error
                logger().warning("%s", self.fatal_error)
        self._claims.give_back_all_but(())
        self._writer.give_up()
        raise self.fatal_error

    def _tried_twice(self, events: Sequence[PendingEvent]) -> list[StepRow | None]:
        """Commit, and once more after an error that the journal does not know: no memory, the end of the stack."""
        try:
            return self._writer.commit(*events)
        except IronflowError:
            raise
        except Exception as error:  # noqa: BLE001 -- of any kind, for others wait for this commit
            self._writer.access.background_errors.note("writing to the journal", error)
        try:
            return self._writer.commit(*events)
        except IronflowError:
            raise
        except Exception as error:
            what = f"run {self._writer.run_id} could not be written to the journal: {type(error).__name__}: {error}"
            raise JournalError(what) from error
