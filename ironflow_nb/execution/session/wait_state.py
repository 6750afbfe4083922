"""What the open waits of a run mean for it as a whole: they end, and while all of it waits, it can be parked."""

from __future__ import annotations

import sys
from typing import Any

from ironflow_nb.core.events import RunWaiting
from ironflow_nb.core.status import RunStatus
from ironflow_nb.execution.recording.journal_access import PendingEvent
from ironflow_nb.execution.session.run_phase import RunPhase, StopRequest
from ironflow_nb.execution.session.session import Session


def settle_waits(session: Session) -> None:
    """End the waits that are due, and those whose signals are there; called by those who may have made it so.

    A run that is being parked leaves them to the continuation that they cause.
    """
    with session.lock:
        if session.is_open and not session.waits.is_held:
            session.waits.settle(session.storage)
    session.wakeups.wake()


def park(session: Session) -> None:
    """Stop a run so that it gives back its threads, if all of it still waits.

    Its waits are held first, with those of its children: had one ended between the look and the stop, nothing would
    continue the run.
    """
    held = _family(session)
    for each in held:
        with each.lock:
            each.waits.is_held = True
    if is_waiting(session) and len(_family(session)) == len(held):
        session.stop(StopRequest.PARK, None)
        return
    for each in held:
        with each.lock:
            each.waits.is_held = False
        settle_waits(each)


def _family(session: Session) -> list[Session]:
    """Return the run and all below it that go on."""
    return [session, *(below for child in children_of(session) for below in _family(child))]


def children_of(session: Session) -> list[Session]:
    """Return the child runs that go on."""
    return [child for child in list(session.child_runs) if isinstance(child, Session)]


def is_waiting(session: Session) -> bool:
    """Return True if everything that is alive in the run waits: its own branches and tasks, and its children."""
    children = children_of(session)
    if session.phase is not RunPhase.OPEN or not (session.waits or children) or session.waits.untaken:
        return False
    if any(attempt.child_run_id is None for attempt in session.in_flight()) or session.has_queued():
        return False
    beside = list(session.beside.children)
    branches = [child for child in beside if getattr(child, "has_thread", False) and not child.is_finished()]
    if not all(child.is_finished() for child in beside if child not in branches):
        return False
    if session.loop is None:
        is_blocked = session.wakeups.n_waiting + len(children) > len(branches)
    else:
        n_at_rest = len(session.waits) + len(children)
        is_blocked = session.beside.n_awaited <= n_at_rest and all(
            map(_is_blocked, session.beside.tasks_at_work(session.task))
        )
    return is_blocked and all(map(is_waiting, children))


def _is_blocked(task: Any) -> bool:
    """Return True if the task awaits other tasks, and nothing else; of what else it might await, nobody knows."""
    asyncio = sys.modules["asyncio"]
    awaited = getattr(task, "_fut_waiter", None)
    return isinstance(awaited, asyncio.Task | asyncio.tasks._GatheringFuture)  # noqa: SLF001 -- there is no other name


def note_waiting(session: Session, now_s: float) -> float | None:
    """Record that all of the run waits, once it does; return since when, None if it does not."""
    with session.lock:
        if session.writer.fatal_error is not None:
            session.waits.fail(session.writer.fatal_error)
            session.wakeups.wake()
        if not is_waiting(session):
            session.waits.since_s = None
            return None
        if session.waits.since_s is None:
            session.waits.since_s = now_s
        row = session.writer.row
        if row is not None and row.status is RunStatus.RUNNING and not session.writer.is_pending:
            session.writer.append(PendingEvent(RunWaiting(waiting_for=waited_for(session))))
        return session.waits.since_s


def waited_for(session: Session) -> str:
    """Return for what the run waits, in words."""
    return ", ".join(filter(None, [str(session.waits), *map(waited_for, children_of(session))]))


def is_root(session: Session) -> bool:
    """Return True if the run is no child of another one."""
    return session.writer.row is not None and session.writer.row.parent_run_id is None
