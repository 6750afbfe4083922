"""A clock that a test moves."""

from __future__ import annotations

from typing import Final

from ironflow_nb.execution import AwaitedWakeup, Wakeup

_IDLE_S: Final = 0.001
START_AT: Final = 1_893_456_000_000_000  # 2030-01-01T00:00:00Z in microseconds


class SimClock:
    """A clock that stands still. `advance` moves it, and so does every wait that times out."""

    def __init__(self, start_at: int = START_AT) -> None:
        self._now = start_at
        self._monotonic_s = start_at / 1e6

    def now(self) -> int:
        """Return the instant in microseconds UTC."""
        return self._now

    def monotonic(self) -> float:
        """Return seconds that grow when the clock moves on, and stay when it is set back."""
        return self._monotonic_s

    def advance(self, duration_s: float) -> None:
        """Move the clock on, or back, as clocks of machines are sometimes set back."""
        self._now += round(duration_s * 1e6)
        self._monotonic_s += max(duration_s, 0.0)

    def wait(self, wakeup: Wakeup, timeout_s: float | None, *, is_idle: bool = False) -> bool:
        """Wait for the wakeup in real time, 1 ms if nothing is running; move the clock on by a timeout."""
        return self._passed(wakeup.take(_real_s(timeout_s, is_idle=is_idle)), timeout_s)

    async def wait_on_loop(self, wakeup: AwaitedWakeup, timeout_s: float | None, *, is_idle: bool = False) -> bool:
        """Like `wait`, in a coroutine."""
        return self._passed(await wakeup.taken(_real_s(timeout_s, is_idle=is_idle)), timeout_s)

    def _passed(self, woken: bool, timeout_s: float | None) -> bool:  # noqa: FBT001
        if not woken and timeout_s is not None:
            self.advance(timeout_s)
        return woken


def _real_s(timeout_s: float | None, *, is_idle: bool) -> float | None:
    return min(timeout_s, _IDLE_S) if is_idle and timeout_s is not None else timeout_s
