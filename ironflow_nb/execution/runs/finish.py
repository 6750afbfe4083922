"""How a continuation of a run ends: completed, failed or interrupted, always with everything finished committed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from msgspec.structs import replace

from ironflow_nb.core import events
from ironflow_nb.core.identity import task_name
from ironflow_nb.core.plain_text import are, counted
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.core.status import EndOfRun, RunKind
from ironflow_nb.core.wait_rules import StartKind
from ironflow_nb.errors import (
    CodeChanged,
    ConnectionLost,
    InputInvalid,
    IronflowError,
    JournalError,
    OutcomeUnknown,
    RunCancelled,
    RunInterrupted,
    RunTakenOver,
    RunTimeout,
    StoreUnreachable,
)
from ironflow_nb.execution.definitions.run_request import RejoinedBy
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.recording.journal_access import Mail, PendingEvent
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.execution.session.attempts import UNRECORDED_RUN, Promise, steps_behind
from ironflow_nb.execution.session.open_waits import LeftWaiting
from ironflow_nb.execution.session.replay import Replayer
from ironflow_nb.execution.session.run_phase import RunStopped, StopRequest
from ironflow_nb.execution.session.session import Session
from ironflow_nb.execution.session.wait_state import children_of, waited_for
from ironflow_nb.execution.system.frontend import logger, run_again, say
from ironflow_nb.journal.ports import QueueItem
from ironflow_nb.values.failures import annotate, errors_in, set_attribute

SAY_AFTER_S: Final = 1.0
_NOTE: Final = "ironflow: "
_TO_DO_AGAIN: Final = "an equal call begins a new run, which does again what was undone"


def raise_unobserved(session: Session) -> None:
    """Raise a failure beside the flow that the flow has not observed: such a run does not complete."""
    for child in list(session.beside.children):
        error = child.unobserved_error()
        if error is not None:
            raise error


def warn_forgotten(session: Session) -> None:
    """Say which calls of async steps were never awaited."""
    if session.beside.not_begun:
        names = ", ".join(sorted({attempt.spec.name for attempt in session.beside.not_begun}))
        say(f"run {session.run_id}: {names} was called and never awaited, so it did not run")


def say_waiting(session: Session) -> None:
    """Say for which bodies the end of the run waits."""
    steps = ", ".join(attempt.step for attempt in session.in_flight()[:5])
    say(f"run {session.run_id}: waiting for {steps} to end")


def say_returned(session: Session) -> None:
    """Say which steps a returned flow waits for, and what happens to the tasks that it has left behind."""
    in_flight = session.in_flight()
    steps = ", ".join(attempt.step for attempt in in_flight[:5]) or waited_for(session) or "steps that are tried again"
    tasks = ", ".join(dict.fromkeys(filter(None, (task_name(attempt.branch) for attempt in in_flight))))
    ends = f"; {tasks}, which nobody awaits, is cancelled where it calls another step" if tasks and session.loop else ""
    say(f"run {session.run_id}: {session.name} has returned, and waits for {steps} to end{ends}")


_TOLD: Final[dict[type, EndOfRun]] = {
    events.RunCompleted: EndOfRun.COMPLETED,
    events.RunFailed: EndOfRun.FAILED,
    events.RunCancelled: EndOfRun.CANCELLED,
    events.RunPaused: EndOfRun.PAUSED,
    events.RunInterrupted: EndOfRun.INTERRUPTED,
}


def with_notifications(engine: Engine, run: RunRow | None, last: PendingEvent) -> PendingEvent:
    """Return the last event with a call for each function of this process that wants to be told of such ends."""
    end = _TOLD.get(type(last.event))
    if end is None or run is None or run.parent_run_id is not None or run.kind not in {RunKind.FLOW, RunKind.GRAPH}:
        return last
    now, kind = engine.clock.now(), StartKind.NOTIFICATION.value
    calls = tuple(
        QueueItem(run_id=run.run_id, kind=kind, key=f"{each.kind} {each.name}", due_at=now, created_at=now)
        for each in REGISTRY.definitions(end.value)
    )
    if not calls:
        return last
    return replace(last, mail=Mail(put_work=(*last.mail.put_work, *calls), done_work=last.mail.done_work))


def _end(
    engine: Engine, session: Session, last: PendingEvent, resolve: Callable[[], None] = lambda: None, *,
    is_deferrable: bool = True,
) -> None:  # fmt: skip
    """Commit the last event of the continuation, with its summary and the notifications that it causes."""
    told = last if session.replayer.is_check else with_notifications(engine, session.writer.row, last)
    end = session.end_or_defer if is_deferrable else session.end
    try:
        end(*_account(session), told, resolve=resolve)
    finally:
        if told is not last:
            engine.watch()  # after the commit: what the background thread has looked at before is not there


def complete(engine: Engine, session: Session, value: Any) -> Any:
    """Record that the flow returned; return the value as it will be read back.

    Raises:
        ValueNotStorable: no codec takes the value.
        CodeChanged, JournalError: the flow swallowed it, and what it returns rests on less than its steps.
    """
    ended = session.completion
    session.writer.raise_fatal_error()
    stored, echo = session.storage.store(value)
    completed = PendingEvent(events.RunCompleted(output=stored.value_id), values=(stored,))
    _end(engine, session, completed, lambda: ended.succeed(echo), is_deferrable=False)
    return echo


def fail(engine: Engine, session: Session, error: BaseException, undone: str = "") -> None:
    """Record that the flow raised; nothing is recorded any more where another process has taken the run over.

    `undone` says what was undone because of it, if anything was to be.
    """
    ended = session.completion
    last, causes = None, steps_behind(session.run_id, error)
    # A session that is closed here was closed with its engine, which recorded the interruption.
    is_cut_off = any(isinstance(each, ConnectionLost) for each in errors_in(error))
    is_unreachable = any(isinstance(each, StoreUnreachable) for each in errors_in(error))
    is_of_worker = session.is_open and engine.is_worker and session.writer.is_detached
    if is_of_worker and (is_cut_off or isinstance(error, CodeChanged)):
        last = _left_to_others(engine, session, error)
    elif session.is_open and (is_cut_off or is_unreachable):  # that is no failure of the flow
        _note(session, error, f"run {session.run_id} of {session.name} was interrupted; {_kept_text(session)}", "")
        last = PendingEvent(events.RunInterrupted(reason=type(error).__name__))
    elif session.is_open and not isinstance(error, RunTakenOver):
        stored = session.storage.store_failure(error)
        begun = session.compensation
        causes = steps_behind(session.run_id, error) if begun is None else begun.event.caused_by
        where = f" in {causes[0]}" if causes else ""
        what = f"run {session.run_id} of {session.name} failed{where}; {undone or _kept_text(session)}"
        _note(session, error, what, _TO_DO_AGAIN if undone else _to_do(error))
        failed = events.RunFailed(error=stored.value_id, caused_by=causes)
        last = PendingEvent(failed, values=(stored,))
    with _closing(engine, session, ended, error, is_failure=True):
        if last is not None:
            session.disown(causes)
            _end(engine, session, last, lambda: ended.fail(error))


def _left_to_others(engine: Engine, session: Session, error: BaseException) -> PendingEvent:
    """Return the event by which a worker gives a run back: to any worker, or where code has changed to a person."""
    whom = "the next worker"
    if isinstance(error, CodeChanged):
        engine.refused.add(session.run_id)
        whom = "a process with its code"
    logger().warning("run %s of %s is left to %s: %s", session.run_id, session.name, whom, error)
    return PendingEvent(events.RunDetached(asked_by=engine.owner, reason=str(error)))


def _to_do(error: BaseException) -> str | None:
    """Return what to do before the run is continued; None if the error says so itself."""
    if isinstance(error, CodeChanged | OutcomeUnknown | InputInvalid):
        return None
    return "give it more time, if it needs that, then " if isinstance(error, RunTimeout) else "mend what failed, then "


def interrupt(engine: Engine, session: Session, error: BaseException, reason: str) -> None:
    """Record that the owner stopped; bodies in flight go on, and a re-run in this process joins them."""
    ended = session.completion
    session.cut_off(reason)  # first: a child that ends now has not failed
    with _closing(engine, session, ended, error, is_failure=False):
        try:
            session.commit_queued()
            if session.is_open:  # else the engine was closed, and has recorded it
                _end(engine, session, PendingEvent(events.RunInterrupted(reason=reason)))
        finally:
            note_interrupt(session, error)


def timeout_of(session: Session, stopped: RunStopped) -> RunTimeout | None:
    """Return the error of a run whose time is up; None if it stops for another reason."""
    if stopped.request is not StopRequest.TIMEOUT:
        return None
    return RunTimeout(
        f"run {session.run_id} of {session.name} took longer than its {stopped.asked_by}", run_id=session.run_id
    )


def stop(engine: Engine, session: Session, stopped: RunStopped, undone: str = "") -> IronflowError:
    """Record that the run was cancelled, paused or interrupted; return the error for its caller.

    `undone` says what was undone because of it, if anything was to be.
    """
    ended = session.completion
    error: IronflowError
    if stopped.request is StopRequest.INTERRUPT:
        error = _interrupted(session, "interrupted")
        interrupt(engine, session, error, stopped.asked_by or "")
        return error
    timeout = timeout_of(session, stopped)
    if timeout is not None:
        fail(engine, session, timeout, undone)
        return timeout
    if stopped.request is StopRequest.CANCEL:
        last = PendingEvent(events.RunCancelled(reason=f"asked by {stopped.asked_by}"))
        what = f"run {session.run_id} of {session.name} was cancelled"
        error = RunCancelled(f"{what}; {undone}" if undone else what, run_id=session.run_id)
    elif stopped.request is StopRequest.PARK:
        last = PendingEvent(events.RunWaiting(waiting_for=waited_for(session), is_parked=True))
        error = _interrupted(session, "parked") if session.waits.left is None else _left(session, session.waits.left)
    elif stopped.request is StopRequest.DETACH:
        session.writer.detach()
        last = PendingEvent(events.RunDetached(asked_by=stopped.asked_by))
        error = _interrupted(session, "detached")
    else:
        last = PendingEvent(events.RunPaused(asked_by=stopped.asked_by))
        error = _interrupted(session, "paused")
    with _closing(engine, session, ended, error, is_failure=isinstance(error, RunCancelled)):
        _end(engine, session, last, lambda: ended.fail(error))
    if stopped.request is StopRequest.PARK:
        engine.watch()
    return error


def _interrupted(session: Session, status: str) -> RunInterrupted:
    return RunInterrupted(
        f"run {session.run_id} of {session.name} was {status}; continue it with iron.resume({session.run_id!r})",
        run_id=session.run_id,
        status=status,
    )


def _left(session: Session, left: LeftWaiting) -> RunInterrupted:
    return RunInterrupted(
        f"run {session.run_id} of {session.name} waits for {left.words}; {_to_end(session, left)}",
        run_id=session.run_id,
        status="waiting",
    )


def _to_end(session: Session, left: LeftWaiting) -> str:
    """Return the expressions by which a person ends the waits and sees the result."""
    where = run_again()
    then = f"and {where} again" if where is not None else f'and iron.get_run("{session.run_id}").result()'
    return f"{' or '.join(left.expressions)}, {then}"


def note_interrupt(session: Session, error: BaseException) -> None:
    """Add a note to the error that ends a call or an await: what happened to its run."""
    left = session.waits.left
    if left is not None:
        what = f"run {session.run_id} of {session.name} waits for {left.words}; {_kept_text(session)}"
        _note(session, error, what, f"{' or '.join(left.expressions)}; then ")
        return
    _note(session, error, f"run {session.run_id} of {session.name} was interrupted; {_kept_text(session)}", "")


@contextmanager
def _closing(
    engine: Engine, session: Session, ended: Promise, error: BaseException, *, is_failure: bool
) -> Iterator[None]:
    """Record the last event inside; then fail the completion with the error, also if the journal refused the event.

    Raises:
        JournalError: the journal refused the failure of a child run. Its parent records that failure only after it: if
            the process died in between, no continuation of the parent would ever end the child.
    """
    refused: JournalError | None = None
    try:
        yield
    except IronflowError as trouble:
        if is_failure and _is_child(session) and isinstance(trouble, JournalError):
            refused = trouble
        logger().warning("run %s: its end could not be recorded yet: %s", session.run_id, trouble)
    session.resolve(ended, error)
    engine.close_session(session)
    if refused is not None:
        set_attribute(refused, UNRECORDED_RUN, session.run_id)
        raise refused from error


def _is_child(session: Session) -> bool:
    row = session.writer.row
    return row is not None and row.parent_run_id is not None


def _account(session: Session) -> list[PendingEvent]:
    """Return the event that sums up a continuation which had something to reuse."""
    replayer = session.replayer
    if session.compensation is not None or not (replayer.n_recorded or replayer.n_reused):
        return []
    return [PendingEvent(events.SessionEnded(n_reused=replayer.n_reused, not_asked_for=replayer.unused_steps()))]


def _note(session: Session, error: BaseException, what: str, to_do: str | None) -> None:
    """Add a note to the error: what happened to its run, and how to continue it. Of a child only its parent says so."""
    is_noted = any(note.startswith(f"{_NOTE}{what}") for note in getattr(error, "__notes__", ()))
    if session.rejoined_by is not None and not _is_child(session) and not is_noted:
        more = "" if to_do is None else f"\n{_NOTE}{to_do}{_how_to_continue(session)}: it continues from there"
        if to_do is _TO_DO_AGAIN:
            more = f'\n{_NOTE}{to_do}; iron.resume("{session.run_id}") goes on with this run and does that again'
        annotate(error, f"{_NOTE}{what}.{more}")


def _how_to_continue(session: Session) -> str:
    """Return how the reader continues the run: an equal call in the same cell execution begins another run."""
    resume, where = f'iron.resume("{session.run_id}")', run_again()
    match session.rejoined_by:
        case RejoinedBy.CALL:
            return f"call it again with the same key, or {resume}"
        case RejoinedBy.NEW_EXECUTION if where is not None:
            return f"{where} again, or {resume} now"
        case _:
            return resume


def format_kept(replayer: Replayer, n_inside: int) -> str:
    """Return how many finished steps are kept, and how many of its unfinished child runs."""
    n_finished = replayer.n_finished  # it looks at each recorded step
    said = f"{counted(n_finished, 'finished step')} {are(n_finished)} kept"
    return f"{said}, and {n_inside} of its child runs" if n_inside else said


def _n_running(session: Session) -> int:
    """Return how many bodies run on threads, in its child runs too: each of these is at one at least."""
    own = [] if session.loop is not None else [each for each in session.in_flight() if each.child_run_id is None]
    return len(own) + sum(max(_n_running(child), child.loop is None) for child in children_of(session))


def _kept_text(session: Session) -> str:
    """Return how many results the next call finds, and how many running bodies may add theirs; async ones can't."""
    if session.compensation is not None:
        return "what it did is half undone"
    said, n_running = format_kept(session.replayer, session.n_finished_inside), _n_running(session)
    if n_running:
        said += f"; {n_running} more {are(n_running)} running, and kept if they end in this process"
    return said
