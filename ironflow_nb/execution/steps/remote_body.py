"""The body of an attempt that an executor performs, and what becomes of it when nobody wants its result any more.

A body that has not begun is withdrawn. One that has begun is ended with its process, if a function has made the
executor for the engine; else it is abandoned, and what it returns is discarded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Mapping
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ironflow_nb.core.time_limits import Limit
from ironflow_nb.errors import IronflowError, WorkerLost
from ironflow_nb.execution.session.attempts import Attempt, failure_of
from ironflow_nb.execution.session.run_phase import RunPhase, RunStopped, StopRequest
from ironflow_nb.execution.session.session import Session
from ironflow_nb.execution.steps.drivers import IN_THREAD, ON_LOOP, Driver, run_to_end
from ironflow_nb.execution.steps.limited_body import LimitedBody
from ironflow_nb.execution.steps.worker_call import Body, perform_body, pickled_call, result_of_worker

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

_UNLIMITED: Final = Limit(math.inf, "")
_MAKE_ANEW: Final = (
    "give the step a function that makes its executor, as in executor=lambda: ProcessPoolExecutor(4): it is called "
    "again when the executor is broken"
)


class RemoteBody(LimitedBody):
    """One body on its way through an executor."""

    _executor: Executor

    def __init__(self, session: Session, attempt: Attempt, limit: Limit | None, given: Any) -> None:
        super().__init__(session, attempt, limit or _UNLIMITED)
        self._given = given
        self._executors = session.access.executors
        self._ended_s = math.inf
        self._n_submitted = 0

    @property
    def limit_s(self) -> float | None:
        """See `LimitedBody`."""
        return None if self._limit is _UNLIMITED else self._limit.after_s

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """See `LimitedBody`."""
        __tracebackhide__ = True
        return run_to_end(self._performed(IN_THREAD, (function, args, kwargs)))

    def begin(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """See `LimitedBody`."""
        return self._performed(ON_LOOP, (function, args, kwargs))

    async def awaited(self, body: Coroutine[Any, Any, Any]) -> Any:
        """See `LimitedBody`."""
        return await body

    async def _performed(self, driver: Driver, body: Body) -> Any:
        """Return the result of the body.

        Raises:
            StepTimeout: it takes longer.
            WorkerLost: its worker died, or its executor takes no more work.
            RunStopped: the run stops, and does not wait for it.
        """
        __tracebackhide__ = True
        if self._limit.after_s <= 0:
            raise self._exceeded("did not begin")
        wakeup = driver.wakeup(self._session)
        with self._session.stops.woken(wakeup):
            outcome = await self._outcome(driver, wakeup, body)
        try:
            return result_of_worker(outcome) if self._n_submitted else outcome
        except StopIteration as error:  # which no coroutine can raise
            raise failure_of(error, f"step {self._attempt.spec.name}") from error
        except KeyboardInterrupt as interrupt:  # a kernel interrupts its workers, too
            raise RunStopped(StopRequest.INTERRUPT, "KeyboardInterrupt") from interrupt

    async def _outcome(self, driver: Driver, wakeup: Any, body: Body) -> Any:
        """Return what the executor gives for the body; in other processes that is pickled.

        Only this holds the future: a Dask cluster that loses what one still refers to computes it again.
        """
        __tracebackhide__ = True
        while True:
            try:
                future = self._submit(wakeup.set, body)
                await self._wait(driver, wakeup, future)
                if not self._is_lost_with_others(future):
                    return self._returned(future)
            except WorkerLost:
                while self._executors.is_closed and self._session.is_open:  # the engine is about to end the run
                    await driver.sleep(self._session, wakeup, None)
                if self._executors.is_closed:
                    raise RunStopped(StopRequest.INTERRUPT, "exit") from None
                raise

    def _returned(self, future: Future[Any]) -> Any:
        """Return what the executor gives for a body that has ended."""
        __tracebackhide__ = True
        if future.cancelled():
            raise self._lost(f"{self._attempt.step} was withdrawn by its executor, which was shut down; {_MAKE_ANEW}")
        error = future.exception()
        if self._ended_s >= self._ends_s:
            self._discard(error)
            raise self._exceeded("ended too late")
        if error is None:
            return future.result()
        from concurrent.futures import BrokenExecutor

        if self._n_submitted or isinstance(error, BrokenExecutor):  # a body in another process raises nothing itself
            what = f"{self._attempt.step} was lost with its worker: {type(error).__name__}: {error}"
            raise self._lost(what) from error
        raise failure_of(error, f"step {self._attempt.spec.name}")

    def _submit(self, wake: Callable[[], None], body: Body) -> Future[Any]:
        def call_in(executor: Executor) -> Callable[[], Any]:
            from concurrent.futures import ThreadPoolExecutor

            attempt = self._attempt
            if isinstance(executor, ThreadPoolExecutor):
                return partial(copy_context().run, perform_body, *body)
            self._n_submitted += 1
            title = f"{self._session.run_id} {attempt.step} {attempt.number}.{self._n_submitted}"
            url = getattr(self._session.access.values.place, "url", None)
            return pickled_call(attempt.step, title, body, attempt.call.arguments, url)

        def note_done(_: Future[Any]) -> None:
            self._ended_s = self._clock.monotonic()
            wake()

        try:
            self._executor, future = self._executors.submit(self._given, call_in)
        except (IronflowError, TypeError):  # about an argument, or what makes the executor
            raise
        except Exception as error:
            what = f"the executor of {self._attempt.step} takes no more work: {type(error).__name__}: {error}"
            raise self._lost(f"{what}; {_MAKE_ANEW}", is_retryable=False) from error
        future.add_done_callback(note_done)
        return future

    async def _wait(self, driver: Driver, wakeup: Any, future: Future[Any]) -> None:
        """Wait until the body has ended.

        Raises:
            StepTimeout, RunStopped: see `_performed`.
        """
        try:
            while not future.done() and (left_s := self._left_s) > 0:
                self._stop_with_run(future)
                await driver.sleep(self._session, wakeup, None if left_s == math.inf else left_s)
        except BaseException as error:
            if driver.is_async and not isinstance(error, Exception | RunStopped):  # its task is cancelled
                self._leave(future, "after it was cancelled")
                if future.cancelled() and self._attempt.spec.once and self._session.stop_request is not None:
                    raise self._stopped() from self._withdrawn()
            raise
        if not future.done():
            raise self._exceeded(self._leave(future, "after its time was up"))

    def _stop_with_run(self, future: Future[Any]) -> None:
        """Withdraw a body that has not begun from a run that stops; one that has begun goes on, but for a cancel.

        Raises:
            RunStopped: the run stops, and does not wait for it.
        """
        session, stop = self._session, self._session.stop_request
        if session.phase is RunPhase.OPEN:
            return
        # Dask and Ray do not say which of their calls have begun.
        is_telling = not type(self._executor).__module__.startswith(("distributed.", "ironflow_nb.compute."))
        if stop is not None and stop.request is StopRequest.CANCEL:
            self._leave(future, "after its run was cancelled")
            raise self._stopped()
        if is_telling and future.cancel():
            raise self._stopped() from self._withdrawn()

    def _stopped(self) -> RunStopped:
        stop = self._session.stop_request
        return RunStopped(StopRequest.INTERRUPT, None) if stop is None else RunStopped(stop.request, stop.asked_by)

    def _withdrawn(self) -> WorkerLost:
        what = f"{self._attempt.step} was withdrawn from its executor before it began, for its run stops"
        return self._lost(what, is_retryable=False)

    def _leave(self, future: Future[Any], when: str) -> str:
        """Do without the body; return in words what becomes of it."""
        if future.cancel():
            return "was withdrawn from its executor"
        if future.done():
            return "ended too late"
        if self._executors.kill(self._given, self._executor):
            return "was ended with its process"
        session, step = self._session, self._attempt.step

        def note_late(late: Future[Any]) -> None:
            with session.lock:
                session.abandoned.remove(step)
            if not late.cancelled():
                self._say_discarded(f"ended {when}")
            session.wakeups.wake()

        with session.lock:
            session.abandoned.add(step)
        future.add_done_callback(note_late)
        return "goes on in its executor, and what it returns is discarded"

    def _is_lost_with_others(self, future: Future[Any]) -> bool:
        """Return True if it ended only because another body was ended with the processes of the executor."""
        if self._executor not in self._executors.killed or self._executors.is_closed or self._attempt.spec.once:
            return False
        return future.cancelled() or future.exception() is not None

    def _lost(self, what: str, *, is_retryable: bool = True) -> WorkerLost:
        error = WorkerLost(what, step=self._attempt.step)
        error.is_retryable = is_retryable
        return error
