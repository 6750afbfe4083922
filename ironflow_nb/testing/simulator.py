"""Simulated processes: their threads run one at a time, in an order that a seed decides, in simulated time.

A thread runs until its next call of the engine's system: a lock, a wakeup, the clock, a new thread, the wait of an
event loop. There the seed decides which thread runs next. If all threads wait, time moves to the first deadline; if
there is none, that is a deadlock, and raised. Races of bytecodes between two such calls are not simulated. Callbacks of
one event loop run in their order, as in every loop.
"""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from random import Random
from types import TracebackType
from typing import Any, Final, Self

from ironflow_nb.execution import AwaitedWakeup, Wakeup
from ironflow_nb.testing.clock import START_AT
from ironflow_nb.testing.process_death import Died

_SWITCHES: Final = 0.4
"""The probability that another thread runs next after a call at which the thread need not wait."""
_HANGS_S: Final = 60.0
_LATEST_S: Final = 1_000.0
"""Simulated seconds after which a program counts as a deadlock."""


class Deadlock(AssertionError):
    """All threads wait without a deadline, or only for deadlines without end."""


class _Actor:
    """One thread. It runs while it has the baton, of which there is one."""

    __slots__ = ("baton", "deadline", "name", "process")

    def __init__(self, process: SimProcess, name: str) -> None:
        self.process = process
        self.name = name
        self.baton = threading.Semaphore(0)
        self.deadline: float | None = None


class Simulator:
    """The threads and the time of all simulated processes of one seed."""

    def __init__(self, seed: object) -> None:
        self.chance = Random(str(seed))  # noqa: S311 -- repeatable, not secret
        self.now_s = 0.0
        self.skew_s = 0.0
        self.n_switches = 0
        self.trouble: BaseException | None = None
        self._running: _Actor | None = None
        self._ready: list[_Actor] = []
        self._waiting: dict[_Actor, None] = {}
        self._n_mains = 0
        self._processes: list[SimProcess] = []
        self._is_played = False
        self._over = threading.Semaphore(0)

    def start(self, body: Callable[[SimProcess], None]) -> SimProcess:
        """Start a process. Its main thread runs the body; the process ends with it."""
        if self._is_played or self.trouble is not None:  # after a deadlock, its dead processes start no more
            raise Died
        process = SimProcess(self)
        self._processes.append(process)
        self._n_mains += 1

        def main() -> None:
            try:
                body(process)
            finally:
                self._n_mains -= 1
                process.kill()

        self.spawn(process, "subshell-of-a-simulation", main)
        return process

    def play(self) -> None:
        """Run the processes until their main threads have ended.

        Raises:
            Deadlock: no thread could ever go on.
        """
        self._pass_on(None)
        if not self._over.acquire(timeout=_HANGS_S):
            self.trouble = self.trouble or Deadlock("a thread does not come to a switch")
        self._is_played = True
        for process in self._processes:
            process.close_loops()
        if self.trouble is not None:
            raise self.trouble

    def spawn(self, process: SimProcess, name: str, body: Callable[[], None]) -> None:
        """Start a thread of a process."""
        actor = _Actor(process, name)

        def run() -> None:
            actor.baton.acquire()
            try:
                if not process.is_dead:
                    body()
            except Died:
                pass
            except BaseException as error:  # noqa: BLE001 -- `play` raises it
                self.trouble = self.trouble or error
            self._pass_on(None)

        threading.Thread(target=run, name=name, daemon=True).start()
        self._ready.append(actor)

    def switch(self) -> None:
        """Give the baton to another thread, or keep it, as the seed decides."""
        actor = self._actor()
        if self.chance.random() < _SWITCHES:
            self._ready.append(actor)
            self._pass_on(actor)
        self._refuse_dead(actor)

    def wait(self, timeout_s: float | None) -> None:
        """Wait until `wake`, or for that time."""
        actor = self._actor()
        actor.deadline = None if timeout_s is None else self.now_s + timeout_s
        self._waiting[actor] = None
        self._pass_on(actor)
        self._refuse_dead(actor)

    def wake(self, actor: _Actor) -> None:
        """Make a waiting thread ready to run."""
        if actor in self._waiting:
            del self._waiting[actor]
            self._ready.append(actor)

    def wake_all_of(self, process: SimProcess) -> None:
        """Make all waiting threads of a process ready to run."""
        for actor in [actor for actor in self._waiting if actor.process is process]:
            self.wake(actor)

    def running(self) -> _Actor:
        """Return the thread that has the baton."""
        return self._actor()

    def _actor(self) -> _Actor:
        if self._is_played:
            raise Died
        assert self._running is not None, "a thread that is not simulated uses the simulated system"
        return self._running

    def _refuse_dead(self, actor: _Actor) -> None:
        if actor.process.is_dead:
            raise Died

    def _pass_on(self, giver: _Actor | None) -> None:
        """Give the baton to the next thread, and wait until `giver` gets it back. None has ended."""
        self.n_switches += 1
        taker = self._next()
        self._running = taker
        if taker is None:
            self._over.release()
        elif taker is not giver:
            taker.baton.release()
        else:
            return
        if giver is not None:
            giver.baton.acquire()

    def _next(self) -> _Actor | None:
        if self._ready:
            return self._ready.pop(self.chance.randrange(len(self._ready)))
        timed = [actor for actor in self._waiting if actor.deadline is not None]
        if timed and self._n_mains and self.now_s < _LATEST_S:
            self.now_s = max(self.now_s, min(actor.deadline or 0.0 for actor in timed))
            for actor in timed:
                if (actor.deadline or 0.0) <= self.now_s:
                    self.wake(actor)
            return self._next()
        if self._waiting:  # a deadlock; or, after the main threads, background threads without work
            if self._n_mains:
                names = ", ".join(sorted(actor.name for actor in self._waiting))
                self.trouble = self.trouble or Deadlock(f"all wait for each other: {names}")
            for actor in list(self._waiting):
                actor.process.is_dead = True
                self.wake(actor)
            return self._next()
        return None


class SimProcess:
    """One process. Its engine gets it as `threads` and as `clock`."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.is_dead = False
        self._loops: list[_Loop] = []

    def kill(self) -> None:
        """Kill the process: each of its threads ends at its next call."""
        self.is_dead = True
        self.simulator.wake_all_of(self)

    # -- threads -------------------------------------------------------------------------------------------------

    def spawn(self, name: str, body: Callable[[], None]) -> None:
        """See `Threads`."""
        self.simulator.spawn(self, name, body)
        self.simulator.switch()

    def lock(self) -> _Lock:
        """See `Threads`."""
        return _Lock(self.simulator)

    def wakeup(self) -> _Wakeup:
        """See `Threads`."""
        return _Wakeup(self.simulator)

    def ident(self) -> int:
        """See `Threads`."""
        return threading.get_ident()

    def is_main(self) -> bool:
        """See `Threads`; interrupts are not simulated."""
        return False

    def event_loop(self) -> asyncio.AbstractEventLoop:
        """See `Threads`."""
        self._loops.append(_Loop(self))
        return self._loops[-1]

    def close_loops(self) -> None:
        """Close the coroutines of a dead process. Later the garbage collector would do so, within the next seed."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # some were never awaited
            for loop in self._loops:
                for task in asyncio.all_tasks(loop):
                    with suppress(BaseException):  # they may call the simulator, which has ended
                        task.get_coro().close()
                for generator in list(vars(loop)["_asyncgens"]):
                    with suppress(BaseException):  # what one awaits is not closed with it before Python 3.13
                        generator.ag_await.close()
                loop.close()

    # -- the clock -----------------------------------------------------------------------------------------------

    def now(self) -> int:
        """See `Clock`."""
        return START_AT + round((self.simulator.now_s + self.simulator.skew_s) * 1e6)

    def monotonic(self) -> float:
        """See `Clock`."""
        return self.simulator.now_s

    def wait(self, wakeup: Wakeup, timeout_s: float | None, *, is_idle: bool = False) -> bool:
        """See `Clock`."""
        return wakeup.take(timeout_s)

    async def wait_on_loop(self, wakeup: AwaitedWakeup, timeout_s: float | None, *, is_idle: bool = False) -> bool:
        """See `Clock`."""
        ends_at_s = self.simulator.now_s + (timeout_s or 0.0)
        is_woken = await wakeup.taken(timeout_s)
        if not is_woken and timeout_s is not None:
            # A loop fires its timers a nanosecond early: a thread that asks again for the rest would do so for ever.
            self.simulator.now_s = max(self.simulator.now_s, ends_at_s)
        return is_woken

    def sleep(self, duration_s: float) -> None:
        """Spend simulated time, as the body of a step does."""
        self.simulator.wait(duration_s)


class _Lock:
    """A re-entrant lock."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._holder: _Actor | None = None
        self._depth = 0
        self._waiting: list[_Actor] = []

    def __enter__(self) -> Self:
        simulator = self._simulator
        simulator.switch()
        actor = simulator.running()
        while self._holder is not None and self._holder is not actor:
            self._waiting.append(actor)
            simulator.wait(None)
        self._holder = actor
        self._depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._holder = None
            for actor in self._waiting:
                self._simulator.wake(actor)
            self._waiting.clear()


class _Wakeup:
    """A wakeup in simulated time."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._is_set = False
        self._waiter: _Actor | None = None

    def set(self) -> None:
        """See `Wakeup`."""
        self._is_set = True
        if self._waiter is not None:
            self._simulator.wake(self._waiter)

    def take(self, timeout_s: float | None) -> bool:
        """See `Wakeup`."""
        simulator = self._simulator
        if self._is_set:
            simulator.switch()
        else:
            self._waiter = simulator.running()
            simulator.wait(timeout_s)
            self._waiter = None
        was_set, self._is_set = self._is_set, False
        return was_set


class _Loop(asyncio.BaseEventLoop):
    """An event loop that waits in simulated time. It has no sockets and no signals."""

    def __init__(self, process: SimProcess) -> None:
        super().__init__()
        self._process = process
        self._selector = _Selector(process)
        self.set_exception_handler(lambda *_: None)  # errors of a dead process are not reported

    def time(self) -> float:
        """Return simulated seconds."""
        return self._process.monotonic()

    def _process_events(self, _: list[Any]) -> None:
        """Do nothing: there are no events of files."""

    def _write_to_self(self) -> None:
        self._selector.wakeup.set()


class _Selector:
    """The selector of a loop: it waits for calls of other threads."""

    def __init__(self, process: SimProcess) -> None:
        self.wakeup = process.wakeup()
        self._simulator = process.simulator

    def select(self, timeout_s: float | None) -> list[Any]:
        """Wait for the wakeup, or for that time."""
        if timeout_s is not None and timeout_s <= 0:
            self._simulator.switch()
        else:
            self.wakeup.take(timeout_s)
        return []
