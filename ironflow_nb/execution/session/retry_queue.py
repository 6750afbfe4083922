"""Attempts beside the flow that are kept until they are due."""

from __future__ import annotations

from contextlib import AbstractContextManager

from ironflow_nb.core.retry import MAX_DELAY_S
from ironflow_nb.execution.session.attempts import Attempt
from ironflow_nb.execution.system.system import Clock


class RetryQueue:
    """The attempts of one run that wait for their time, or for another run's result, holding no thread meanwhile."""

    def __init__(self, clock: Clock, lock: AbstractContextManager[object]) -> None:
        self._clock = clock
        self._lock = lock
        self._jobs: list[Attempt] = []

    def keep(self, job: Attempt) -> None:
        """Keep an attempt until it is due."""
        with self._lock:
            self._jobs.append(job)

    def look_again(self, job: Attempt, after_s: float) -> None:
        """Keep an attempt that another run may come before, and begin it again after that time."""
        job.due_s = self._clock.monotonic() + after_s
        self.keep(job)

    def clear(self) -> None:
        """Forget all of them: another stretch of the run asks for what it needs."""
        with self._lock:
            self._jobs.clear()

    def begin_due(self) -> None:
        """Put to work what is due; called by the flow's threads and by the worker."""
        if not self._jobs:
            return
        with self._lock:
            due = [job for job in self._jobs if self.seconds_until(job) <= 0]
            for job in due:
                self._jobs.remove(job)
        for job in due:
            assert job.begin_again is not None
            job.begin_again(job)

    def seconds_until(self, job: Attempt) -> float:
        """Return in how many seconds the attempt may begin.

        A clock that is set back, here or since another process failed, prolongs the wait to no more than the longest
        delay there is.
        """
        now_s, left_s = self._clock.monotonic(), (job.due_at - self._clock.now()) / 1e6
        if job.failed is None:
            return (job.due_s or now_s) - now_s
        if job.due_s is None:
            job.due_s = now_s + min(left_s, max(job.spec.retry.longest_s, MAX_DELAY_S))
        return min(left_s, job.due_s - now_s)

    def shortened(self, timeout_s: float | None) -> float | None:
        """Return how long a wait of that length may last: at most until the next attempt is due."""
        due_s = [max(0.0, self.seconds_until(job)) for job in list(self._jobs)]
        return min([*due_s, *([] if timeout_s is None else [timeout_s])], default=None)
