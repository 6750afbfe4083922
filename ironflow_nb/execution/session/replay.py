"""The replay of a run: calls are recognised, and recorded ones are answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple

import msgspec

from ironflow_nb.core.durations import spoken
from ironflow_nb.core.events import StepSkipped
from ironflow_nb.core.identity import BranchId, Digest, RunId, StepRef, branch_id, keyed_identity, step_identity
from ironflow_nb.core.plain_text import are, counted
from ironflow_nb.core.recorded_steps import RecordedStep, RecordedSteps
from ironflow_nb.core.replay_decision import (
    GUARD_S,
    OnChange,
    Perform,
    PolicyDecides,
    Replay,
    Reuse,
    Unknown,
    judge,
    settle_change,
)
from ironflow_nb.core.run_state import StepRow
from ironflow_nb.core.status import FAILURES, StepReason, StepStatus
from ironflow_nb.errors import CodeChanged, OutcomeUnknown, StepTimeout, ValueUnreadable
from ironflow_nb.execution.definitions.call_sites import NOWHERE
from ironflow_nb.execution.definitions.run_request import Adviser
from ironflow_nb.execution.definitions.step_spec import StepSpec, why_changed
from ironflow_nb.execution.recording.journal_access import JournalAccess, PendingEvent
from ironflow_nb.execution.session.attempts import (
    Attempt,
    AttemptRef,
    Promise,
    RecordedAnswer,
    StepCall,
    StoredResult,
    Undone,
    failure_of,
    lost_result,
    mark,
    why_lost,
)
from ironflow_nb.execution.session.base_run import BaseRun
from ironflow_nb.execution.session.called_steps import CalledSteps, Notices
from ironflow_nb.execution.session.twins import asked_about, settled_twin, twin_of_origin
from ironflow_nb.execution.system.frontend import say
from ironflow_nb.values.failures import recorded_error
from ironflow_nb.values.stored_value import StoredValue

_GONE_THROUGH: Final = frozenset({StepReason.CODE_CHANGED, StepReason.CHILD_EDITED})
"""The reasons for which a completed child is continued, so that it does again what has to be done again."""
_OWN_FRAMES: Final = 5
"""The least number of frames between the search for a call site and the code that calls a step."""


class ItemSeries(NamedTuple):
    """The calls of one map or loop: of a step, in a branch, the n-th series of the step there."""

    name: str
    branch: BranchId
    nth: int
    site: str


class Replayer:
    """Answers the calls of one continuation of a run from what was recorded before it.

    Not thread-safe: the session's lock is held.
    """

    is_check = False
    """Whether the run only checks the code of now against a recorded run, and does nothing itself."""

    def __init__(  # noqa: PLR0913 -- what is recorded of the run, each part keyword-only
        self,
        access: JournalAccess,
        run_id: RunId,
        flow: str,
        on_change: OnChange,
        rows: Iterable[tuple[StepRow, StoredValue | None]] = (),
        *,
        discarded: Mapping[StepRef, int] | None = None,
        kept: Collection[StepRef] = (),
        children_edited: Mapping[StepRef, int] | None = None,
        origin: BaseRun | None = None,
    ) -> None:
        """Take the recorded steps of the run, each with its output where that is small; the rest by `RecordedSteps`.

        What is not recorded is looked for in the `origin`, the completed run that this one is built on.
        """
        rows = list(rows)
        self.n_reused = 0
        self.owned_s = 0.0
        self.origin = origin
        self.sites = NOWHERE
        self._access = access
        self._run_id = run_id
        self._flow = flow
        self._on_change = on_change
        self.recorded = RecordedSteps(
            (row for row, _ in rows), discarded=discarded, kept=kept, children_edited=children_edited
        )
        self._outputs = {(row.step, row.attempt): stored for row, stored in rows if stored is not None}
        self._called = CalledSteps(run_id)
        self._codes = self._called.codes
        self._allowed_changes: set[tuple[str, Digest]] = set()
        self._redone: dict[str, Digest] = {}
        self._n_added = 0
        self._done_again: set[StepRef] = set()
        self.notices = Notices(access, run_id)
        self._lost_s = 0.0
        self._n_series: Counter[tuple[str, BranchId]] = Counter()
        self._sites_of_branches: dict[BranchId, str] = {}
        self._announced: Collection[str] = ()
        self._advise: Adviser | None = None

    def advise(self, announced: Collection[str], new_adviser: Callable[..., Adviser] | None) -> None:
        """Note the names of steps that are announced to be done again, and ask an adviser about each new call."""
        self._announced = announced
        self._advise = None if new_adviser is None else new_adviser(self._access, self._run_id, self.recorded)

    @property
    def n_recorded(self) -> int:
        """How many steps were recorded before."""
        return len(self.recorded)

    @property
    def n_finished(self) -> int:
        """How many steps have a result that the next call would find: each counts once, whatever was done for it."""
        n_taken_over = 0 if self.origin is None else self.origin.n_taken_over
        return self._n_added + n_taken_over + sum(map(self._is_finished, self.recorded.records()))

    def _is_finished(self, record: RecordedStep) -> bool:
        latest = record.attempts[-1]
        if self._done_again and latest.step in self._done_again:
            return True
        code = self._redone.get(latest.name)
        if code is None and latest.status is StepStatus.COMPLETED and latest.version >= record.discarded_before:
            return True  # asked of every step at the end of each run
        return (record.completed_with_any_code() if code is None else record.completed(code)) is not None

    def note_finished(self, step: StepRef) -> None:
        """Note that the step has a result of this continuation."""
        if self.recorded.latest(step) is None:
            self._n_added += 1
        else:
            self._done_again.add(step)

    def unused_steps(self) -> tuple[StepRef, ...]:
        """Return the recorded steps that nothing asked for yet."""
        return self.recorded.unused_steps()

    def lived_with(self, step: StepRef) -> StepRow | None:
        """Return the recorded failure of the step, if the flow went on after it."""
        latest = self.recorded.latest(step)
        return latest if latest is not None and latest.lived_with else None

    def learn(self, row: StepRow) -> None:
        """Take what became of an attempt that an earlier continuation of this process had begun."""
        self.recorded.learn(row)

    def allow_change(self, name: str, code: Digest) -> None:
        """Accept new code of the steps of that name: the user was told of it."""
        self._allowed_changes.add((name, code))

    def skip(self, name: str, branch: BranchId, reason: str) -> PendingEvent | None:
        """Return what notes that a step is left out; None if that, or more, is recorded of it."""
        if not self.recorded.skip(name, branch, reason):
            return None
        step, index, attempt = self.recorded.new_ref(name, branch)
        identity = step_identity(f"skipped {name}", Digest(b""))
        skipped = StepSkipped(name=name, index=index, identity=identity, reason=reason, branch=branch)
        return PendingEvent(skipped, step, attempt)

    def begin_series(self, name: str, branch: BranchId, site: str) -> ItemSeries:
        """Return the next map or loop of that step in the branch; a later continuation numbers them alike."""
        series = ItemSeries(name, branch, self._n_series[name, branch], site)
        self._n_series[name, branch] += 1
        return series

    def open_branch(self, parent: BranchId, name: str, arguments: Digest | None) -> BranchId:
        """Return the id of a new branch: by name and arguments, and which one among equals it is."""
        nth = self.recorded.count_call(step_identity(f"branch {name}", arguments or Digest(b"")), parent)
        opened = branch_id(parent, name, arguments, nth)
        self._sites_of_branches[opened] = self.site_of(parent)
        return opened

    def site_of(self, branch: BranchId) -> str:
        """Return where in its flow the calling code stands; beyond the source of the flow, where its branch began."""
        return self.sites.here(2, branch_site=self._sites_of_branches.get(branch, ""))

    def _site(self, call: StepCall) -> str:
        if call.site is None:
            branch_site = self._sites_of_branches.get(call.place[1], "")
            call.site = self.sites.here(_OWN_FRAMES, branch_site=branch_site)
        return call.site

    def recognise(
        self, spec: StepSpec, branch: BranchId, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[StepCall, Digest]:
        """Return the call with its identity, not yet numbered, and the digest of its arguments. Needs no lock."""
        arguments = spec.parameters.bind(args, kwargs)
        try:
            digest, opaque = self._access.digester.arguments(f"step {spec.name}", arguments)
            if spec.key is None:
                identity = step_identity(spec.name, digest)
            else:
                identity = keyed_identity(spec.name, self._access.digester.digest(spec.key_of(arguments)).digest)
        except (StopIteration, StopAsyncIteration) as error:  # of the user's key function, or of a class of theirs
            raise failure_of(error, f"the call of step {spec.name}") from error
        return StepCall(arguments, args, kwargs, (identity, branch, 0), opaque), digest

    def resolve(
        self, spec: StepSpec, call: StepCall, digest: Digest, in_flight: Mapping[AttemptRef, Attempt]
    ) -> RecordedAnswer | Promise | Attempt:
        """Number the call, and answer it from memory or from what is in flight, or return the attempt to perform.

        Raises:
            CodeChanged: the code of finished work has changed, and the policy stops before redoing it.
            DuplicateName, DuplicateKey: the call can't be told from another one.
            ValueUnreadable: the recorded answer can't be read here.
        """
        identity, branch, _ = call.place
        code = spec.code_source.current().digest  # once a call, for it may be another one at any time
        codes = self._codes.get((spec.name, spec.variant))
        if codes is None or codes[-1] != (spec.qualname, code):
            self._called.note_code(spec, code)
        if spec.key is not None:
            self._called.note_key(spec, identity, digest)
        call.place = identity, branch, self.recorded.count_call(identity, branch)
        record = self.recorded.find(*call.place)
        if record is None:
            if spec.once and (answer := self._answer_by_twin(spec, code, call)) is not None:
                return answer
            if self.origin is not None:
                return self._ask_origin(self.origin, spec, code, call)
            return self._attempt(spec, code, call, None, StepReason.NEW)
        flying = _flying(record, code, in_flight, once=spec.once) if in_flight else None
        if flying is not None:
            flying.continuation = self  # it answers a call of this continuation now, and so may be tried again in it
            flying.promise.place = call.place
            return flying.promise
        verdict = judge(record, code, once=spec.once)
        if isinstance(verdict, PolicyDecides):
            verdict = _as_before(spec, record) or self._settle_change(spec, code, verdict.row, self.recorded)
        match verdict:
            case Reuse(row=row):
                answer, _ = self._reused(spec, row, call, self._outputs)
                return answer or self._attempt(spec, code, call, record, StepReason.RESULT_LOST)
            case Replay(row=row):
                self.n_reused += 1
                return RecordedAnswer(error=self._failure(row), place=call.place)
            case Unknown(row=row):
                raise self._outcome_unknown(row)
            case Perform(reason=reason):
                return self._attempt(spec, code, call, record, reason)

    def _outcome_unknown(self, row: StepRow) -> OutcomeUnknown:
        return OutcomeUnknown(
            f"{row.step} of run {self._run_id} runs once; it was begun {self._ago(row)} ago, and its process "
            "ended before its end was recorded, so it may have happened or not. Look, and if it did not happen "
            f'let it run with\n    iron.resume("{self._run_id}", retry=["{row.step}"])',
            run_id=self._run_id,
            step=row.step,
        )

    def resolve_undo(self, spec: StepSpec, call: StepCall, undoes: Undone, since_version: int) -> Attempt | StepRow:
        """Return the attempt that undoes another one; or the one that has done so, or has failed for good since then.

        It is told apart by what it undoes, whatever its arguments and its code are.
        """
        record = self.recorded.find(*call.place)
        code = spec.code_source.current().digest
        reason = StepReason.COMPENSATION
        if record is not None:
            latest = record.latest
            is_given_up = latest.status in FAILURES | {StepStatus.UNKNOWN} and latest.version > since_version
            if latest.status is StepStatus.COMPLETED or is_given_up:
                return latest
            reason = StepReason.RETRY if latest.status is StepStatus.RETRYING else StepReason.COMPENSATION
        attempt = self._attempt(spec, code, call, record, reason)
        attempt.undoes = undoes
        return attempt

    def _ask_origin(self, origin: BaseRun, spec: StepSpec, code: Digest, call: StepCall) -> RecordedAnswer | Attempt:
        """Answer a call that is new to this run with the result of its origin, or return the attempt."""
        found = origin.find(call.place)
        verdict = judge(found, code, once=spec.once)
        if isinstance(verdict, PolicyDecides):
            verdict = self._settle_change(spec, code, verdict.row, origin.memo)
        if isinstance(verdict, Reuse):
            answer, stored = self._reused(spec, verdict.row, call, origin.outputs_of(verdict.row))
            if answer is not None and stored is not None:
                ref = self.recorded.new_ref(spec.name, call.place[1])
                origin.take_over(verdict.row, stored, ref, call.place, self._site(call))
                return answer
        if origin.position is not None:
            if isinstance(verdict, Replay):
                return RecordedAnswer(error=self._failure(verdict.row), place=call.place)
            if found is None and spec.once:
                self._ask_about_twin(origin, spec, call)
        is_redone = isinstance(verdict, Perform) and verdict.reason is StepReason.CODE_CHANGED
        attempt = self._attempt(spec, code, call, None, StepReason.CODE_CHANGED if is_redone else StepReason.NEW)
        if found is not None and found.latest.child_run_id is not None:
            origin.children[attempt.step] = found.latest.child_run_id
        return attempt

    def _answer_by_twin(self, spec: StepSpec, code: Digest, call: StepCall) -> RecordedAnswer | Attempt | None:
        """Answer a new call of a step that runs once by the decision of a person, if there is one.

        After an edit, and in a fork, a call with other arguments needs one.

        Raises:
            OutcomeUnknown: it was done with other arguments, and somebody has to decide.
        """
        is_fork = self.origin is not None and self.origin.position is not None
        if not (is_fork or self.recorded.has_given_results):
            return None
        twin = settled_twin(self.recorded, spec.name, self._run_id)
        if twin is None:
            return None
        done = twin.completed_with_any_code()
        if done is None:
            return self._attempt(spec, code, call, None, StepReason.ASKED_FOR)
        return self._reused(spec, done, call, self._outputs)[0]

    def _ask_about_twin(self, origin: BaseRun, spec: StepSpec, call: StepCall) -> None:
        """Stop before a fork does again, with other arguments, what runs once; the fork takes what was done."""
        done = twin_of_origin(origin.memo, spec.name)
        stored = None if done is None else self._stored(done, origin.outputs_of(done))
        if done is not None and stored is not None:
            ref = self.recorded.new_ref(spec.name, done.branch)
            origin.take_over(done, stored, ref, (done.identity, done.branch, done.nth), self._site(call))
            raise asked_about(msgspec.structs.replace(done, step=ref[0]), self._run_id)

    def _attempt(
        self, spec: StepSpec, code: Digest, call: StepCall, record: RecordedStep | None, reason: StepReason
    ) -> Attempt:
        self._site(call)
        if call.opaque:
            self.notices.opaque(spec, call.arguments)
        if record is None:
            if self._advise is not None:
                self._advise(spec.name, call.arguments, not (self._n_added or self._done_again))
            return Attempt(spec, code, call, *self.recorded.new_ref(spec.name, call.place[1]), reason, self)
        latest = record.latest
        is_queued = latest.status is StepStatus.PENDING and latest.code == code  # it never began
        is_open = latest.status is StepStatus.WAITING and not record.is_discarded  # a wait, which goes on
        number = latest.attempt + (not (is_open or is_queued))
        attempt = Attempt(spec, code, call, latest.step, latest.index, number, reason, self)
        if is_open:
            attempt.row = latest
        if is_queued:
            attempt.queued = latest
        is_begun = latest.status is not StepStatus.COMPLETED or reason in _GONE_THROUGH
        child = latest.child_run_id if is_begun and not record.is_discarded else None
        if latest.origin_run_id is None:
            attempt.child_run_id = child
        elif child is not None and self.origin is not None:  # it is another run's, and is built on
            self.origin.children[attempt.step] = child
        attempt.failed = latest if latest.status is StepStatus.RETRYING else None
        if reason is StepReason.RETRY and self._has_timed_out(latest):
            attempt.reason = StepReason.TIMED_OUT
        left_s = spec.limits.left_s(record.attempts, attempt.reason, code, self._access.clock.now())
        attempt.ends_s = None if left_s is None else self._access.clock.monotonic() + left_s
        attempt.is_owed = record.is_owed
        return attempt

    def _has_timed_out(self, row: StepRow) -> bool:
        with suppress(ValueUnreadable):
            return isinstance(self._failure(row), StepTimeout)
        return False

    def _ago(self, row: StepRow) -> str:
        return spoken(max(self._access.clock.now() - row.started_at, 0) / 1e6)

    def _settle_change(self, spec: StepSpec, code: Digest, row: StepRow, memo: RecordedSteps) -> Reuse | Perform:
        result = self._settled_change(spec, code, row, memo)
        if isinstance(result, Perform):
            self._redone[spec.name] = code
        return result

    def _settled_change(self, spec: StepSpec, code: Digest, row: StepRow, memo: RecordedSteps) -> Reuse | Perform:
        on_change = spec.on_change or self._on_change
        if row.child_run_id is not None and on_change in {OnChange.GUARD, OnChange.REFRESH}:
            return Perform(StepReason.CODE_CHANGED)  # its own steps are looked at one by one, there
        if (spec.name, code) in self._allowed_changes:
            result = settle_change(on_change, row, 0.0)
            assert result is not None
            return result
        n_steps, at_stake_s = memo.work_at_stake(spec.name, code)
        why = why_changed(self._access.definition, row.code, spec)
        steps = counted(n_steps, "finished step")
        result = settle_change(on_change, row, at_stake_s)
        if result is None:
            ways = [f'{self._flow}.options(on_change="{way}").resume()' for way in ("keep", "refresh")]
            if spec.on_change is not None:  # over which that of the flow has no say
                ways = [f'iron.resume("{self._run_id}", {way}=["{spec.name}"])' for way in ("keep", "rerun")]
            raise CodeChanged(
                f"{spec.name} has changed ({why}) since {steps} ({spoken(at_stake_s)} of work) of run {row.run_id} "
                f"{'was' if n_steps == 1 else 'were'} recorded; run one of\n"
                f"    {ways[0]}  # keep their results\n"
                f"    {ways[1]}  # run them again",
                run_id=self._run_id,
                name=spec.name,
                n_steps=n_steps,
                at_stake_s=at_stake_s,
            )
        self._allowed_changes.add((spec.name, code))
        if memo is self.recorded and spec.name not in self._announced:  # of an origin its line has said so
            becomes = "kept" if isinstance(result, Reuse) else "done again"
            of_them = f"{n_steps} of the finished steps {are(n_steps)} {becomes}"
            say(f"run {self._run_id}: {spec.name}: {why}; {of_them} ({spoken(at_stake_s)} of work)")
        return result

    def _stored(self, row: StepRow, outputs: dict[tuple[StepRef, int], StoredValue]) -> StoredValue | None:
        stored = outputs.pop((row.step, row.attempt), None)
        if (stored is None or stored.content is None) and row.output_id is not None:
            stored = self._access.value(row.output_id, row.row_key)
        return stored

    def _reused(
        self, spec: StepSpec, row: StepRow, call: StepCall, outputs: dict[tuple[StepRef, int], StoredValue]
    ) -> tuple[RecordedAnswer | None, StoredValue | None]:
        """Return the answer that the recorded result is; None if that is lost and the step may run again.

        Raises:
            ValueUnreadable: it can't be decoded before somebody does something, or it is lost for good.
        """
        stored = self._stored(row, outputs)
        if stored is None or stored.content is None:
            self._settle_loss(spec, row, why_lost(stored))
            return None, stored
        try:
            value = self._access.values.decode(stored)
        except ValueUnreadable as error:
            if error.python is None:
                error.add_note(f"It is the recorded result of {row.step} in run {row.run_id}.")
                raise
            self._settle_loss(spec, row, str(error))
            return None, stored
        self.n_reused += 1
        kept = StoredResult(stored.value_id, stored.size, (row.run_id, row.name, row.index, row.attempt))
        return RecordedAnswer(value, kept=kept, place=call.place), stored

    def _settle_loss(self, spec: StepSpec, row: StepRow, why: str) -> None:
        """Permit a new attempt of a step whose result is gone, if that costs little or the policy is to refresh.

        Raises:
            ValueUnreadable: putting the result back, if somebody can, may be better than running the step again.
        """
        self._lost_s += row.duration_s or 0.0
        is_cheap = self._on_change is not OnChange.STRICT and self._lost_s < GUARD_S
        is_free = row.child_run_id is None and not spec.once
        if is_free and (is_cheap or self._on_change is OnChange.REFRESH):
            say(f"run {self._run_id}: the recorded result of {row.step} can't be read ({why}); the step runs again")
            return
        by_name = f'iron.resume("{row.run_id}", rerun=["{row.step}"])'
        raise lost_result(row, why, f'{self._flow}.options(on_change="refresh").resume()' if is_free else by_name)

    def _failure(self, row: StepRow) -> BaseException:
        stored = None if row.error_id is None else self._access.value(row.error_id)
        if stored is None or stored.content is None:
            raise ValueUnreadable(
                f"the recorded failure of {row.step} in run {self._run_id}, which the flow lived with, is missing in "
                f"the journal or damaged; put the journal back from a copy, or begin anew with "
                f"{self._flow}.options(fresh=True)(...)",
                run_id=self._run_id,
                step=row.step,
            )
        error = recorded_error(stored, self._access.signer, where=f"{row.step} of run {self._run_id}")
        return mark(error, self._run_id, row.step)


def _flying(
    record: RecordedStep, code: Digest, in_flight: Mapping[AttemptRef, Attempt], *, once: bool
) -> Attempt | None:
    """Return the attempt that an earlier continuation began and whose body still runs, if it answers the call.

    An attempt with other code than the call, or from before a request to run again, does not answer it; but a step that
    runs once never begins beside itself. A child does not answer it either: it stops with the continuation that called
    it, and the next attempt waits for that and continues it.
    """
    latest = record.latest
    attempt = in_flight.get((latest.step, latest.attempt))
    if attempt is None or attempt.child_run_id is not None:
        return None
    return attempt if once or (attempt.code == code and not record.is_discarded) else None


def _as_before(spec: StepSpec, record: RecordedStep) -> Reuse | None:
    """Return the result recorded under the function's own code: all that journals before dependency tracking have."""
    done = record.completed(spec.tracked.own)
    return None if done is None else Reuse(done)
