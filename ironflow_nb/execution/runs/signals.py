"""Sending signals to a run."""

from __future__ import annotations

from functools import partial

from ironflow_nb.core.identity import RunId
from ironflow_nb.core.run_state import StepRow
from ironflow_nb.core.status import CLOSED, RunKind
from ironflow_nb.core.wait_rules import signal_id, signal_name
from ironflow_nb.errors import DuplicateKey, RunFinished
from ironflow_nb.execution import durable_calls
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.runs.waker import watch
from ironflow_nb.execution.session.answers import send_answer
from ironflow_nb.execution.session.wait_state import settle_waits
from ironflow_nb.journal.ports import Reader, Select, SignalId
from ironflow_nb.values.codecs import ValueCodec


def send_signal(engine: Engine, run_id: RunId, name: object, payload: object, caller_id: object = None) -> None:
    """Put a signal into the mailbox of the run. Its owner takes it; in this process at once.

    Raises:
        RunFinished: the run is completed or cancelled.
        DuplicateKey: a signal of that id was another one.
        ValueError: no signal can have that name or id, or the run is of a decider.
        ValueNotStorable: no codec takes the payload.
    """
    checked, known = signal_name(name), None
    durable_calls.refuse_secrets("a signal", [checked, payload, caller_id])
    stored = None if payload is None else _values(engine, run_id).store(payload)[0]
    if caller_id is not None:
        digest = engine.digester.digest(payload).digest
        known = SignalId(run_id=run_id, caller_id=signal_id(caller_id), name=checked, payload=digest)
    earlier = engine.access.send(run_id, checked, stored, known=known, check=partial(_refuse, run_id))
    if earlier is not None:
        if earlier != known:
            other = "another payload" if earlier.name == checked else f"the name {earlier.name!r}"
            raise DuplicateKey(
                f"run {run_id} has had a signal with the id {caller_id!r} and {other}; the same id is the same signal. "
                "Send this one with an id of its own",
                run_id=run_id,
                key=earlier.caller_id,
            )
        return
    _settle(engine, run_id)


def _refuse(run_id: RunId, reader: Reader) -> None:
    """Raise an error if the run takes no signals (any more)."""
    for run in reader.runs(Select(run_ids=[run_id])):
        if run.status in CLOSED:
            raise RunFinished(f"run {run_id} is {run.status}, so it waits for no signal any more", run_id=run_id)
        if run.kind == RunKind.DECIDER:
            raise ValueError(f"run {run_id} is of decider {run.name}, which takes commands: {run.name}.send(...)")


def answer_waiting(engine: Engine, row: StepRow, payload: object) -> None:
    """Answer the question of that attempt, as `send_signal` sends signals; see `send_answer` for what it raises."""
    durable_calls.refuse_secrets("an answer", payload)
    send_answer(engine.access, _values(engine, row.run_id), row, payload)
    _settle(engine, row.run_id)


def _values(engine: Engine, run_id: RunId) -> ValueCodec:
    """Return what encodes values for the run; in its own process its secrets are redacted in them."""
    session = engine.sessions.get(run_id)
    return engine.codecs if session is None else session.storage


def _settle(engine: Engine, run_id: RunId) -> None:
    session = engine.sessions.get(run_id)
    if session is not None and session.waits:
        settle_waits(session)
    elif session is None or not session.is_open:
        watch(engine)
