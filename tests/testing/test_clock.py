"""The clock that a test moves."""

from __future__ import annotations

import threading
import time
from typing import Any

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


def test_several_waits_that_time_out_at_the_same_instant_move_the_clock_once() -> None:
    class OutOfTime:
        """A wakeup that nobody sets; it gives up when all threads wait."""

        def take(self, _: float | None) -> bool:
            together.wait(10)
            return False

        def set(self) -> None: ...

    clock, together = SimClock(), threading.Barrier(4)
    wakeup: Any = OutOfTime()
    threads = [threading.Thread(target=clock.wait, args=(wakeup, 20.0)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.now() == SimClock().now() + 20_000_000
