"""Asking a run to stop: told to its owner, wherever that is, or done at once where nobody works on it."""

from __future__ import annotations

from ironflow_nb.core.identity import RunId
from ironflow_nb.core.status import ENDED, RunStatus
from ironflow_nb.errors import JournalConflict, RunFinished
from ironflow_nb.execution import Engine, StopRequest, cancel_idle
from ironflow_nb.history.run_status import look

_DONE = {StopRequest.CANCEL: RunStatus.CANCELLED, StopRequest.PAUSE: RunStatus.PAUSED}


def ask_to_stop(engine: Engine, run_id: RunId, stop: StopRequest) -> None:
    """Cancel or pause a run; who works on it does so at the next boundary of a step.

    Raises:
        RunFinished: it has ended, so that there is nothing to stop.
    """
    while True:
        engine.flush()
        run, status = look(engine, run_id)
        if status is _DONE[stop]:
            return
        session = engine.sessions.get(run_id)
        if session is not None and session.is_open:
            session.stop(stop, engine.owner)
            return
        if status not in ENDED:
            engine.access.send(run_id, stop.value)
            return
        if stop is StopRequest.PAUSE or status is RunStatus.COMPLETED or run is None:
            raise RunFinished(
                f"run {run_id} is {status.value}, so there is nothing to {stop.name.lower()}", run_id=run_id
            )
        try:
            cancel_idle(engine, run)
        except JournalConflict:  # somebody has just taken it on
            continue
        return
