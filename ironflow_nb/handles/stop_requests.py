"""Requests to stop a run, wherever it is executed: to cancel, pause or detach it."""

from __future__ import annotations

from typing import Final

from ironflow_nb.core.events import CompensationRegistered
from ironflow_nb.core.identity import RunId
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.core.status import CLOSED, ENDED, RunKind, RunStatus
from ironflow_nb.errors import FlowNotDefined, JournalConflict, RunFinished
from ironflow_nb.execution import ACTOR, REGISTRY, Engine, StopRequest, stop_idle
from ironflow_nb.history.recorded_values import recorded_arguments
from ironflow_nb.history.run_status import is_detached, is_parked, run_and_status
from ironflow_nb.journal.ports import Select

_STATUS_AFTER: Final = {
    StopRequest.CANCEL: RunStatus.CANCELLED,
    StopRequest.PAUSE: RunStatus.PAUSED,
    StopRequest.DETACH: RunStatus.PENDING,
}


def refuse_to_detach(engine: Engine, run: RunRow) -> None:
    """Raise what keeps the run from being continued by another process; see `Run.detach`."""
    if run.kind not in {RunKind.FLOW, RunKind.GRAPH}:
        raise ValueError(f"run {run.run_id} is of {run.kind} {run.name}; workers continue runs of flows and graphs")
    if run.parent_run_id is not None:
        raise ValueError(
            f"run {run.run_id} is a child of run {run.parent_run_id} and goes where that goes; detach that one"
        )
    recorded_arguments(engine, run)


def _can_be_asked(engine: Engine, run: RunRow | None, status: RunStatus) -> bool:
    """Return True if a living owner executes the run, or has it wait."""
    may_be_idle = status in {RunStatus.WAITING, RunStatus.PENDING}
    return status not in ENDED and not (may_be_idle and run is not None and is_parked(engine, run))


def ask_to_stop(engine: Engine, run_id: RunId, stop: StopRequest) -> None:
    """Cancel, pause or detach a run: its owner does so before the next step. One without an owner is stopped here.

    Raises:
        RunFinished: it has ended.
        FlowNotDefined: it has no owner, did something that can be undone, and its flow is not defined here.
    """
    while True:
        engine.flush()
        run, status = run_and_status(engine, run_id)
        if status is _STATUS_AFTER[stop] and (stop is not StopRequest.DETACH or is_detached(engine, run_id)):
            return
        session = engine.sessions.get(run_id)
        if session is not None and session.is_open:
            session.stop(stop, ACTOR.get() or engine.owner)
            return
        if _can_be_asked(engine, run, status):
            if stop is not StopRequest.DETACH or not is_detached(engine, run_id):  # else a worker has it
                engine.access.send(run_id, stop.value)
            return
        is_over = status not in {RunStatus.WAITING, RunStatus.PENDING} and stop is StopRequest.PAUSE
        is_closed = status in CLOSED  # one that is cancelled and to be cancelled was left alone above
        if is_over or is_closed or run is None:
            raise RunFinished(
                f"run {run_id} is {status.value}, so there is nothing to {stop.name.lower()}", run_id=run_id
            )
        if run.status is RunStatus.COMPENSATING and stop is not StopRequest.DETACH:
            raise RunFinished(
                f"run {run_id} has failed, and what it did is half undone; iron.resume({run_id!r}) goes on with that",
                run_id=run_id,
            )
        compensates = stop is StopRequest.CANCEL and _compensates_on_cancel(engine, run)
        try:
            stop_idle(engine, run, stop, compensates=compensates)
            if compensates:
                REGISTRY.definition(run).continue_run(engine, run)
        except JournalConflict:  # another process has just continued it: look again
            continue
        return


def _compensates_on_cancel(engine: Engine, run: RunRow) -> bool:
    """Return True if what the run did is undone when it is cancelled.

    Raises:
        FlowNotDefined: it did something that can be undone, and only its flow, which is not defined here, could tell.
    """
    try:
        policy = getattr(REGISTRY.definition(run, engine), "policy", None)
    except FlowNotDefined:
        with engine.reading() as reader:
            if reader.events(Select(run_ids=[run.run_id], name=CompensationRegistered.__name__, limit=1)):
                raise
        return False
    return policy is not None and bool(policy.compensate_on_cancel)
