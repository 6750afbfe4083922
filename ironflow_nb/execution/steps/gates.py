"""What an attempt must pass before it begins: its gates, one after the other.

A direct call waits at a closed gate; what is performed beside the flow is put back and begun again later, so that it
holds no thread meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Final

from ironflow_nb.core.events import RunAdmitted, RunQueued, StepQueued
from ironflow_nb.core.run_state import followed
from ironflow_nb.core.status import RunStatus
from ironflow_nb.execution.recording.journal_access import PendingEvent
from ironflow_nb.execution.session.attempts import Attempt, Gate
from ironflow_nb.execution.session.run_phase import RunLifecycle, RunPhase, RunStopped, StopRequest
from ironflow_nb.execution.session.session import Session
from ironflow_nb.execution.steps.drivers import Driver
from ironflow_nb.execution.steps.lane_gate import lane_gate_of
from ironflow_nb.execution.system.frontend import say

SAY_AFTER_S: Final = 1.0
_AROUND_S: Final = 0.05


def gates_of(session: Session, attempt: Attempt) -> tuple[Gate, ...]:
    """Return the gates of an attempt, in the order in which it passes them."""
    lane = lane_gate_of(session, attempt)
    gates = () if lane is None else (lane,)
    if attempt.spec.breaker is None:
        return gates
    from ironflow_nb.execution.steps.breaker_gate import breaker_gate_of

    # The breaker comes first: what waits there holds no place in a lane.
    return (breaker_gate_of(session, attempt, attempt.spec.breaker), *gates)


def closed_gate(session: Session, attempt: Attempt) -> tuple[Gate, float] | None:
    """Return the gate at which the attempt waits, with the maximal seconds, or None if it has passed all gates."""
    if attempt.gates is None:
        attempt.gates = gates_of(session, attempt)
        with session.lock:
            session.raise_if_late(attempt)  # otherwise its places would stay taken
            session.beside.gated.add(attempt)
    return closed(attempt.gates)


def closed(gates: tuple[Gate, ...]) -> tuple[Gate, float] | None:
    """Return the first closed gate, and after how many seconds to ask again. Those after it hold nothing."""
    for number, gate in enumerate(gates):
        left_s = gate.left_s()
        if left_s is not None:
            for after in gates[number + 1 :]:
                after.step_back()
            return gate, left_s
    return None


async def passed(driver: Driver, session: Session, attempt: Attempt) -> None:
    """Wait until the attempt has passed its gates, or its run goes on no more."""
    is_left = partial(session.is_left, session.replayer)
    while (found := closed_gate(session, attempt)) is not None and not is_left():
        gate, left_s = found
        _queue(session, attempt, str(gate))
        with session.beside.paused():
            limit_s = None if left_s == math.inf else left_s
            await driver.resolved_within(session, gate.when_open(), limit_s, is_left)


def put_back(session: Session, attempt: Attempt, gate: Gate, left_s: float) -> None:
    """Put back an attempt beside the flow that waits at a gate: it is begun again when it may pass."""
    _queue(session, attempt, str(gate))
    session.beside.look_again(attempt, left_s)
    with session.lock:
        gate.when_open().when_done(lambda: session.beside.look_now(attempt))
    session.beside.begin_due()
    session.wakeups.wake()  # a thread that waits for the run waits no longer than for the attempt


async def admitted(driver: Driver, session: Session) -> None:
    """Wait until the run has its places in lanes, and so have the runs around it: what waits gives them back."""
    around: RunLifecycle | None = session
    while around is not None:
        if around.admission is not None:
            await _admitted(driver, session, around, around.admission)
        around = around.parent


async def _admitted(driver: Driver, session: Session, run: RunLifecycle, gate: Gate) -> None:
    is_said = run is not session or session.parent is not None or session.waits.is_parkable
    is_left = partial(session.is_left, session.replayer)
    while (left_s := gate.left_s()) is not None:
        if is_left():
            session.writer.raise_fatal_error()
            raise RunStopped(StopRequest.INTERRUPT, None)
        note_queued(run, gate)
        if run is not session:  # whose lock is another one
            await driver.pause(session, min(left_s, _AROUND_S))
            continue
        limit_s = min(left_s, math.inf if is_said else SAY_AFTER_S)
        with session.beside.paused():
            await driver.resolved_within(session, gate.when_open(), None if limit_s == math.inf else limit_s, is_left)
        if not is_said and gate.left_s() is not None:
            is_said = True
            say(f"run {session.run_id}: waiting for {gate}")
    with run.lock:
        if run.writer.row is not None and run.writer.row.status is RunStatus.PENDING:
            run.writer.defer(PendingEvent(RunAdmitted()))


def note_queued(run: RunLifecycle, gate: Gate) -> None:
    """Add to the next commit that the run is pending."""
    with run.lock:
        if run.writer.row is not None and run.writer.row.status is RunStatus.RUNNING:
            run.writer.defer(PendingEvent(RunQueued(waits_for=str(gate))))


def start_when_admitted(session: Session, gate: Gate, start: Callable[[], None]) -> None:
    """Start the run once it has its places in lanes, or is to stop; until then it holds no thread."""
    is_started: list[bool] = []

    def start_once() -> None:
        with session.lock:
            if is_started:
                return
            is_started.append(True)
            session.queue(is_queued=False)
        start()

    session.start_by(start_once)
    if gate.left_s() is None:
        start_once()
        return
    note_queued(session, gate)
    with session.lock:
        session.queue(is_queued=not is_started)
        gate.when_open().when_done(start_once)
    if session.stop_request is not None:  # it came before it could find what starts the run
        start_once()


def _queue(session: Session, attempt: Attempt, waits_for: str) -> None:
    """Add to the next commit that the attempt has to wait before it begins, once."""
    identity, branch, nth = attempt.call.place
    session.beside.has_waited = True
    with session.lock:
        if attempt.queued is None and session.phase is RunPhase.OPEN and session.writer.fatal_error is None:
            queued = StepQueued(
                name=attempt.spec.name, index=attempt.index, identity=identity, code=attempt.code, branch=branch,
                nth=nth, reason=attempt.reason.value, site=attempt.call.site or "", waits_for=waits_for,
            )  # fmt: skip
            if attempt.failed is not None:
                session.writer.put(followed(attempt.failed, attempt.reason.value))
            attempt.queued = session.writer.defer(PendingEvent(queued, attempt.step, attempt.number))


def leave_gates(session: Session, attempt: Attempt, error: BaseException | None) -> None:
    """Open the gates of an attempt that has ended, with an error if there is one, for others."""
    session.beside.gated.discard(attempt)
    for gate in attempt.gates or ():
        gate.leave(error)
