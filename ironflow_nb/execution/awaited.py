"""Runs that the main thread awaits: the interrupts that come meanwhile.

SIGINT alone does not wake an event loop that waits, and what a notebook's own handler of it leaves to the loop is done
when something else happens: when the run has ended. And where the handler raises in the loop itself, the cell never
goes on, and its run would.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

from ironflow_nb.execution.seams import LOOK_S

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, TimerHandle


class AwaitedRuns:
    """Hands an interrupt on, and tells those who await on the main thread's loop. Used by the main thread only.

    It listens for one interrupt: after that the handler of before has the word again.
    """

    def __init__(self) -> None:
        self._listeners: list[tuple[Callable[[], object], Callable[[BaseException], object]]] = []
        self._previous: Any = None

    @contextmanager
    def listening(self, wake: Callable[[], object], interrupt: Callable[[BaseException], object]) -> Iterator[None]:
        """Call `wake` when SIGINT comes, and `interrupt` with what its handler raises: who awaits does not go on then.

        Both are called at any instant, so they only set what others look at.
        """
        self._install()
        listener = wake, interrupt
        self._listeners.append(listener)
        try:
            yield
        finally:
            if listener in self._listeners:
                self._listeners.remove(listener)
            if not self._listeners:
                self._restore()

    def _install(self) -> None:
        previous = signal.getsignal(signal.SIGINT)
        if previous == self._handle:
            return
        self._listeners.clear()  # somebody has put another handler since: they belong to an earlier cell
        if callable(previous):  # ignored stays ignored
            self._previous = previous
            signal.signal(signal.SIGINT, self._handle)

    def _restore(self) -> None:
        if signal.getsignal(signal.SIGINT) == self._handle:
            signal.signal(signal.SIGINT, self._previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        __tracebackhide__ = True
        listeners, self._listeners = self._listeners, []
        self._restore()
        for wake, _ in listeners:
            with suppress(RuntimeError):  # the loop of a cell that never went on is closed
                wake()
        try:
            self._previous(number, frame)
        except BaseException as error:
            for _, interrupt in listeners:
                interrupt(error)
            raise


@contextmanager
def looking_up(loop: AbstractEventLoop) -> Iterator[None]:
    """Let the loop of the main thread wake now and then; see `LOOK_S`."""
    timer: TimerHandle

    def look() -> None:
        nonlocal timer
        timer = loop.call_later(LOOK_S, look)

    timer = loop.call_later(LOOK_S, look)
    try:
        yield
    finally:
        timer.cancel()
