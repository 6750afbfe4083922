"""Wakeups of threads: each set ends a wait, and a wait whose time is up ends."""

from __future__ import annotations

import threading

from ironflow_nb.execution.system.system import SystemWakeup


def test_a_wait_of_almost_no_time_ends_after_each_set() -> None:
    # Where the time was up before a lock was taken that an earlier set had left free, the wait never ended.
    def waits() -> None:
        for _ in range(20_000):
            wakeup = SystemWakeup()
            wakeup.set()
            assert wakeup.take(1.0)
            assert not wakeup.take(2.4e-7)

    waiting = threading.Thread(target=waits, daemon=True)
    waiting.start()
    waiting.join(60)
    assert not waiting.is_alive()


def test_several_sets_end_one_wait() -> None:
    wakeup = SystemWakeup()
    for _ in range(3):
        wakeup.set()
    assert wakeup.take(None)
    assert not wakeup.take(0.0)


def test_a_set_of_another_thread_ends_a_wait_without_a_limit() -> None:
    wakeup = SystemWakeup()
    threading.Timer(0.05, wakeup.set).start()
    assert wakeup.take(None)


def test_a_wait_that_is_over_before_it_begins_is_none() -> None:
    wakeup = SystemWakeup()
    assert not wakeup.take(-1.0)
    wakeup.set()
    assert wakeup.take(-1.0)
