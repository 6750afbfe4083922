"""Threads for step bodies: daemons that are reused, and that nobody waits for at exit.

The threads of ``concurrent.futures`` are joined when the interpreter ends, which hangs a kernel in the middle of a
long body.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from ironflow_nb.execution.seams import Threads, Wakeup

IDLE_S: Final = 10.0


N_LIMITED: Final = 64
"""So many jobs that are limited run at once; the others wait for their turn."""


class Pool:
    """As many threads as there are bodies at once; each leaves after it had nothing to do for ten seconds.

    Only bodies run here: flows, branches and children, which wait for bodies, have threads of their own, and a job that
    waits for its time or for another run's result is kept by its session. So nothing that is limited waits for
    something that is queued behind it.
    """

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._lock = threads.lock()
        self._jobs: deque[Callable[[], None]] = deque()
        self._idle: list[Wakeup] = []
        self._queued: deque[Callable[[], None]] = deque()
        self._n_limited = 0
        self._n_spawned = 0
        self.n_unfinished = 0

    def submit(self, job: Callable[[], None], *, is_limited: bool) -> None:
        """Run the job, which must not raise, on a thread of the pool; a limited one when it is its turn."""
        with self._lock:
            if is_limited and self._n_limited >= N_LIMITED:
                self.n_unfinished += 1
                self._queued.append(job)  # whoever ends a limited job takes it, under this lock
                return
            self._n_limited += is_limited
        try:
            self._start(partial(self._run_limited, job) if is_limited else job)
        except BaseException:
            with self._lock:
                self._n_limited -= is_limited
            raise

    def _run_limited(self, job: Callable[[], None]) -> None:
        job()
        while (following := self._next_limited()) is not None:
            following()
            del following  # so that what it holds does not live as long as the next one runs
            with self._lock:
                self.n_unfinished -= 1

    def _next_limited(self) -> Callable[[], None] | None:
        with self._lock:
            if self._queued:
                return self._queued.popleft()
            self._n_limited -= 1
            return None

    def _start(self, job: Callable[[], None]) -> None:
        with self._lock:
            self._jobs.append(job)
            self.n_unfinished += 1
            if self._idle:
                self._idle.pop().set()
                return
            self._n_spawned += 1
            name = f"ironflow-step-{self._n_spawned}"
        try:
            self._threads.spawn(name, self._work)
        except BaseException:
            with self._lock:
                if job in self._jobs:  # else another thread has taken it meanwhile
                    self._jobs.remove(job)
                    self.n_unfinished -= 1
                    raise

    def _work(self) -> None:
        wakeup = self._threads.wakeup()
        while True:
            with self._lock:
                job = self._jobs.popleft() if self._jobs else None
                if job is None:
                    self._idle.append(wakeup)
            if job is not None:
                job()
                with self._lock:
                    self.n_unfinished -= 1
                del job  # so that what it holds does not live as long as the thread idles
            elif self._gives_up(wakeup):
                return

    def _gives_up(self, wakeup: Wakeup) -> bool:
        """Wait for a job; tell whether the thread may leave: none came, and nobody counts on it."""
        is_woken = wakeup.take(IDLE_S)
        with self._lock:
            # Who gives a job takes the wakeup out and sets it, perhaps after the time was over, and then the thread
            # stays. The wakeup is still set when the thread idles the next time; so it may be woken while it is there.
            if wakeup not in self._idle:
                return False
            self._idle.remove(wakeup)
            return not is_woken
