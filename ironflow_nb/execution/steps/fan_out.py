"""One step over many items: pulled in a window, performed by some workers, answered in the order of the items.

The flow's own thread pulls items, so that equal items are numbered in their order. Performers take pulled attempts one
after another and queue the results; at most four times as many items as there are workers are pulled and not yet
committed, which bounds the finished work that a crash can lose. After a failure nothing more is pulled or started,
unless failures are collected.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextvars import copy_context
from typing import Any, Final, Protocol, runtime_checkable

from ironflow_nb.errors import IronflowError
from ironflow_nb.execution.definitions.step_spec import StepSpec
from ironflow_nb.execution.session.attempts import (
    FAILED_STEP,
    Attempt,
    AttemptResult,
    Promise,
    PromisedWork,
    RecordedAnswer,
    place_of,
)
from ironflow_nb.execution.session.run_phase import RunPhase
from ironflow_nb.execution.session.session import Session
from ironflow_nb.execution.steps.context import RunContext
from ironflow_nb.execution.system.interrupts import call_body
from ironflow_nb.values.failures import annotate

WINDOW: Final = 4
"""Items that may be pulled and not yet committed, as a multiple of the concurrency."""

SOURCE_ERRORS: Final = 1000
"""A source that raises this number of errors in a row, with no item between them, is given up."""

HELD_BYTES: Final = 32 * 1024 * 1024
"""Up to this size results are kept in memory, beside those of the window; the others are read again when needed."""

_END: Final = object()


@runtime_checkable
class ClosableItems(Protocol):
    """Items that are pulled from somewhere, until nobody wants more."""

    def close(self) -> None:
        """Pull no more; called in any thread."""


class FanOut:
    """The items of one map, or of one submit, on their way through a step."""

    def __init__(
        self,
        scope: RunContext,
        spec: StepSpec,
        items: Iterator[tuple[Any, ...]],
        *,
        fixed: Mapping[str, Any],
        concurrency: int,
        collects: bool,
        n_expected: int | None,
        is_next_ready: Callable[[int], bool],
    ) -> None:
        """Pull the first window; `is_next_ready` tells whether pulling item n would not block.

        `n_expected` is how many items there will be, where that is known before they are pulled.
        """
        session = self.session = scope.session
        self.promises: list[Promise] = []
        self.is_exhausted = False
        self.first_error: BaseException | None = None
        self._is_failing = False
        self._spec = spec
        self._items = items
        self._fixed = fixed
        self.context = scope
        self._concurrency = concurrency
        self._collects = collects
        self._is_next_ready = is_next_ready
        self._context = copy_context()
        self._attempts: deque[Attempt] = deque()
        self._attempt_of: dict[Promise, Attempt] = {}
        self._n_open = 0
        self._n_workers = 0
        self._n_read = self._n_released = self._n_held = self._n_errors = 0
        self._is_pumped = False
        self._is_asked_for = False
        self._series = session.begin_series(spec.name, scope.branch, continuation=scope.continuation)
        self._is_counted = n_expected is not None
        if n_expected is not None:
            session.count_items(self._series, n_expected)
        scope.add_child(self, self.pull)  # from here on any thread of the flow may pull its items
        session.beside.pull()

    # -- pulling -------------------------------------------------------------------------------------------------

    def pull(self) -> None:
        """Pull items while the window is open; called by the flow's own threads, of which one pulls at a time."""
        self._is_asked_for = True
        while self._is_asked_for:
            with self.session.lock:
                if self._is_pumped:  # by another branch, which looks again, or by an item that calls steps
                    return
                self._is_pumped, self._is_asked_for = True, False
            before = len(self.promises), self.is_exhausted
            try:
                self._fill_window()
            finally:
                self._is_pumped = False
                if before != (len(self.promises), self.is_exhausted):
                    self.session.wakeups.wake_others()

    def _fill_window(self) -> None:
        window = WINDOW * self._concurrency
        while self.is_pulling and self._n_open < window and self._is_next_ready(len(self.promises)):
            self._pull()
        is_over = not self.is_pulling and self._n_open == 0
        if is_over and self.session.beside.remove_pull(self.pull) and self.first_error is None:
            self.session.beside.remove(self)

    @property
    def is_pulling(self) -> bool:
        """Return True if more items may come."""
        return not self.is_exhausted and not self._is_failing

    def _pull(self) -> None:
        try:
            # The iterable may be a generator that calls steps: it stands where the map was called.
            item = self._context.run(call_body, next, (self._items, _END), {})
            self._n_errors = 0
            if item is _END:
                self._exhaust()
                return
            asked = self.session.resolve_call(
                self._spec,
                self.context.branch,
                item,
                self._fixed,
                continuation=self.context.continuation,
                site=self._series.site,
            )
        except BaseException as error:  # of the user's iterable, or of the call itself
            self._take_error(error)
            if isinstance(error, Exception):
                return
            raise  # an exit unwinds the pulling code too, which may be another than the code that reads the map
        self._follow(_promise_of(asked))
        if isinstance(asked, Attempt):
            asked.begin_again, asked.context = self._begin, self._context.copy()
            if asked.failed is not None:
                self._attempt_of[asked.promise] = asked
                self.session.beside.delay(asked)
            else:
                self._begin(asked)

    def _exhaust(self) -> None:
        """Note that there are no more items, and so how many there are."""
        self.is_exhausted = True
        if not self._is_counted:
            self.session.count_items(self._series, len(self.promises))

    def _begin(self, attempt: Attempt) -> None:
        """Queue the attempt for a worker."""
        with self.session.lock:
            self._attempt_of[attempt.promise] = attempt
            # Its failure stays the last word, and may be what the flow waits for. A later continuation of the run waits
            # for what it has taken over from this one, whatever became of this map.
            if self._is_failing and self._is_own(attempt):
                self.session.give_back(attempt)
                self.session.wakeups.wake()
                return
            self._attempts.append(attempt)
            # In the same hold of the lock: a worker that finds nothing to do leaves in one, too.
            if self._n_workers >= self._concurrency:
                return
            self._n_workers += 1
        try:
            self.session.start_performer(self._spec, self.session, self._take, is_limited=False)
        except Exception as error:  # noqa: BLE001 -- no thread can be started
            self._dismiss(error)

    def _take_error(self, error: BaseException) -> None:
        """Fail the item whose call could not be made, whatever the error; or the map, if all of them fail.

        A generator is at its end after an error: taken for no more than that, it would leave the map short.
        """
        self._n_errors += 1
        is_last = self._n_errors == SOURCE_ERRORS
        if is_last:
            annotate(error, f"the items of {self._spec.name}.map(...) raised {SOURCE_ERRORS} times without giving one")
        if is_last or not (self._collects and is_collected(error)):
            self.first_error = self.first_error or error
            self.is_exhausted = True
            self._close_items()
        self._follow(_promise_of(RecordedAnswer(error=error)))

    def _follow(self, promise: Promise) -> None:
        index = len(self.promises)
        self.promises.append(promise)
        with self.session.lock:
            self._n_open += 1
            promise.when_done(lambda: self._note_done(index, promise))

    def _note_done(self, index: int, promise: Promise) -> None:
        self._n_open -= 1
        if promise.error is None:
            self._attempt_of.pop(promise, None)
            self._hold(index, promise)
        elif not self._collects:
            self.first_error = self.first_error or promise.error
            self._begin_no_more()

    def _hold(self, index: int, promise: Promise) -> None:
        """Keep the result in memory, unless it is too much: then those go that were read, and those far ahead."""
        self._n_held += 0 if promise.kept is None else promise.kept.size
        while self._n_held > HELD_BYTES and self._n_released < self._n_read:
            self._release(self.promises[self._n_released])
            self._n_released += 1
        if self._n_held > HELD_BYTES and index >= self._n_read + WINDOW * self._concurrency:
            self._release(promise)

    def _release(self, promise: Promise) -> None:
        if promise.kept is not None and not promise.is_released:
            self._n_held -= promise.kept.size
            promise.release(self.session.access.read)

    def _close_items(self) -> None:
        if isinstance(self._items, ClosableItems):
            self._items.close()

    def _begin_no_more(self) -> None:
        self._is_failing = True
        self._close_items()
        own = [*filter(self._is_own, self._attempts)]
        for attempt in own:  # among them what was to be tried again
            self._attempts.remove(attempt)
            self.session.give_back(attempt)

    def _is_own(self, attempt: Attempt) -> bool:
        """Return True if the attempt answers a call of this map, and none of a later continuation of the run."""
        return attempt.continuation is self.context.continuation

    # -- performing ----------------------------------------------------------------------------------------------

    def _dismiss(self, error: Exception) -> None:
        """Do without a worker that can't be started; where there is no other, what was to be performed fails."""
        self.session.access.background_errors.note("starting a thread for steps", error)
        with self.session.lock:
            self._n_workers -= 1
            while self._attempts and not self._n_workers:
                attempt = self._attempts.popleft()
                self.session.give_back(attempt)
                attempt.promise.fail(error)
        self.session.wakeups.wake()

    def _take(self, result: AttemptResult | None) -> Attempt | None:
        with self.session.lock:
            is_failed = result is not None and result.error is not None and result.retry_at is None
            if is_failed and not self._collects:
                self._begin_no_more()  # at once, though the failure is committed later
            if self._attempts and self.session.phase < RunPhase.FINISHING:
                return self._attempts.popleft()
            self._n_workers -= 1
            return None

    # -- reading -------------------------------------------------------------------------------------------------

    def is_ready(self, index: int) -> bool:
        """Return True if item `index` can be read, or is known never to come, without waiting."""
        if index < len(self.promises) and self.promises[index].is_done:
            return True
        return self._is_stuck() or (self.is_exhausted and index >= len(self.promises))

    def is_finished(self) -> bool:
        """Return True if nothing more will come: all items are done, or one failed and nothing is in flight."""
        return (self.is_exhausted and self._n_open == 0) or self._is_stuck()

    def _is_stuck(self) -> bool:
        if self._collects or self.first_error is None:
            return False
        return not any(
            attempt.is_started and not promise.is_done for promise, attempt in list(self._attempt_of.items())
        )

    @property
    def n_items(self) -> int:
        """How many items there are by now; where a failure ended the map, it counts once for all that never came."""
        return len(self.promises) + (self.first_error is not None and not self.is_exhausted)

    def read(self, index: int) -> Any:
        """Return the result of item `index`, which is ready; of a failed one its error, or raise that."""
        __tracebackhide__ = True
        promise = self.promises[index] if index < len(self.promises) else None
        if promise is None or not promise.is_done:
            promise = next(promise for promise in self.promises if promise.error is self.first_error)
        if promise.error is None:
            self._n_read = max(self._n_read, index + 1)
            return promise.value
        _observe(self.session, promise, self._attempt_of.get(promise))
        if self._collects and promise.error is not self.first_error and is_collected(promise.error):
            return promise.error
        raise promise.error

    def is_at_work(self) -> bool:
        """Return True if a worker performs items of it."""
        return self._n_workers > 0

    def unobserved_error(self) -> BaseException | None:
        """Return the failure of which the flow never saw anything."""
        seen = [promise.error for promise in self.promises if promise.error is not None and promise.is_observed]
        is_seen = any(error is self.first_error for error in seen) if self._collects else bool(seen)
        return None if is_seen else self.first_error


def _promise_of(asked: RecordedAnswer | Promise | Attempt) -> Promise:
    """Return the promise of a call, resolved if it is answered."""
    if isinstance(asked, Attempt):
        return asked.promise
    if isinstance(asked, Promise):
        return asked
    promise = Promise()
    if asked.error is None:
        promise.succeed(asked.value, asked.kept)
    else:
        promise.fail(asked.error)
    return promise


def _observe(session: Session, promise: Promise, attempt: Attempt | None) -> None:
    if not promise.is_observed:
        promise.is_observed = True
        if attempt is not None and attempt.is_started:
            session.observe(attempt)


def is_collected(error: BaseException) -> bool:
    """Return True if the error is a failure of the item, whatever its class, and not of the run or its journal."""
    return isinstance(error, Exception) and (hasattr(error, FAILED_STEP) or not isinstance(error, IronflowError))


class Submission(PromisedWork):
    """One call that runs beside its flow; a limited one waits while many others run."""

    def __init__(self, scope: RunContext, asked: RecordedAnswer | Promise | Attempt, *, is_limited: bool) -> None:
        super().__init__(scope.session.lock, _promise_of(asked))
        self.context = scope
        self.session = scope.session
        self._is_limited = is_limited
        self._attempt = asked if isinstance(asked, Attempt) else None
        self._place = place_of(asked)
        self._is_taken = False
        self._is_at_work = False
        self.is_refused = False
        if isinstance(asked, Attempt):
            scope.add_child(self)
            self.when_done(self._note_done)
            asked.begin_again, asked.context = self._begin, copy_context()
            if asked.failed is not None:
                self.session.beside.delay(asked)
            else:
                self._begin(asked)

    def _begin(self, attempt: Attempt) -> None:
        self._attempt, self._is_taken, self._is_at_work = attempt, False, True
        try:
            self.session.start_performer(attempt.spec, self.session, self._take, is_limited=self._is_limited)
        except Exception as error:  # noqa: BLE001 -- no thread can be started
            self.session.drop(attempt, error)

    def _take(self, _results: AttemptResult | None) -> Attempt | None:
        if self._is_taken or self.session.phase >= RunPhase.FINISHING:
            self._is_at_work = False
            if not self._is_taken:
                self.is_refused = True
                self.session.wakeups.wake()  # a task that its flow has left behind may wait, on the loop itself
            return None
        self._is_taken = True
        return self._attempt

    @property
    def described(self) -> object:
        """What recognises the call in another continuation of the run."""
        return None if self._place is None else (self._place[0], self._place[2])

    def is_at_work(self) -> bool:
        """Return True if it is performed, or about to be."""
        return self._is_at_work

    def _note_done(self) -> None:
        if self.promise.error is None:
            self.session.beside.remove(self)

    def read(self) -> Any:
        """Return the result, which is there, or raise the error."""
        __tracebackhide__ = True
        if self.promise.error is None:
            return self.promise.value
        _observe(self.session, self.promise, self._attempt)
        raise self.promise.error
