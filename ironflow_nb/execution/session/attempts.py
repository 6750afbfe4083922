"""The stages of a call of a step: call, attempt, result; and the step that a failure belongs to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import msgspec
from msgspec.structs import replace

from ironflow_nb.core.durations import spoken
from ironflow_nb.core.events import StepFailed
from ironflow_nb.core.identity import BranchId, Digest, RunId, StepRef, ValueId
from ironflow_nb.core.run_state import RowKey, StepRow
from ironflow_nb.core.status import StepReason
from ironflow_nb.errors import ValueUnreadable, WaitTimeout
from ironflow_nb.execution.definitions.step_spec import StepSpec
from ironflow_nb.execution.recording.journal_access import PendingEvent
from ironflow_nb.journal.ports import CachedResult
from ironflow_nb.values.failures import set_attribute
from ironflow_nb.values.stored_value import StoredValue

if TYPE_CHECKING:
    from ironflow_nb.telemetry.attempt_telemetry import AttemptTelemetry

PENDING: Final = object()


class Undone(msgspec.Struct, frozen=True):
    """The attempt of this run, or of a child, that is undone; and the attempts of this run that stand no more then."""

    row: StepRow
    of_run: tuple[StepRow, ...]


FAILED_STEP: Final = "_ironflow_step"
"""Set on an exception that a step raised: which run and step it was."""

UNRECORDED_RUN: Final = "_ironflow_unrecorded_run"
"""Set on the error with which the journal refused the end of a child run: the id of that run."""

Place = tuple[Digest, BranchId, int]
"""Identity, branch, and which time the branch asks for it: what recognises a call within a run."""


AttemptRef = tuple[StepRef, int]
"""One attempt within a run."""


class StepCall(msgspec.Struct):
    """A call with everything that recognises it; `opaque` names classes that identify in this process only.

    `site` is where in its flow it is made, an empty text where that is not known, and None until somebody looks.
    """

    arguments: dict[str, Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    place: Place
    opaque: tuple[str, ...] = ()
    site: str | None = None


class StoredResult(NamedTuple):
    """Where the journal has a value: its id, its size in bytes, and the row that it belongs to."""

    value_id: ValueId
    size: int
    of: RowKey | None = None


def why_lost(stored: StoredValue | None) -> str:
    """Return why a value without content has none."""
    return "it is not in the journal" if stored is None else (stored.read_error or "its content is missing")


def lost_result(row: StepRow, why: str, again: str | None = None) -> ValueUnreadable:
    """Return the error about a lost result; `again` is the expression that lets the step run again, if one does."""
    advice = "put it back from a copy of the journal and its folder of values"
    if again is not None:
        advice += f", or let the step run again (recorded: {spoken(row.duration_s or 0.0)}) with\n    {again}"
    message = f"the recorded result of {row.step} in run {row.run_id} can't be read: {why}; {advice}"
    return ValueUnreadable(message, run_id=row.run_id, step=row.step)


class RecordedAnswer(msgspec.Struct, frozen=True):
    """A call that is answered by what is recorded."""

    value: Any = None
    error: BaseException | None = None
    kept: StoredResult | None = None
    place: Place | None = None


class Promise(msgspec.Struct, eq=False):
    """A value or an error that comes once. Waiters are called back. Used under the session's lock.

    Of an attempt that was let go of without a result, `undone` is what a later continuation of the run has to continue.
    One of an earlier continuation has the `place` of the call that it answers now.
    """

    place: Place | None = None
    error: BaseException | None = None
    is_observed: bool = False
    kept: StoredResult | None = None
    undone: Attempt | None = None
    _value: Any = PENDING
    _read: Callable[[ValueId, RowKey | None], Any] | None = None
    _callbacks: list[Callable[[], None]] = []

    @property
    def is_done(self) -> bool:
        """Return True if the promise is there."""
        return self._value is not PENDING or self.error is not None

    @property
    def is_released(self) -> bool:
        """Return True if the value was let go of."""
        return self._read is not None

    @property
    def value(self) -> Any:
        """The value; one that was released is read again.

        Raises:
            ValueUnreadable: it can't be.
        """
        value, read = self._value, self._read  # in this order, for another thread may be releasing it
        return value if read is None or self.kept is None else read(self.kept.value_id, self.kept.of)

    def release(self, read: Callable[[ValueId, RowKey | None], Any]) -> None:
        """Release the value; `read` gives it again."""
        self._read = read
        self._value = None

    def succeed(self, value: Any, kept: StoredResult | None = None) -> None:
        """Set the value, once it is committed."""
        self._value, self.kept = value, kept
        self._call_back()

    def fail(self, error: BaseException) -> None:
        """Set the error."""
        self.error = error
        self._call_back()

    def result(self) -> Any:
        """Return the value, which is there, or raise the error."""
        __tracebackhide__ = True
        self.is_observed = True
        if self.error is not None:
            raise self.error
        return self.value

    def when_done(self, callback: Callable[[], None]) -> None:
        """Call back once the promise is there, at once if it is."""
        if self.is_done:
            callback()
        else:
            self._callbacks.append(callback)

    def _call_back(self) -> None:
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()


class Gate(Protocol):
    """What an attempt or a run must pass before it begins, and what it may hold until it ends."""

    def left_s(self) -> float | None:
        """Ask to pass; return None if it may begin, else after how many seconds to ask again: infinite if when told.

        Lock: none may be held.
        """

    def when_open(self) -> Promise:
        """Return the promise that is kept when it is worth asking earlier."""

    def step_back(self) -> None:
        """Hold nothing for now, because another gate is closed. Lock: none may be held."""

    def leave(self, error: BaseException | None) -> None:
        """Note that what passed has ended, with that error if any. Lock: none may be held."""

    def rest(self) -> None:
        """Hold nothing for now, because the attempt that has passed waits. Lock: session."""

    def drop(self) -> None:
        """Note that what asked does not begin, or has ended without a result. Lock: session."""


class Attempt(msgspec.Struct, eq=False):
    """One attempt of a step that is to be performed; `row` is there once it has started.

    A retry follows its `failed` attempt, not before that one's due time, and `begin_again` puts it back to work where
    its first attempt was performed beside the flow. `code` is that of the step when it was asked for, and `claim` says
    that it computes a result for all runs; where it `is_owed`, no earlier result will do. Beside the flow its body
    runs in the `context` of the call. At `ends_s` of the clock's seconds the deadline of its step is over. It waits at
    its `gates`, or for another run's result, and is looked at again at `looks_s`. If it had to wait, it is `queued`.
    """

    spec: StepSpec
    code: Digest
    call: StepCall
    step: StepRef
    index: int
    number: int
    reason: StepReason
    continuation: object = None
    """The memory that made it, or that of a later continuation of the run with a call that it answers.

    No attempt of an earlier continuation than the current one begins any more.
    """
    promise: Promise = msgspec.field(default_factory=Promise)
    row: StepRow | None = None
    started_s: float = 0.0
    due_s: float | None = None
    ends_s: float | None = None
    failed: StepRow | None = None
    n_failed: int = 0
    begin_again: Callable[[Attempt], None] | None = None
    child_run_id: RunId | None = None
    claim: CachedResult | None = None
    is_owed: bool = False
    context: Context | None = None
    undoes: Undone | None = None
    telemetry: AttemptTelemetry | None = None
    gates: tuple[Gate, ...] | None = None
    looks_s: float | None = None
    queued: StepRow | None = None

    @property
    def due_at(self) -> int:
        """The instant in microseconds UTC before which the attempt does not begin."""
        return 0 if self.failed is None else self.failed.due_at or 0

    def retry(self, reason: StepReason) -> Attempt:
        """Return the attempt after this one, which failed."""
        return replace(
            self, number=self.number + 1, reason=reason, failed=self.row, n_failed=self.n_failed + 1,
            row=None, started_s=0.0, due_s=None, telemetry=None, gates=None, looks_s=None, queued=None,
        )  # fmt: skip

    def continued(self, spec: StepSpec, continuation: object) -> Attempt:
        """Return the attempt that continues this one's child run, in a continuation that waited for it."""
        return Attempt(
            spec, spec.code, self.call, self.step, self.index, self.number + 1, StepReason.INTERRUPTED, continuation,
            child_run_id=self.child_run_id,
        )  # fmt: skip

    @property
    def branch(self) -> BranchId:
        """The branch that called."""
        return self.call.place[1]

    @property
    def is_started(self) -> bool:
        """Return True if its body has begun."""
        return self.row is not None


def place_of(asked: RecordedAnswer | Promise | Attempt) -> Place | None:
    """Return the place of the call that was answered so, if it is known."""
    return asked.call.place if isinstance(asked, Attempt) else asked.place


class AttemptResult(PendingEvent, frozen=True, kw_only=True):
    """The event of a performed attempt, with what its caller gets, or the instant of its retry in microseconds UTC.

    The events of `besides` are recorded together with it.
    """

    performed: Attempt
    value: Any = None
    error: BaseException | None = None
    retry_at: int | None = None
    stored: StoredResult | None = None
    besides: Sequence[PendingEvent] = ()

    def retry(self) -> Attempt:
        """Return the next attempt of a step that is tried again."""
        assert type(self.event) is StepFailed
        reason = StepReason.TIMED_OUT if self.event.timed_out else StepReason.RETRY
        return self.performed.retry(reason)

    def resolve_promise(self, trouble: BaseException | None = None) -> None:
        """Resolve the promise of the attempt, with an error if it could not be recorded."""
        error = trouble or self.error
        if error is not None:
            self.performed.promise.fail(error)
        else:
            self.performed.promise.succeed(self.value, self.stored)


Take = Callable[[AttemptResult | None], Attempt | None]
"""Gives a performer its next attempt, and is told the result of its last one; None where nothing more is to do."""


class PromisedWork:
    """Work beside the flow that has one result."""

    def __init__(self, lock: AbstractContextManager[object], promise: Promise | None = None) -> None:
        self.promise = promise or Promise()
        self._lock = lock

    def is_finished(self) -> bool:
        """Return True if nothing of it is still to come."""
        return self.promise.is_done

    def is_at_work(self) -> bool:
        """Return True if it is still to finish."""
        return not self.promise.is_done

    def when_done(self, callback: Callable[[], None]) -> None:
        """Call back once it is finished, at once if it is; in any thread, under the lock."""
        with self._lock:
            self.promise.when_done(callback)

    def unobserved_error(self) -> BaseException | None:
        """Return a failure that the flow never saw."""
        return None if self.promise.is_observed else self.promise.error


def failure_of(error: BaseException, who: str) -> BaseException:
    """Return the error as the failure of `who`, a step or flow: what iterators raise at their end is no failure."""
    if not isinstance(error, StopIteration | StopAsyncIteration):
        return error
    failure = RuntimeError(f"{who} raised {type(error).__name__}")
    failure.__cause__ = error
    return failure


def mark(error: BaseException, run_id: RunId, step: StepRef) -> BaseException:
    """Note on the exception which step raised it."""
    with suppress(AttributeError):  # a class with __slots__
        set_attribute(error, FAILED_STEP, (run_id, step))
    return error


def steps_behind(run_id: str, error: BaseException) -> tuple[StepRef, ...]:
    """Return the steps of the run whose failures are in the chain of the error.

    A wait that timed out is behind an error only if that says so: what is raised where a timeout is handled does not
    take it back, for a replay must see what has ended the wait.
    """
    steps: dict[StepRef, None] = {}
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        link = left.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        of_run, step = getattr(link, FAILED_STEP, (None, None))
        if of_run == run_id and step is not None:
            steps[step] = None
        left += [link.__cause__, None if isinstance(link.__context__, WaitTimeout) else link.__context__]
        left += link.exceptions if isinstance(link, BaseExceptionGroup) else ()
    return tuple(steps)
