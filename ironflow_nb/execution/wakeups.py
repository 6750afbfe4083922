"""Who waits for something to happen in a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from ironflow_nb.execution.seams import Wakeup

W = TypeVar("W", bound=Wakeup)


class Wakeups:
    """The wakeups of those who wait. Any thread may wake them: the list is only appended to, taken from or copied."""

    def __init__(self) -> None:
        self._waiting: list[Wakeup] = []

    def wake(self) -> None:
        """Let everybody who waits look again."""
        for wakeup in list(self._waiting):
            wakeup.set()

    def wake_others(self) -> None:
        """Let the others look again, if there are any: what they wait for may have come from this thread."""
        if len(self._waiting) > 1:
            self.wake()

    @contextmanager
    def woken(self, wakeup: W) -> Iterator[W]:
        """Let the wakeup be set whenever something happens."""
        self._waiting.append(wakeup)
        try:
            yield wakeup
        finally:
            self._waiting.remove(wakeup)


class LoopWakeup:
    """A wakeup that a coroutine waits for; any thread may set it."""

    def __init__(self) -> None:
        import asyncio

        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def set(self) -> None:
        """See `Wakeup`."""
        self._loop.call_soon_threadsafe(self._event.set)

    def take(self, timeout_s: float | None) -> bool:
        """Never used: a coroutine awaits."""
        raise AssertionError(timeout_s)

    async def taken(self, timeout_s: float | None) -> bool:
        """Do as `take` does in a coroutine."""
        import asyncio

        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True
