"""Sending signals to a run."""

from __future__ import annotations

from ironflow_nb.core.identity import RunId
from ironflow_nb.core.run_state import StepRow
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.runs.wake import watch
from ironflow_nb.execution.session.answers import send_answer
from ironflow_nb.execution.session.wait_state import settle_waits


def send_signal(engine: Engine, run_id: RunId, name: str, payload: object) -> None:
    """Put a signal into the mailbox of the run. Its owner takes it; in this process at once.

    Raises:
        ValueNotStorable: no codec takes the payload.
    """
    stored = None if payload is None else engine.codecs.store(payload)[0]
    engine.access.send(run_id, name, stored)
    _settle(engine, run_id)


def answer_waiting(engine: Engine, row: StepRow, payload: object) -> None:
    """Answer the question of that attempt, as `send_signal` sends signals; see `send_answer` for what it raises."""
    send_answer(engine.access, row, payload)
    _settle(engine, row.run_id)


def _settle(engine: Engine, run_id: RunId) -> None:
    session = engine.sessions.get(run_id)
    if session is not None and session.waits:
        settle_waits(session)
    elif session is None or not session.is_open:
        watch(engine)
