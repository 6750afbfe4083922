"""What a flow waits for, and which of the signals to its run end the wait."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Protocol, TypeVar

import msgspec

from ironflow_nb.core.durations import Duration, seconds
from ironflow_nb.core.identity import OWN_PREFIX, StepRef
from ironflow_nb.core.plain_text import plain, short_repr

SLEEP: Final = f"{OWN_PREFIX}sleep"
SLEEP_UNTIL: Final = f"{OWN_PREFIX}sleep_until"
WAIT_FOR: Final = f"{OWN_PREFIX}wait_for"
APPROVE: Final = f"{OWN_PREFIX}approve"
ASK: Final = f"{OWN_PREFIX}ask"
"""The names under which waits are recorded."""

QUESTIONS: Final = frozenset({APPROVE, ASK})
"""The names of waits for a person."""


EMIT: Final = f"{OWN_PREFIX}emit"
"""The name under which it is recorded that an event was emitted."""


def is_shown(name: str) -> bool:
    """Return True if a step of that name is shown in pictures: of the package's own, waits and emitted events are."""
    return not name.startswith(OWN_PREFIX) or name == EMIT or is_name_of_wait(name)


def is_name_of_wait(name: str) -> bool:
    """Return True if the name is that of a wait."""
    return name in {SLEEP, SLEEP_UNTIL, WAIT_FOR} | QUESTIONS


STOP_PREFIX: Final = "ironflow:"
"""The names of the package's own signals begin so."""


def answer_name(step: StepRef, attempt: int) -> str:
    """Return the name of the signal that answers the question of this attempt: of no other one."""
    return f"{STOP_PREFIX}answer:{step}/{attempt}"


def signal_name(name: object) -> str:
    """Return the name of a signal.

    Raises:
        ValueError: it is no text of one line, or one that the package keeps for itself.
    """
    if not isinstance(name, str) or not name:
        raise ValueError(
            f"the name of a signal is a text, not {short_repr(name)}; several are iron.any_of(...) or iron.all_of(...)"
        )
    if plain(name) != name or not {"\n", "\t"}.isdisjoint(name) or not name.isprintable():
        raise ValueError(f"the name of a signal is one line of characters that can be shown, not {short_repr(name)}")
    if name.startswith(STOP_PREFIX):
        raise ValueError(
            f"the names that begin with {STOP_PREFIX!r} are the package's own; {short_repr(name)} is no signal's"
        )
    return name


def signal_id(given: object) -> str:
    """Return the id that a sender gives its signal.

    Raises:
        ValueError: it is no text that can be shown.
    """
    if not isinstance(given, str) or not given or not given.isprintable():
        raise ValueError(f"the id of a signal is a text of one line, not {short_repr(given)}")
    return given


class WaitKind(StrEnum):
    """The kind of a wait."""

    SLEEP = "sleep"
    SIGNAL = "signal"
    SIGNALS = "signals"
    """For all of several signals."""
    APPROVAL = "approval"
    """For the answer of a person."""


class StartKind(StrEnum):
    """The kinds of items in the queue of work that do not belong to a run that goes on.

    A schedule, an emitted event, or the newest of several events starts a run. A notification calls a function after
    the end of a run.
    """

    SCHEDULE = "schedule"
    EVENT = "event"
    DEBOUNCE = "debounce"
    NOTIFICATION = "notification"


class WaitOutcome(StrEnum):
    """What ended a wait."""

    DUE = "due"
    SIGNAL = "signal"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"


class Combination(StrEnum):
    """How many of its signals a wait needs, and so in which form it gives their payloads."""

    ONE = "one"
    ANY = "any"
    ALL = "all"


class Answerable(Protocol):
    """A question to a person. Its text is the question in quotes."""

    def taken(self, sent: Any) -> Any:
        """Return what the flow gets of an answer that was sent.

        Raises:
            ValueError: it does not fit.
        """

    @property
    def prompt(self) -> str | None:
        """What is asked where a line can be typed; None if no line could answer."""

    def read(self, text: str) -> Any:
        """Return the answer that a person has typed, as it is sent.

        Raises:
            ValueError: it does not fit.
        """

    def expression(self, run_id: str, step: str) -> str:
        """Return the expression that answers it."""


class Named(Protocol):
    """A signal."""

    @property
    def name(self) -> str:
        """Its name."""


S = TypeVar("S", bound=Named)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What ends a wait: signals of these names, or the instant `due_at` (microseconds UTC); without names only that.

    The instant is that of a clock, if it `is_absolute`; else it only says when a duration will have passed. The signal
    that answers a `question` has its name from the attempt; see `of_attempt`.
    """

    signals: tuple[str, ...] = ()
    combination: Combination = Combination.ONE
    due_at: int | None = None
    is_absolute: bool = False
    question: Answerable | None = None

    @property
    def kind(self) -> WaitKind:
        """The kind of the wait."""
        if self.question is not None:
            return WaitKind.APPROVAL
        if not self.signals:
            return WaitKind.SLEEP
        return WaitKind.SIGNALS if self.is_all else WaitKind.SIGNAL

    @property
    def is_all(self) -> bool:
        """Return True if all the signals have to come."""
        return self.combination is Combination.ALL

    def of_attempt(self, step: StepRef, attempt: int) -> Wanted:
        """Return what ends the wait of this attempt."""
        if self.question is None:
            return self
        return msgspec.structs.replace(self, signals=(answer_name(step, attempt),))

    def choose(self, mailbox: Sequence[S]) -> list[S]:
        """Return the signals that end the wait, from those in the order of sending; none if it goes on."""
        first: dict[str, S] = {}
        for signal in mailbox:
            if signal.name in self.signals:
                first.setdefault(signal.name, signal)
                if not self.is_all:
                    return [signal]
        return [first[name] for name in self.signals] if first and len(first) == len(self.signals) else []

    def result(self, payloads: dict[str, Any]) -> Any:
        """Return what the wait gives, from the payloads of the chosen signals by name.

        Raises:
            ValueError: an answer does not fit its question.
        """
        if self.question is not None:
            return self.question.taken(payloads[self.signals[0]])
        match self.combination:
            case Combination.ONE:
                return payloads[self.signals[0]]
            case Combination.ANY:
                return next(iter(payloads.items()))
            case Combination.ALL:
                return payloads

    def expressions(self, run_id: str, step: StepRef) -> list[str]:
        """Return the expressions that end the wait."""
        if self.question is not None:
            return [self.question.expression(run_id, step)]
        return [f'iron.get_run("{run_id}").signal("{name}")' for name in self.signals]

    def work_keys(self, step: StepRef) -> list[tuple[str, str]]:
        """Return kinds and keys of the wait in the queue of work: one for each signal, or for its instant."""
        return [(self.kind, work_key(step, name)) for name in self.signals or ("",)]

    def __str__(self) -> str:
        if self.question is not None:
            return f"an answer to {self.question}"
        names = [f'"{name}"' for name in self.signals]
        if len(names) == 1:
            return f"the signal {names[0]}"
        return f"{'all' if self.is_all else 'any'} of the signals {', '.join(names)}"


def read_payload(line: str) -> Any:
    """Return the payload of a signal that a person has typed: JSON, or else the text itself."""
    try:
        return msgspec.json.decode(line)
    except msgspec.DecodeError:
        return line


def work_key(step: StepRef, signal: str) -> str:
    """Return the key in the queue of work of a wait for that signal, or for its instant if the name is empty."""
    return f"{step}:{signal}" if signal else step


def parse_work_key(key: str) -> tuple[StepRef, str]:
    """Return the step and the name of the signal in a key of the queue of work."""
    step, _, signal = key.partition(":")
    return StepRef(step), signal


NEVER: Final = 253_402_300_799_000_000
"""The instant at which a wait without an end is due in the queue of work: the last second of the year 9999."""


def until(due_at: int | None) -> str:
    """Return the words for the end of a wait: empty without one."""
    if due_at is None or due_at >= NEVER:
        return ""
    return f" until {datetime.fromtimestamp(due_at // 1_000_000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def after(now: int, duration_s: float) -> int:
    """Return the instant that is so long after another one, microseconds UTC.

    Raises:
        ValueError: it is beyond all calendars.
    """
    if not now + duration_s * 1e6 < NEVER:
        raise ValueError(f"a wait of {duration_s:g} s would not end before the year 10000")
    return now + round(duration_s * 1e6)


def time_limit(timeout_s: Duration | None) -> Callable[[int], int | None]:
    """Return a function that gives the end of a wait for its beginning."""
    limit_s = math.inf if timeout_s is None else seconds(timeout_s)
    return lambda now: None if limit_s == math.inf else after(now, limit_s)


def waited_words(wanted: Wanted, due_at: int | None) -> str:
    """Return in words what a wait waits for, and until when: its signals, or the instant at which a sleep ends."""
    if wanted.kind is WaitKind.SLEEP:
        return until(due_at).removeprefix(" until ")
    return f"{wanted}{until(due_at)}"
