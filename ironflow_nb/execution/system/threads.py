"""The thread pool for step bodies, the wakeups of waiting threads, and the errors of the engine's own threads.

Threads of the pool are daemons, and are not joined at exit. Those of ``concurrent.futures`` are, so a kernel would hang
in the middle of a long body.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Generic, TypeVar

from ironflow_nb.execution.system.frontend import logger
from ironflow_nb.execution.system.system import Threads, Wakeup

W = TypeVar("W", bound=Wakeup)
J = TypeVar("J")


class Wakeups:
    """The wakeups of the waits for one run. Any thread may set them; the lists have single atomic operations only."""

    def __init__(self, ident: Callable[[], int]) -> None:
        self._ident = ident
        self._waiting: list[Wakeup] = []
        self._threads: list[tuple[int, Callable[[], bool]]] = []

    def threads(self) -> set[int]:
        """Return the threads that wait now; not those whose wait is over: they are about to go on."""
        waiting = list(self._threads)
        return {ident for ident, _ in waiting} - {ident for ident, is_over in waiting if is_over()}

    def wake(self) -> None:
        """Wake all waits, so that each looks again."""
        for wakeup in list(self._waiting):
            wakeup.set()

    def wake_others(self) -> None:
        """Wake the waits if there are others than that of this thread, which may have caused what they wait for."""
        if len(self._waiting) > 1:
            self.wake()

    @contextmanager
    def woken(self, wakeup: W, is_over: Callable[[], bool] = lambda: False) -> Iterator[W]:
        """Set the wakeup whenever something happens, inside of the block, in which the thread waits until `is_over`."""
        waits = self._ident(), is_over
        self._waiting.append(wakeup)
        self._threads.append(waits)
        try:
            yield wakeup
        finally:
            self._threads.remove(waits)
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


class BackgroundErrors:
    """The errors of the threads of one engine, each kind logged once. Any thread may note one.

    `counts` has how often each came, by what was being done and the class of the error, and `latest` its last message.
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.latest: dict[tuple[str, str], str] = {}

    def note(self, activity: str, error: BaseException) -> None:
        """Note that `activity` met the error, and that its thread goes on."""
        kind = activity, type(error).__name__
        try:
            message = str(error)
        except Exception:  # noqa: BLE001 -- the text of a user's error may raise
            message = "(no message)"
        self.latest[kind] = message
        self.counts[kind] += 1
        if self.counts[kind] == 1:
            logger().warning("the engine met %s: %s while %s; it goes on", kind[1], message, activity, exc_info=error)


IDLE_S: Final = 10.0


N_LIMITED: Final = 64
"""The number of limited jobs that run at once; others wait for their turn."""


class Turns(Generic[J]):
    """Limited jobs: some run, the others wait in the order of their submission."""

    def __init__(self, lock: AbstractContextManager[object]) -> None:
        self._lock = lock
        self._queued: deque[J] = deque()
        self._n_at_work = 0

    @property
    def n_queued(self) -> int:
        """How many wait for their turn."""
        return len(self._queued)

    def admit(self, job: J) -> bool:
        """Return True if the job is to begin now; else it waits, and `following` returns it later."""
        with self._lock:
            if self._n_at_work >= N_LIMITED:
                self._queued.append(job)
                return False
            self._n_at_work += 1
            return True

    def following(self) -> J | None:
        """Return the job that takes the place of an ended one; without one, return None and free the place."""
        with self._lock:
            if self._queued:
                return self._queued.popleft()
            self._n_at_work -= 1
            return None

    def withdraw(self) -> None:
        """Free the place of a job that could not begin; running jobs take those that wait."""
        with self._lock:
            self._n_at_work -= 1


class ThreadPool:
    """A pool with a thread for each body at once; a thread ends after ten idle seconds.

    Only bodies run here: flows, branches and children, which wait for bodies, have threads of their own, and a job that
    waits for its time or for another run's result is kept by its session. So no limited job waits for one that is
    queued behind it.
    """

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._lock = threads.lock()
        self._jobs: deque[tuple[Callable[[], None], bool]] = deque()
        self._idle: list[Wakeup] = []
        self._turns = Turns[Callable[[], None]](threads.lock())
        self._n_threads = 0
        self._n_spawned = 0
        self._n_begun = 0

    @property
    def n_unfinished(self) -> int:
        """How many jobs run or wait. A thread that takes the next limited job counts as running in between."""
        return self._turns.n_queued + self._n_begun

    def submit(self, attempt: Callable[[], None], *, is_limited: bool) -> None:
        """Run the job, which must not raise, on a thread of the pool; a limited one when it is its turn."""
        if is_limited and not self._turns.admit(attempt):
            return
        try:
            self._start((attempt, is_limited))
        except BaseException:
            if is_limited:
                self._turns.withdraw()
            raise

    def _start(self, job: tuple[Callable[[], None], bool]) -> None:
        with self._lock:
            self._jobs.append(job)
            self._n_begun += 1
            if self._idle:
                self._idle.pop().set()
                return
            if self._n_begun <= self._n_threads:
                return  # a thread between two jobs looks for this one before it idles
            self._n_threads += 1
            self._n_spawned += 1
            name = f"ironflow-step-{self._n_spawned}"
        try:
            self._threads.spawn(name, self._work)
        except BaseException:
            with self._lock:
                self._n_threads -= 1
                if job in self._jobs:  # else another thread has taken it meanwhile
                    self._jobs.remove(job)
                    self._n_begun -= 1
                    raise

    def _work(self) -> None:
        wakeup = self._threads.wakeup()
        has_place: bool | None = None  # whether the job that has ended was limited; None before there was one
        while True:
            attempt, has_place = self._next(wakeup, has_place=has_place)
            if attempt is not None:
                attempt()
                del attempt  # so that what it holds does not live as long as the thread idles
            elif self._gives_up(wakeup):
                return

    def _next(self, wakeup: Wakeup, *, has_place: bool | None) -> tuple[Callable[[], None] | None, bool | None]:
        """Return the next job, and whether it is limited; without one the thread idles.

        The place of a limited job is freed here: a job that takes it finds this thread.
        """
        with self._lock:
            following = self._turns.following() if has_place else None
            if following is not None:
                return following, True
            if has_place is not None:
                self._n_begun -= 1
            if self._jobs:
                return self._jobs.popleft()
            self._idle.append(wakeup)
            return None, None

    def _gives_up(self, wakeup: Wakeup) -> bool:
        """Wait for a job; return True if the thread may end: no job came, and no submission has chosen this thread."""
        is_woken = wakeup.take(IDLE_S)
        with self._lock:
            # A submission removes the wakeup and sets it, perhaps after the timeout; then the thread stays. The wakeup
            # may still be set when the thread idles the next time, so it may return early then.
            if wakeup not in self._idle:
                return False
            self._idle.remove(wakeup)
            self._n_threads -= not is_woken
            return not is_woken


def free_lock(lock: object) -> None:
    """Make a lock of `SystemThreads` free in a forked child, where the thread that holds it does not exist."""
    getattr(lock, "_at_fork_reinit", lambda: None)()  # as the standard library frees its own locks there
