"""Keyboard interrupts that never break the engine's own state.

While a run is in the main thread, SIGINT is taken by a handler of ours. It looks at the frames that it interrupts: if
the innermost frame of this package among them is `call_body`, the user's code is running and gets its
KeyboardInterrupt at once. Otherwise the engine is at work (encoding, committing, moving counters), and the interrupt
is kept until the engine says that it stands well, which it does whenever a step ends and whenever it waits.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final, ParamSpec, TypeVar

from ironflow_nb.execution.seams import Wakeup

P = ParamSpec("P")
R = TypeVar("R")

_PACKAGE: Final = str(Path(__file__).parent.parent)
_LIKE_THE_USERS: Final = str(Path(__file__).parent.parent / "graphs")
"""What a graph does stands for a flow and the bodies of its steps."""


def call_body(function: Callable[..., R], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> R:
    """Call the user's function; every frame above this one is theirs."""
    __tracebackhide__ = True
    return function(*args, **kwargs)


class Interrupts:
    """The SIGINT handler of the main thread while runs are in it. Used by the main thread only.

    `is_pending` says whether an interrupt is kept.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._previous: Any = None
        self.is_pending = False
        self._wakeups: list[Wakeup] = []

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Take SIGINT for the length of a run, and give it back; runs may nest."""
        if self._depth == 0:
            self._install()
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                self._restore()
        self.check()

    @contextmanager
    def waiting(self, wakeup: Wakeup) -> Iterator[None]:
        """Let an interrupt wake a wait."""
        self._wakeups.append(wakeup)
        try:
            yield
        finally:
            self._wakeups.remove(wakeup)

    def check(self) -> None:
        """Deliver an interrupt that was kept."""
        if self.is_pending:
            self.is_pending = False
            self._deliver(None)

    def _install(self) -> None:
        previous = signal.getsignal(signal.SIGINT)
        # Ignored stays ignored, and a handler that is not Python's can't be called by us.
        if previous is not signal.SIG_IGN and previous is not None:
            self._previous = previous
            signal.signal(signal.SIGINT, self._handle)

    def _restore(self) -> None:
        if signal.getsignal(signal.SIGINT) == self._handle:  # the user's code may have put its own
            signal.signal(signal.SIGINT, self._previous)

    def _handle(self, _signal: int, frame: FrameType | None) -> None:
        __tracebackhide__ = True
        if is_in_user_code(frame):
            self._deliver(frame)
            return
        self.is_pending = True
        for wakeup in self._wakeups:
            wakeup.set()

    def _deliver(self, frame: FrameType | None) -> None:
        __tracebackhide__ = True
        if callable(self._previous):
            self._previous(signal.SIGINT, frame)
        else:
            raise KeyboardInterrupt


def is_in_user_code(frame: FrameType | None) -> bool:
    """Tell whether the user's code is running in the frame, and not the engine on its behalf."""
    innermost = frame
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(_PACKAGE) and not code.co_filename.startswith(_LIKE_THE_USERS):
            return code is call_body.__code__ and frame is not innermost
        frame = frame.f_back
    return True
