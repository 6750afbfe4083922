"""What the open waits of a run mean for it as a whole: they end, and whether all of the run waits."""

from __future__ import annotations

from ironflow_nb.execution.session.session import Session


def settle_waits(session: Session) -> None:
    """End the waits that are due, and those whose signals are there; called by those who may have made it so."""
    with session.lock:
        if session.is_open:
            session.waits.settle(session.storage)
    session.wakeups.wake()
