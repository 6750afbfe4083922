"""Tests of deciders without a journal: given events, when a command is sent, then these events follow."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pprint import pformat
from typing import Any, Final

from ironflow_nb.deciders.decider_definition import AnyDecider
from ironflow_nb.deciders.decisions import Accept, Reject

NOW: Final = datetime(2030, 1, 1, tzinfo=UTC)
_NOTHING: Final[Accept[Any]] = Accept(())


@dataclass(frozen=True, slots=True)
class Given:
    """A decider after some events. `before` holds the state before them, if it is not the initial one."""

    decider: AnyDecider
    events: tuple[Any, ...]
    now: datetime = NOW
    before: tuple[Any] | None = None

    def at(self, now: datetime) -> Given:
        """Return the same decider and events, with another time for `decide`."""
        return replace(self, now=now)

    @property
    def state(self) -> Any:
        """The state after the events."""
        state = self.decider.initial if self.before is None else copy.deepcopy(self.before[0])
        for event in self.events:
            state = self.decider.evolve_with(state, event)
        return state

    def when(self, command: Any) -> When:
        """Return the decision about the command."""
        return When(self, command, self.decider.decide_with(self.state, command, self.now))


@dataclass(frozen=True, slots=True)
class When:
    """A decision, with the command and the events before it."""

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
        """Check the decision; return the decider after its events, for further commands.

        Args:
            events: the expected events, in order.
            effects: the expected effects; not checked by default.
            timers: the keys of the expected timers, or their commands; not checked by default.
            rejected: the reason of a rejection, after which there are no events, effects or timers.
            state: the expected state after the events; not checked by default.

        Raises:
            AssertionError: the decision is another one; the message shows the difference.
        """
        __tracebackhide__ = True
        decided = self.decision if isinstance(self.decision, Accept) else _NOTHING
        self._require_equal("the rejection", rejected, self._reason)
        self._require_equal("the events", list(events), list(decided.events))
        if effects is not None:
            self._require_equal("the effects", list(effects), list(decided.effects))
        if timers is not None:
            self._require_equal("the timers", list(timers), [timer.key or timer.command for timer in decided.timers])
        after = replace(self.given, events=(*self.given.events, *decided.events))
        if state is not None:
            self._require_equal("the state", state, after.state)
        return after

    @property
    def _reason(self) -> Any:
        return self.decision.reason if isinstance(self.decision, Reject) else None

    def _require_equal(self, subject: str, expected: Any, found: Any) -> None:
        __tracebackhide__ = True
        if expected == found and type(expected) is type(found):
            return
        because = "" if self._reason is None else f" (it was rejected: {self._reason!r})"
        lines = difflib.ndiff(pformat(expected).splitlines(), pformat(found).splitlines())
        raise AssertionError(
            f"{self.given.decider.name}, given {list(self.given.events)!r}, when {self.command!r}: {subject} "
            f"differ{because}\n" + "\n".join(lines)
        )
