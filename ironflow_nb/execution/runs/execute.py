"""Running a flow: in the calling thread, on a thread of its own, or on the engine's loop."""

from __future__ import annotations

import contextvars
import inspect
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final, NoReturn

from ironflow_nb.core.event_codec import decode_as
from ironflow_nb.core.events import RunStarted
from ironflow_nb.core.identity import RunId
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.execution.definitions.run_request import FlowCall, RunRequest
from ironflow_nb.execution.engine import CURRENT, Engine
from ironflow_nb.execution.runs import compensation
from ironflow_nb.execution.runs import finish as run_finish
from ironflow_nb.execution.runs.start import begin
from ironflow_nb.execution.session.attempts import failure_of
from ironflow_nb.execution.session.run_phase import RunPhase, RunStopped, StopRequest
from ironflow_nb.execution.session.session import Session
from ironflow_nb.execution.session.wait_state import is_left_by_thread, is_left_waiting
from ironflow_nb.execution.steps.context import SCOPE, RunContext
from ironflow_nb.execution.steps.drivers import IN_THREAD, ON_LOOP, Driver, run_to_end
from ironflow_nb.execution.steps.gates import admitted, start_when_admitted
from ironflow_nb.execution.system.frontend import frontend, heard_by_cell
from ironflow_nb.execution.system.interrupts import call_body
from ironflow_nb.journal.ports import Select
from ironflow_nb.telemetry.spans import run_span

LAST_WORDS_S: Final = 1.0
"""How long an await that is cancelled waits for the end of its run; a body that blocks the loop may take longer."""


def run_here(engine: Engine, request: RunRequest, body: FlowCall) -> Any | RunRow:
    """Run a ``def`` flow in this thread and return its value, or the run that the call attaches to."""
    __tracebackhide__ = True
    with engine.interrupts.taken():
        begun = begin(engine, request)
        if isinstance(begun, RunRow):
            _show_in_cell(engine, request, begun.run_id)
            return begun
        with _announced(engine, request, begun):
            return run_session(engine, begun, body)


def _show_in_cell(engine: Engine, request: RunRequest, run_id: RunId) -> None:
    """Show the run in the cell that called it, whether it runs here, runs elsewhere or is only recorded."""
    notebook = frontend()
    if notebook is not None and request.parent is None:
        notebook.began(engine, run_id)


@contextmanager
def _announced(engine: Engine, request: RunRequest, session: Session) -> Iterator[None]:
    """Show the run in its cell, or let its parent know of it, so that they stop together."""
    if request.parent is None:
        _show_in_cell(engine, request, session.run_id)
        yield
        return
    with engine.sessions[request.parent[0]].with_child_run(session):
        yield


def run_session(engine: Engine, session: Session, body: FlowCall) -> Any:
    """Run a ``def`` flow in this thread, from the first call to the last commit."""
    __tracebackhide__ = True
    with run_span(session.run_id, session.name, partial(_begun_in, session)):
        return run_to_end(_executed(IN_THREAD, engine, session, body))


def _begun_in(session: Session) -> str | None:
    """Return the span in which the run was begun, if that is recorded."""
    with session.access.current() as reader:
        found = reader.events(Select(run_ids=[session.run_id], name=RunStarted.__name__, limit=1))
    return decode_as(RunStarted, found[0].data).trace if found else None


async def _executed(driver: Driver, engine: Engine, session: Session, body: FlowCall) -> Any:
    """Run a flow from the first call to the last commit."""
    __tracebackhide__ = True
    driver.enter(session)
    if session.compensation is not None:
        await _go_on_undoing(driver, engine, session)
    token = SCOPE.set(RunContext(session, continuation=session.replayer))
    # Its child runs belong to the same journal, also if the caller has entered another engine: a handle may resume it.
    current = CURRENT.set(engine)
    try:
        try:
            if session.admission is not None:
                session.raise_if_stop_requested()
                await admitted(driver, session)
            value = call_body(body.function, body.args, body.kwargs)
            if driver.is_async:
                value = await value
            value = await driver.listed(value)
            await _wait_for_the_rest(driver, session)
        finally:
            with suppress(ValueError):  # see `perform_attempt`
                SCOPE.reset(token)
                CURRENT.reset(current)
        run_finish.warn_forgotten(session)
        run_finish.raise_unobserved(session)
        return run_finish.complete(engine, session, value)
    except BaseException as raised:
        error = failure_of(raised, f"flow {session.name}")
        if not driver.is_end(session, error):
            if not _is_left_waiting(driver, session, error):
                run_finish.interrupt(engine, session, error, type(error).__name__)
                raise
            run_finish.note_interrupt(session, error)
        if not session.is_interrupted:
            await _wait_for_bodies(driver, engine, session)
        ended = session.stop_request or error  # asked now: compensation is a continuation of its own
        undone = await _undone(driver, engine, session, ended)
        if isinstance(ended, RunStopped):
            stopped = run_finish.stop(engine, session, ended, undone)
            if error is raised and not driver.is_end(session, error):
                raise
            raise stopped from (error if isinstance(error, Exception) else None)  # which came in the way of the stop
        run_finish.fail(engine, session, error, undone)
        if error is not raised:
            raise error from raised
        raise
    finally:
        engine.close_session(session)
        if session.lanes:
            engine.lanes.look()  # other asks may wait for the places of the run


async def _undone(driver: Driver, engine: Engine, session: Session, ended: BaseException) -> str:
    """Undo what the run did, if it has failed for good; return in words what was undone, or an empty text."""
    if not compensation.is_final(session, ended):
        return ""
    failure = run_finish.timeout_of(session, ended) if isinstance(ended, RunStopped) else ended
    try:
        session.commit_queued()
        if session.compensation is None and not compensation.begin_compensation(engine, session, failure):
            return ""
        return await driver.sheltered(compensation.undo_all(driver, engine, session))
    except RunStopped as stopped:
        raise run_finish.stop(engine, session, stopped) from ended
    except BaseException as trouble:
        run_finish.interrupt(engine, session, trouble, type(trouble).__name__)
        raise


async def _go_on_undoing(driver: Driver, engine: Engine, session: Session) -> NoReturn:
    """Undo what is left to be undone after an owner ended meanwhile, and end the run as that one would have."""
    try:
        ended = compensation.failure_to_end_with(engine, session)
        undone = await _undone(driver, engine, session, ended)
        if isinstance(ended, RunStopped):
            raise run_finish.stop(engine, session, ended, undone)
        run_finish.fail(engine, session, ended, undone)
        raise ended
    finally:
        engine.close_session(session)


def _is_left_waiting(driver: Driver, session: Session, error: BaseException) -> bool:
    """Return True if a person interrupts a run that waits for a signal or an answer: it waits on, and is parked."""
    return not driver.is_async and isinstance(error, KeyboardInterrupt) and is_left_by_thread(session)


async def _wait_for_the_rest(driver: Driver, session: Session) -> None:
    """Wait until nothing runs beside the flow any more; the flow itself has returned.

    What its tasks call within the first moment is awaited as well. Then a line says for what the run waits, and a task
    that calls another step is cancelled: one that does so for ever would keep the run from ending.
    """
    is_unwinding = session.phase is RunPhase.UNWINDING
    if not driver.is_async and session.is_interrupted and not (is_unwinding or session.has_more()):
        return  # nothing is left to stop
    with session.beside.at_rest(session.task):  # the run may wait as a whole, for what its tasks or branches wait for
        if not await driver.wait(session, lambda: not session.has_more(), run_finish.SAY_AFTER_S):
            session.cancel_tasks()
            run_finish.say_returned(session)
            await driver.wait(session, lambda: not session.has_more())
    if driver.is_async:
        session.raise_if_stop_requested()  # its tasks were cancelled, whatever it made of that


async def _wait_for_bodies(driver: Driver, engine: Engine, session: Session) -> None:
    """Wait for bodies in flight to end before the last event is recorded; an interrupt ends the waiting."""
    session.finish()
    session.cancel_tasks()
    session.wakeups.wake()  # branches that wait for a signal are left behind
    try:
        if not await driver.wait(session, lambda: not session.in_flight(), run_finish.SAY_AFTER_S):
            run_finish.say_waiting(session)
            await driver.wait(session, lambda: not session.in_flight())
    except BaseException as interruption:
        run_finish.interrupt(engine, session, interruption, type(interruption).__name__)
        raise


def run_in_background(engine: Engine, session: Session, body: FlowCall) -> None:
    """Run a flow of either colour beside the caller; its ending is on the session. It may be parked while it waits."""
    session.waits.is_parkable = True
    start = partial(_started, engine, session, body, contextvars.copy_context())
    with _handed_over(engine, session):
        if session.admission is None:
            start()
        else:
            start_when_admitted(session, session.admission, start)


def _started(engine: Engine, session: Session, body: FlowCall, context: contextvars.Context) -> None:
    engine.note_at_work(session)
    if is_async(body):
        with _handed_over(engine, session):
            context.run(engine.spawn, run_on_loop(engine, session, body))
        return

    def run() -> None:
        with suppress(BaseException):  # recorded, and raised again where the result is read
            context.run(run_session, engine, session, body)

    with _handed_over(engine, session):
        engine.threads.spawn(f"ironflow-run-{session.run_id}", run)


@contextmanager
def _handed_over(engine: Engine, session: Session) -> Iterator[None]:
    """Interrupt the run if no thread can be started for it; otherwise it would seem to go on."""
    try:
        yield
    except BaseException as error:
        run_finish.interrupt(engine, session, error, type(error).__name__)
        raise


def is_async(body: FlowCall) -> bool:
    """Return True if the flow is an ``async def``."""
    return inspect.iscoroutinefunction(body.function)


async def await_here(engine: Engine, request: RunRequest, body: FlowCall) -> Any | RunRow:
    """Run an ``async def`` flow on the engine's loop and await it here; a cancelled await interrupts the run."""
    import asyncio

    sessions: list[Session] = []
    with engine.hearing_interrupts(partial(_interrupt_soon, sessions)):
        with engine.interrupts.taken():
            begun = begin(engine, request)
            if isinstance(begun, RunRow):
                _show_in_cell(engine, request, begun.run_id)
                return begun
            sessions.append(begun)  # from here on an interrupt concerns it
            with _handed_over(engine, begun), heard_by_cell():
                ended = asyncio.wrap_future(engine.spawn(run_on_loop(engine, begun, body)))
        ended.add_done_callback(lambda done: done.cancelled() or done.exception())  # told by the run, if not here
        with _announced(engine, request, begun):
            try:
                await asyncio.wait([ended])
            except asyncio.CancelledError as error:
                await _interrupted(engine, begun, ended, error)
                raise
        return ended.result()


def _interrupt_soon(sessions: list[Session], error: BaseException) -> None:
    """Ask the background thread to interrupt the runs; called by a signal handler, which can't wait for a lock."""
    for session in sessions:
        session.note_interrupt(type(error).__name__)
        with suppress(Exception):  # what it counts may change meanwhile
            run_finish.note_interrupt(session, error)


async def _interrupted(engine: Engine, session: Session, ended: Any, error: BaseException) -> None:
    """Interrupt the run, wait a moment for its end, and note on the error what is kept."""
    import asyncio

    with engine.interrupts.taken():
        if not is_left_waiting(session):
            session.stop(StopRequest.INTERRUPT, session.interrupted_by or type(error).__name__)
    await asyncio.wait([ended], timeout=LAST_WORDS_S)
    if ended.done() and ended.exception() is None:
        return  # it was faster, and is completed
    run_finish.note_interrupt(session, error)


async def await_child(engine: Engine, request: RunRequest, body: FlowCall) -> Any | RunRow:
    """Run an ``async def`` child in the task of its parent, which so waits for it even when both are to stop."""
    import asyncio

    earlier = None if request.run_id is None else engine.sessions.get(request.run_id)
    if earlier is not None and earlier.is_being_interrupted:  # its end needs this loop, which `begin` blocks
        await ON_LOOP.resolved(earlier, earlier.completion)
    begun = begin(engine, request)
    if isinstance(begun, RunRow):
        return begun
    assert request.parent is not None
    parent = engine.sessions[request.parent[0]].beside
    with _announced(engine, request, begun), parent.at_rest(asyncio.current_task()):
        return await run_on_loop(engine, begun, body)


async def run_on_loop(engine: Engine, session: Session, body: FlowCall) -> Any:
    """Run an ``async def`` flow in this task of the engine's loop, from the first call to the last commit."""
    with run_span(session.run_id, session.name, partial(_begun_in, session)):
        return await _executed(ON_LOOP, engine, session, body)
