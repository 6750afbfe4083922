"""Performing steps; the only module that knows ``def`` from ``async def``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any

from ironflow_nb.errors import IronflowError, WrongColour
from ironflow_nb.execution.definitions.parameters import unwrapped
from ironflow_nb.execution.definitions.step_spec import StepSpec
from ironflow_nb.execution.session.attempts import Attempt, AttemptResult, Promise, RecordedAnswer, Take
from ironflow_nb.execution.session.session import Session
from ironflow_nb.execution.session.stop_request import RunStopped
from ironflow_nb.execution.steps.attempt_results import raised, returned
from ironflow_nb.execution.steps.context import SCOPE, RunContext, leave
from ironflow_nb.execution.steps.result_cache import POLL_S, look, shared, shared_async
from ironflow_nb.execution.system.interrupts import INTERRUPTS, call_body
from ironflow_nb.execution.system.threads import LoopWakeup

PerformAttempt = Callable[[Session, Attempt], AttemptResult]
"""Performs one attempt in the calling thread."""
AsyncAttempt = Callable[[Session, Attempt], Coroutine[Any, Any, AttemptResult]]
"""Performs one attempt in the calling task."""

# -- in the caller's thread --------------------------------------------------------------------------------------


def call(
    spec: StepSpec,
    scope: RunContext,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    attempt: PerformAttempt | None = None,
) -> Any:
    """Return the result of a ``def`` step, or of what `attempt` performs, called directly in a flow."""
    __tracebackhide__ = True
    session = scope.open_session()
    asked = session.ask(spec, scope.branch, args, kwargs, stretch=scope.stretch)
    if type(asked) is RecordedAnswer:
        return _deliver(asked)
    if type(asked) is Promise:  # it is in flight: an interrupted call of before, or a twin that was submitted
        outcome = asked
        session.wait(lambda: outcome.is_done)
        if asked.undone is None:
            return result_of(asked)
        asked = asked.undone.continued(spec, scope.open_session().recall)
    assert isinstance(asked, Attempt)
    attempt = attempt or _attempt_here
    settled = attempt(session, asked)
    while settled.retry_at is not None:
        settled = attempt(session, session.record_retry(settled))
    try:
        return session.record(settled)
    finally:
        INTERRUPTS.check()


def _attempt_here(session: Session, job: Attempt) -> AttemptResult:
    __tracebackhide__ = True
    try:
        if job.failed is not None:
            session.wait_until_due(job)
        if job.spec.cache_s is not None and (settled := shared(session, job)) is not None:
            return settled
        session.start(job, is_beside=session.is_beside())
        return _perform_here(session, job)
    except BaseException as error:
        session.drop(job, error)
        raise


def _perform_here(session: Session, job: Attempt) -> AttemptResult:
    """Run the body in this thread; what is no Exception, as a keyboard interrupt, passes through unrecorded."""
    __tracebackhide__ = True
    token = SCOPE.set(RunContext(session, job.branch, job.step))
    try:
        args, kwargs = unwrapped(job.call.args, job.call.kwargs)
        value = call_body(job.spec.function, args, kwargs)
    except Exception as error:  # noqa: BLE001 -- whatever a body raises is its outcome
        return raised(session, job, error)
    finally:
        SCOPE.reset(token)
    return returned(session, job, value)


def _deliver(answer: RecordedAnswer) -> Any:
    __tracebackhide__ = True
    INTERRUPTS.check()
    if answer.error is not None:
        raise answer.error
    return answer.value


def result_of(outcome: Promise) -> Any:
    """Return the value of an outcome that is done, or raise its error."""
    __tracebackhide__ = True
    outcome.is_observed = True
    if outcome.error is not None:
        raise outcome.error
    return outcome.value


# -- on a thread of the pool -------------------------------------------------------------------------------------


def work(session: Session, take: Take) -> None:
    """Perform ``def`` jobs in this thread, as long as there are any."""
    settled: AttemptResult | None = None
    while (job := take(settled)) is not None:
        try:
            settled = _worked(session, job) if job.context is None else job.context.run(_worked, session, job)
            if settled is not None:
                session.hand_in(settled)
        except BaseException as error:  # noqa: BLE001 -- nobody else sees it: the body exits, or its run is over
            settled = None
            session.drop(job, error)


def _worked(session: Session, job: Attempt) -> AttemptResult | None:
    """Perform the job; None if somebody computes its result already: then it waits without a thread."""
    if job.spec.cache_s is not None and (found := look(session, job)) is not None:
        if isinstance(found, AttemptResult):
            return found
        session.delayed.look_again(job, POLL_S)
        return None
    session.start(job, is_beside=True)
    return _perform_here(session, job)


# -- in a coroutine ----------------------------------------------------------------------------------------------


def call_async(
    spec: StepSpec,
    scope: RunContext,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    attempt: AsyncAttempt | None = None,
) -> Coroutine[Any, Any, Any]:
    """Return the coroutine of an ``async def`` step, or of what `attempt` performs, called in an async flow.

    The call is numbered now, in the order of the program, and not when some task gets to it.

    Raises:
        WrongColour: it is a ``def`` flow, even if a loop runs in this thread, as in every notebook.
    """
    if not scope.session.is_on_loop():
        here = "make the flow async def"
        instead = here if attempt is not None else f"call {spec.name}.submit(...).result(), or {here}"
        raise WrongColour(
            f"{spec.name} is async and was called in a def flow, where nothing can await it; {instead}", name=spec.name
        )
    session = scope.open_session()
    asked = session.ask(spec, scope.branch, args, kwargs, stretch=scope.stretch)
    if type(asked) is Attempt:
        session.calls.add(asked)
    return _awaited(spec, session, asked, attempt or _perform_async)


async def _awaited(
    spec: StepSpec, session: Session, asked: RecordedAnswer | Promise | Attempt, attempt: AsyncAttempt
) -> Any:
    if type(asked) is RecordedAnswer:
        return _deliver(asked)
    stretch = session.recall
    session.n_awaited += 1  # on the loop's thread only
    try:
        if type(asked) is Promise:
            await outcome_of(session, asked)
            if asked.undone is None or session.recall is not stretch:
                return result_of(asked)
            asked = asked.undone.continued(spec, stretch)
        assert isinstance(asked, Attempt)
        return await _performed(session, asked, attempt)
    finally:
        if session.recall is stretch:
            session.n_awaited -= 1
            session.wakeups.wake()  # the end of the flow may wait for it


async def _performed(session: Session, asked: Attempt, attempt: AsyncAttempt) -> Any:
    settled = await attempt(session, asked)
    while settled.retry_at is not None:
        settled = await attempt(session, session.record_retry(settled))
    if not session.calls and session.n_in_flight <= 1:
        return session.record(settled)
    session.hand_in(settled)  # others are about to end as well: share one commit
    await outcome_of(session, asked.outcome)
    if asked.outcome.error is not None:
        session.observe(asked)
    return result_of(asked.outcome)


def is_call(coroutine: object) -> bool:
    """Tell whether the coroutine is a call of a step, which was numbered in its caller's branch."""
    return getattr(coroutine, "cr_code", None) is _awaited.__code__


async def work_async(session: Session, take: Take) -> None:
    """Perform ``async def`` jobs in this task, as long as there are any."""
    settled: AttemptResult | None = None
    while (job := take(settled)) is not None:
        try:
            settled = await _in_its_context(_perform_async(session, job), job)
        except (IronflowError, RunStopped):  # the run ended meanwhile
            settled = None
        else:
            session.hand_in(settled)


def _in_its_context(performing: Coroutine[Any, Any, AttemptResult], job: Attempt) -> Awaitable[AttemptResult]:
    """Return what performs the job in the context of its call: of a task, only another task has another one."""
    import asyncio

    return performing if job.context is None else asyncio.Task(performing, context=job.context)


async def _perform_async(session: Session, job: Attempt) -> AttemptResult:
    """Perform one attempt in this task, and return what it came to; a cancelled one comes to nothing."""
    session.calls.discard(job)
    try:
        if job.failed is not None and job.begin_again is None:
            await _until_due(session, job)
        if job.spec.cache_s is not None and (settled := await shared_async(session, job)) is not None:
            return settled
        session.start(job, is_beside=True)
        return await _body_awaited(session, job)
    except BaseException as error:
        session.drop(job, error)
        raise


async def _body_awaited(session: Session, job: Attempt) -> AttemptResult:
    token = SCOPE.set(RunContext(session, job.branch, job.step))
    try:
        args, kwargs = unwrapped(job.call.args, job.call.kwargs)
        value = await job.spec.function(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 -- the outcome of the body, unless it raises because it is cancelled
        if session.stopped is not None:
            session.unwind(error)
        return raised(session, job, error)
    finally:
        leave(token)
    return returned(session, job, value)


async def _until_due(session: Session, job: Attempt) -> None:
    wakeup = LoopWakeup()  # which nobody sets
    while (left_s := session.delayed.seconds_until(job)) > 0:
        await session.ledger.clock.wait_on_loop(wakeup, left_s, is_idle=session.is_idle())


async def outcome_of(session: Session, outcome: Promise) -> None:
    """Wait in a coroutine until the outcome is there."""
    import asyncio

    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def settle() -> None:
        if not done.done():
            done.set_result(None)

    def call_back() -> None:
        if asyncio._get_running_loop() is loop:  # noqa: SLF001 -- public in all but its name, and 100 times cheaper
            settle()
        else:
            with suppress(RuntimeError):  # the loop of a cell that was interrupted is closed: nobody waits any more
                loop.call_soon_threadsafe(settle)

    with session.lock:
        outcome.when_done(call_back)
    await done
