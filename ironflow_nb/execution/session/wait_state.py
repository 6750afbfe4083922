"""What the open waits of a run mean for it as a whole: they end, and while all of it waits, it can be parked."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import takewhile
from typing import Any

from ironflow_nb.core.events import RunAdmitted, RunWaiting
from ironflow_nb.core.status import RunStatus
from ironflow_nb.core.wait_rules import Wanted
from ironflow_nb.execution.recording.journal_access import PendingEvent
from ironflow_nb.execution.session.attempts import Attempt
from ironflow_nb.execution.session.open_waits import LeftWaiting, Noted, OpenWait
from ironflow_nb.execution.session.run_phase import RunPhase, StopRequest
from ironflow_nb.execution.session.session import Session
from ironflow_nb.values.stored_value import StoredValue


def begin_wait(session: Session, attempt: Attempt, wanted: Wanted, inputs: Sequence[StoredValue]) -> OpenWait:
    """Record that a wait begins, and in the same transaction of which runs everything waits by it.

    A run that waits survives its process: others continue it when the wait ends. One that is recorded as running when
    its process dies does not, for nobody knows what else was at work in it, and may have been the cause. So between
    these two commits a run would be lost that does nothing but wait. The locks of the runs around it are held, and
    every wait of their children begins and ends under these, so what is seen to wait does so until it is recorded.
    """
    with _locked_with_around(session) as around:
        session.raise_if_late(attempt)
        thread = session.access.threads.ident() if session.loop is None else None
        return session.waits.begin(attempt, wanted, inputs, partial(_now_waiting, session, around), thread)


def _now_waiting(session: Session, around: Sequence[Session]) -> Noted:
    """Return what is to be recorded of the runs that wait, now that the calling code is about to."""
    waiting = takewhile(partial(_is_waiting_with, session), [session, *around])
    return [(each.writer, _waiting(each)) for each in waiting if _status(each) is RunStatus.RUNNING]


def _is_waiting_with(beginning: Session, session: Session) -> bool:
    """Return True if everything in the run waits, and of its other children that is recorded."""
    family = {beginning, *runs_around(beginning)}
    others = (each for each in reversed(children_of(session)) if each not in family)
    return all(_status(each) is RunStatus.WAITING for each in others) and is_waiting(session)


def _waiting(session: Session) -> PendingEvent:
    return PendingEvent(RunWaiting(waiting_for=waited_for(session)))


def _status(session: Session) -> RunStatus | None:
    return None if session.writer.row is None else session.writer.row.status


def settle_waits(session: Session) -> None:
    """End the waits that are due, and those whose signals are there; called after anything that may end a wait.

    A run that is being parked leaves them to the continuation that they cause. The runs around it go on in the same
    transaction: one that is recorded as waiting when no wait below it is open would wait for ever, if its process dies.
    """
    with _locked_with_around(session) as around:
        waiting = [each for each in around if _status(each) is RunStatus.WAITING]
        # If one was left waiting by its engine, another continuation ends the wait.
        if session.is_open and not session.waits.n_holders and all(each.is_open for each in waiting):
            session.waits.settle(session.storage, _going_on(waiting))
    session.wakeups.wake()


def cancel_wait(session: Session, wait: OpenWait) -> None:
    """Record that the flow has cancelled the wait; the runs around it go on, see `settle_waits`."""
    with _locked_with_around(session) as around:
        waiting = [each for each in around if each.is_open and _status(each) is RunStatus.WAITING]
        session.waits.cancel(wait, _going_on(waiting))


def _going_on(waiting: Sequence[Session]) -> Noted:
    return [(each.writer, PendingEvent(RunAdmitted())) for each in waiting]


def runs_around(session: Session) -> list[Session]:
    """Return the runs around this one, the innermost first."""
    around: list[Session] = []
    while isinstance(session.parent, Session):
        session = session.parent
        around.append(session)
    return around


@contextmanager
def _locked_with_around(session: Session) -> Iterator[list[Session]]:
    """Hold the locks of the run and of those around it, the outermost first; give those around, the innermost first."""
    around = runs_around(session)
    with ExitStack() as locks:
        for each in (*reversed(around), session):
            locks.enter_context(each.lock)
        yield around


def _while_held(session: Session, act: Callable[[], bool]) -> bool:
    """Act if all of the run waits, while none of its waits can end, nor any of its children; return what that does.

    They stay held if it returns True. Had one ended between the look and the act, nothing would continue the run.
    """
    held = [(each, each.waits) for each in _family(session)]  # a further continuation has waits of its own
    for each, waits in held:
        with each.lock:
            waits.n_holders += 1  # several may look at once, and one of them park the run
    stays = False
    try:
        stays = is_waiting(session) and len(_family(session)) == len(held) and act()
    finally:
        for each, waits in [] if stays else held:
            with each.lock:
                waits.n_holders -= 1
    for each, _ in [] if stays else held:
        settle_waits(each)
    return stays


def park(session: Session) -> bool:
    """Stop a run so that it gives back its threads, if all of it still waits; return True if it does."""

    def stop() -> bool:
        session.stop(StopRequest.PARK, None)
        return True

    return _while_held(session, stop)


def rest(session: Session) -> None:
    """Give back the places in lanes of a run that waits as a whole: what waits holds none."""

    def give_back() -> bool:
        if session.admission is not None:
            with session.lock:
                session.admission.rest()
        return False

    _while_held(session, give_back)


def leave_waiting(session: Session) -> bool:
    """Park the run, with those around it, if all of it waits, and for a signal or an answer; return True if so.

    So it is not interrupted when the person who has called it goes on to something else.
    """
    root = root_of(session)
    found = [each for each in _family(root) if each.waits.is_for_signal]
    if not found:
        return False
    left = [each.waits.left_waiting() for each in found]
    said = LeftWaiting(", ".join(each.words for each in left), [text for each in left for text in each.expressions])
    for each in _family(root):
        each.waits.left = said
    return park(root)


def is_left_waiting(session: Session) -> bool:
    """Return True if the run is being parked, or is now; see `leave_waiting`."""
    stop = session.stop_request
    return (stop is not None and stop.request is StopRequest.PARK) or leave_waiting(session)


def is_left_by_thread(session: Session) -> bool:
    """Return True if the run is parked; called by the thread of a ``def`` flow, which has just stopped its waiting."""
    with session.wakeups.woken(session.access.threads.wakeup()):
        return is_left_waiting(session)


def take_interrupt(session: Session) -> None:
    """Carry out the interrupt that a handler of signals has noted."""
    if session.interrupted_by is not None and not is_left_waiting(session):
        session.take_interrupt()


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
        is_blocked = len(session.wakeups.threads() | session.waits.threads()) + len(children) > len(branches)
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
    kinds = asyncio.Task | asyncio.tasks._GatheringFuture  # noqa: SLF001 -- there is no other name
    return isinstance(awaited, kinds) and not awaited.done()  # of one that is done, the task is about to go on


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
    if _is_to_be_noted(session):
        _while_held(session, partial(_note, session))
    return session.waits.since_s


def _is_to_be_noted(session: Session) -> bool:
    return _status(session) is RunStatus.RUNNING and not session.writer.is_pending


def _note(session: Session) -> bool:
    with session.lock:
        if session.phase is RunPhase.OPEN and _is_to_be_noted(session):
            session.writer.append(_waiting(session))
    return False


def waited_for(session: Session) -> str:
    """Return for what the run waits, in words."""
    return ", ".join(filter(None, [str(session.waits), *map(waited_for, children_of(session))]))


def is_root(session: Session) -> bool:
    """Return True if the run is no child of another one."""
    return session.writer.row is not None and session.writer.row.parent_run_id is None


def root_of(session: Session) -> Session:
    """Return the outermost run around this one."""
    return [session, *runs_around(session)][-1]
