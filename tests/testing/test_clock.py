"""The clock that a test moves."""

from __future__ import annotations

import time

from ironflow_nb.execution.system.system import SystemWakeup
from ironflow_nb.testing.clock import START_AT, SimClock


def test_time_stands_still_until_it_is_moved() -> None:
    clock = SimClock()
    assert clock.now() == clock.now() == START_AT
    clock.advance(1.5)
    assert clock.now() == START_AT + 1_500_000
    before_s = clock.monotonic()
    clock.advance(-2)
    assert clock.now() == START_AT - 500_000
    assert clock.monotonic() == before_s
    clock.advance(0.25)
    assert clock.monotonic() == before_s + 0.25


def test_a_wait_in_vain_passes_and_one_that_is_woken_does_not() -> None:
    clock, wakeup = SimClock(), SystemWakeup()
    assert clock.wait(wakeup, 0.01) is False
    assert clock.now() == START_AT + 10_000
    wakeup.set()
    began_s = time.perf_counter()
    assert clock.wait(wakeup, 30) is True
    assert time.perf_counter() - began_s < 20
    assert clock.now() == START_AT + 10_000
