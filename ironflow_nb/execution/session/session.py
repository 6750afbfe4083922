"""State of one run while this process executes it: replay index, attempts in flight, results to be committed.

The threads of its flow and of its steps use it, and the background thread. All that it knows changes under its lock,
which is taken before the journal's and never the other way round. Only results of attempts beside the flow are queued
without it, for a deque is thread-safe, and a handler of signals notes an interrupt, for it can't wait for a lock.

`phase` says how far the run has come. `stop` makes an open run STOPPING; the next call raises `RunStopped`, which makes
it UNWINDING; FINISHING begins when the flow has ended otherwise than by returning, and its bodies in flight are waited
for; CLOSED when the last event is committed, or pending because the journal refuses it. `reopen` begins a further
continuation: of the same run, with another `Replayer`, by which code that outlived its own continuation is told apart.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from ironflow_nb.core.events import CompensationStarted, ItemsCounted, StepStarted
from ironflow_nb.core.identity import BranchId, StepRef
from ironflow_nb.core.run_state import StepRow, followed
from ironflow_nb.errors import CodeChanged, IronflowError, JournalError, OutcomeUnknown, ReplayDiffers, RunFinished
from ironflow_nb.execution.definitions.call_sites import CallSites
from ironflow_nb.execution.definitions.run_request import RejoinedBy
from ironflow_nb.execution.definitions.step_spec import StepSpec
from ironflow_nb.execution.recording.journal_access import PendingEvent, RunStorage
from ironflow_nb.execution.recording.lane_desk import LaneDesk
from ironflow_nb.execution.session.attempts import (
    Attempt,
    AttemptRef,
    AttemptResult,
    Promise,
    RecordedAnswer,
    StepCall,
    Undone,
)
from ironflow_nb.execution.session.concurrent_work import AbandonedBodies, ConcurrentWork
from ironflow_nb.execution.session.deferred_definition import DeferredDefinition
from ironflow_nb.execution.session.open_waits import OpenWaits
from ironflow_nb.execution.session.replay import ItemSeries, Replayer
from ironflow_nb.execution.session.run_phase import RunLifecycle, RunPhase
from ironflow_nb.execution.session.run_writer import RunWriter
from ironflow_nb.execution.session.undos import Compensation
from ironflow_nb.journal.ports import StoredDefinition

if TYPE_CHECKING:
    from ironflow_nb.telemetry.run_telemetry import RunTelemetry


StartPerformer = Callable[..., None]
"""Starts a thread or task that performs attempts of a step, as `Engine.start_performer` does."""


class Session(RunLifecycle):
    """One run in this process. Attributes are written here only."""

    def __init__(
        self, writer: RunWriter, replayer: Replayer, storage: RunStorage, *,
        start_performer: StartPerformer, desk: LaneDesk,
    ) -> None:  # fmt: skip
        self.start_performer = start_performer
        self.desk = desk
        self.storage = storage
        super().__init__(writer)
        self.abandoned = AbandonedBodies(writer)
        self.rejoined_by: RejoinedBy | None = RejoinedBy.CALL
        self.definition = DeferredDefinition(writer, self.lock)
        self._in_flight: dict[AttemptRef, Attempt] = {}
        self._results: deque[AttemptResult] = deque()
        self._begin(replayer)

    def _begin(self, replayer: Replayer) -> None:
        self.replayer = replayer
        self.writer.begin(replayer)
        self.completion = Promise()
        if self.writer.telemetry is not None:
            self.writer.telemetry.begin()
        self.open()
        self.beside = ConcurrentWork(self.lock, self.wakeups, self.access.clock)
        self.waits = OpenWaits(self.writer)

    def reopen(self, replayer: Replayer) -> None:
        """Begin another continuation; what is in flight in this process stays so."""
        with self.lock:
            self.beside.drop_waiting(self.give_back, self._in_flight.values())  # who begins them waits for the lock
            self._begin(replayer)

    def compensate(self, started: PendingEvent, make_replayer: Callable[[], Replayer]) -> None:
        """Record that the flow has failed for good and is undone now: as a further stretch, which has the same end.

        Nothing of the flow goes on in it, and neither its time limits nor what asked it to stop count.
        """
        # Another process may have to undo a graph, and has its text from the journal only.
        self.definition.write(self.storage)
        with self.lock:
            self.writer.claims.give_back_all_but(self._in_flight.values())
            self.waits.leave((started,))
            self.writer.append(started)
            assert isinstance(started.event, CompensationStarted)
            self.compensation = Compensation(self.writer.version, started.event)
            completion = self.completion
            self._begin(make_replayer())
            self.completion = completion

    def continue_compensation(self, compensation: Compensation | None) -> None:
        """Note that an earlier owner has begun to undo what the run did, if that is so."""
        self.compensation = compensation

    def describe(
        self,
        sites: CallSites,
        rejoined_by: RejoinedBy | None,
        define: Callable[[], StoredDefinition] | None,
        *,
        compensates_on_cancel: bool,
    ) -> None:
        """Note where steps are called, what continues the run, and what gives its definition if that is not stored.

        And whether what it did is also undone when it is cancelled.
        """
        self.compensates_on_cancel = compensates_on_cancel
        self.replayer.sites = sites
        self.rejoined_by = rejoined_by
        if define is not None:
            self.definition.defer(define)

    def encode_with(self, around: Callable[[RunStorage], RunStorage]) -> None:
        """Encode all further records of the run by a storage that is made around its own."""
        self.storage = around(self.storage)

    def telemetry(self) -> RunTelemetry:
        """Return what collects the reports of this run."""
        if self.writer.telemetry is not None:
            return self.writer.telemetry
        with self.lock:
            return self.writer.begin_telemetry(lambda: self.storage)  # a style may replace the storage later

    # -- calls and attempts --------------------------------------------------------------------------------------

    def resolve_call(
        self, spec: StepSpec, branch: BranchId, args: tuple[Any, ...], kwargs: Mapping[str, Any], *,
        continuation: object, site: str | None = None,
    ) -> RecordedAnswer | Promise | Attempt:  # fmt: skip
        """Answer a call made at the `site` by code of that continuation, or return the attempt to perform.

        Raises:
            RunFinished, RunTakenOver: the run is over for this session, or for that code.
        """
        replayer = self.replayer
        if continuation is not replayer:
            raise self.finished()
        call, digest = replayer.recognise(spec, branch, args, kwargs)
        call.site = site
        with self.lock:
            # Asked again: the run may have been continued meanwhile. The call would be numbered among those of the code
            # that runs now, whose own call then is another one.
            if replayer is not self.replayer:
                raise self.finished()
            if self.phase is not RunPhase.OPEN or self.writer.fatal_error is not None:
                self.raise_if_over()
            try:
                return replayer.resolve(spec, call, digest, self._in_flight)
            except (CodeChanged, OutcomeUnknown, ReplayDiffers) as error:
                self.writer.fatal_error = error  # so that code which swallows it can't go on
                raise

    def resolve_undo(
        self, spec: StepSpec, call: StepCall, undoes: Undone, *, continuation: object
    ) -> Attempt | StepRow:
        """Return the attempt that undoes another one; or its end, if that is recorded in this compensation."""
        with self.lock:
            self.raise_if_over()
            self.raise_if_outlived(continuation)
            assert self.compensation is not None
            return self.replayer.resolve_undo(spec, call, undoes, self.compensation.since_version)

    def raise_if_over(self) -> None:
        """Raise what a call, or an attempt that is about to begin, meets in a run that is over, or is to stop."""
        self.writer.raise_fatal_error()
        self.raise_if_stop_requested()
        if self.phase is RunPhase.CLOSED:
            raise self.finished()

    def raise_if_outlived(self, continuation: object) -> None:
        """Raise what code meets that has outlived its continuation of the run."""
        if continuation is not self.replayer:
            raise self.finished()

    def is_left(self, continuation: object) -> bool:
        """Return True if that continuation has ended, or the run is another process's now: nothing of it is awaited."""
        is_over = self.phase >= RunPhase.FINISHING or continuation is not self.replayer
        return is_over or self.writer.fatal_error is not None

    def raise_if_late(self, attempt: Attempt) -> None:
        """Raise what an attempt meets that begins when its continuation of the run is over.

        Lock: session.
        """
        self.raise_if_over()
        self.raise_if_outlived(attempt.continuation)

    def finished(self) -> RunFinished:
        """Return the error for a call that comes too late."""
        return RunFinished(
            f"run {self.run_id} has ended, and a step was called in it afterwards, for instance by a thread or task "
            "that outlived the flow; wait for it inside the flow",
            run_id=self.run_id,
        )

    def start(self, attempt: Attempt, *, is_beside: bool, has_body: bool = True) -> None:
        """Record that the body of the attempt begins now; one beside its flow is found by a later continuation.

        What has no body, a recorded call for instance, is recorded at once with what it gives.
        """
        inputs = self.storage.store_inputs(attempt.call.arguments)
        identity, branch, nth = attempt.call.place
        writer = self.writer
        if self._limit is not None:
            self.stop_if_out_of_time()
        with self.lock:
            if (
                self.phase is not RunPhase.OPEN
                or writer.fatal_error is not None
                or attempt.continuation is not self.replayer
            ):
                self.raise_if_late(attempt)
            if is_beside and self.phase >= RunPhase.FINISHING:
                raise self.finished()
            started = StepStarted(
                name=attempt.spec.name, index=attempt.index, identity=identity, code=attempt.code, branch=branch,
                nth=nth, inputs=inputs[-1].value_id, reason=attempt.reason._value_,  # `value` is a call
                lived_with=writer.failures.prove(branch) if writer.failures.seen else (), once=attempt.spec.once,
                child_run_id=attempt.child_run_id, site=attempt.call.site or "",
            )  # fmt: skip
            if attempt.undoes is not None:
                undone = attempt.undoes.row
                other = None if undone.run_id == self.run_id else undone.run_id
                started = replace(started, undoes=undone.step, undoes_run_id=other)
            if attempt.code not in writer.defined:
                writer.define_step(attempt.spec, attempt.code, self.storage)
            if attempt.failed is not None:
                writer.put(followed(attempt.failed, attempt.reason.value))
            row = writer.defer(PendingEvent(started, attempt.step, attempt.number, attempt.queued, values=inputs))
            assert row is not None
            attempt.row = row
            if is_beside:
                self._in_flight[attempt.step, attempt.number] = attempt
            # Committed at once are: the beginning of a step that runs once, so that a missing end never looks like a
            # missing beginning; that of a child, before its run begins; and, before any body, the results of recorded
            # calls, for the body may act on them, and the process may die meanwhile. The lock is held, so no result
            # that this body may have seen is noted in between.
            if attempt.spec.once or attempt.child_run_id is not None or (writer.is_seen and has_body):
                writer.append()
        attempt.started_s = self.access.clock.monotonic()

    def give_back(self, attempt: Attempt) -> None:
        """Give back what an attempt holds that is not performed, or has no result. Lock: session."""
        self.writer.claims.give_back(attempt)
        for gate in attempt.gates or ():
            gate.drop()

    def record(self, result: AttemptResult) -> Any:
        """Commit the result of an attempt; return its value, as a replay will, or raise its error."""
        __tracebackhide__ = True
        with self.lock:
            is_beside = bool(self._in_flight) and self._land(result.performed)
            if result.performed.continuation is not self.replayer and self.writer.is_void(result):
                raise self.finished()
            trouble = self.writer.record([result])
            if is_beside:  # another continuation of the run, or the end of the flow, waits for it
                result.resolve_promise(trouble)
                self.wakeups.wake()
        if trouble is not None:
            raise trouble
        if result.error is not None:
            self.observe(result.performed)
            raise result.error
        return result.value

    def record_retry(self, result: AttemptResult) -> Attempt:
        """Commit a failure after which the step is tried again; return that attempt."""
        with self.lock:
            is_beside = self._land(result.performed)
            trouble = self.writer.record([result])
            if is_beside:
                self.wakeups.wake()
            if trouble is not None:
                result.resolve_promise(trouble)
                raise trouble
            return result.retry()

    def record_later(self, result: AttemptResult, *, is_seen: bool) -> None:
        """Add the result to the next commit; `is_seen` if it can't be made again and the flow goes on with it."""
        with self.lock:
            self.writer.is_seen |= is_seen
            self.writer.take(result.performed, self.writer.defer(result))
            for beside in result.besides:
                self.writer.defer(beside)
            if result.error is None:
                self.replayer.note_finished(result.performed.step)

    def skip(self, name: str, branch: BranchId, reason: str) -> None:
        """Add to the next commit that a step is left out, unless something is recorded of it."""
        with self.lock:
            if self.phase is RunPhase.OPEN and self.writer.fatal_error is None:
                skipped = self.replayer.skip(name, branch, reason)
                if skipped is not None:
                    self.writer.defer(skipped)

    def count_items(self, series: ItemSeries, n_items: int) -> None:
        """Add to the next commit how many items the map or loop has, whatever becomes of them."""
        with self.lock:
            self.writer.defer(PendingEvent(ItemsCounted(n_items=n_items, **series._asdict())))

    def observe(self, attempt: Attempt) -> None:
        """Note that the flow sees the failure of the attempt."""
        with self.lock:
            self.writer.failures.note(attempt)

    def disown(self, steps: Iterable[StepRef]) -> None:
        """Take back that the flow lived with these failures: they are in the chain of the run's own error."""
        with self.lock:
            self.writer.failures.disown(steps, self.replayer.lived_with)

    def drop(self, attempt: Attempt, error: BaseException) -> None:
        """Release an attempt without a result: it was cancelled, or its run ended before it began."""
        with self.lock:
            self._land(attempt)
            if attempt.telemetry is not None:
                self.telemetry().finish(attempt)
            self.give_back(attempt)
            if attempt.child_run_id is not None and attempt.is_started:
                attempt.promise.undone = attempt  # before anybody is told: a call that waits for the child continues it
            attempt.promise.fail(error)
        self.wakeups.wake()

    def _land(self, attempt: Attempt) -> bool:
        """Take the attempt from those in flight; return True if it was among them."""
        place = attempt.step, attempt.number
        is_there = self._in_flight.get(place) is attempt  # a later continuation may have begun another one there
        if is_there:
            del self._in_flight[place]
        return is_there

    # -- beside the flow -----------------------------------------------------------------------------------------

    def open_branch(
        self, parent: BranchId, name: str, arguments: Mapping[str, Any] | None, *, continuation: object
    ) -> BranchId:
        """Return the id of a new branch of `parent` that does `name` with those arguments."""
        digest = None
        if arguments is not None:
            try:
                digest, opaque = self.access.digester.digest(dict(arguments))
                digest = None if opaque else digest
            except IronflowError:  # an iterator or an open file among them
                digest = None
        with self.lock:
            self.raise_if_outlived(continuation)
            return self.replayer.open_branch(parent, name, digest)

    def begin_series(self, name: str, branch: BranchId, site: str | None = None, *, continuation: object) -> ItemSeries:
        """Return the next map or loop of calls of that step in the branch."""
        with self.lock:
            self.raise_if_outlived(continuation)
            return self.replayer.begin_series(name, branch, self.replayer.site_of(branch) if site is None else site)

    def queue_result(self, result: AttemptResult) -> None:
        """Queue the result of an attempt beside the flow; a thread that waits, or the background thread, commits it."""
        self._results.append(result)
        if self.loop_commits is not None:
            self.loop_commits.schedule()
        self.wakeups.wake()

    def is_beside(self) -> bool:
        """Return True if the calling thread runs beside that of the flow: a branch, or one that the user started."""
        return self.thread is not None and self.access.threads.ident() != self.thread

    def has_more(self) -> bool:
        """Return True if something runs beside the flow, or is still to run."""
        return bool(self._in_flight or self._results) or self.beside.has_more()

    def has_queued(self) -> bool:
        """Return True if results wait to be committed, or attempts for their time."""
        return bool(self._results or self.beside.delayed or self.beside.n_paused)

    def is_idle(self) -> bool:
        """Return True if no body runs beside the flow, and under a time limit, or if some waited, none is about to."""
        is_timed = self.is_within_limit or (self.beside.has_waited and self.loop is None)
        is_at_work = self._in_flight or self._results or (is_timed and self.beside.is_at_work())
        return not (is_at_work or (self.beside.n_timed and self.beside.is_to_begin()))

    def in_flight(self) -> list[Attempt]:
        """Return the attempts that run beside the flow."""
        with self.lock:
            return list(self._in_flight.values())

    @property
    def n_in_flight(self) -> int:
        """How many attempts run beside the flow."""
        return len(self._in_flight)

    def advance(self) -> None:
        """Begin what is due, pull items of open maps, commit queued results; done by all who wait for the run."""
        self.stop_if_out_of_time()
        self.beside.begin_due()
        self.beside.pull()
        self.commit_queued()

    def commit_queued(self) -> None:
        """Commit all queued results in one transaction, then resolve their promises."""
        with self.lock:
            batch: list[AttemptResult] = []
            while self._results:
                result = self._results.popleft()
                if self.writer.is_void(result):
                    result.resolve_promise(self.finished())
                else:
                    batch.append(result)
            if not batch:
                return
            try:
                trouble = self.writer.record(batch)
            except BaseException:  # an interrupt that is not the engine's own: nothing of it is lost
                self._results.extendleft(reversed(batch))
                raise
            for result in batch:
                attempt = result.performed
                self._land(attempt)
                # Of an earlier continuation only what answers a call of this one is tried again: the others are in the
                # index of this continuation, which tries them again itself when they are called.
                if trouble is None and result.retry_at is not None and attempt.continuation is self.replayer:
                    self.beside.delay(result.retry())
                    continue
                result.resolve_promise(trouble)
        self.wakeups.wake()

    def flush(self) -> None:
        """Commit what is pending and what nobody waits for; called by the background thread."""
        self.commit_queued()
        self.beside.begin_due()
        self.definition.write(self.storage)
        telemetry = self.writer.telemetry
        if self.writer.is_pending or (telemetry is not None and telemetry.is_due()):
            with self.lock:
                self.writer.append()

    # -- the end -------------------------------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Return True if nothing of it goes on or waits to be recorded."""
        return not self.is_open and not self.writer.is_pending and not (self._in_flight or self.abandoned.n_of_step)

    def end(self, *events: PendingEvent, resolve: Callable[[], None] = lambda: None) -> None:
        """Commit the last events of this continuation and resolve its completion; from now on calls are refused."""
        self.definition.write(self.storage)
        with self.lock:
            self.writer.claims.give_back_all_but(self._in_flight.values())
            self.beside.drop_waiting(self.give_back, self._in_flight.values())
            self.waits.leave(events)
            if self.writer.telemetry is not None:
                self.writer.telemetry.finish_flow()
            self.writer.append(*events)
            self.close()
            resolve()  # in the same hold of the lock: a thread that finds the session closed finds its result

    def end_or_defer(self, *events: PendingEvent, resolve: Callable[[], None] = lambda: None) -> None:
        """Like `end`, but what the journal refuses is tried again, lest the run seem to go on while this process lives.

        Raises:
            IronflowError: it was refused, or the run is another process's now.
        """
        try:
            self.end(*events, resolve=resolve)
        except JournalError:
            with self.lock:
                self.close()
                for event in events:
                    self.writer.defer(event)
                resolve()
            raise

    def resolve(self, completion: Promise, error: BaseException) -> None:
        """Close the continuation of that promise, and fail the promise with the error."""
        with self.lock:
            if self.completion is completion:  # else the run is continued already, since its last event is recorded
                self.close()
            completion.fail(error)  # under the lock, under which waiters register: otherwise one could come in between
