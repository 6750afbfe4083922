"""Sending signals to a run."""

from __future__ import annotations

from ironflow_nb.core.identity import RunId
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.runs.wake import watch
from ironflow_nb.execution.session.wait_state import settle_waits


def send_signal(engine: Engine, run_id: RunId, name: str, payload: object) -> None:
    """Put a signal into the mailbox of the run. Its owner takes it; in this process at once.

    Raises:
        ValueNotStorable: no codec takes the payload.
    """
    stored = None if payload is None else engine.codecs.store(payload)[0]
    engine.access.send(run_id, name, stored)
    session = engine.sessions.get(run_id)
    if session is not None and session.waits:
        settle_waits(session)
    elif session is None or not session.is_open:
        watch(engine)
