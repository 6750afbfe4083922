"""What a decision says, and what comes of a command."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Any, Generic, NoReturn, TypeVar

from ironflow_nb.core.durations import Duration, seconds
from ironflow_nb.errors import CommandRejected, DecisionError, InstanceCompleted

E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Timer:
    """A command that the instance sends itself after a while; one with a key replaces that of the same key."""

    delay_s: float
    command: Any
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Accept(Generic[E]):
    """The command is accepted: these events happened; effects and timers are written with them."""

    events: tuple[E, ...]
    effects: tuple[Any, ...] = ()
    timers: tuple[Timer, ...] = ()
    cancelled: tuple[str, ...] = ()

    def effect(self, *effects: Any) -> Accept[E]:
        """Return the decision with effects that are to be performed once it is committed."""
        return replace(self, effects=(*self.effects, *effects))

    def timer(self, delay: Duration, command: Any, *, key: str | None = None) -> Accept[E]:
        """Return the decision with a command that is sent after `delay`; one with that `key` is replaced."""
        if key is not None and not isinstance(key, str):
            raise DecisionError(f"the key of a timer is a text, not {key!r}")
        return replace(self, timers=(*self.timers, Timer(seconds(delay), command, key)))

    def cancel_timer(self, key: str) -> Accept[E]:
        """Return the decision with the timer of that key cancelled, if there is one."""
        return replace(self, cancelled=(*self.cancelled, key))


@dataclass(frozen=True, slots=True)
class Reject:
    """The command is refused; nothing changes."""

    reason: Any

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise DecisionError(
            f"a rejection ({self.reason!r}) changes nothing, so it can't have effects or timers; accept an event that "
            "says what was refused, if something must follow"
        )

    effect = timer = cancel_timer = _refuse


def accept(*events: E) -> Accept[E]:
    """Return the decision that these events happened.

    Raises:
        DecisionError: there are none; what changes nothing is a rejection.
    """
    if not events:
        raise DecisionError("accept() needs at least one event; what changes nothing is a reject(reason)")
    return Accept(events)


def reject(reason: Hashable | object) -> Reject:
    """Return the decision that the command is refused; `reason` is any value that JSON keeps."""
    return Reject(reason)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The command was accepted: so many events were recorded, and the instance has that version now.

    `position` is that of the newest event in the journal then: the last one of this commit, or, where the command is a
    repeated one, any later one. A projection that has waited for it has folded what was decided.
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
    """The command was refused."""

    reason: Any
    is_repeated: bool = False

    def unwrap(self) -> NoReturn:
        """Raise `CommandRejected`."""
        raise CommandRejected(f"the command was rejected: {self.reason}", reason=self.reason)


@dataclass(frozen=True, slots=True)
class AlreadyCompleted:
    """The instance was completed before, so nothing was decided."""

    instance: str
    is_repeated: bool = False

    def unwrap(self) -> NoReturn:
        """Raise `InstanceCompleted`."""
        raise InstanceCompleted(
            f"instance {self.instance} is completed and decides nothing any more", instance=self.instance
        )


Outcome = Accepted | Rejected | AlreadyCompleted
