"""Answering the questions of a run, from any process: the first answer is taken, others are refused."""

from __future__ import annotations

from datetime import UTC, datetime

from ironflow_nb.core.event_codec import decode_as
from ironflow_nb.core.events import SignalReceived
from ironflow_nb.core.run_state import StepRow
from ironflow_nb.core.status import CLOSED, StepStatus
from ironflow_nb.core.wait_rules import answer_name
from ironflow_nb.errors import NothingToDo, RunFinished
from ironflow_nb.execution.recording.journal_access import JournalAccess
from ironflow_nb.execution.system.process_identity import person
from ironflow_nb.journal.ports import Reader, Select
from ironflow_nb.values.codecs import ValueCodec


def send_answer(access: JournalAccess, values: ValueCodec, row: StepRow, payload: object) -> None:
    """Send an answer to the question of that attempt, encoded by `values`, if nobody has answered it before.

    Raises:
        NothingToDo: it is answered, or nobody waits for the answer any more; the message says who has answered.
        RunFinished: the run is completed or cancelled.
        ValueNotStorable: no codec takes the payload.
    """
    stored = None if payload is None else values.store(payload)[0]
    name = answer_name(row.step, row.attempt)
    # In the transaction of the answer: of two answers, one finds the other.
    access.send(row.run_id, name, stored, sent_by=person(), check=lambda reader: refuse_answered(reader, row))


def refuse_answered(reader: Reader, row: StepRow) -> None:
    """Raise an error if the question of that attempt is not open; see `send_answer`."""
    name, where = answer_name(row.step, row.attempt), f"{row.step} of run {row.run_id}"
    for signal in reader.signals([row.run_id]):
        if signal.name == name:
            raise NothingToDo(f"{where} was answered {answered_by(signal.sent_by, signal.sent_at)}", run_id=row.run_id)
    [run] = reader.runs(Select(run_ids=[row.run_id]))
    if run.status in CLOSED:
        raise RunFinished(f"run {row.run_id} is {run.status}, so it waits for no answer any more", run_id=row.run_id)
    latest = reader.steps(Select(run_ids=[row.run_id], name=row.name, is_full_name=True, is_latest=True))
    now = next(each for each in latest if each.step == row.step)
    if now.attempt == row.attempt and now.status is StepStatus.WAITING:
        return
    for event in reader.events(Select(run_ids=[row.run_id], name=SignalReceived.__name__)):
        received = decode_as(SignalReceived, event.data)
        if received.name == name and not received.is_refused:
            by = answered_by(received.sent_by, received.sent_at or event.at)
            raise NothingToDo(f"{where} was answered {by}", run_id=row.run_id)
    why = "its time was over" if now.status is StepStatus.TIMED_OUT else "it asks nothing now"
    raise NothingToDo(f"{where} waits for no answer: {why}", run_id=row.run_id)


def answered_by(name: str | None, at: int) -> str:
    """Return by whom and when, in words."""
    return f"by {name} at {datetime.fromtimestamp(at // 1_000_000, UTC):%Y-%m-%d %H:%M:%S} UTC"
