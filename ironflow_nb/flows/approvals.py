"""Questions to people inside a flow: whether something may be done, or for a value. A question is a recorded wait."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeVar, overload

from ironflow_nb.core.durations import Duration
from ironflow_nb.core.plain_text import short_repr
from ironflow_nb.core.wait_rules import APPROVE, ASK, Wanted, time_limit
from ironflow_nb.flows.waits import Call, drawn_as_wait, wait_here, wait_step
from ironflow_nb.handles.questions import YES_OR_NO, Answer, Choice, Question, answer_of_type

T = TypeVar("T")

_APPROVE: Final = wait_step(APPROVE, lambda question, payload: (question, payload))
_ASK: Final = wait_step(ASK, lambda question, payload, answer: (question, payload, answer))


def approve(question: str, payload: object = None, *, timeout_s: Duration | None = None) -> bool:
    """Wait until a person says yes or no: `Run.answer`, ``%ironflow answer``, or a line that is typed in the cell.

    The question is recorded with its payload, and both identify it: a changed payload is asked for again. It can be
    answered from any process, by the first one who does. `waiting` lists the open questions.

    Where a direct call runs in a terminal, or in a notebook that lets cells ask for input, it asks there. An empty
    line, or an interrupt, leaves the run waiting and ends the cell.

    Args:
        question: what is asked.
        payload: what the person is to look at.
        timeout_s: how long to wait at most, from the beginning; by default without an end.

    Raises:
        WaitTimeout: nobody has answered in that time: silence is neither yes nor no. A replay raises it, too.
        ValueError, TypeError: the question is no text, or the time no duration.
        AsyncMismatch: the flow is async; await ``iron.aio.approve(...)`` there.
        NotAllowedInStep: it was called inside a step.
        NotInRun: it was called outside of a flow.
    """
    __tracebackhide__ = True
    return bool(wait_here("approve", *approve_call(question, payload, timeout_s)))


@overload
def ask(question: str, payload: object = None, *, choices: Sequence[T], timeout_s: Duration | None = None) -> T: ...
@overload
def ask(question: str, payload: object = None, *, type: builtins.type[T], timeout_s: Duration | None = None) -> T: ...
@overload
def ask(question: str, payload: object = None, *, timeout_s: Duration | None = None) -> str: ...
@overload
def ask(question: str, payload: object = None, *, type: Any, timeout_s: Duration | None = None) -> Any: ...
def ask(
    question: str,
    payload: object = None,
    *,
    choices: Sequence[Any] | None = None,
    type: Any = None,  # noqa: A002 -- the name of the contract
    timeout_s: Duration | None = None,
) -> Any:
    """Wait for the answer of a person, and return it; see `approve`.

    An answer that does not fit is refused where it is given, and the wait goes on.

    Args:
        question: what is asked.
        payload: what the person is to look at, or a DataFrame to edit.
        choices: the values to choose from.
        type: what the answer must fit: ``str`` (the default), ``int``, ``float``, ``date``, a ``Literal``, a dataclass
            or any other type that msgspec checks, or ``pandas.DataFrame``; if the payload is one, the answer has the
            same columns.
        timeout_s: how long to wait at most, from the beginning; by default without an end.

    Raises:
        WaitTimeout: nobody has answered in that time.
        ValueError, TypeError: the question is no text, nothing fits the type, or both choices and a type are given.
        AsyncMismatch: the flow is async; await ``iron.aio.ask(...)`` there.
        NotAllowedInStep: it was called inside a step.
        NotInRun: it was called outside of a flow.
    """
    __tracebackhide__ = True
    return wait_here("ask", *ask_call(question, payload, choices, type, timeout_s))


drawn_as_wait(approve, ask)


def approve_call(question: str, payload: object, timeout_s: Duration | None) -> Call:
    """Return the call of a question for yes or no."""
    asked, due_at = Question(_question(question), YES_OR_NO, payload), time_limit(timeout_s)
    return _APPROVE, {"question": question, "payload": payload}, lambda now: Wanted(question=asked, due_at=due_at(now))


def ask_call(
    question: str, payload: object, choices: Iterable[Any] | None, kind: object, timeout_s: Duration | None
) -> Call:
    """Return the call of a question for a value. Its time limit does not identify it."""
    asked, due_at = Question(_question(question), _answer(payload, choices, kind), payload), time_limit(timeout_s)
    arguments = {"question": question, "payload": payload, "answer": asked.answer.recorded()}
    return _ASK, arguments, lambda now: Wanted(question=asked, due_at=due_at(now))


def _question(question: object) -> str:
    if not isinstance(question, str) or not question.strip():
        raise TypeError(f"a question is a text, not {short_repr(question)}")
    return question


def _answer(payload: object, choices: Iterable[Any] | None, kind: object) -> Answer:
    if choices is None:
        return answer_of_type(str if kind is None else kind, payload)
    if kind is not None:
        raise ValueError("a question has choices= or a type=, not both")
    if isinstance(choices, str | bytes) or not isinstance(choices, Iterable):
        raise TypeError(f"choices= takes a list of the values to choose from, not {short_repr(choices)}")
    options = list(choices)
    if not options:
        raise ValueError("choices= is empty, so nobody could answer")
    return Choice(options)
