"""Detached runs: those that were handed over to workers, and their items in the queue of work.

A run is detached as long as it has such an item. The item follows from the row of the run and is written with it: an
owner that executes the run has the item, too, so what is free, or of an owner that is dead, can be claimed.
"""

from __future__ import annotations

from typing import Final

from ironflow_nb.core.run_state import RunRow
from ironflow_nb.core.status import OWNED, RunStatus
from ironflow_nb.core.wait_rules import NEVER
from ironflow_nb.execution.recording.journal_access import Mail
from ironflow_nb.journal.ports import QueueItem

DETACHED: Final = "run"
"""The kind of the items, and their key: a run has one."""
DONE: Final = Mail(done_work=((DETACHED, DETACHED),))
"""The run is not detached any more."""


def mail_of_detached(run: RunRow, n_deaths: int) -> Mail:
    """Return what becomes of the item of a detached run with its row; `n_deaths` owners died in a row on it.

    While it waits, its waits are what is due. Its end, and a pause, take it out of the hands of workers.
    """
    if run.status not in OWNED:
        return DONE
    item = QueueItem(
        run_id=run.run_id,
        kind=DETACHED,
        key=DETACHED,
        due_at=NEVER if run.status is RunStatus.WAITING else run.updated_at,
        created_at=run.updated_at,
        owner=run.owner,
        leased_until=None if run.owner is None else NEVER,
        attempts=n_deaths,
    )
    return Mail(put_work=(item,))
