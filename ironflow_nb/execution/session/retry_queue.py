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
        self._attempts: list[Attempt] = []

    def keep(self, attempt: Attempt) -> None:
        """Keep an attempt until it is due."""
        with self._lock:
            self._attempts.append(attempt)

    def look_again(self, attempt: Attempt, after_s: float) -> None:
        """Keep an attempt that another run may come before, and begin it again after that time."""
        attempt.due_s = self._clock.monotonic() + after_s
        self.keep(attempt)

    def clear(self) -> None:
        """Forget all of them: another continuation of the run asks for what it needs."""
        with self._lock:
            self._attempts.clear()

    def begin_due(self) -> None:
        """Put to work what is due; called by the flow's threads and by the worker."""
        if not self._attempts:
            return
        with self._lock:
            due = [attempt for attempt in self._attempts if self.seconds_until(attempt) <= 0]
            for attempt in due:
                self._attempts.remove(attempt)
        for attempt in due:
            assert attempt.begin_again is not None
            attempt.begin_again(attempt)

    def seconds_until(self, attempt: Attempt) -> float:
        """Return in how many seconds the attempt may begin.

        A clock that is set back, here or since another process failed, prolongs the wait to no more than the longest
        delay there is.
        """
        now_s, left_s = self._clock.monotonic(), (attempt.due_at - self._clock.now()) / 1e6
        if attempt.failed is None:
            return (attempt.due_s or now_s) - now_s
        if attempt.due_s is None:
            attempt.due_s = now_s + min(left_s, max(attempt.spec.retry.longest_s, MAX_DELAY_S))
        return min(left_s, attempt.due_s - now_s)

    def shortened(self, timeout_s: float | None) -> float | None:
        """Return how long a wait of that length may last: at most until the next attempt is due."""
        due_s = [max(0.0, self.seconds_until(attempt)) for attempt in list(self._attempts)]
        return min([*due_s, *([] if timeout_s is None else [timeout_s])], default=None)
