"""One owner's stretch of one run: asks its memory, starts and settles steps, and commits what they came to.

A session is used by the thread of its flow, by the threads of its steps and by the engine's worker. Everything it
knows changes under its own lock, which is taken before the ledger's lock and never the other way round. Results of
steps that run beside the flow queue up without the lock, and whoever waits next (or the worker, if nobody does)
commits all of them in one transaction.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn, Protocol

from msgspec.structs import replace

from ironflow_nb.core.events import RunCancelRequested, StepStarted
from ironflow_nb.core.identity import BranchId, RunId, StepRef
from ironflow_nb.core.status import StepStatus
from ironflow_nb.errors import CodeChanged, IronflowError, JournalError, OutcomeUnknown, RunFinished
from ironflow_nb.execution.definitions.run_request import RejoinedBy
from ironflow_nb.execution.definitions.step_spec import StepSpec
from ironflow_nb.execution.recording.journal_access import RunStorage
from ironflow_nb.execution.recording.run_writer import PendingEvent, RunWriter
from ironflow_nb.execution.session.attempts import (
    Attempt,
    AttemptRef,
    AttemptResult,
    Child,
    Promise,
    RecordedAnswer,
    Take,
)
from ironflow_nb.execution.session.cache_claims import CacheClaims
from ironflow_nb.execution.session.definition_writes import DefinitionWrites
from ironflow_nb.execution.session.item_totals import ItemTotals
from ironflow_nb.execution.session.observed_failures import ObservedFailures
from ironflow_nb.execution.session.recorder import Recorder
from ironflow_nb.execution.session.replay import Replayer
from ironflow_nb.execution.session.retry_queue import RetryQueue
from ironflow_nb.execution.session.stop_request import RunStopped, StopRequest
from ironflow_nb.execution.system.threads import Wakeups


class StartPerformer(Protocol):
    """Starts something that performs jobs of the step, as long as it is given any."""

    def __call__(self, spec: StepSpec, session: Session, take: Take, *, is_limited: bool) -> None:
        """Start it, or if it is limited, queue it until fewer others are at work."""


class Session:
    """The memory and the pen of one run."""

    def __init__(self, stream: RunWriter, recall: Replayer, *, start_worker: StartPerformer) -> None:
        self.start_worker = start_worker
        self.ledger = stream.ledger
        self.stream = stream
        self.recall = recall
        self.run_id: RunId = stream.run_id
        self.lock = self.ledger.threads.lock()
        self.pumps: list[Callable[[], None]] = []
        self.children: list[Child] = []
        self.calls: set[Attempt] = set()
        self.n_awaited = 0
        self.rejoined_by: RejoinedBy | None = RejoinedBy.CALL
        self.claims = CacheClaims(stream)
        self.recorder = Recorder(stream, recall, self.claims)
        self.definitions = DefinitionWrites(stream)
        self.storage = RunStorage(stream.ledger.values)
        self.totals = ItemTotals(stream)
        self.on_settled: Callable[[], None] | None = None
        self.loop: Any = None
        self.thread: int | None = None
        self.is_open = True
        self.is_ending = False
        self.ending = Promise()
        self.stopped: RunStopped | None = None
        self.is_unwinding = False
        self.child_sessions: list[Session] = []
        self.task: Any = None
        self.interrupted_by: str | None = None
        self._seen_failures = ObservedFailures(stream.put)
        self._in_flight: dict[AttemptRef, Attempt] = {}
        self._settled: deque[AttemptResult] = deque()
        self.delayed = RetryQueue(self.ledger.clock, self.lock)
        self.wakeups = Wakeups()

    @property
    def name(self) -> str:
        """The name of what runs."""
        return self.stream.row.name if self.stream.row is not None else "the flow"

    def reopen(self, recall: Replayer) -> None:
        """Begin another stretch with a fresh memory; what is in flight in this process stays so."""
        with self.lock:
            self.recall = recall
            self.pumps.clear()
            self.children.clear()
            self.calls.clear()
            self.n_awaited = 0
            self.totals = ItemTotals(self.stream)
            self.delayed.clear()
            self._seen_failures = ObservedFailures(self.stream.put)
            self.recorder = Recorder(self.stream, recall, self.claims)
            self.stopped = self.task = self.interrupted_by = None
            self.is_open = True
            self.is_ending = self.is_unwinding = False
            self.ending = Promise()

    # -- steps ---------------------------------------------------------------------------------------------------

    def ask(
        self, spec: StepSpec, branch: BranchId, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, stretch: object,
        site: str | None = None,
    ) -> RecordedAnswer | Promise | Attempt:  # fmt: skip
        """Answer the call of code of that stretch, made at the `site`, or return the job to start; see `Replayer.ask`.

        Raises:
            RunFinished, RunTakenOver: the run is over for this session, or for that code.
        """
        call, digest = self.recall.recognise(spec, branch, args, kwargs)
        call.site = site
        with self.lock:
            self.refuse_if_outlived(stretch)
            self.refuse_if_over()
            try:
                return self.recall.ask(spec, call, digest, self._in_flight)
            except (CodeChanged, OutcomeUnknown) as error:
                self.recorder.stopped_by = error  # so that code which swallows it can't go on
                raise

    def refuse_if_stopped(self) -> None:
        """Raise again what a flow must not get past, whatever it swallows."""
        if self.recorder.stopped_by is not None:
            raise self.recorder.stopped_by

    def refuse_if_over(self) -> None:
        """Raise what a call, or a job that is about to begin, meets in a run that is over, or is to stop."""
        if self.recorder.stopped_by is None and self.stopped is None and self.is_open:
            return  # asked by every call, and true for nearly all
        self.refuse_if_stopped()
        self.obey_stop()
        if not self.is_open:
            raise self.finished()

    def refuse_if_outlived(self, stretch: object) -> None:
        """Raise what code meets that has outlived its stretch of the run. Called under the lock.

        Looked at before only, as by `Scope.open_session`, it could be true and the run be continued a moment later: the
        call would be numbered among those of the code that runs now, whose own call then is another one.
        """
        if stretch is not self.recall:
            raise self.finished()

    def refuse_if_late(self, job: Attempt) -> None:
        """Raise what a job meets that begins when its stretch of the run is over. Called under the lock."""
        self.refuse_if_over()
        if self.recorder.is_late(job):
            raise self.finished()

    def finished(self) -> RunFinished:
        """Return the error for a call that comes too late."""
        return RunFinished(
            f"run {self.run_id} has ended, and a step was called in it afterwards, for instance by a thread or task "
            "that outlived the flow; wait for it inside the flow",
            run_id=self.run_id,
        )

    def start(self, job: Attempt, *, is_beside: bool, has_body: bool = True) -> None:
        """Record that the body of the job begins now; beside its flow, a later stretch will find it.

        What has no body, a recorded call for instance, is noted at once with what it gives.
        """
        inputs = self.storage.store_inputs(job.call.arguments)
        identity, branch, nth = job.call.place
        with self.lock:
            self.refuse_if_late(job)
            if is_beside and self.is_ending:
                raise self.finished()
            started = StepStarted(
                name=job.spec.name,
                index=job.index,
                identity=identity,
                code=job.code,
                branch=branch,
                nth=nth,
                inputs=inputs[-1].value_id,
                reason=job.reason,
                lived_with=self._seen_failures.prove(branch),
                once=job.spec.once,
                child_run_id=job.child_run_id,
                site=job.call.site or "",
            )
            self.definitions.note_step(job, self.storage)
            if job.failed is not None:
                self.stream.put(replace(job.failed, status=StepStatus.FAILED))
            row = self.stream.defer(PendingEvent(started, job.step, job.attempt, values=inputs))
            assert row is not None
            job.row = row
            if is_beside:
                self._in_flight[job.step, job.attempt] = job
            # That a step which runs once began is committed, so that nobody who finds no end of it can think that it
            # never did; so is that a child began, before its run does; and so is, before any body, what recorded calls
            # gave: the body may act on it, and its process may die meanwhile. The lock is held, so no result that this
            # body may have seen is noted in between.
            if job.spec.once or job.child_run_id is not None or (self.stream.is_seen and has_body):
                self.recorder.append()
        job.started_s = self.ledger.clock.monotonic()

    def disown(self, steps: Iterable[StepRef]) -> None:
        """Take back that the flow lived with these failures: they are in the chain of the run's own error."""
        with self.lock:
            self._seen_failures.disown(steps, self.recall.lived_with)

    def record(self, settled: AttemptResult) -> Any:
        """Commit what a job came to; return its value, as a replay will, or raise its error."""
        __tracebackhide__ = True
        with self.lock:
            is_beside = self._land(settled.job)
            if self.recorder.is_void(settled):
                raise self.finished()
            trouble = self.recorder.record([settled])
            if is_beside:  # another stretch of the run, or the end of the flow, waits for it
                settled.tell(trouble)
                self.wakeups.wake()
        if trouble is not None:
            raise trouble
        if settled.error is not None:
            self.observe(settled.job)
            raise settled.error
        return settled.value

    def note(self, settled: AttemptResult, *, is_seen: bool) -> None:
        """Let what a job came to ride with the next commit; what cannot be made again `is_seen` by what follows."""
        with self.lock:
            self.stream.is_seen |= is_seen
            self.recorder.take(settled.job, self.stream.defer(settled.piece))
            self.recall.note_finished(settled.job.step)

    def skip(self, name: str, branch: BranchId, reason: str) -> None:
        """Let it ride with the next commit that a step is left out, unless something is recorded of it."""
        with self.lock:
            if self.is_open and self.stopped is None and self.recorder.stopped_by is None:
                piece = self.recall.skip(name, branch, reason)
                if piece is not None:
                    self.stream.defer(piece)

    def record_retry(self, settled: AttemptResult) -> Attempt:
        """Commit a failure after which the step is tried again; return that attempt."""
        with self.lock:
            is_beside = self._land(settled.job)
            trouble = self.recorder.record([settled])
            if is_beside:
                self.wakeups.wake()
            if trouble is not None:
                settled.tell(trouble)
                raise trouble
            return settled.job.retry(settled.job.row)

    # -- stopping ------------------------------------------------------------------------------------------------

    def stop(
        self, stop: StopRequest, asked_by: str | None, signal_id: int | None = None, *, with_parent: bool = False
    ) -> None:
        """Let the run stop at the next boundary of a step; bodies on threads are not disturbed, awaited ones cancelled.

        An async child runs in a task of its parent, which is cancelled once, `with_parent` there. An interrupt also
        ends the wait for bodies with which a flow ends.
        """
        with self.lock:
            if signal_id is not None:
                self.stream.take(signal_id)
            if not self.is_open or self.is_interrupted:
                return
            if stop is not StopRequest.INTERRUPT and (self.is_ending or self.stopped is not None):
                return
            if stop is StopRequest.CANCEL:
                self.recorder.append(PendingEvent(RunCancelRequested(asked_by=asked_by)))
            self.stopped = RunStopped(stop, asked_by)
        self.stop_children(stop, asked_by)
        self.wakeups.wake()
        if self.task is not None and self.loop is not None and not with_parent:
            self.loop.call_soon_threadsafe(self.task.cancel)

    def take_interrupt(self) -> None:
        """Carry out the interrupt that a handler of signals has noted, in the stretch that it was noted in."""
        with self.lock:
            if self.interrupted_by is not None:
                self.stop(StopRequest.INTERRUPT, self.interrupted_by)

    def stop_children(self, stop: StopRequest, asked_by: str | None) -> None:
        """Let the children stop with this run."""
        for child in list(self.child_sessions):
            child.stop(stop, asked_by, with_parent=self.task is not None)

    @property
    def is_interrupted(self) -> bool:
        """Tell whether an interrupt stops the run."""
        return self.stopped is not None and self.stopped.stop is StopRequest.INTERRUPT

    def obey_stop(self) -> None:
        """Unwind the flow if it was asked to stop.

        Raises:
            Stopped: it was.
        """
        if self.stopped is not None and not self.is_ending:
            self.unwind()

    def unwind(self, error: BaseException | None = None) -> NoReturn:
        """Raise that the run stops, in place of the error that came of it; a flow that swallows it still stops."""
        assert self.stopped is not None
        self.is_unwinding = True
        raise RunStopped(self.stopped.stop, self.stopped.asked_by) from error

    def observe(self, job: Attempt) -> None:
        """Note that the flow sees the failure of the job."""
        with self.lock:
            self._seen_failures.note(job.branch, job.row)

    def drop(self, job: Attempt, error: BaseException) -> None:
        """Let go of a job that came to nothing, because it was cancelled or its run ended before it began."""
        with self.lock:
            self._land(job)
            self.give_back(job)
            if job.child_run_id is not None and job.is_started:
                job.outcome.undone = job  # before anybody is told: a call that waits for the child continues it
            job.outcome.fail(error)
        self.wakeups.wake()

    def give_back(self, job: Attempt) -> None:
        """Let other runs compute what this job was to compute for all of them."""
        with self.lock:
            self.claims.give_back(job)

    def _land(self, job: Attempt) -> bool:
        """Take the job from what is in flight; tell whether it was there."""
        return self._in_flight.pop((job.step, job.attempt), None) is not None

    def open_branch(
        self, parent: BranchId, name: str, arguments: Mapping[str, Any] | None, *, stretch: object
    ) -> BranchId:
        """Return the id of a new branch of `parent` that does `name` with those arguments."""
        digest = None
        if arguments is not None:
            try:
                digest, opaque = self.ledger.digester.digest(dict(arguments))
                digest = None if opaque else digest
            except IronflowError:  # an iterator or an open file among them
                digest = None
        with self.lock:
            self.refuse_if_outlived(stretch)
            return self.recall.open_branch(parent, name, digest)

    def add_child(self, child: Child, stretch: object, pump: Callable[[], None] | None = None) -> None:
        """Let the flow answer for work beside it, and its threads drive that."""
        with self.lock:
            self.refuse_if_outlived(stretch)
            self.children.append(child)
            if pump is not None:
                self.pumps.append(pump)

    # -- beside the flow -----------------------------------------------------------------------------------------

    def hand_in(self, settled: AttemptResult) -> None:
        """Queue what a job beside the flow came to; whoever waits, or the worker, commits it."""
        self._settled.append(settled)
        if self.on_settled is not None:
            self.on_settled()
        self.wakeups.wake()

    def is_beside(self) -> bool:
        """Tell whether the calling thread runs beside that of the flow: a branch, or one that the user started."""
        return self.thread is not None and self.ledger.threads.ident() != self.thread

    def drain(self) -> None:
        """Commit everything that was handed in, and let its callers know."""
        with self.lock:
            batch: list[AttemptResult] = []
            while self._settled:
                settled = self._settled.popleft()
                if self.recorder.is_void(settled):
                    settled.tell(self.finished())
                else:
                    batch.append(settled)
            if not batch:
                return
            try:
                trouble = self.recorder.record(batch)
            except BaseException:  # an interrupt that is not the engine's own: nothing of it is lost
                self._settled.extendleft(reversed(batch))
                raise
            for settled in batch:
                job = settled.job
                self._land(job)
                # Of an earlier stretch only what answers a call of this one is tried again: the others are in the
                # memory of this stretch, which tries them again itself when it asks for them.
                if trouble is None and settled.retry_at is not None and not self.recorder.is_late(job):
                    self.delayed.keep(job.retry(job.row))
                    continue
                settled.tell(trouble)
        self.wakeups.wake()

    def flush(self) -> None:
        """Commit what is pending and what nobody waits for; called by the worker."""
        self.drain()
        self.delayed.begin_due()
        self._write_definition()
        if self.stream.is_pending:
            with self.lock:
                self.recorder.append()

    def in_flight(self) -> list[Attempt]:
        """Return the jobs that run beside the flow."""
        with self.lock:
            return list(self._in_flight.values())

    @property
    def n_in_flight(self) -> int:
        """How many jobs run beside the flow."""
        return len(self._in_flight)

    @property
    def is_over(self) -> bool:
        """Tell whether nothing of it goes on or waits to be recorded."""
        return not self.is_open and not self.stream.is_pending and not self.in_flight()

    def is_on_loop(self) -> bool:
        """Tell whether the calling code runs on the loop of this async flow, which it must not block.

        That some loop runs in this thread says nothing: under every cell of a notebook there is one.
        """
        asyncio = sys.modules.get("asyncio")
        return self.loop is not None and asyncio is not None and asyncio._get_running_loop() is self.loop

    def has_more(self) -> bool:
        """Tell whether something runs beside the flow, or is still to run."""
        return bool(self._in_flight or self._settled or self.n_awaited) or not all(
            child.is_finished() for child in list(self.children)
        )

    def advance(self) -> None:
        """Begin what is due, pull items of open maps, commit what was handed in; done by all who wait for the run."""
        self.delayed.begin_due()
        self.pump()
        self.drain()

    def is_idle(self) -> bool:
        """Tell whether no body runs beside the flow."""
        return not (self._in_flight or self._settled)

    def pump(self) -> None:
        """Let every open map pull items into its window; only the flow's own threads do that."""
        for pump in list(self.pumps):
            pump()

    # -- writing -------------------------------------------------------------------------------------------------

    def _write_definition(self) -> None:
        """Let what is known of the definition ride with the next commit, once."""
        definition = self.definitions.take_flow()
        if definition is not None:
            with self.lock:
                self.stream.define(self.storage.definition(definition))

    def end(self, *pieces: PendingEvent) -> None:
        """Commit the last events of this stretch; from now on calls are refused."""
        self._write_definition()
        with self.lock:
            self.claims.give_back_all_but(self._in_flight.values())
            self.recorder.append(*pieces)
            self.is_open = False

    def end_by_and_by(self, *pieces: PendingEvent) -> None:
        """End as `end` does; what the journal refuses now stays pending, and the worker tries it again.

        A run that were not ended in the journal would seem to be going on for as long as this process lives.

        Raises:
            IronflowError: it was refused, or the run is another process's now.
        """
        try:
            self.end(*pieces)
        except JournalError:
            with self.lock:
                self.is_open = False
                for piece in pieces:
                    self.stream.defer(piece)
            raise
