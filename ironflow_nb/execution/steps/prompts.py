"""Asking on stdin for what a run waits for, where a direct call of it holds a terminal or a cell that can ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ironflow_nb.core.wait_rules import Combination, read_payload, waited_words
from ironflow_nb.errors import NothingToDo
from ironflow_nb.execution.session.answers import send_answer
from ironflow_nb.execution.session.open_waits import OpenWait
from ironflow_nb.execution.session.run_phase import RunPhase
from ironflow_nb.execution.session.session import Session
from ironflow_nb.execution.session.wait_state import root_of, settle_waits
from ironflow_nb.execution.system.frontend import can_read_line, shell
from ironflow_nb.execution.system.interrupts import INTERRUPTS, ReadingEnded, read_line

_LATER = "an empty line: later"


class Prompt(NamedTuple):
    """What is asked on stdin. `read` gives the payload that a line means, or raises a `ValueError`."""

    text: str
    read: Callable[[str], Any]


def is_left_for_later(session: Session, wait: OpenWait) -> bool:
    """Ask for what the wait needs until it has it, from here or elsewhere; return True if the person has no answer yet.

    Nobody is asked in a thread that is not the one of the cell, or if nothing can be typed there. In a notebook a
    question that no line can answer is left for another cell.
    """
    if root_of(session).waits.is_parkable or not session.access.threads.is_main() or not can_read_line():
        return False
    prompt = _prompt(session, wait)
    if prompt is None:
        return wait.wanted.question is not None and shell() is not None
    with session.wakeups.woken(_EndOfReading(session, wait)):
        return _asked(session, wait, prompt)


def _prompt(session: Session, wait: OpenWait) -> Prompt | None:
    wanted = wait.wanted
    if wanted.question is not None:
        return None if wanted.question.prompt is None else Prompt(wanted.question.prompt, wanted.question.read)
    if wanted.combination is not Combination.ONE or not wanted.signals:
        return None
    words = waited_words(wanted, wait.row.due_at)
    return Prompt(f"run {session.run_id}: waiting for {words}\nits payload, as JSON or text", read_payload)


def _asked(session: Session, wait: OpenWait, prompt: Prompt) -> bool:
    trouble = ""
    while not _is_over(session, wait):
        try:
            line = read_line(f"{trouble}{prompt.text} ({_LATER}): ", lambda: _is_over(session, wait))
        except ReadingEnded:
            break
        except EOFError:  # stdin is at its end
            line = ""
        if not line.strip():
            return True
        try:
            _send(session, wait, prompt.read(line))
        except (ValueError, NothingToDo) as error:
            trouble = f"{error}\n"
            settle_waits(session)
        else:
            settle_waits(session)
            break  # another thread may still hold the wait: it ends soon, and is not asked for again
    return False


def _send(session: Session, wait: OpenWait, payload: Any) -> None:
    access = session.access
    if wait.wanted.question is not None:
        send_answer(access, session.storage, wait.row, payload)
    else:
        access.send(session.run_id, wait.wanted.signals[0], session.storage.store(payload)[0])


def _is_over(session: Session, wait: OpenWait) -> bool:
    return wait.promise.is_done or session.phase is not RunPhase.OPEN


class _EndOfReading:
    """Ends the reading of a line when the wait is over, or its run is to stop; a wakeup of the run."""

    def __init__(self, session: Session, wait: OpenWait) -> None:
        self._session = session
        self._wait = wait

    def set(self) -> None:
        """See `Wakeup`."""
        if _is_over(self._session, self._wait):
            INTERRUPTS.end_reading()

    def take(self, timeout_s: float | None) -> bool:
        """Never used: the thread reads."""
        raise AssertionError(timeout_s)
