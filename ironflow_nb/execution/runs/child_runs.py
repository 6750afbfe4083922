"""Flows called in a flow: runs of their own, each the attempt of a step of its parent."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from ironflow_nb.core.identity import RunId, StepRef
from ironflow_nb.core.status import RunStatus
from ironflow_nb.errors import RunInterrupted
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.session.attempts import Attempt, AttemptResult
from ironflow_nb.execution.session.session import Session
from ironflow_nb.execution.session.stop_request import RunStopped, StopRequest
from ironflow_nb.execution.steps.attempt_results import raised, returned
from ironflow_nb.execution.steps.step_runner import AsyncAttempt, PerformAttempt
from ironflow_nb.journal.ports import Select

Parent = tuple[RunId, StepRef]


def attempt_child(engine: Engine, run: Callable[[RunId, Parent], Any]) -> PerformAttempt:
    """Return what performs a ``def`` child with `run`, which is given its id and its parent."""

    def attempt(session: Session, job: Attempt) -> AttemptResult:
        __tracebackhide__ = True
        stretch = session.recall
        child = _begin(engine, session, job, is_beside=session.is_beside())
        try:
            value = run(child, (session.run_id, job.step))
        except Exception as error:  # noqa: BLE001 -- whatever a child raises is its outcome
            return _failed(session, job, error, stretch)
        except BaseException as error:
            _leave_undone(session, job, error)
            raise
        return returned(session, job, value)

    return attempt


def attempt_async_child(engine: Engine, run: Callable[[RunId, Parent], Coroutine[Any, Any, Any]]) -> AsyncAttempt:
    """Return what performs an ``async def`` child with `run`, which is given its id and its parent."""

    async def attempt(session: Session, job: Attempt) -> AttemptResult:
        session.calls.discard(job)
        stretch = session.recall
        child = _begin(engine, session, job, is_beside=True)
        try:
            value = await run(child, (session.run_id, job.step))
        except Exception as error:  # noqa: BLE001
            return _failed(session, job, error, stretch)
        except BaseException as error:
            _leave_undone(session, job, error)
            raise
        return returned(session, job, value)

    return attempt


def _begin(engine: Engine, session: Session, job: Attempt, *, is_beside: bool) -> RunId:
    """Commit which run is the attempt before that run begins, so that no child is ever forgotten; return its id."""
    job.child_run_id = _child_to_continue(engine, job) or engine.ledger.new_run_id()
    session.start(job, is_beside=is_beside)
    try:
        session.flush()
    except BaseException as error:
        session.drop(job, error)
        raise
    return job.child_run_id


def _child_to_continue(engine: Engine, job: Attempt) -> RunId | None:
    if job.child_run_id is None:
        return None
    with engine.ledger.current() as reader:
        found = reader.runs(Select(run_ids=[job.child_run_id]))
    is_cancelled = bool(found) and found[0].status is RunStatus.CANCELLED
    return None if is_cancelled else job.child_run_id


def _failed(session: Session, job: Attempt, error: Exception, stretch: object) -> AttemptResult:
    """Return the failure of a child; one that stopped with its parent has not failed.

    The parent may be in a later stretch by the time that the child has stopped.

    Raises:
        Stopped: it stopped with the `stretch` of the parent that it began in.
    """
    if session.stopped is not None:
        _leave_undone(session, job, error)
        session.unwind(error)
    if isinstance(error, RunInterrupted) and session.recall is not stretch:
        _leave_undone(session, job, error)
        raise RunStopped(StopRequest.INTERRUPT, None) from error
    return raised(session, job, error)


def _leave_undone(session: Session, job: Attempt, error: BaseException) -> None:
    """Let go of a child without a result: a call of a later stretch that waits for it continues it."""
    job.outcome.undone = job  # before anybody is told that it ended
    session.drop(job, error)
