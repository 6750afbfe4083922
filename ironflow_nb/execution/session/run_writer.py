"""The writer of one run: it numbers events, folds them into rows, and commits both.

Events that need not be durable yet, `RunStarted` of a new run and `StepStarted`, wait for the next commit. Versions and
rows of the writer change only after COMMIT returned, so an error, an interrupt or a conflict leaves it as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec
from msgspec.structs import replace

from ironflow_nb.code_identity.code_parts import encode_parts
from ironflow_nb.core.events import EVENT_TYPES, RecordedEvent, StepRetryScheduled, StepReused, WaitEnded
from ironflow_nb.core.identity import BranchId, Digest, RunId, StepRef
from ironflow_nb.core.run_state import RunRow, StepRow, evolve_run, evolve_step
from ironflow_nb.core.status import StepStatus
from ironflow_nb.errors import IronflowError, JournalConflict, JournalError, OutcomeUnknown, RunTakenOver
from ironflow_nb.execution.definitions.step_spec import StepSpec
from ironflow_nb.execution.recording.detached_runs import mail_of_detached
from ironflow_nb.execution.recording.journal_access import NO_MAIL, JournalAccess, Mail, PendingEvent, RunStorage
from ironflow_nb.execution.session.attempts import Attempt, AttemptResult
from ironflow_nb.execution.session.replay import Replayer
from ironflow_nb.execution.system.frontend import logger
from ironflow_nb.journal.ports import CachedResult, Durability, QueueItem, RunCommit, StoredDefinition
from ironflow_nb.values.stored_value import ROW_LIMIT, StoredValue

if TYPE_CHECKING:
    from ironflow_nb.telemetry.run_telemetry import RunTelemetry

_VALUE_OF_ROW: Final = {
    kind: field for kind in EVENT_TYPES.values() for field in ("inputs", "output") if field in kind.__struct_fields__
}
"""The events that give their row a value, and their fields with its id."""

Write: TypeAlias = Callable[[Sequence[RunCommit], Durability], None]
"""Writes commits to the journal, in one transaction."""


class _PendingWrites(msgspec.Struct):
    """What waits for the next commit. `deferred` has the values of the `events`; `run` is its row if that changed."""

    run: RunRow | None = None
    events: list[RecordedEvent] = msgspec.field(default_factory=list)
    deferred: list[PendingEvent] = msgspec.field(default_factory=list)
    steps: dict[tuple[StepRef, int], StepRow] = msgspec.field(default_factory=dict)
    definitions: list[StoredDefinition] = msgspec.field(default_factory=list)


class _FoldedEvents(msgspec.Struct, gc=False):
    """A commit that is not written yet: all its events, the rows after them, and the row of the attempt of each."""

    events: list[RecordedEvent]
    steps: dict[tuple[StepRef, int], StepRow]
    cached: list[CachedResult]
    mail: list[Mail]
    run: RunRow | None
    is_run_changed: bool
    at: int
    rows: list[StepRow | None]


class RunWriter:
    """Writes for its owner what happens in one run.

    `is_seen` is True while results are pending that the flow has seen: they must be committed before anything is done
    because of them. `fatal_error` is the error that the flow can't get past, whatever it swallows.

    Lock: session.
    """

    replayer: Replayer
    """The memory of the current continuation."""
    failures: ObservedFailures
    """The failures that the flow has seen in the current continuation."""

    def __init__(self, access: JournalAccess, run_id: RunId, durability: Durability) -> None:
        self.access = access
        self.run_id = run_id
        self.durability = durability
        self.version = 0
        self.at = 0
        self.row: RunRow | None = None
        self._stored_row: RunRow | None = None
        self.is_seen = False
        self.fatal_error: IronflowError | None = None
        self.claims = CacheClaims()
        self._pending = _PendingWrites()
        self.defined: set[Digest] = set()
        self._mail: list[Mail] = []
        self.telemetry: RunTelemetry | None = None
        self._n_deaths: int | None = None

    def begin(self, replayer: Replayer) -> None:
        """Begin a continuation."""
        self.replayer = replayer
        self.fatal_error = None
        self.failures = ObservedFailures(self.put)

    @property
    def is_pending(self) -> bool:
        """Return True if something waits for the next commit."""
        pending = self._pending
        return bool(pending.events or pending.steps or pending.definitions or self.claims.ended)

    def go_on_after(self, version: int, at: int, row: RunRow) -> None:
        """Take the run as the journal holds it: its newest event is of that version and instant."""
        self.version, self.at = version, max(at, self.at)
        self.row = self._stored_row = row

    def begin_telemetry(self, storage: Callable[[], RunStorage]) -> RunTelemetry:
        """Return what collects the reports of the run, which is made for the first one; the storage redacts texts."""
        from ironflow_nb.telemetry.run_telemetry import RunTelemetry

        if self.telemetry is None:
            access = self.access
            lock = access.threads.lock()
            self.telemetry = RunTelemetry(access.clock, lock, lambda text: storage().redacted(text), self._continuation)
        return self.telemetry

    def _continuation(self) -> int:
        """Return the number of the current continuation."""
        return 0 if self.row is None else self.row.n_sessions

    def raise_fatal_error(self) -> None:
        """Raise again what a flow must not get past, whatever it swallows."""
        if self.fatal_error is not None:
            raise self.fatal_error

    def post(self, mail: Mail) -> None:
        """Add to the next commit with an event what changes in the mailboxes of the run."""
        self._mail.append(mail)

    def detach(self, n_deaths: int | None = 0) -> None:
        """Keep the run in the queue of workers from now on, with the number of deaths on it in a row; None ends it."""
        self._n_deaths = n_deaths

    @property
    def is_detached(self) -> bool:
        """Return True if a worker continues the run when its owner can't."""
        return self._n_deaths is not None

    def define(self, definition: StoredDefinition) -> None:
        """Add the definition of the run, or of one of its steps, to the next commit."""
        self._pending.definitions.append(definition)

    def define_step(self, spec: StepSpec, code: Digest, storage: RunStorage) -> None:
        """Add to the next commit what the code of the step consists of: so any process can tell what was edited."""
        self.defined.add(code)
        tracked = spec.tracked
        if code not in self.access.defined and tracked.digest == code:
            parts = encode_parts(tracked)
            of_step = StoredDefinition(definition_id=code, kind="step", name=spec.name, source=parts, diagram="")
            self.define(storage.definition(of_step))

    def put(self, row: StepRow) -> None:
        """Add a changed row to the next commit."""
        self._pending.steps[row.step, row.attempt] = row

    # -- events --------------------------------------------------------------------------------------------------

    def defer(self, pending: PendingEvent) -> StepRow | None:
        """Add the event to the next commit; return the attempt that it concerns, as it is after it."""
        waiting = self._pending
        at = self.at = max(self.access.clock.now(), self.at)
        version = self.version + len(waiting.events) + 1
        recorded = RecordedEvent(version, at, pending.event, pending.step, pending.attempt)
        waiting.events.append(recorded)
        waiting.deferred.append(pending)
        if pending.mail is not NO_MAIL:
            self._mail.append(pending.mail)
        if pending.step is None:
            after = evolve_run(self.run_id, self.row, recorded)
            if after is not self.row:
                waiting.run = self.row = after
            return None
        row = evolve_step(self.run_id, pending.before, recorded)
        if row is not None:
            waiting.steps[row.step, row.attempt] = row
        return row

    def commit(self, *pending_events: PendingEvent, write: Write | None = None) -> list[StepRow | None]:
        """Write all that is pending and the events in one transaction; return the attempt of each event after it.

        By default the journal has nothing else in this transaction; see `along`.

        Raises:
            JournalConflict: another engine appended to the run.
            JournalError: the journal refuses; nothing was written and everything pending stays so.
        """
        folded = self._fold(pending_events)
        telemetry = self.telemetry
        reports = telemetry.to_write() if telemetry is not None and telemetry.is_used else ()
        if not (folded.events or folded.steps or folded.cached or self._pending.definitions or reports):
            return folded.rows
        commit = self._run_commit(folded, pending_events)
        if reports:
            commit = replace(commit, additions=(*commit.additions, *reports))
        durability = self.durability if folded.events or folded.steps else Durability.PROCESS
        (write or self.access.append)([commit], durability)
        # After COMMIT: an error before it leaves the writer as it was.
        self.version += len(folded.events)
        self.at, self.row = folded.at, folded.run
        if folded.is_run_changed:
            self._stored_row = folded.run
        self.claims.ended.clear()
        if folded.events:
            self._mail.clear()
        self._pending, self.is_seen = _PendingWrites(), False
        if telemetry is not None and reports:
            telemetry.written(reports)
        return folded.rows

    def _fold(self, pending_events: Sequence[PendingEvent]) -> _FoldedEvents:
        """Number the events, after those that are pending, and fold them into the rows that they change."""
        events, steps, mail = [*self._pending.events], {**self._pending.steps}, [*self._mail]
        cached = [*self.claims.ended]
        run, at = self.row, self.at
        rows: list[StepRow | None] = []
        for pending in pending_events:
            at = max(self.access.clock.now(), at)
            version = self.version + len(events) + 1
            recorded = RecordedEvent(version, at, pending.event, pending.step, pending.attempt)
            events.append(recorded)
            if pending.cached is not None:
                cached.append(pending.cached)
            if pending.mail is not NO_MAIL:
                mail.append(pending.mail)
            row = None
            if pending.step is None:
                run = evolve_run(self.run_id, run, recorded)
            else:  # the attempt before the event is what this very commit makes of it, or what `pending` says
                before = steps.get((pending.step, pending.attempt or 0), pending.before)
                row = evolve_step(self.run_id, before, recorded)
                if row is not None:
                    steps[row.step, row.attempt] = row
                if type(pending.event) is WaitEnded:  # by which a waiting run goes on
                    run = evolve_run(self.run_id, run, recorded)
            rows.append(row)
        is_run_changed = run is not self.row or self._pending.run is not None
        return _FoldedEvents(events, steps, cached, mail, run, is_run_changed, at, rows)

    def _run_commit(self, folded: _FoldedEvents, pending_events: Sequence[PendingEvent]) -> RunCommit:
        """Return the transaction.

        Its values are divided into those that are found by their ids, and those that lie in the rows of the events.
        """
        values: list[StoredValue] = []
        row_values: list[StoredValue] = []
        for pending in (*self._pending.deferred, *pending_events):
            field = _VALUE_OF_ROW.get(type(pending.event))
            # Other runs find a result for all runs by its id.
            own = None if field is None or pending.cached is not None else getattr(pending.event, field)
            for value in pending.values:
                fits = value.size <= ROW_LIMIT and value.mac is None  # as `fits_row`, without a call
                (row_values if fits and value.value_id == own else values).append(value)
        run, mail = folded.run if folded.is_run_changed else None, folded.mail
        commit = RunCommit(
            run_id=self.run_id, events=tuple(folded.events), run=run, run_before=self._stored_row,
            steps=tuple(folded.steps.values()), values=tuple(values), row_values=tuple(row_values),
            definitions=tuple(self._pending.definitions), cached=tuple(folded.cached),
        )  # fmt: skip
        if self._n_deaths is not None and run is not None:
            mail.append(mail_of_detached(run, self._n_deaths))
        return _with_mail(commit, mail) if mail and folded.events else commit

    def along(self, event: PendingEvent, write: Write) -> Write:
        """Return what writes commits of others in one transaction with this run's next, to which the event is added.

        Lock: session.
        """

        def write_along(commits: Sequence[RunCommit], durability: Durability) -> None:
            self.commit(event, write=lambda own, _: write([*commits, *own], durability))

        return write_along

    def append(self, *events: PendingEvent, write: Write | None = None) -> list[StepRow | None]:
        """Commit for a session, with a second try after an error that the journal does not know.

        Raises:
            RunTakenOver: another process continues the run. Everything pending is dropped but for the ends of claims.
            JournalError: the journal refuses; everything pending stays so.
        """
        if not isinstance(self.fatal_error, RunTakenOver):
            try:
                try:
                    return self.commit(*events, write=write)
                except IronflowError:
                    raise
                except Exception as error:  # noqa: BLE001 -- no memory, the end of the stack: others wait for this
                    self.access.background_errors.note("writing to the journal", error)
                return self._commit_again(events, write)
            except JournalConflict as error:
                self.fatal_error = RunTakenOver(
                    f"run {self.run_id} is continued by another process now; what this one still does is not recorded",
                    run_id=self.run_id,
                )
                self.fatal_error.__cause__ = error
                logger().warning("%s", self.fatal_error)
        self.claims.give_back_all_but(())
        self._mail.clear()
        self._pending, self.is_seen = _PendingWrites(), False
        if self.telemetry is not None:
            self.telemetry.drop()
        with suppress(JournalError):  # then the ends of the claims stay pending
            self.commit()
        raise self.fatal_error

    def _commit_again(self, events: Sequence[PendingEvent], write: Write | None) -> list[StepRow | None]:
        try:
            return self.commit(*events, write=write)
        except IronflowError:
            raise
        except Exception as error:
            what = f"run {self.run_id} could not be written to the journal: {type(error).__name__}: {error}"
            raise JournalError(what) from error

    # -- results of attempts -------------------------------------------------------------------------------------

    def record(self, batch: list[AttemptResult]) -> IronflowError | None:
        """Commit the results of attempts in one transaction; return the error because of which none is recorded."""
        events: list[PendingEvent] = []
        attempts: list[Attempt | None] = []
        for result in batch:
            attempt = result.performed
            if attempt.telemetry is not None and self.telemetry is not None:
                self.telemetry.finish(attempt)
            events.append(result)
            attempts.append(attempt)
            if attempt.failed is not None and type(result.event) is StepReused:  # so it never began
                self.put(replace(attempt.failed, status=StepStatus.FAILED))
            if result.retry_at is not None:
                events.append(PendingEvent(StepRetryScheduled(due_at=result.retry_at), attempt.step, attempt.number))
                attempts.append(attempt)
            for beside in result.besides:
                events.append(beside)
                attempts.append(None)
        try:
            rows = self.append(*events)
        except IronflowError as error:
            if isinstance(error, JournalError):  # it is not recorded: a flow that swallows this can't go on
                self.fatal_error = error
            return error
        for each, row in zip(attempts, rows, strict=True):
            if each is not None:
                self.take(each, row)
            elif row is not None and row.status is StepStatus.COMPENSATED:
                self.replayer.learn(row)
        for result in batch:
            if result.cached is not None:
                self.claims.forget(result.performed.claim)
            self.replayer.n_reused += type(result.event) is StepReused
            if result.error is None:
                self.replayer.note_finished(result.performed.step)
        return None

    def outcome_unknown(self, attempt: Attempt) -> OutcomeUnknown:
        """Return the error with which a step that runs once and was out of time stops the run: it may happen yet."""
        self.fatal_error = error = OutcomeUnknown(
            f"{attempt.step} of run {self.run_id} runs once, and its time was up before it ended, so it may have "
            f"happened, or may happen yet. Look, and if it did not happen let it run with\n"
            f'    iron.resume("{self.run_id}", retry=["{attempt.step}"])',
            run_id=self.run_id,
            step=attempt.step,
        )
        return error

    def take(self, attempt: Attempt, row: StepRow | None) -> None:
        """Take the attempt as it is recorded now; what ends late is told to the memory of the current continuation.

        That memory was read from the journal while the body still ran, and under the session's lock: so it has the
        attempt as begun, and whatever becomes of it afterwards comes along here. Every way to record a step does.
        """
        assert row is not None
        attempt.row = row
        if attempt.continuation is not self.replayer:
            self.replayer.learn(row)

    def is_void(self, result: AttemptResult) -> bool:
        """Return True if nothing of the attempt is recorded: it is late, for it answers no call of this continuation.

        One that took another run's result never began, and its step may be another one's now. A child has a record of
        its own, which the attempt of the current continuation reads.
        """
        attempt = result.performed
        return attempt.continuation is not self.replayer and (attempt.row is None or attempt.child_run_id is not None)


def _with_mail(commit: RunCommit, mail: Sequence[Mail]) -> RunCommit:
    work: dict[tuple[str, str], QueueItem | None] = {}
    for each in mail:  # in this order: what is done may have been put by the same commit
        work |= {(item.kind, item.key): item for item in each.put_work}
        work |= dict.fromkeys(each.done_work)
    return replace(
        commit,
        taken=tuple(signal_id for each in mail for signal_id in each.taken),
        put_work=tuple(item for item in work.values() if item is not None),
        done_work=tuple(key for key, item in work.items() if item is None),
        additions=tuple(addition for each in mail for addition in each.additions),
    )


class ObservedFailures:
    """The failures that a flow has seen: whether it lived with them shows in what it does next.

    They are those of one continuation of a run; `put` records a changed row.

    Lock: session.
    """

    def __init__(self, put: Callable[[StepRow], None]) -> None:
        self._put = put
        self.seen: dict[BranchId, dict[StepRef, StepRow]] = {}
        self._lived_with: dict[StepRef, StepRow] = {}

    def note(self, attempt: Attempt) -> None:
        """Note that the branch of the attempt sees its failure."""
        branch, row = attempt.branch, attempt.row
        assert row is not None
        self.seen.setdefault(branch, {})[row.step] = row

    def prove(self, branch: BranchId) -> tuple[StepRef, ...]:
        """Record that this branch and those below it lived with what they saw, for it goes on; return the steps."""
        proven: dict[StepRef, StepRow] = {}
        for other in [key for key in self.seen if key == branch or key.startswith(f"{branch}/")]:
            proven |= self.seen.pop(other)
        for row in proven.values():
            self._judge(replace(row, lived_with=True))
        return tuple(proven)

    def note_lived_with(self, row: StepRow) -> None:
        """Note a failure that is recorded as lived with from the start, so that it can be taken back."""
        self._lived_with[row.step] = row

    def disown(self, steps: Iterable[StepRef], recorded: Callable[[StepRef], StepRow | None]) -> None:
        """Take back that the flow lived with these failures: they are in the chain of the run's own error."""
        for step in steps:
            for seen in self.seen.values():
                seen.pop(step, None)
            row = self._lived_with.get(step) or recorded(step)
            if row is not None:
                self._judge(replace(row, lived_with=False))

    def _judge(self, row: StepRow) -> None:
        self._lived_with[row.step] = row
        self._put(row)


class CacheClaims:
    """The results for all runs that one run is computing, each claimed by the newest attempt of its step.

    `ended` are the claims whose end is to be committed.

    Lock: session.
    """

    def __init__(self) -> None:
        self.ended: list[CachedResult] = []
        self._held: dict[tuple[Digest, Digest], CachedResult] = {}

    def add(self, claim: CachedResult) -> None:
        """Note that an attempt holds the claim."""
        self._held[claim.identity, claim.code] = claim

    def give_back(self, attempt: Attempt) -> None:
        """Give back the claim of the attempt, so that other runs can compute the cached result."""
        claim, attempt.claim = attempt.claim, None
        if claim is not None and self.forget(claim):
            self.ended.append(claim)

    def give_back_all_but(self, attempts: Collection[Attempt]) -> None:
        """Give back what is left over when the run ends; these attempts go on."""
        for claim in {*self._held.values()} - {attempt.claim for attempt in attempts}:
            self.forget(claim)
            self.ended.append(claim)

    def forget(self, claim: CachedResult | None) -> bool:
        """Take the claim from those that are held, if it is; a newer one of its place stays."""
        if claim is None or self._held.get((claim.identity, claim.code)) is not claim:
            return False
        del self._held[claim.identity, claim.code]
        return True
