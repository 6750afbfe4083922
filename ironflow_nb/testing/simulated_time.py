"""Time that passes in a test: a `SimClock` is moved from one due instant to the next, and what is due is done."""

from __future__ import annotations

from ironflow_nb.core.durations import Duration, seconds
from ironflow_nb.core.status import RunStatus
from ironflow_nb.execution import REGISTRY, Engine, Waker
from ironflow_nb.testing.clock import SimClock

_LOOK_S = 0.001
_LOOKS = 60_000


def pass_time(engine: Engine, duration: Duration) -> None:
    """Move the clock of the engine on, and stop wherever a schedule fires, an event is due, or a wait ends.

    At each of these instants it goes on when what begins then has ended, or waits. So a month of a daily schedule is
    thirty runs, one after the other, without waiting.

    Raises:
        TypeError: the engine has another clock than a `SimClock`.
        TimeoutError: something that is due has not ended after a minute.
    """
    clock = engine.clock
    if not isinstance(clock, SimClock):
        raise TypeError(f"time passes for an engine with a SimClock, as the fixture iron_engine has it, not {clock!r}")
    until, waker = clock.now() + round(seconds(duration) * 1e6), Waker(engine)
    while True:
        _do_due(engine, waker)
        with engine.reading() as reader:
            next_at = min(reader.next_due_at(clock.now()), until)
        if next_at <= clock.now():
            return
        clock.advance((next_at - clock.now()) / 1e6)


def _do_due(engine: Engine, waker: Waker) -> None:
    """Do what is due, and wait until nothing of it goes on."""
    wakeup = engine.threads.wakeup()
    for _ in range(_LOOKS):
        if not waker.look(is_new=True) and not _is_busy(engine):
            return
        wakeup.take(_LOOK_S)
    raise TimeoutError("what is due at this instant has not ended after a minute")


def _is_busy(engine: Engine) -> bool:
    rows = [each.writer.row for each in list(engine.sessions.values()) if each.is_open]
    if any(row is None or row.status is not RunStatus.WAITING for row in rows):
        return True
    with engine.reading() as reader:
        starts = reader.starts(REGISTRY.startable())
        due = [*starts, *reader.ended_waits(engine.clock.now())]
    return any(each.due_at <= engine.clock.now() for each in due)
