"""Performing steps. A call, its attempts and their retries are one coroutine, whatever drives it; see `drivers`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Token
from functools import partial
from typing import Any

from msgspec.structs import replace

from ironflow_nb.core.events import StepCompensated, StepCompleted, StepFailed
from ironflow_nb.core.identity import RunId, StepRef
from ironflow_nb.core.retry import MAX_DELAY_S
from ironflow_nb.core.status import RunStatus
from ironflow_nb.errors import (
    AsyncMismatch,
    IronflowError,
    RunInterrupted,
    RunTimeout,
    StepTimeout,
    ValueNotStorable,
    WorkerLost,
)
from ironflow_nb.execution.definitions.parameters import unwrapped
from ironflow_nb.execution.definitions.step_spec import StepSpec
from ironflow_nb.execution.recording.journal_access import PendingEvent
from ironflow_nb.execution.session.attempts import (
    UNRECORDED_RUN,
    Attempt,
    AttemptResult,
    Promise,
    RecordedAnswer,
    StoredResult,
    Take,
    failure_of,
    mark,
)
from ironflow_nb.execution.session.called_steps import UNCHANGEABLE, refuse_changed_call
from ironflow_nb.execution.session.run_phase import RunPhase, RunStopped, StopRequest
from ironflow_nb.execution.session.session import Session
from ironflow_nb.execution.steps.captured_streams import STREAMS, HeardStream
from ironflow_nb.execution.steps.context import SCOPE, RunContext
from ironflow_nb.execution.steps.drivers import IN_THREAD, ON_LOOP, Driver, run_to_end
from ironflow_nb.execution.steps.fan_out import Submission
from ironflow_nb.execution.steps.gates import closed_gate, leave_gates, passed, put_back
from ironflow_nb.execution.steps.limited_body import LimitedBody, limit_of, wait_for_abandoned
from ironflow_nb.execution.steps.result_cache import POLL_S, look
from ironflow_nb.execution.system.interrupts import INTERRUPTS, call_body
from ironflow_nb.journal.ports import CachedResult, Select
from ironflow_nb.telemetry.spans import IS_TRACED, begin_step_span, note_span_failure
from ironflow_nb.values.digest import BUILT_IN, listed
from ironflow_nb.values.failures import annotate, recorded_error

Parent = tuple[RunId, StepRef]

RunChild = Callable[[RunId, Parent], Any]
"""Runs a flow as a child, in place of a body: given its id and the step of the parent that it is."""


def call(
    spec: StepSpec, scope: RunContext, args: tuple[Any, ...], kwargs: Mapping[str, Any], child: RunChild | None = None
) -> Any:
    """Return the result of a ``def`` step, or of a ``def`` child, called directly in a flow."""
    __tracebackhide__ = True
    session = scope.session
    asked = session.resolve_call(spec, scope.branch, args, kwargs, continuation=scope.continuation)
    if isinstance(asked, RecordedAnswer):
        return deliver(asked)
    if child is None and isinstance(asked, Attempt) and (spec.runs_apart or session.sets_apart):
        return _called_beside(scope, asked)
    return run_to_end(_resolved(IN_THREAD, session, spec, asked, child))


def _called_beside(scope: RunContext, attempt: Attempt) -> Any:
    """Perform an attempt beside the flow, which waits: a body with a time limit or an executor may go on without it."""
    __tracebackhide__ = True
    submission = Submission(scope, attempt, is_limited=False)
    run_to_end(IN_THREAD.wait(scope.session, lambda: submission.is_finished() or submission.is_refused))
    if submission.is_refused:
        scope.raise_if_left_behind()
        raise RunStopped(StopRequest.INTERRUPT, None)
    return submission.read()


def call_async(
    spec: StepSpec, scope: RunContext, args: tuple[Any, ...], kwargs: Mapping[str, Any], child: RunChild | None = None
) -> Coroutine[Any, Any, Any]:
    """Return the coroutine of an ``async def`` step or child, called in an async flow.

    The call is numbered now, in the order of the program, and not when some task gets to it.

    Raises:
        AsyncMismatch: it is a ``def`` flow, even if a loop runs in this thread, as in every notebook.
    """
    if not scope.session.is_on_loop():
        here = "make the flow async def"
        instead = here if child is not None else f"call {spec.name}.submit(...).result(), or {here}"
        raise AsyncMismatch(
            f"{spec.name} is async and was called in a def flow, where nothing can await it; {instead}", name=spec.name
        )
    scope.raise_if_left_behind()
    session, asked = scope.session, scope.resolve(spec, args, kwargs)
    if type(asked) is Attempt:
        session.beside.not_begun.add(asked)
    return _awaited(spec, session, asked, child)


def is_call(coroutine: object) -> bool:
    """Return True if the coroutine is a call of a step, which was numbered in its caller's branch."""
    return getattr(coroutine, "cr_code", None) is _awaited.__code__


async def _awaited(
    spec: StepSpec, session: Session, asked: RecordedAnswer | Promise | Attempt, child: RunChild | None
) -> Any:
    if isinstance(asked, RecordedAnswer):
        return deliver(asked)
    beside = session.beside  # that of this continuation, whatever comes
    beside.begin_await()
    try:
        return await _resolved(ON_LOOP, session, spec, asked, child)
    finally:
        beside.end_await()


def deliver(answer: RecordedAnswer) -> Any:
    """Return what is recorded of a call, or raise its recorded failure."""
    __tracebackhide__ = True
    if INTERRUPTS.is_pending:
        INTERRUPTS.check()
    if answer.error is not None:
        raise answer.error
    return answer.value


async def _resolved(
    driver: Driver, session: Session, spec: StepSpec, asked: Promise | Attempt, child: RunChild | None
) -> Any:
    """Return the result of a call that nothing recorded answers."""
    __tracebackhide__ = True
    if isinstance(asked, Promise):  # in flight: an interrupted earlier call, or an equal one that was submitted
        continuation = session.replayer
        await driver.resolved(session, asked)
        if asked.undone is None:
            return asked.result()
        session.raise_if_outlived(continuation)
        asked = asked.undone.continued(spec, continuation)
    result = await perform_attempt(driver, session, asked, child)
    while result.retry_at is not None:
        result = await perform_attempt(driver, session, session.record_retry(result), child)
    if driver.is_async and (session.beside.not_begun or session.n_in_flight > 1):
        session.queue_result(result)  # others are about to end as well: share one commit
        promise = result.performed.promise
        await driver.resolved(session, promise)
        if promise.error is not None:
            session.observe(result.performed)
        return promise.result()
    try:
        return session.record(result)
    finally:
        if INTERRUPTS.is_pending:
            INTERRUPTS.check()


async def perform_attempt(
    driver: Driver, session: Session, attempt: Attempt, child: RunChild | None = None, *, is_gated: bool = True
) -> AttemptResult:
    """Perform one attempt, once it has passed its gates. What is no `Exception` passes through unrecorded."""
    __tracebackhide__ = True
    session.beside.not_begun.discard(attempt)
    continuation = session.replayer
    try:
        while attempt.failed is not None and (left_s := session.beside.seconds_until(attempt)) > 0:
            await driver.pause(session, left_s)
        if attempt.spec.cache_s is not None and (found := await _shared_result(driver, session, attempt)) is not None:
            return found
        if is_gated and (attempt.spec.is_gated or session.desk.max_steps is not None) and child is None:
            await passed(driver, session, attempt)
        if child is not None:
            attempt.child_run_id = _child_to_continue(session, attempt) or session.access.new_run_id()
        elif session.abandoned.n_of_step:
            await wait_for_abandoned(driver, session, attempt)
        # Beside its flow, a later continuation may find it at work: on a loop other tasks of the flow go on meanwhile.
        is_beside = driver.is_async or attempt.begin_again is not None or session.is_beside()
        session.start(attempt, is_beside=is_beside)
        is_apart = child is None and (attempt.spec.runs_apart or session.sets_apart)
        apart = _body_apart(session, attempt) if is_apart else None
        limit_s = None if apart is None else apart.limit_s
        context = RunContext(session, attempt.call.place[1], attempt.step, limit_s=limit_s, attempt=attempt)
        token = None if child is not None else SCOPE.set(context)
        end_span = _begin_span(session, attempt) if IS_TRACED and child is None else None
        if type(sys.stdout) is not HeardStream or type(sys.stderr) is not HeardStream:
            STREAMS.renew()
        # The body is called in this very coroutine, for another one would change its StopIteration.
        try:
            if is_beside and not UNCHANGEABLE.issuperset(map(type, attempt.call.arguments.values())):
                refuse_changed_call(session.replayer.recognise, attempt)
            if child is not None:
                value = call_body(child, (attempt.child_run_id, (session.run_id, attempt.step)), {})
            else:
                perform = call_body if apart is None else apart.begin if driver.is_async else apart.call
                value = perform(attempt.spec.function, *unwrapped(attempt.call.args, attempt.call.kwargs))
            if driver.is_async:
                value = await (value if apart is None else apart.awaited(value))
        except (Exception, RunStopped) as error:  # noqa: BLE001 -- whatever a body raises is recorded
            return _failed(driver, session, attempt, error, continuation)
        finally:
            _leave(token, end_span)
        if attempt.gates:
            leave_gates(session, attempt, None)
        return returned(session, attempt, value)
    except BaseException as error:
        session.drop(attempt, error)
        raise


async def _shared_result(driver: Driver, session: Session, attempt: Attempt) -> AttemptResult | None:
    """Return the result of the same call in another run, or None. Wait while that run performs it."""
    while isinstance(found := look(session, attempt), CachedResult):
        await driver.pause(session, POLL_S)
    return found


def _begin_span(session: Session, attempt: Attempt) -> Callable[[], None]:
    return begin_step_span(session.run_id, attempt.step, attempt.spec.name, attempt.number)


def _leave(token: Token[RunContext | None] | None, end_span: Callable[[], None] | None) -> None:
    """End the span of a body, and make the place of its caller the current context again."""
    if end_span is not None:
        end_span()
    try:  # at every step, and `suppress` is three calls
        if token is not None:
            SCOPE.reset(token)
    except ValueError:
        return  # the garbage collector closes a coroutine that nobody awaits any more, in whatever context


def _failed(
    driver: Driver, session: Session, attempt: Attempt, error: BaseException, continuation: object
) -> AttemptResult:
    """Return what is to be recorded of an attempt whose body has raised.

    Raises:
        BaseException: nothing is to be recorded, for the run stops or the outcome is not known.
    """
    withdrawn = error.__cause__ if isinstance(error, RunStopped) and attempt.spec.once else None
    if isinstance(error, RunStopped) and not isinstance(withdrawn, WorkerLost):
        raise error
    if IS_TRACED and attempt.child_run_id is None:
        note_span_failure(error)
    if attempt.gates:
        leave_gates(session, attempt, withdrawn or error)
    if withdrawn is not None:  # its beginning is recorded, so that it did not happen has to be; its flow is to stop
        return replace(raised(session, attempt, withdrawn), error=error)
    _raise_stop(driver, session, attempt, error, continuation)
    if attempt.child_run_id is not None and getattr(error, UNRECORDED_RUN, None) == attempt.child_run_id:
        raise error  # a later call of the child continues it
    if attempt.spec.once and _may_have_happened(error):
        raise session.writer.outcome_unknown(attempt) from error
    return raised(session, attempt, error)


def _body_apart(session: Session, attempt: Attempt) -> LimitedBody | None:
    """Return the body of the attempt, which begins now; None if it is called where it is, for as long as it likes."""
    limit = limit_of(session, attempt)
    executor = session.executor if attempt.spec.executor is None else attempt.spec.executor
    if executor is not None:
        from ironflow_nb.execution.steps.remote_body import RemoteBody

        return RemoteBody(session, attempt, limit, executor)
    return None if limit is None else LimitedBody(session, attempt, limit)


def _may_have_happened(error: BaseException) -> bool:
    """Return True if the outcome of the body is unknown: its time is up, or its worker was lost."""
    return isinstance(error, StepTimeout) or (isinstance(error, WorkerLost) and error.is_retryable)


def _child_to_continue(session: Session, attempt: Attempt) -> RunId | None:
    """Return the run that an earlier attempt began and that this one continues: not a cancelled one."""
    if attempt.child_run_id is None:
        return None
    with session.access.current() as reader:
        found = reader.runs(Select(run_ids=[attempt.child_run_id]))
    is_cancelled = bool(found) and found[0].status is RunStatus.CANCELLED
    return None if is_cancelled else attempt.child_run_id


def _raise_stop(driver: Driver, session: Session, attempt: Attempt, error: BaseException, continuation: object) -> None:
    """Raise that the run stops, where the error only came of that.

    A child stops with its parent, which may be in a later continuation by the time that the child has stopped.

    Raises:
        RunStopped: the run stops.
    """
    is_child = attempt.child_run_id is not None
    if session.stop_request is not None and (driver.is_async or is_child):
        session.unwind(error)
    if is_child and isinstance(error, RunInterrupted) and session.replayer is not continuation:
        raise RunStopped(StopRequest.INTERRUPT, None) from error


async def perform_attempts(driver: Driver, session: Session, take: Take) -> None:
    """Perform attempts beside the flow, as long as there are any."""
    result: AttemptResult | None = None
    while (attempt := take(result)) is not None:
        try:
            result = None
            done = await driver.run_in(attempt.context, _attempt_beside(driver, session, attempt))
            if isinstance(done, AttemptResult):
                session.queue_result(result := done)
            else:
                done()  # only now: another thread may begin it at once, and a context is entered once at a time
        except BaseException as error:
            result = None
            session.drop(attempt, error)
            if driver.is_async and not isinstance(error, Exception | RunStopped):
                raise
    if session.beside.has_waited:
        session.wakeups.wake()  # what waits in time that passes at once looks again whether anything is at work


async def _attempt_beside(driver: Driver, session: Session, attempt: Attempt) -> AttemptResult | Callable[[], None]:
    """Perform the attempt; if it has to wait, return what puts it back: it is begun again later, and waits nowhere."""
    if attempt.spec.cache_s is not None and isinstance(look(session, attempt), CachedResult):
        return partial(session.beside.look_again, attempt, POLL_S)
    is_gated = attempt.spec.is_gated or session.desk.max_steps is not None
    if is_gated and (closed := closed_gate(session, attempt)) is not None:
        return partial(put_back, session, attempt, *closed)
    # It has passed. To ask again could find a breaker that has opened since, and wait for it on a thread of the pool.
    return await perform_attempt(driver, session, attempt, is_gated=False)


def returned(session: Session, attempt: Attempt, value: Any) -> AttemptResult:
    """Return what is to be recorded of a returned attempt; a value that nothing stores makes it a failed one."""
    duration_s = session.access.clock.monotonic() - attempt.started_s
    try:
        result = value if type(value) in BUILT_IN else listed(value)
        values, echo, is_shareable = session.storage.encode_result(result)
    except ValueNotStorable as error:
        error.add_note(f"It is the result of {attempt.step} in run {session.run_id}.")
        return raised(session, attempt, error)
    stored = values[-1]
    completed = StepCompleted(output=stored.value_id, duration_s=duration_s)
    cached = attempt.claim
    if cached is not None and is_shareable:
        now = session.access.clock.now()
        cached = replace(cached, owner=None, output_id=stored.value_id, finished_at=now, duration_s=duration_s)
    row_key = session.run_id, attempt.spec.name, attempt.index, attempt.number
    is_to_undo = attempt.spec.compensate is not None or attempt.undoes is not None
    return AttemptResult(
        completed, attempt.step, attempt.number, attempt.row, values, cached,
        performed=attempt, value=echo, stored=StoredResult(stored.value_id, stored.size, row_key),
        besides=_compensation(session, attempt, echo) if is_to_undo else (),
    )  # fmt: skip


def _compensation(session: Session, attempt: Attempt, value: Any) -> tuple[PendingEvent, ...]:
    """Return what is recorded with a completed attempt: what it has undone, or by what it will be undone."""
    undo = attempt.spec.compensate
    if attempt.undoes is not None:
        by = StepCompensated(by=attempt.step)
        return tuple(PendingEvent(by, row.step, row.attempt, row) for row in attempt.undoes.of_run)
    assert undo is not None
    assert attempt.row is not None
    arguments = undo.parameters.bind(attempt.call.arguments, value)
    return (session.undos.register(session.storage, attempt.row, undo.spec, arguments),)


def raised(session: Session, attempt: Attempt, error: BaseException) -> AttemptResult:
    """Return what is to be recorded of an attempt that raised."""
    delay_s = None if session.phase >= RunPhase.FINISHING else _delay_if_told(session, attempt, error)
    fallback = vars(error).pop("fallback", None)  # the record of a failure does not need it
    if delay_s is None and fallback is not None:
        return returned(session, attempt, fallback)
    timed_out = _has_timed_out(attempt, error)
    error, retry_at = failure_of(error, f"step {attempt.spec.name}"), None
    stored = session.storage.store_failure(error)
    if isinstance(error, Exception):  # a handler gets the same error as in a replay
        error = recorded_error(
            stored, session.access.signer, where=f"{attempt.step} of run {session.run_id}", raised=error
        )
    if delay_s is not None:
        retry_at = session.access.clock.now() + round(delay_s * 1e6)
    duration_s = session.access.clock.monotonic() - attempt.started_s
    failed = StepFailed(error=stored.value_id, duration_s=duration_s, timed_out=timed_out)
    cached = None if retry_at is not None else attempt.claim
    return AttemptResult(
        failed, attempt.step, attempt.number, attempt.row, (stored,), cached,
        performed=attempt, error=mark(error, session.run_id, attempt.step), retry_at=retry_at,
    )  # fmt: skip


def _has_timed_out(attempt: Attempt, error: BaseException) -> bool:
    """Return True if the error is about the time of the attempt, or of the child run that it is, and of no other."""
    if attempt.child_run_id is not None:
        return isinstance(error, RunTimeout) and error.run_id == attempt.child_run_id
    return isinstance(error, StepTimeout) and error.step in {None, attempt.step}


def _delay_if_told(session: Session, attempt: Attempt, error: BaseException) -> float | None:
    try:
        return _delay_s(session, attempt, error)
    except Exception as trouble:  # noqa: BLE001 -- of the user's function, or of what the error says of itself
        what = f"{type(trouble).__name__}: {trouble}"
        annotate(error, f"{attempt.step} is not tried again, for the question whether to raised {what}")
        return None


def _delay_s(session: Session, attempt: Attempt, error: BaseException) -> float | None:
    """Return after how many seconds the step is tried again; None if it is not.

    An error may say itself that another try would come to the same, and how long its other side is to be left alone.
    """
    retry, n_failed = attempt.spec.retry, attempt.n_failed + 1
    is_retryable = getattr(error, "is_retryable", not isinstance(error, IronflowError))
    if n_failed >= retry.attempts or not is_retryable or not retry.is_excused(error):
        return None
    chance = session.access.entropy(1)[0] / 255 if retry.jitter else 0.0
    asked_s = getattr(error, "retry_after_s", None) or 0.0
    delay_s = max(retry.delay_after(n_failed, chance), min(asked_s, MAX_DELAY_S))
    if attempt.ends_s is not None and session.access.clock.monotonic() + delay_s >= attempt.ends_s:
        annotate(error, f"{attempt.step} is not tried again: its deadline_s is over before the next attempt begins")
        return None
    return delay_s
