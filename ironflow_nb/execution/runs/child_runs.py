"""Flows called in a flow: runs of their own, each the attempt of a step of its parent."""

from __future__ import annotations

from ironflow_nb.core.identity import RunId
from ironflow_nb.core.status import RunStatus
from ironflow_nb.execution.session.attempts import Attempt
from ironflow_nb.execution.session.session import Session
from ironflow_nb.journal.ports import Select


def child_to_continue(session: Session, job: Attempt) -> RunId | None:
    """Return the run that an earlier attempt of the job began and that goes on with this one: not a cancelled one."""
    if job.child_run_id is None:
        return None
    with session.ledger.current() as reader:
        found = reader.runs(Select(run_ids=[job.child_run_id]))
    is_cancelled = bool(found) and found[0].status is RunStatus.CANCELLED
    return None if is_cancelled else job.child_run_id
