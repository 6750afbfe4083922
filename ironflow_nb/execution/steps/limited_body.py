"""The body of an attempt that has a time limit.

An ``async def`` body is cancelled. A ``def`` body runs on a thread of its own, for no thread can be stopped: it is
abandoned, and its attempt ends without it. A body that ends after its time has timed out too, even if nobody has
noticed yet: its time decides, and not which thread comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from contextvars import copy_context
from typing import Any

from ironflow_nb.core.durations import spoken
from ironflow_nb.core.time_limits import DEADLINE, TIMEOUT, Limit, first_limit
from ironflow_nb.errors import StepTimeout
from ironflow_nb.execution.session.attempts import Attempt
from ironflow_nb.execution.session.session import Session
from ironflow_nb.execution.steps.drivers import Driver
from ironflow_nb.execution.system.frontend import say
from ironflow_nb.execution.system.interrupts import call_body
from ironflow_nb.execution.system.system import THREAD_PREFIX
from ironflow_nb.execution.system.threads import LoopWakeup


def limit_of(session: Session, attempt: Attempt) -> Limit | None:
    """Return the limit of the attempt, which begins now; None if it may take as long as it likes."""
    limits, run = attempt.spec.limits, session.limit_left()
    if limits.deadline_s is not None and attempt.ends_s is None:
        attempt.ends_s = attempt.started_s + limits.deadline_s
    left_s = None if attempt.ends_s is None else attempt.ends_s - attempt.started_s
    return first_limit(limits.timeout_s, left_s, run)


async def wait_for_abandoned(driver: Driver, session: Session, attempt: Attempt) -> None:
    """Wait until no abandoned body of the step goes on, or until the deadline of the attempt."""
    if attempt.spec.overlaps:
        return
    clock = session.access.clock
    with session.wakeups.woken(driver.wakeup(session)) as wakeup:
        while attempt.step in session.abandoned and session.is_open:
            left_s = None if attempt.ends_s is None else attempt.ends_s - clock.monotonic()
            if left_s is not None and left_s <= 0:
                return
            await driver.sleep(session, wakeup, left_s)


class LimitedBody:
    """One body on its way: it has ended in time, or it is late."""

    def __init__(self, session: Session, attempt: Attempt, limit: Limit) -> None:
        self._session = session
        self._attempt = attempt
        self._limit = limit
        self._clock = session.access.clock
        self._ends_s = attempt.started_s + limit.after_s
        self._result: tuple[Any, BaseException | None] | None = None
        self._is_abandoned = False
        self._is_cancelled = False

    @property
    def limit_s(self) -> float | None:
        """The seconds that the body has, None for as many as it likes."""
        return self._limit.after_s

    @property
    def _left_s(self) -> float:
        return self._ends_s - self._clock.monotonic()

    # -- on a thread ---------------------------------------------------------------------------------------------

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Return what the function returns on a thread of its own.

        Raises:
            StepTimeout: it takes longer.
        """
        __tracebackhide__ = True
        if self._limit.after_s <= 0:
            raise self._exceeded("did not begin")
        threads, context = self._session.access.threads, copy_context()
        done = threads.wakeup()

        def work() -> None:
            self._work(function, args, kwargs)
            done.set()

        threads.spawn(f"{THREAD_PREFIX}body-{self._attempt.step}", lambda: context.run(work))
        while self._result is None and (left_s := self._left_s + self._attempt.spec.grace_s) > 0:
            self._clock.wait(done, left_s)
        with self._session.lock:
            if self._result is None:
                self._is_abandoned = True
                self._session.abandoned.add(self._attempt.step)
                self._session.telemetry().abandon(self._attempt)
        if self._result is None:
            raise self._exceeded("goes on alone, and what it returns is discarded")
        value, error = self._result
        if error is not None:
            raise error
        return value

    def _work(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        __tracebackhide__ = True
        value, error = None, None
        try:
            value = call_body(function, args, kwargs)
        except BaseException as raised:  # noqa: BLE001 -- the waiting thread raises it again
            error = raised
        with self._session.lock:
            is_late = self._left_s <= 0 and (self._is_abandoned or not isinstance(error, StepTimeout))
            self._result = (None, self._exceeded("ended too late")) if is_late else (value, error)
            if self._is_abandoned:
                self._session.abandoned.remove(self._attempt.step)
        if is_late:
            self._discard(error)
            self._session.wakeups.wake()

    # -- on the loop ---------------------------------------------------------------------------------------------

    def begin(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Return the coroutine of the body, to be `awaited`."""
        __tracebackhide__ = True
        return call_body(function, args, kwargs)

    async def awaited(self, body: Coroutine[Any, Any, Any]) -> Any:
        """Return the result of the body, in this task.

        Raises:
            StepTimeout: it takes longer, and was cancelled.
        """
        __tracebackhide__ = True
        import asyncio

        if self._limit.after_s <= 0:
            body.close()
            raise self._exceeded("did not begin")
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        n_cancels = task.cancelling()
        watch = asyncio.Task(self._cancel_when_over(task), loop=loop)
        try:
            value, error = await body, None
        except BaseException as raised:
            is_other = isinstance(raised, asyncio.CancelledError) and not self._is_cancelled
            if is_other or not isinstance(raised, Exception | asyncio.CancelledError) or self._left_s > 0:
                raise
            value, error = None, raised
        finally:
            watch.cancel()
        if self._left_s > 0:
            return value
        if self._is_cancelled and task.uncancel() > n_cancels and isinstance(error, asyncio.CancelledError):
            raise error  # the run stops as well
        if not isinstance(error, asyncio.CancelledError):
            self._discard(error)
        raise self._exceeded("was cancelled" if self._is_cancelled else "ended too late") from error

    async def _cancel_when_over(self, task: Any) -> None:
        wakeup = LoopWakeup()
        while (left_s := self._left_s) > 0:
            await self._clock.wait_on_loop(wakeup, left_s)
        self._is_cancelled = True
        task.cancel()

    # -- what is late --------------------------------------------------------------------------------------------

    def _discard(self, error: BaseException | None) -> None:
        """Record and say once that what the body has brought is not used."""
        brought = "returned" if error is None else f"raised {type(error).__name__}"
        self._say_discarded(f"{brought} {spoken(max(-self._left_s, 0.0))} after its time was up")

    def _say_discarded(self, what: str) -> None:
        session, attempt = self._session, self._attempt
        with session.lock:
            if session.is_open:
                session.abandoned.discard((attempt.step, attempt.number), what)
        say(f"run {session.run_id}: attempt {attempt.number} of {attempt.step} {what}; that is discarded")

    def _exceeded(self, outcome: str) -> StepTimeout:
        """Return the error of the attempt; `outcome` says what became of its body."""
        attempt, limit, limits = self._attempt, self._limit, self._attempt.spec.limits
        if limit.is_of_run:
            self._session.stop_if_out_of_time()  # before the flow sees the error, and could end with it
            what = f"{attempt.step} had not ended when the {limit.option} of its run was over"
        elif limit.option == TIMEOUT:
            what = f"{attempt.step} took longer than its {limits.in_words(TIMEOUT)}"
        else:
            what = f"{attempt.step} took longer than its {limits.in_words(DEADLINE)}, all attempts together"
        error = attempt.spec.timeout_error(f"{what}; its body {outcome}")
        error.run_id, error.step = self._session.run_id, attempt.step
        error.is_retryable = limit.option == TIMEOUT and not limit.is_of_run
        return error
