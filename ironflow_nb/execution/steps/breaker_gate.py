"""The gate of an attempt at a circuit breaker: it waits while that is open, and tells it how it has ended.

A closed breaker costs a read before an attempt, and another after it. Who waits looks again itself, at the latest after
a second: so a reset, or the end of a probe whose process died, is met without a message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ironflow_nb.core.breaker_rules import BreakerRule, BreakerState, BreakerStatus, asked_with
from ironflow_nb.core.durations import seconds
from ironflow_nb.errors import DefinitionError, IronflowError
from ironflow_nb.execution.session.attempts import Attempt, Promise
from ironflow_nb.execution.session.session import Session
from ironflow_nb.execution.system.frontend import logger
from ironflow_nb.journal.breaker_rows import ChangedBreaker, breakers_of
from ironflow_nb.journal.ports import Durability, Reader, RunCommit

LOOK_S: Final = 1.0
PROBE_LOOK_S: Final = 0.05
"""So soon who waits for the end of a probe looks again."""


class BreakerGate:
    """What an attempt passes only while its breaker is closed, or as its probe."""

    def __init__(self, session: Session, rule: BreakerRule, attempt: Attempt) -> None:
        self._session = session
        self._access = session.access
        self._rule = rule
        self._attempt = f"{session.run_id} {attempt.step} {attempt.number}"
        self._left_s: float | None = None
        self._has_asked = False

    def __str__(self) -> str:
        return f"breaker {self._rule.name}"

    def left_s(self) -> float | None:
        """See `Gate`.

        Raises:
            DefinitionError: a living process uses the breaker with other numbers.
        """
        with self._access.current() as reader:
            state = breakers_of(reader).breaker(self._rule.name)
            if state is not None:
                self._refuse_other_numbers(reader, state)
        is_known = state is not None and state == asked_with(state, self._rule, self._access.owner, 0)
        self._has_asked = True
        if state is not None and is_known and state.opened_at is None:
            return None
        self._change(self._met)
        return self._left_s

    def _met(self, reader: Reader, found: BreakerState | None) -> BreakerState:
        """Return the breaker as it is after the attempt has asked; note for how long it has to wait."""
        now = self._access.clock.now()
        state = asked_with(found, self._rule, self._access.owner, now)
        match state.status(now):
            case BreakerStatus.CLOSED:
                self._left_s = None
            case BreakerStatus.OPEN:
                self._left_s = min(state.left_s(now), LOOK_S)
            case BreakerStatus.HALF_OPEN:
                is_probed = state.probe is not None and self._access.is_owner_alive(reader, state.probe_owner)
                if is_probed and state.probe != self._attempt:
                    self._left_s = PROBE_LOOK_S
                else:
                    self._left_s = None
                    return state.probed(self._attempt, now)
        return state

    def _refuse_other_numbers(self, reader: Reader, state: BreakerState) -> None:
        if (state.failures, state.open_s) == (self._rule.failures, seconds(self._rule.open_s)):
            return
        if state.owner != self._access.owner and self._access.is_owner_alive(reader, state.owner):
            other = BreakerRule(state.name, state.failures, state.open_s)
            raise DefinitionError(
                f"breaker {state.name!r} has {self._rule.numbers} here, and {other.numbers} in another process, which "
                "uses it now; a breaker has the same numbers for all: pass the same iron.Breaker, or take another name"
            )

    def when_open(self) -> Promise:
        """See `Gate`: nobody tells, so it is asked again."""
        return Promise()

    def step_back(self) -> None:
        """See `Gate`."""
        self.drop()

    def leave(self, error: BaseException | None) -> None:
        """See `Gate`. An error after which no other try makes sense says nothing about what is called."""
        if error is None:
            self._tell(lambda state: state.succeeded(self._attempt, self._access.clock.now()))
        elif getattr(error, "is_retryable", not isinstance(error, IronflowError)):
            self._tell(lambda state: state.failed(self._attempt, self._access.clock.now()))
        else:
            self.drop()
        self._has_asked = False

    def drop(self) -> None:
        """See `Gate`."""
        if self._has_asked:
            self._has_asked = False
            self._tell(lambda state: state.dropped(self._attempt))

    def _tell(self, change: Callable[[BreakerState], BreakerState]) -> None:
        """Tell the breaker. What the journal refuses of that is no failure of the attempt, whose body has run."""
        try:
            with self._access.current() as reader:
                state = breakers_of(reader).breaker(self._rule.name)
            if state is not None and change(state) is not state:
                self._change(lambda _, found: None if found is None else change(found))
        except IronflowError as error:
            logger().debug("breaker %s was not told of %s: %s", self._rule.name, self._attempt, error)

    def _change(self, change: Callable[[Reader, BreakerState | None], BreakerState | None]) -> None:
        def act(reader: Reader) -> Sequence[RunCommit]:
            found = breakers_of(reader).breaker(self._rule.name)
            after = change(reader, found)
            if after is None or after == found:
                return []
            return [RunCommit(run_id=self._session.run_id, events=(), additions=(ChangedBreaker(after),))]

        # What is lost of it in a power cut matters to nobody: it is found out again by the next failures.
        self._access.exchange(act, Durability.PROCESS)


def breaker_gate_of(session: Session, attempt: Attempt, rule: BreakerRule) -> BreakerGate:
    """Return the gate of the attempt at that breaker.

    Raises:
        DefinitionError: another step of the run has the breaker with other numbers.
    """
    known = session.breakers.setdefault(rule.name, rule)
    if (known.failures, known.open_s) != (rule.failures, rule.open_s):
        raise DefinitionError(
            f"breaker {rule.name!r} has {rule.numbers} for {attempt.step} of run {session.run_id}, and {known.numbers} "
            "for another step of it; a breaker has the same numbers for all: pass the same iron.Breaker"
        )
    return BreakerGate(session, rule, attempt)
