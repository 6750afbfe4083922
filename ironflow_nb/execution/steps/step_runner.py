"""Performing steps. A call, its attempts and their retries are one coroutine, whatever drives it; see `drivers`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from ironflow_nb.core.identity import RunId, StepRef
from ironflow_nb.errors import RunInterrupted, WrongColour
from ironflow_nb.execution.definitions.parameters import unwrapped
from ironflow_nb.execution.definitions.step_spec import StepSpec
from ironflow_nb.execution.runs.child_runs import child_to_continue
from ironflow_nb.execution.session.attempts import Attempt, AttemptResult, Promise, RecordedAnswer, Take
from ironflow_nb.execution.session.session import Session
from ironflow_nb.execution.session.stop_request import RunStopped, StopRequest
from ironflow_nb.execution.steps.attempt_results import raised, returned
from ironflow_nb.execution.steps.context import SCOPE, RunContext, leave
from ironflow_nb.execution.steps.drivers import IN_THREAD, ON_LOOP, Driver, run_to_end
from ironflow_nb.execution.steps.result_cache import POLL_S, look
from ironflow_nb.execution.system.interrupts import INTERRUPTS, call_body
from ironflow_nb.journal.ports import CachedResult

Parent = tuple[RunId, StepRef]

RunChild = Callable[[RunId, Parent], Any]
"""Runs a flow as a child, in place of a body: given its id and the step of the parent that it is."""


def call(
    spec: StepSpec, scope: RunContext, args: tuple[Any, ...], kwargs: Mapping[str, Any], child: RunChild | None = None
) -> Any:
    """Return the result of a ``def`` step, or of a ``def`` child, called directly in a flow."""
    __tracebackhide__ = True
    session = scope.open_session()
    asked = session.ask(spec, scope.branch, args, kwargs, stretch=scope.stretch)
    if isinstance(asked, RecordedAnswer):
        return _deliver(asked)
    return run_to_end(_resolved(IN_THREAD, session, spec, asked, child))


def call_async(
    spec: StepSpec, scope: RunContext, args: tuple[Any, ...], kwargs: Mapping[str, Any], child: RunChild | None = None
) -> Coroutine[Any, Any, Any]:
    """Return the coroutine of an ``async def`` step or child, called in an async flow.

    The call is numbered now, in the order of the program, and not when some task gets to it.

    Raises:
        WrongColour: it is a ``def`` flow, even if a loop runs in this thread, as in every notebook.
    """
    if not scope.session.is_on_loop():
        here = "make the flow async def"
        instead = here if child is not None else f"call {spec.name}.submit(...).result(), or {here}"
        raise WrongColour(
            f"{spec.name} is async and was called in a def flow, where nothing can await it; {instead}", name=spec.name
        )
    session = scope.open_session()
    asked = session.ask(spec, scope.branch, args, kwargs, stretch=scope.stretch)
    if type(asked) is Attempt:
        session.calls.add(asked)
    return _awaited(spec, session, asked, child)


def is_call(coroutine: object) -> bool:
    """Return True if the coroutine is a call of a step, which was numbered in its caller's branch."""
    return getattr(coroutine, "cr_code", None) is _awaited.__code__


async def _awaited(
    spec: StepSpec, session: Session, asked: RecordedAnswer | Promise | Attempt, child: RunChild | None
) -> Any:
    if isinstance(asked, RecordedAnswer):
        return _deliver(asked)
    stretch = session.recall
    session.n_awaited += 1  # on the loop's thread only
    try:
        return await _resolved(ON_LOOP, session, spec, asked, child)
    finally:
        if session.recall is stretch:
            session.n_awaited -= 1
            session.wakeups.wake()  # the end of the flow may wait for it


def _deliver(answer: RecordedAnswer) -> Any:
    __tracebackhide__ = True
    INTERRUPTS.check()
    if answer.error is not None:
        raise answer.error
    return answer.value


async def _resolved(
    driver: Driver, session: Session, spec: StepSpec, asked: Promise | Attempt, child: RunChild | None
) -> Any:
    """Return the result of a call that nothing recorded answers."""
    __tracebackhide__ = True
    if isinstance(asked, Promise):  # it is in flight: an interrupted call of before, or a twin that was submitted
        stretch = session.recall
        await driver.settled(session, asked)
        if asked.undone is None:
            return asked.result()
        session.refuse_if_outlived(stretch)
        asked = asked.undone.continued(spec, stretch)
    settled = await attempt(driver, session, asked, child)
    while settled.retry_at is not None:
        settled = await attempt(driver, session, session.record_retry(settled), child)
    if driver.is_async and (session.calls or session.n_in_flight > 1):
        session.hand_in(settled)  # others are about to end as well: share one commit
        outcome = settled.job.outcome
        await driver.settled(session, outcome)
        if outcome.error is not None:
            session.observe(settled.job)
        return outcome.result()
    try:
        return session.record(settled)
    finally:
        INTERRUPTS.check()


async def attempt(driver: Driver, session: Session, job: Attempt, child: RunChild | None = None) -> AttemptResult:
    """Perform one attempt; what is no Exception, as a keyboard interrupt, passes through unrecorded."""
    __tracebackhide__ = True
    session.calls.discard(job)
    stretch = session.recall
    try:
        while job.failed is not None and (left_s := session.delayed.seconds_until(job)) > 0:
            await driver.pause(session, left_s)
        if job.spec.cache_s is not None:
            while isinstance(found := look(session, job), CachedResult):
                await driver.pause(session, POLL_S)
            if found is not None:
                return found
        if child is not None:
            job.child_run_id = child_to_continue(session, job) or session.ledger.new_run_id()
        session.start(job, is_beside=driver.is_beside(session, job))
        # The body is called in this very coroutine, for another one would change its StopIteration.
        token = None if child is not None else SCOPE.set(RunContext(session, job.branch, job.step))
        try:
            if child is None:
                value = call_body(job.spec.function, *unwrapped(job.call.args, job.call.kwargs))
            else:
                value = call_body(child, (job.child_run_id, (session.run_id, job.step)), {})
            if driver.is_async:
                value = await value
        except Exception as error:  # noqa: BLE001 -- whatever a body raises is its outcome, unless the run stops
            _raise_stop(driver, session, job, error, stretch)
            return raised(session, job, error)
        finally:
            if token is not None:
                leave(token)
        return returned(session, job, value)
    except BaseException as error:
        session.drop(job, error)
        raise


def _raise_stop(driver: Driver, session: Session, job: Attempt, error: Exception, stretch: object) -> None:
    """Raise that the run stops, where the error only came of that.

    A child stops with its parent, which may be in a later continuation by the time that the child has stopped.

    Raises:
        Stopped: that is so.
    """
    is_child = job.child_run_id is not None
    if session.stopped is not None and (driver.is_async or is_child):
        session.unwind(error)
    if is_child and isinstance(error, RunInterrupted) and session.recall is not stretch:
        raise RunStopped(StopRequest.INTERRUPT, None) from error


async def perform_attempts(driver: Driver, session: Session, take: Take) -> None:
    """Perform attempts beside the flow, as long as there are any."""
    settled: AttemptResult | None = None
    while (job := take(settled)) is not None:
        try:
            settled = await driver.run_in(job.context, _attempt_beside(driver, session, job))
            if settled is not None:
                session.hand_in(settled)
        except BaseException as error:
            settled = None
            session.drop(job, error)
            if driver.is_async and not isinstance(error, Exception | RunStopped):
                raise


async def _attempt_beside(driver: Driver, session: Session, job: Attempt) -> AttemptResult | None:
    """Perform the attempt; None if another run computes its result: then it is begun again later, and waits nowhere."""
    if job.spec.cache_s is not None and isinstance(look(session, job), CachedResult):
        session.delayed.look_again(job, POLL_S)
        return None
    return await attempt(driver, session, job)
