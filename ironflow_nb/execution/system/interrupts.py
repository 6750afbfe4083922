"""Keyboard interrupts that never break the engine's own state.

While the engine is at work in the main thread, SIGINT is taken by a handler of ours. It looks at the frames that it
interrupts: if the innermost frame of this package among them is `call_body`, the user's code is running and gets its
KeyboardInterrupt at once. Otherwise the engine is at work (encoding, committing, moving counters), and the interrupt
is kept until the engine is in a consistent state: when it calls the user's code, when a step ends, or when it waits.

A kept interrupt belongs to the run that was going on when it came. It is delivered there, or dropped if that run
already ends by an interrupt: pressing stop twice stops one run.

`AwaitedRuns` handles interrupts of runs that the main thread awaits. SIGINT alone does not wake an event loop that
waits. A notebook's own handler leaves work to the loop, which would be done only when the run has ended. And if that
handler raises in the loop itself, the cell never continues, but its run would.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from ironflow_nb.execution.system.system import LOOK_S, Wakeup, is_main_thread, main_thread_ident

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, TimerHandle

P = ParamSpec("P")
R = TypeVar("R")

_PACKAGE: Final = __name__.partition(".")[0]
_LIKE_THE_USERS: Final = (
    f"{_PACKAGE}.graphs", f"{_PACKAGE}.values.argument_types", f"{_PACKAGE}.execution.measurement",
    f"{_PACKAGE}.execution.steps.captured_streams",
)  # fmt: skip
"""Modules of ours that count as user code.

A graph is a flow with bodies, a resource stands for its wrapped object, and what a body reports or writes is its own.
"""

_LOOK_S: Final = 0.01
_MOST_LOOKS: Final = 100
"""How often the end of a reading looks for a signal that is on its way: never in vain, unless SIGINT is blocked."""


def call_body(function: Callable[..., R], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> R:
    """Call the user's function; every frame above this one is theirs."""
    __tracebackhide__ = True
    # Between here and the first line of the function no handler of a signal runs: what came before is delivered now,
    # and what comes later meets the user's code.
    if INTERRUPTS.is_pending:
        INTERRUPTS.check()
    return function(*args, **kwargs)


class ReadingEnded(BaseException):
    """What is asked for on stdin is there, from elsewhere."""


def read_line(prompt: str, is_over: Callable[[], bool]) -> str:
    """Return a line of stdin, in the main thread; an interrupt ends it, as it ends the user's code.

    Raises:
        ReadingEnded: `is_over`, and `Interrupts.end_reading` was called.
        EOFError: stdin is at its end.
    """
    __tracebackhide__ = True
    with INTERRUPTS.reading():
        return _read_line(prompt, is_over)


def _read_line(prompt: str, is_over: Callable[[], bool]) -> str:
    __tracebackhide__ = True
    _raise_if_over(is_over)  # looked at here: what ends it later finds this frame
    if os.name == "nt" or not sys.stdin.isatty():
        return input(prompt)
    sys.stdout.write(prompt)
    sys.stdout.flush()
    while not select.select([sys.stdin], [], [], LOOK_S)[0]:  # a read would miss a signal that comes just before it
        _raise_if_over(is_over)
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\n")


def _raise_if_over(is_over: Callable[[], bool]) -> None:
    if is_over():
        raise ReadingEnded
    INTERRUPTS.check()  # an interrupt that came in `is_over` was kept


class Interrupts:
    """The SIGINT handler of the main thread while the engine is at work in it; elsewhere everything here does nothing.

    There is one in a process, as there is one SIGINT. `is_pending` says whether an interrupt is kept.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._previous: Any = None
        self.is_pending = False
        self._wakeups: list[Wakeup] = []
        self._is_reading = False
        self._free_signals = [None]  # for the end of a reading; none is free while the one is on its way

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Handle SIGINT within the context, for example during a run; contexts may nest.

        If the context is left by an `Exception`, a kept interrupt is raised instead. If it is left by an interrupt or
        another `BaseException`, the kept interrupt is dropped.
        """
        __tracebackhide__ = True
        if not is_main_thread():
            yield
            return
        if self._depth == 0:
            self._install()
        self._depth += 1
        try:
            yield
        except Exception:
            self._leave()
            self.check()
            raise
        except BaseException:
            self._leave()
            self.is_pending = False
            raise
        self._leave()
        self.check()

    def _leave(self) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._restore()  # before anybody looks at `is_pending` for the last time: from here on nothing is kept

    @contextmanager
    def waiting(self, wakeup: Wakeup) -> Iterator[None]:
        """Make an interrupt end a wait of the main thread; one that was kept before is delivered first."""
        if not is_main_thread():
            yield
            return
        self._wakeups.append(wakeup)
        try:
            self.check()
            yield
        finally:
            self._wakeups.remove(wakeup)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read a line within the context, which `end_reading` may end; a signal for that never comes after it."""
        __tracebackhide__ = True
        self._is_reading = True
        try:
            yield
        finally:
            self._is_reading = False  # before the look at the signals: the sender looks at this after taking its turn
            for _ in range(_MOST_LOOKS):
                if self._free_signals or signal.getsignal(signal.SIGINT) != self._handle:
                    break
                select.select([], [], [], _LOOK_S)

    def end_reading(self) -> None:
        """End the reading of a line in the main thread, by a signal: nothing else ends a read. Any thread may call it.

        On Windows nothing does, and the line is read to its end.
        """
        if not hasattr(signal, "pthread_kill"):
            return
        try:  # one at a time: a second signal would be taken for the stop button
            self._free_signals.pop()
        except IndexError:
            return
        if self._is_reading and signal.getsignal(signal.SIGINT) == self._handle:
            signal.pthread_kill(main_thread_ident(), signal.SIGINT)
        else:
            self._free_signals.append(None)

    def check(self) -> None:
        """Deliver an interrupt that was kept, if this is the main thread."""
        __tracebackhide__ = True
        if self.is_pending and is_main_thread():
            self._deliver(None)

    def check_in_body(self) -> None:
        """Deliver an interrupt that was kept while the user's code reported something, if it is that which calls."""
        __tracebackhide__ = True
        if self.is_pending and is_main_thread() and is_in_user_code(sys._getframe(1)):
            self._deliver(None)

    def _install(self) -> None:
        self.is_pending = False
        previous = signal.getsignal(signal.SIGINT)
        # Ignored stays ignored, and a handler that is not Python's can't be called by us. One that was put in within a
        # run and taken out after it, as by an await that is collected late, has put ours back: its former one stays.
        if previous is not signal.SIG_IGN and previous is not None and previous != self._handle:
            self._previous = previous
            signal.signal(signal.SIGINT, self._handle)

    def _restore(self) -> None:
        if signal.getsignal(signal.SIGINT) == self._handle:  # the user's code may have put its own
            signal.signal(signal.SIGINT, self._previous)

    def _handle(self, _signal: int, frame: FrameType | None) -> None:
        __tracebackhide__ = True
        if not self._free_signals:
            self._free_signals.append(None)
            if self._is_reading and _is_within_call(frame, _read_line):
                raise ReadingEnded
            return
        if is_in_user_code(frame):
            self._deliver(frame)
            return
        self.is_pending = True
        for wakeup in self._wakeups:
            wakeup.set()

    def _deliver(self, frame: FrameType | None) -> None:
        __tracebackhide__ = True
        self.is_pending = False  # also one that was kept before this one: it asked for the same
        previous, self._previous = self._previous, None  # the former handler may have ours as its former one
        try:
            if not callable(previous):
                raise KeyboardInterrupt
            previous(signal.SIGINT, frame)
        finally:
            self._previous = previous


INTERRUPTS: Final = Interrupts()


def is_in_user_code(frame: FrameType | None) -> bool:
    """Return True if the user's code is running in the frame, and not the engine on its behalf."""
    innermost = frame
    while frame is not None:
        # By the name of its module: paths of two packages may begin alike, and one path may be written in many ways.
        if _is_ours(frame.f_globals.get("__name__")):
            if frame.f_code is _read_line.__code__:
                return True
            return frame.f_code is call_body.__code__ and frame is not innermost
        frame = frame.f_back
    return True


def _is_within_call(frame: FrameType | None, function: Callable[..., Any]) -> bool:
    while frame is not None:
        if frame.f_code is function.__code__:
            return True
        frame = frame.f_back
    return False


def _is_ours(module: object) -> bool:
    return _is_within(module, _PACKAGE) and not any(_is_within(module, theirs) for theirs in _LIKE_THE_USERS)


def _is_within(module: object, package: str) -> bool:
    return isinstance(module, str) and (module == package or module.startswith(f"{package}."))


class AwaitedRuns:
    """Passes an interrupt on, and notifies the awaits on the loop of the main thread. Used by the main thread only.

    It listens for one interrupt: after that the former handler is in place again.

    No interrupt falls between its parts. One that comes while the handler is put in or taken out meets either handler:
    the former one cancels or unwinds the awaiting task itself. One that comes before the loop waits is handled at
    once, and wakes the loop by its self-pipe. One that Python only notes, because the wait has just begun or another
    thread got it, is handled when the loop looks up; see `looking_up`.
    """

    def __init__(self) -> None:
        self._listeners: list[tuple[Callable[[], object], Callable[[BaseException], object]]] = []
        self._previous: Any = None

    @contextmanager
    def listening(self, wake: Callable[[], object], interrupt: Callable[[BaseException], object]) -> Iterator[None]:
        """Call `wake` when SIGINT comes, and `interrupt` with the exception of its handler, which ends the await.

        Both are called at any instant, so they may only set flags.
        """
        listener = wake, interrupt
        # First: an await of an earlier cell that the garbage collector closes meanwhile would take the handler out.
        self._listeners.append(listener)
        self._install()
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
        del self._listeners[:-1]  # another handler was installed since: these belong to an earlier cell
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
    """Wake the loop of the main thread at intervals; see `LOOK_S`."""
    timer: TimerHandle

    def look() -> None:
        nonlocal timer
        timer = loop.call_later(LOOK_S, look)

    timer = loop.call_later(LOOK_S, look)
    try:
        yield
    finally:
        timer.cancel()
