"""Threads for step bodies: daemons that are reused, and that nobody waits for at exit.

The threads of ``concurrent.futures`` are joined when the interpreter ends, which hangs a kernel in the middle of a
long body.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from ironflow_nb.execution.seams import Threads, Wakeup

IDLE_S: Final = 10.0


class Pool:
    """As many threads as there are bodies at once; each leaves after it had nothing to do for ten seconds."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._lock = threads.lock()
        self._jobs: deque[Callable[[], None]] = deque()
        self._idle: list[Wakeup] = []
        self._n_spawned = 0
        self.n_unfinished = 0

    def submit(self, job: Callable[[], None]) -> None:
        """Run the job, which must not raise, on a thread of the pool."""
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
            elif not wakeup.take(IDLE_S):
                with self._lock, suppress(ValueError):
                    self._idle.remove(wakeup)
                    return
