"""A clock that a test moves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ironflow_nb.execution import AwaitedWakeup, SystemThreads, Wakeup

_IDLE_S: Final = 0.001
START_AT: Final = 1_893_456_000_000_000  # 2030-01-01T00:00:00Z in microseconds


class SimClock:
    """A clock that stands still. `advance` moves it, and so does every wait that times out."""

    def __init__(self, start_at: int = START_AT) -> None:
        self._now = start_at
        self._monotonic_s = start_at / 1e6
        self._waiting: list[tuple[Wakeup | AwaitedWakeup, float]] = []
        self._lock = SystemThreads().lock()

    def now(self) -> int:
        """Return the instant in microseconds UTC."""
        return self._now

    def monotonic(self) -> float:
        """Return seconds that grow when the clock moves on, and stay when it is set back."""
        return self._monotonic_s

    def advance(self, duration_s: float) -> None:
        """Move the clock on, or back, as clocks of machines are sometimes set back. Waits that are over then end."""
        self._now += round(duration_s * 1e6)
        self._monotonic_s += max(duration_s, 0.0)
        for wakeup, ends_s in list(self._waiting):
            if ends_s <= self._monotonic_s:
                wakeup.set()

    def wait(self, wakeup: Wakeup, timeout_s: float | None, *, is_idle: bool = False) -> bool:
        """Wait for the wakeup in real time, 1 ms if nothing is running; move the clock on by a timeout."""
        with self._noted(wakeup, timeout_s) as ends_s:
            is_woken = wakeup.take(_real_s(timeout_s, is_idle=is_idle))
        return self._passed(is_woken, ends_s)

    async def wait_on_loop(self, wakeup: AwaitedWakeup, timeout_s: float | None, *, is_idle: bool = False) -> bool:
        """Like `wait`, in a coroutine."""
        with self._noted(wakeup, timeout_s) as ends_s:
            is_woken = await wakeup.taken(_real_s(timeout_s, is_idle=is_idle))
        return self._passed(is_woken, ends_s)

    @contextmanager
    def _noted(self, wakeup: Wakeup | AwaitedWakeup, timeout_s: float | None) -> Iterator[float]:
        """Note the wait while it lasts; yield when it is over."""
        waiting = wakeup, math.inf if timeout_s is None else self._monotonic_s + timeout_s
        self._waiting.append(waiting)
        try:
            yield waiting[1]
        finally:
            self._waiting.remove(waiting)

    def _passed(self, is_woken: bool, ends_s: float) -> bool:  # noqa: FBT001
        """Move the clock on to the end of the wait: of several for the same instant only the first moves it."""
        if not is_woken:
            with self._lock:
                left_s = ends_s - self._monotonic_s
                if 0 < left_s < math.inf:
                    self.advance(left_s)
        return is_woken


def _real_s(timeout_s: float | None, *, is_idle: bool) -> float | None:
    return min(timeout_s, _IDLE_S) if is_idle and timeout_s is not None else timeout_s
