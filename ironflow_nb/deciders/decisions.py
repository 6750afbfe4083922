"""Decisions, which `decide` returns, and outcomes, which `send` returns."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Generic, NoReturn, TypeVar

from ironflow_nb.core.durations import Duration, seconds
from ironflow_nb.errors import CommandRejected, DecisionError, InstanceCompleted

E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Timer:
    """A command that is sent to the instance after a delay. It replaces the timer of the same key."""

    delay_s: float
    command: Any
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Accept(Generic[E]):
    """The command is accepted: these events are recorded, together with effects and timers."""

    events: tuple[E, ...]
    effects: tuple[Any, ...] = ()
    timers: tuple[Timer, ...] = ()
    cancelled: tuple[str, ...] = ()

    def effect(self, *effects: Any) -> Accept[E]:
        """Return the decision with effects, which are performed after it is committed."""
        return replace(self, effects=(*self.effects, *effects))

    def timer(self, delay: Duration, command: Any, *, key: str | None = None) -> Accept[E]:
        """Return the decision with a command that is sent after `delay`. It replaces the timer of the same `key`."""
        if key is not None and not isinstance(key, str):
            raise DecisionError(f"the key of a timer must be a str, got {key!r}")
        return replace(self, timers=(*self.timers, Timer(seconds(delay), command, key)))

    def cancel_timer(self, key: str) -> Accept[E]:
        """Return the decision with the timer of that key cancelled, if there is one."""
        return replace(self, cancelled=(*self.cancelled, key))


@dataclass(frozen=True, slots=True)
class Reject:
    """The command is rejected; nothing changes."""

    reason: Any

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise DecisionError(
            f"a rejection ({self.reason!r}) changes nothing, so it can't have effects or timers; if something must "
            "follow, accept an event that records the rejection"
        )

    effect = timer = cancel_timer = _refuse


def accept(*events: E) -> Accept[E]:
    """Return the decision to record these events.

    Raises:
        DecisionError: there is no event; a decision that changes nothing is a rejection.
    """
    if not events:
        raise DecisionError("accept() needs at least one event; to change nothing, return reject(reason)")
    return Accept(events)


def reject(reason: Hashable | object) -> Reject:
    """Return the decision to reject the command; `reason` is any value that JSON can hold."""
    return Reject(reason)


class OutcomeKind(StrEnum):
    """The kinds of outcomes, as observations record them."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    ALREADY_COMPLETED = "already_completed"


@dataclass(frozen=True, slots=True)
class Accepted:
    """The command was accepted: `n_events` were recorded, and the instance has the `version`.

    `position` is that of the newest event in the journal: the last one of this commit, or a later one if the command is
    repeated. A projection that has reached it has folded the events of the command.
    """

    n_events: int
    version: int
    is_repeated: bool = False
    position: int = field(default=0, compare=False)

    def unwrap(self) -> Accepted:
        """Return it."""
        return self


@dataclass(frozen=True, slots=True)
class Rejected:
    """The command was rejected."""

    reason: Any
    is_repeated: bool = False

    def unwrap(self) -> NoReturn:
        """Raise `CommandRejected`."""
        raise CommandRejected(f"the command was rejected: {self.reason}", reason=self.reason)


@dataclass(frozen=True, slots=True)
class AlreadyCompleted:
    """The instance is completed, so nothing was decided."""

    instance: str
    is_repeated: bool = False

    def unwrap(self) -> NoReturn:
        """Raise `InstanceCompleted`."""
        raise InstanceCompleted(
            f"instance {self.instance} is completed and decides nothing any more", instance=self.instance
        )


Outcome = Accepted | Rejected | AlreadyCompleted
