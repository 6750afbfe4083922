"""Work beside a flow that the flow must answer for: maps, submissions, branches, and calls that tasks await.

Bodies on threads that go on although their attempts have timed out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from ironflow_nb.core.events import StepDiscarded
from ironflow_nb.core.identity import StepRef
from ironflow_nb.core.retry import MAX_DELAY_S
from ironflow_nb.execution.recording.journal_access import PendingEvent
from ironflow_nb.execution.session.attempts import Attempt, AttemptRef
from ironflow_nb.execution.session.run_writer import RunWriter
from ironflow_nb.execution.system.system import Clock
from ironflow_nb.execution.system.threads import Wakeups


class Child(Protocol):
    """Work beside the flow."""

    def is_finished(self) -> bool:
        """Return True if nothing of it is still to come."""

    def is_at_work(self) -> bool:
        """Return True if something of it runs, or is about to: it does not wait for its time."""

    def unobserved_error(self) -> BaseException | None:
        """Return a failure that the flow never saw."""


class ConcurrentWork:
    """The work beside one continuation of a run. A run ends when all of it has ended.

    `gated` are attempts that have asked to pass gates, and are not over. `not_begun` are async calls that something has
    to await before they begin. What waits for its time, or for another run's result, holds no thread meanwhile.
    """

    def __init__(self, lock: AbstractContextManager[object], wakeups: Wakeups, clock: Clock) -> None:
        self.children: list[Child] = []
        self.not_begun: set[Attempt] = set()
        self._lock = lock
        self._wakeups = wakeups
        self._pulls: list[Callable[[], None]] = []
        self.n_awaited = 0
        self.n_paused = 0
        self.n_timed = 0
        self.tasks: set[Any] = set()
        self._at_rest: dict[Any, Callable[[], bool]] = {}
        self._clock = clock
        self.delayed: list[Attempt] = []
        self.has_waited = False
        self.gated: set[Attempt] = set()

    def has_more(self) -> bool:
        """Return True if some of it goes on, or is still to begin."""
        return bool(self.n_awaited) or not all(child.is_finished() for child in list(self.children))

    def add(self, child: Child, pull: Callable[[], None] | None = None) -> None:
        """Add work; all threads of the flow that wait `pull` the items of a map."""
        with self._lock:
            self.children.append(child)
            if pull is not None:
                self._pulls.append(pull)

    def remove(self, child: Child) -> None:
        """Release the work, if it is of this continuation."""
        with self._lock:
            if child in self.children:
                self.children.remove(child)

    def remove_pull(self, pull: Callable[[], None]) -> bool:
        """Stop a map from pulling more items; return True if it still did."""
        with self._lock:
            is_there = pull in self._pulls
            if is_there:
                self._pulls.remove(pull)
            return is_there

    def pull(self) -> None:
        """Pull items of every open map into its window; only the flow's own threads do that."""
        for pull in list(self._pulls):
            pull()

    def is_at_work(self) -> bool:
        """Return True if something runs beside the flow, or is about to."""
        return self.n_awaited > 0 or any(child.is_at_work() for child in list(self.children))

    def begin_await(self) -> None:
        """Note that a task awaits a call of a step. Called on the loop's thread only."""
        self.n_awaited += 1

    def end_await(self) -> None:
        """Note that a task has awaited its call. Called on the loop's thread only."""
        self.n_awaited -= 1
        self._wakeups.wake()  # the end of the flow may wait for it

    # -- what does not wait ------------------------------------------------------------------------------------------

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Note that a thread waits for the time of a further attempt, which nothing outside of the run brings about."""
        with self._lock:
            self.n_paused += 1
        try:
            yield
        finally:
            with self._lock:
                self.n_paused -= 1

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Note that a thread or task waits no longer than some time; the run is not parked meanwhile."""
        with self.paused():
            self.n_timed += 1
            try:
                yield
            finally:
                self.n_timed -= 1

    def is_to_begin(self) -> bool:
        """Return True if a body is about to begin."""
        children = [child for child in list(self.children) if not getattr(child, "has_thread", False)]
        return bool(self.not_begun) or any(child.is_at_work() for child in children)

    def add_task(self, task: Any) -> None:
        """Note a task that the flow has made, and that is no call of a step."""
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    @contextmanager
    def at_rest(self, task: Any, is_over: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Note that a task only awaits a wait of the flow or a child run, until `is_over`: then it is about to go on.

        Called on the loop's thread only.
        """
        self._at_rest[task] = is_over
        try:
            yield
        finally:
            self._at_rest.pop(task, None)

    def tasks_at_work(self, of_flow: Any) -> Iterator[Any]:
        """Return the tasks of the flow, its own one among them, that await something else. Any thread may ask."""
        at_rest = {task for task, is_over in self._at_rest.copy().items() if not is_over()}
        return (task for task in (of_flow, *self.tasks.copy()) if task not in at_rest)

    # -- attempts that are not due -------------------------------------------------------------------------------

    def delay(self, attempt: Attempt) -> None:
        """Keep an attempt until it is due."""
        with self._lock:
            self.delayed.append(attempt)

    def look_again(self, attempt: Attempt, after_s: float) -> None:
        """Keep an attempt that waits for another run, and begin it again after that time, or when it is told."""
        attempt.looks_s = self._clock.monotonic() + after_s
        self.delay(attempt)

    def drop_waiting(self, give_back: Callable[[Attempt], None], in_flight: Collection[Attempt]) -> None:
        """Forget all attempts that are kept, or have passed their gates, and are not begun in this continuation."""
        left = {*self.delayed, *self.gated} - {*in_flight}
        self.delayed.clear()
        self.gated.clear()
        for attempt in left:
            give_back(attempt)

    def look_now(self, attempt: Attempt) -> None:
        """Have an attempt begin that is kept until it is looked at again."""
        attempt.looks_s = 0.0

    def begin_due(self) -> None:
        """Put to work what is due; called by the flow's threads and by the background thread."""
        if not self.delayed:
            return
        with self._lock:
            due = [attempt for attempt in self.delayed if self.seconds_until(attempt) <= 0]
            for attempt in due:
                self.delayed.remove(attempt)
        for attempt in due:
            assert attempt.begin_again is not None
            attempt.begin_again(attempt)

    def seconds_until(self, attempt: Attempt) -> float:
        """Return the seconds until the attempt may begin.

        A clock that is set back, here or since another process failed, prolongs the wait to no more than the longest
        delay there is.
        """
        now_s, left_s = self._clock.monotonic(), (attempt.due_at - self._clock.now()) / 1e6
        if attempt.looks_s is not None:
            return attempt.looks_s - now_s
        if attempt.failed is None:
            return 0.0
        if attempt.due_s is None:
            attempt.due_s = now_s + min(left_s, max(attempt.spec.retry.longest_s, MAX_DELAY_S))
        return min(left_s, attempt.due_s - now_s)

    def shortened(self, timeout_s: float | None) -> float | None:
        """Return how long a wait of that length may last: at most until the next attempt is due."""
        due_s = [max(0.0, self.seconds_until(attempt)) for attempt in list(self.delayed)]
        soonest_s = min([*due_s, *([] if timeout_s is None else [timeout_s])], default=math.inf)
        return None if soonest_s == math.inf else soonest_s


class AbandonedBodies:
    """How many abandoned bodies of each step go on, whichever continuation of the run began them.

    Lock: session.
    """

    def __init__(self, writer: RunWriter) -> None:
        self._writer = writer
        self.n_of_step: Counter[StepRef] = Counter()

    def add(self, step: StepRef) -> None:
        """Count a body that is abandoned."""
        self.n_of_step[step] += 1

    def remove(self, step: StepRef) -> None:
        """Count it no more: it has ended."""
        self.n_of_step[step] -= 1
        self.n_of_step += Counter()  # that drops what has none left

    def discard(self, attempt: AttemptRef, reason: str) -> None:
        """Add to the next commit that what a body has brought is not used."""
        self._writer.defer(PendingEvent(StepDiscarded(reason=reason), *attempt))

    def __contains__(self, step: StepRef) -> bool:
        return step in self.n_of_step
