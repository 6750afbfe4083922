"""The seams to the machine: time, randomness and threads come from here, so that tests can put others in.

No other module of the package imports ``time``, ``random``, ``uuid``, ``secrets`` or ``threading``.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from functools import cache
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from uuid import UUID as UUID  # noqa: PLC0414 -- the type, for modules that may not import it

Entropy = Callable[[int], bytes]
"""Returns that many random bytes."""

LOOK_S: Final = 0.2
"""How often the main thread looks up from a wait.

Python handles a signal between two instructions, and SIGINT ends the wait that it finds. One that comes just before the
wait would be handled only after it; on Windows none ends the wait for a lock.
"""


class Wakeup(Protocol):
    """What a waiting thread is woken by. `set` may be called from any thread and from a signal handler."""

    def set(self) -> None:
        """Wake the thread that waits, or the next one that will."""

    def take(self, timeout_s: float | None) -> bool:
        """Wait until it is set, and take that back; return False after `timeout_s` real seconds."""


class AwaitedWakeup(Protocol):
    """What a waiting coroutine is woken by. `set` may be called from any thread."""

    def set(self) -> None:
        """Wake the waiting coroutine, or the next one that waits."""

    async def taken(self, timeout_s: float | None) -> bool:
        """Do as `Wakeup.take` does in a coroutine."""


@runtime_checkable
class Clock(Protocol):
    """The time of an engine."""

    def now(self) -> int:
        """Return the instant in microseconds UTC."""

    def monotonic(self) -> float:
        """Return seconds that never go back, for durations."""

    def wait(self, wakeup: Wakeup, timeout_s: float | None, *, is_idle: bool = False) -> bool:
        """Wait for the wakeup; return False after `timeout_s` seconds of this clock.

        `is_idle` says that no body is running, so that a clock that is not the machine's need not wait either.
        """

    async def wait_on_loop(self, wakeup: AwaitedWakeup, timeout_s: float | None, *, is_idle: bool = False) -> bool:
        """Do as `wait` does in a coroutine."""


class Threads(Protocol):
    """The threads of an engine."""

    def spawn(self, name: str, body: Callable[[], None]) -> None:
        """Run `body` on a daemon thread, which is never joined."""

    def lock(self) -> AbstractContextManager[object]:
        """Return a lock that its holder may take again."""

    def wakeup(self) -> Wakeup:
        """Return a wakeup that is not set."""

    def ident(self) -> int:
        """Return the identity of the calling thread."""

    def is_main(self) -> bool:
        """Return True if the calling thread is the main one."""

    def event_loop(self) -> AbstractEventLoop:
        """Return a new event loop, for a thread of this kind to run."""


class SystemWakeup:
    """A wakeup on a lock that is held until it is set: `release` is one call in C, so a signal handler may set it.

    A `Condition` or an `Event` would deadlock there, when the handler interrupts the very thread that holds its lock.
    A `SimpleQueue` waits for ever if the time is up while it takes a lock that nobody holds (CPython 3.11 to 3.13).
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        """See the protocol."""
        # Many sets are one. A thread that has taken the lock and not the GIL yet looks only after this set.
        with suppress(RuntimeError):
            self._lock.release()

    def take(self, timeout_s: float | None) -> bool:
        """See the protocol."""
        if is_main_thread():
            while timeout_s is None or timeout_s > LOOK_S:
                if self._lock.acquire(timeout=LOOK_S):
                    return True
                timeout_s = None if timeout_s is None else timeout_s - LOOK_S
        return self._lock.acquire(timeout=-1 if timeout_s is None else min(max(timeout_s, 0.0), threading.TIMEOUT_MAX))


class SystemClock:
    """The clock of the machine."""

    def now(self) -> int:
        """See the protocol."""
        return time.time_ns() // 1000

    monotonic = staticmethod(time.perf_counter)  # in C: each step asks twice
    """See the protocol."""

    def wait(self, wakeup: Wakeup, timeout_s: float | None, *, is_idle: bool = False) -> bool:
        """See the protocol."""
        return wakeup.take(timeout_s)

    async def wait_on_loop(self, wakeup: AwaitedWakeup, timeout_s: float | None, *, is_idle: bool = False) -> bool:
        """See the protocol."""
        return await wakeup.taken(timeout_s)


class ServerClock(SystemClock):
    """The clock of a server that machines share; `ahead` returns by how much it is ahead (microseconds)."""

    def __init__(self, ahead: Callable[[], int]) -> None:
        self._ahead = ahead

    def now(self) -> int:
        """See the protocol."""
        return super().now() + self._ahead()


class SystemThreads:
    """The threads of the machine."""

    def spawn(self, name: str, body: Callable[[], None]) -> None:
        """See the protocol."""
        threading.Thread(target=body, name=name, daemon=True).start()

    def lock(self) -> AbstractContextManager[object]:
        """See the protocol."""
        return threading.RLock()

    def wakeup(self) -> Wakeup:
        """See the protocol."""
        return SystemWakeup()

    ident = staticmethod(threading.get_ident)
    """See the protocol."""

    def is_main(self) -> bool:
        """See the protocol."""
        return is_main_thread()

    def event_loop(self) -> AbstractEventLoop:
        """See the protocol."""
        import asyncio

        return asyncio.new_event_loop()


THREAD_PREFIX: Final = "ironflow-"


def is_main_thread() -> bool:
    """Return True if the calling thread is the main one of the process, which signals interrupt."""
    return threading.current_thread() is threading.main_thread()


def main_thread_ident() -> int:
    """Return the identity of the main thread."""
    return threading.main_thread().ident or 0


def is_foreign_thread() -> bool:
    """Return True if the calling thread is neither the main one, nor an engine's, nor one that executes cells."""
    thread = threading.current_thread()
    if thread is threading.main_thread():
        return False
    # ipykernel calls the threads of its subshells "subshell-<id>".
    return not thread.name.startswith((THREAD_PREFIX, "subshell"))


def at_exit(function: Callable[[], None]) -> None:
    """Call the function when the main thread has ended, before Python waits for the threads of executors."""
    threading._register_atexit(function)  # type: ignore[attr-defined]  # noqa: SLF001 -- `atexit` comes too late


@cache
def end_with_parent() -> None:
    """End this process, a worker, as soon as the one that began it has ended; once is enough."""
    from multiprocessing import parent_process

    if (parent := parent_process()) is not None:
        began_by = os.getppid()

        def watch() -> None:
            if parent.sentinel is not None:
                parent.join()
            while os.getppid() == began_by:  # loky has no sentinel
                time.sleep(LOOK_S)
            os._exit(1)  # it may be in the middle of a body

        threading.Thread(target=watch, name=f"{THREAD_PREFIX}parent", daemon=True).start()


system_entropy: Entropy = os.urandom


def random_uuid(entropy: Entropy) -> UUID:
    """Return a random id of version 4."""
    from uuid import UUID

    return UUID(bytes=entropy(16), version=4)
