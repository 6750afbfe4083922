"""Performing waits: recorded steps that have no body, and end at an instant or by signals to the run."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final

from ironflow_nb.core.wait_rules import Wanted, waited_words
from ironflow_nb.execution.definitions.step_spec import StepSpec
from ironflow_nb.execution.session.attempts import Attempt, RecordedAnswer
from ironflow_nb.execution.session.open_waits import OpenWait
from ironflow_nb.execution.session.run_phase import RunStopped, StopRequest
from ironflow_nb.execution.session.session import Session
from ironflow_nb.execution.session.wait_state import begin_wait, cancel_wait, is_left_by_thread, root_of, settle_waits
from ironflow_nb.execution.steps.context import RunContext
from ironflow_nb.execution.steps.drivers import IN_THREAD, ON_LOOP, Driver, run_to_end
from ironflow_nb.execution.steps.gates import admitted
from ironflow_nb.execution.steps.step_runner import deliver
from ironflow_nb.execution.system.frontend import say
from ironflow_nb.execution.system.system import LOOK_S

SAY_AFTER_S: Final = 1.0

MakeWanted = Callable[[], Wanted]
"""Says what a wait is for, when it begins: its instant counts from then."""


def pause(context: RunContext, spec: StepSpec, arguments: Mapping[str, Any], make: MakeWanted) -> Any:
    """Wait in the calling thread of a ``def`` flow, and return what ended the wait, or is recorded of it."""
    __tracebackhide__ = True
    asked = context.resolve(spec, (), arguments)
    if isinstance(asked, RecordedAnswer):
        return deliver(asked)
    assert isinstance(asked, Attempt)
    return run_to_end(_waited(IN_THREAD, context.session, asked, make()))


def pause_async(
    context: RunContext, spec: StepSpec, arguments: Mapping[str, Any], make: MakeWanted
) -> Coroutine[Any, Any, Any]:
    """Return the coroutine of a wait in an async flow; the call is numbered now."""
    context.raise_if_left_behind()
    return _awaited(context.session, context.resolve(spec, (), arguments), make)


def is_wait(coroutine: object) -> bool:
    """Return True if the coroutine is a wait, which was numbered in its caller's branch."""
    return getattr(coroutine, "cr_code", None) is _awaited.__code__


async def _awaited(session: Session, asked: object, make: MakeWanted) -> Any:
    from asyncio import current_task

    if isinstance(asked, RecordedAnswer):
        return deliver(asked)
    assert isinstance(asked, Attempt)
    beside = session.beside  # that of this continuation, whatever comes
    beside.begin_await()
    try:
        with beside.at_rest(current_task()):
            return await _waited(ON_LOOP, session, asked, make())
    finally:
        beside.end_await()


async def _waited(driver: Driver, session: Session, attempt: Attempt, wanted: Wanted) -> Any:
    __tracebackhide__ = True
    wait = _begun(session, attempt, wanted)
    try:
        await _ended(driver, session, wait)
        await admitted(driver, session)  # before it is known to go on: else its place could be taken away at once
    except BaseException as error:
        if type(error).__name__ == "CancelledError" and session.stop_request is None and session.is_open:
            cancel_wait(session, wait)
        raise
    finally:
        wait.thread = None
        session.waits.untaken.discard(wait)
    if wait.promise.error is not None and wait.row.lived_with:
        session.observe(wait.attempt)
    return wait.promise.result()


def _begun(session: Session, attempt: Attempt, wanted: Wanted) -> OpenWait:
    if wanted.question is None:
        session.storage.refuse_secrets("the name of a signal", wanted.signals)
    inputs = session.storage.store_inputs(attempt.call.arguments)
    wait = begin_wait(session, attempt, wanted, inputs)
    settle_waits(session)  # a signal that was sent before ends it now
    return wait


async def _ended(driver: Driver, session: Session, wait: OpenWait) -> None:
    is_said = root_of(session).waits.is_parkable  # else somebody waits for it here
    is_for_later = not driver.is_async and wait.wanted.signals != () and _is_left_for_later(session, wait)
    is_left = partial(session.is_left, wait.attempt.continuation)
    while not wait.promise.is_done:
        if is_left():
            session.writer.raise_fatal_error()
            raise RunStopped(StopRequest.INTERRUPT, None)
        left_s = wait.left_s
        if is_for_later:
            left_s = LOOK_S
            is_for_later = not is_left_by_thread(session)  # it can't be left before all of it waits
        elif not is_said and (left_s is None or left_s > SAY_AFTER_S):
            left_s = SAY_AFTER_S
        await driver.resolved_within(session, wait.promise, left_s, is_left)
        if not is_said and not wait.promise.is_done:
            is_said = True
            say(_waiting_line(session, wait))
        settle_waits(session)


def _is_left_for_later(session: Session, wait: OpenWait) -> bool:
    from ironflow_nb.execution.steps.prompts import is_left_for_later

    return is_left_for_later(session, wait)


def _waiting_line(session: Session, wait: OpenWait) -> str:
    line = f"run {session.run_id}: waiting for {waited_words(wait.wanted, wait.row.due_at)}"
    if wait.wanted.question is None:
        return line
    return f"{line}; answer with {wait.wanted.question.expression(session.run_id, wait.row.step)}"
