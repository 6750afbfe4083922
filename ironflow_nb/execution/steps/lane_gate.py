"""The gate of an attempt in lanes: it asks once, keeps its turn, and gives its places back when the body has ended."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ironflow_nb.core.lanes import ALL_STEPS, Demand, LaneKind
from ironflow_nb.errors import DefinitionError
from ironflow_nb.execution.recording.lane_desk import Ask
from ironflow_nb.execution.session.attempts import Attempt, Promise
from ironflow_nb.execution.session.session import Session

if TYPE_CHECKING:
    from ironflow_nb.core.identity import StepRef


class LaneGate:
    """Places in lanes that one attempt of a step, or one run, needs at once."""

    def __init__(self, session: Session, demands: Sequence[Demand], step: StepRef | None = None, priority: int = 0):
        self.demands = demands
        self._session = session
        self._step = step
        self._priority = priority
        self._ask: Ask | None = None
        self._is_asking = False
        self._promise = Promise()
        self._is_over = False

    def __str__(self) -> str:
        names = ", ".join(str(demand) for demand in self.demands)
        return f"lane{'s' if len(self.demands) > 1 else ''} {names}"

    def left_s(self) -> float | None:
        """See `Gate`."""
        session, clock = self._session, self._session.access.clock
        with session.lock:
            is_first = self._ask is None and not self._is_asking
            if is_first:
                self._is_asking, self._promise = True, Promise()
        if is_first:
            self._begin()
        ask = self._ask
        if ask is None:  # another branch of the run asks at this moment, and tells `when_open`
            return math.inf
        if not ask.is_given and ask.due_s <= clock.monotonic():
            session.desk.look(ask.lanes)
        return None if ask.is_given else max(ask.due_s - clock.monotonic(), 0.0)

    def _begin(self) -> None:
        """Ask for the places, once: two asks of one run would wait for each other."""
        session, ask = self._session, None
        try:
            ask = session.desk.ask(self.demands, session.run_id, self._step, self._given, priority=self._priority)
        finally:
            with session.lock:
                self._is_asking = False
                if not self._is_over:
                    self._ask = ask
                elif ask is not None:  # the run has ended meanwhile, and dropped it
                    session.desk.leave_soon(ask)
            if self._step is None and (ask is None or ask.is_given or self._is_over):
                self._given()  # to branches that found it asking; an attempt asks alone
        if self._is_over:
            raise session.finished()

    def when_open(self) -> Promise:
        """See `Gate`."""
        return self._promise

    def _given(self) -> None:
        tell_of_open_gate(self._session, self._promise)

    def step_back(self) -> None:
        """See `Gate`."""
        ask, self._ask = self._ask, None
        if ask is not None:
            self._session.desk.leave(ask)

    def leave(self, error: BaseException | None) -> None:
        """See `Gate`."""
        self.step_back()

    def drop(self) -> None:
        """See `Gate`."""
        self._is_over = True
        self.rest()

    def rest(self) -> None:
        """See `Gate`."""
        ask, self._ask = self._ask, None
        if ask is not None:
            self._session.desk.leave_soon(ask)


def tell_of_open_gate(session: Session, promise: Promise) -> None:
    """Keep the promise of a gate that may be open now, and begin what was put back at it."""
    with session.lock:
        if not promise.is_done:
            promise.succeed(None)
    session.beside.begin_due()
    session.wakeups.wake()


def lane_gate_of(session: Session, attempt: Attempt) -> LaneGate | None:
    """Return the gate of the attempt: its own lane, and that of all steps; None if there are no such lanes.

    Raises:
        DefinitionError: its lane is that of its own run, which would wait for it, or has no key for its arguments.
    """
    spec, demands = attempt.spec, []
    if spec.lane is not None:
        arguments = attempt.call.arguments
        key = spec.lane.key_of(arguments, lambda function: spec.called_with(function, arguments), str(attempt.step))
        session.storage.refuse_secrets(f"the key of lane {spec.lane.name}", key)
        if spec.lane.name in session.lanes:
            raise DefinitionError(
                f"{attempt.step} is in lane {spec.lane.name!r}, in which its own run {session.run_id} is: they would "
                "wait for each other; give the step a lane of another name, or the flow none"
            )
        demands.append(spec.lane.demand(LaneKind.STEPS, key))
    if session.desk.max_steps is not None:
        demands.append(Demand(ALL_STEPS, "", LaneKind.STEPS, session.desk.max_steps))
    return LaneGate(session, demands, attempt.step) if demands else None
