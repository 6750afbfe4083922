"""Tests of deciders without a journal: given events, when a command comes, then this follows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pprint import pformat
from typing import Any, Final

from ironflow_nb.deciders.decisions import Accept, Reject
from ironflow_nb.deciders.machine import AnyMachine

NOW: Final = datetime(2030, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Given:
    """A machine after some events."""

    machine: AnyMachine
    events: tuple[Any, ...]
    now: datetime = NOW

    def at(self, now: datetime) -> Given:
        """Return the same at another time."""
        return Given(self.machine, self.events, now)

    @property
    def state(self) -> Any:
        """The state after the events."""
        state = self.machine.initial
        for event in self.events:
            state = self.machine.evolve_with(state, event)
        return state

    def when(self, command: Any) -> When:
        """Let it decide a command."""
        return When(self, command, self.machine.decide_with(self.state, command, self.now))


@dataclass(frozen=True, slots=True)
class When:
    """What was decided."""

    given: Given
    command: Any
    decision: Any

    def then(
        self,
        *events: Any,
        effects: Iterable[Any] | None = None,
        timers: Iterable[Any] | None = None,
        rejected: Any = None,
        state: Any = None,
    ) -> Given:
        """Check the decision; return what follows, so that more commands can be decided.

        Args:
            events: what happened, in order.
            effects: what is to be performed; not looked at by default.
            timers: the keys of the timers that are set; not looked at by default.
            rejected: the reason of a rejection, instead of events.
            state: the state afterwards; not looked at by default.

        Raises:
            AssertionError: it is something else; the message shows the difference.
        """
        __tracebackhide__ = True
        if not isinstance(self.decision, Accept):
            self._same("the rejection", rejected, getattr(self.decision, "reason", self.decision))
            return self.given
        self._same("the rejection", rejected, None)
        self._same("the events", list(events), list(self.decision.events))
        if effects is not None:
            self._same("the effects", list(effects), list(self.decision.effects))
        if timers is not None:
            self._same("the timers", list(timers), [timer.key or timer.command for timer in self.decision.timers])
        after = Given(self.given.machine, (*self.given.events, *self.decision.events), self.given.now)
        if state is not None:
            self._same("the state", state, after.state)
        return after

    def _same(self, what: str, expected: Any, found: Any) -> None:
        __tracebackhide__ = True
        if expected == found and type(expected) is type(found):
            return
        told = self.decision.reason if isinstance(self.decision, Reject) else None
        because = "" if told is None else f" (it was rejected: {told!r})"
        lines = difflib.ndiff(pformat(expected).splitlines(), pformat(found).splitlines())
        raise AssertionError(
            f"{self.given.machine.name}, given {list(self.given.events)!r}, when {self.command!r}: {what} "
            f"differ{because}\n" + "\n".join(lines)
        )
