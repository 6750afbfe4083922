"""The gate of an attempt at a circuit breaker: it waits while that is open, and tells it how it has ended.

A closed breaker costs a read before an attempt, and another after it. A waiting attempt looks again when an attempt of
its process has ended, and otherwise after a second. So other processes need not send messages, and may die.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from ironflow_nb.core.breaker_rules import BreakerRule, BreakerState, BreakerStatus, asked_with
from ironflow_nb.core.durations import seconds
from ironflow_nb.errors import DefinitionError, IronflowError
from ironflow_nb.execution.session.attempts import Attempt, Promise
from ironflow_nb.execution.session.session import Session
from ironflow_nb.execution.steps.lane_gate import tell_of_open_gate
from ironflow_nb.execution.system.frontend import logger
from ironflow_nb.journal.breaker_rows import ChangedBreaker, breakers_of
from ironflow_nb.journal.ports import Durability, Reader, RunCommit

LOOK_S: Final = 1.0


class BreakerGate:
    """What an attempt passes only while its breaker is closed, or as its probe."""

    def __init__(self, session: Session, rule: BreakerRule, attempt: Attempt) -> None:
        self._session = session
        self._access = session.access
        self._rule = rule
        self._attempt = f"{session.run_id} {attempt.step} {attempt.number}"
        self._left_s: float | None = None
        self._is_half_open = self._is_probe = False
        self._promise = Promise()

    def __str__(self) -> str:
        return f"breaker {self._rule.name}"

    def left_s(self) -> float | None:
        """See `Gate`.

        Raises:
            DefinitionError: a living process uses the breaker with other numbers.
        """
        with self._access.current() as reader:
            found = breakers_of(reader).breaker(self._rule.name)
            if found is not None:
                self._refuse_other_numbers(reader, found)
            is_as_it_was = self._met(reader, found) == found
        if not is_as_it_was:  # the first ask, an ask with other numbers, or the probe
            self._change(self._met)
        self._is_probe = self._left_s is None and self._is_half_open
        return self._left_s

    def _met(self, reader: Reader, found: BreakerState | None) -> BreakerState:
        """Return the breaker as it is after the attempt has asked; note for how long it has to wait."""
        now = self._access.clock.now()
        state = asked_with(found, self._rule, self._access.owner, now)
        status = state.status(now)
        self._left_s, self._is_half_open = None, status is BreakerStatus.HALF_OPEN
        if status is BreakerStatus.OPEN:
            self._left_s = min(state.left_s(now), LOOK_S)
        elif self._is_half_open and (state.probe, state.probe_owner) != (self._attempt, self._access.owner):
            # An attempt has the same name in the process that continues the run of a dead one: it is another probe.
            if state.probe is None or not self._access.is_owner_alive(reader, state.probe_owner):
                return state.probed(self._attempt, now)
            self._left_s = LOOK_S
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
        """See `Gate`: it is kept when an attempt of this process has told the breaker something."""
        if self._promise.is_done:
            self._promise = Promise()
        waiting = self._access.at_breakers.setdefault(self._rule.name, [])
        if self._wake not in waiting:
            waiting.append(self._wake)
        return self._promise

    def _wake(self) -> None:
        tell_of_open_gate(self._session, self._promise)

    def step_back(self) -> None:
        """See `Gate`."""
        self.drop()

    def leave(self, error: BaseException | None) -> None:
        """See `Gate`. An error after which no other try makes sense says nothing about what is called."""
        is_failure = error is not None and getattr(error, "is_retryable", not isinstance(error, IronflowError))
        if error is not None and not is_failure:
            self.drop()
            return
        now, is_probe, self._is_probe = self._access.clock.now(), self._is_probe, False
        change = BreakerState.succeeded if error is None else BreakerState.failed
        self._tell(lambda state: change(state, self._attempt, now), is_owed=is_probe)
        for wake in self._access.at_breakers.pop(self._rule.name, ()):
            wake()

    def drop(self) -> None:
        """See `Gate`: only a probe keeps others from beginning."""
        if self._is_probe:
            self._is_probe = False
            self._tell(lambda state: state.dropped(self._attempt), is_owed=True)

    def _tell(self, change: Callable[[BreakerState], BreakerState], *, is_owed: bool) -> None:
        """Tell the breaker. What the journal refuses of that is no failure of the attempt, whose body has run.

        If it `is_owed`, it is told later then: all others wait for the end of a probe as long as its process lives.
        """
        try:
            with self._access.current() as reader:
                state = breakers_of(reader).breaker(self._rule.name)
            if state is not None and change(state) is not state:
                self._change(lambda _, found: None if found is None else change(found))
        except IronflowError as error:
            logger().debug("breaker %s was not told of %s: %s", self._rule.name, self._attempt, error)
            if is_owed:
                self._access.owed.append(partial(self._tell, change, is_owed=True))

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
