"""How the coroutines of the engine wait: blocking a thread, or suspending a task.

Calls, attempts, retries and whole runs are coroutines that are written once. `IN_THREAD` never suspends one, so
`run_to_end` runs it in one go in the calling thread; `ON_LOOP` awaits on the engine's loop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from typing import Any, Final, TypeVar

from ironflow_nb.execution.session.attempts import Promise
from ironflow_nb.execution.session.run_phase import RunStopped
from ironflow_nb.execution.session.session import Session
from ironflow_nb.execution.system.interrupts import INTERRUPTS
from ironflow_nb.execution.system.threads import LoopWakeup
from ironflow_nb.values.digest import listed

T = TypeVar("T")


class Driver:
    """Blocks the calling thread. An interrupt of the main thread, and a stop of the run, are raised where it waits."""

    is_async = False
    """True if bodies are awaited. Then a stop of the run cancels them; others it does not disturb."""

    def enter(self, session: Session) -> None:
        """Note in the session what executes its run."""
        session.enter()

    async def listed(self, value: Any) -> Any:
        """Return what a flow returned; of a map a list."""
        return listed(value)

    def is_end(self, session: Session, error: BaseException) -> bool:
        """Return True if the error is the flow's own or that of its stop; any other one cuts the run off."""
        return isinstance(error, Exception | RunStopped)

    async def run_in(self, context: Context | None, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run the coroutine in that context; None is the caller's own."""
        return run_to_end(coroutine) if context is None else context.run(run_to_end, coroutine)

    async def sheltered(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run the coroutine to its end."""
        return await coroutine

    # -- waiting -------------------------------------------------------------------------------------------------

    async def wait(self, session: Session, is_done: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Drive the run until `is_done`; return False after `timeout_s`."""
        clock = session.access.clock
        deadline = None if timeout_s is None else clock.monotonic() + timeout_s
        with session.wakeups.woken(self.wakeup(session), is_done) as wakeup:
            while True:
                session.advance()
                self._check(session)
                if is_done():
                    return True
                left_s = None if deadline is None else deadline - clock.monotonic()
                if left_s is not None and left_s <= 0:
                    return False
                await self.sleep(session, wakeup, session.shortened(session.beside.shortened(left_s)))

    async def pause(self, session: Session, duration_s: float) -> None:
        """Wait for that time."""
        with session.beside.paused():
            await self.wait(session, lambda: False, duration_s)

    async def resolved(self, session: Session, promise: Promise) -> None:
        """Wait until the promise is resolved."""
        await self.wait(session, lambda: promise.is_done)

    async def resolved_within(
        self, session: Session, promise: Promise, timeout_s: float | None, is_left: Callable[[], bool]
    ) -> None:
        """Wait until the promise is resolved, or the flow has left the thread behind, and no longer than that."""
        await self.wait(session, lambda: promise.is_done or is_left(), timeout_s)

    def wakeup(self, session: Session) -> Any:
        """Return what ends a `sleep`; any thread may set it."""
        return session.access.threads.wakeup()

    async def sleep(self, session: Session, wakeup: Any, timeout_s: float | None) -> None:
        """Wait for the wakeup, no longer than `timeout_s`."""
        with INTERRUPTS.waiting(wakeup):
            session.access.clock.wait(wakeup, timeout_s, is_idle=session.is_idle())

    def _check(self, session: Session) -> None:
        INTERRUPTS.check()
        session.raise_if_stop_requested()


class LoopDriver(Driver):
    """Suspends the calling task. A stop of the run cancels the task of its flow, so a body may raise because of it."""

    is_async = True

    def enter(self, session: Session) -> None:
        """See `Driver`."""
        import asyncio

        session.enter(loop=asyncio.get_running_loop(), task=asyncio.current_task(), commits=_ScheduledCommit(session))

    async def listed(self, value: Any) -> Any:
        """See `Driver`."""
        import asyncio

        if hasattr(type(value), "__ironflow_list__"):  # of a map, whose results may still come
            value = await value
        await asyncio.sleep(0)  # tasks that it made a moment ago begin their steps
        return value

    def is_end(self, session: Session, error: BaseException) -> bool:
        """See `Driver`: a task that is cancelled may be so because of the stop."""
        return isinstance(error, Exception) or session.stop_request is not None

    def run_in(self, context: Context | None, coroutine: Coroutine[Any, Any, T]) -> Awaitable[T]:  # type: ignore[override]
        """See `Driver`: of a task, only another task has another context."""
        import asyncio

        return coroutine if context is None else asyncio.Task(coroutine, context=context)

    async def sheltered(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """See `Driver`: also if the calling task is cancelled meanwhile, by a parent or a task group."""
        import asyncio

        task = asyncio.ensure_future(coroutine)
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        return task.result()

    async def pause(self, session: Session, duration_s: float) -> None:
        """See `Driver`; what wakes the run's own waits does not concern it."""
        await self.sleep(session, LoopWakeup(), duration_s)

    async def resolved(self, session: Session, promise: Promise) -> None:
        """See `Driver`."""
        import asyncio

        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def settle() -> None:
            if not done.done():
                done.set_result(None)

        def call_back() -> None:
            if asyncio._get_running_loop() is loop:  # 100 times cheaper than to catch an error
                settle()
            else:
                with suppress(RuntimeError):  # the loop of a cell that was interrupted is closed: nobody waits any more
                    loop.call_soon_threadsafe(settle)

        with session.lock:
            promise.when_done(call_back)
        await done

    async def resolved_within(
        self, session: Session, promise: Promise, timeout_s: float | None, is_left: Callable[[], bool]
    ) -> None:
        """See `Driver`; each waits for its own, for there may be thousands. A task that is left behind is cancelled."""
        wakeup = LoopWakeup()
        with session.lock:
            promise.when_done(wakeup.set)
        await self.sleep(session, wakeup, timeout_s)

    def wakeup(self, session: Session) -> Any:
        """See `Driver`."""
        return LoopWakeup()

    async def sleep(self, session: Session, wakeup: Any, timeout_s: float | None) -> None:
        """See `Driver`."""
        await session.access.clock.wait_on_loop(wakeup, timeout_s, is_idle=session.is_idle())

    def _check(self, session: Session) -> None:
        """Raise nothing: the task of the flow is cancelled."""


class _ScheduledCommit:
    """Schedules one commit on the loop for all results that are queued until the loop runs it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._is_scheduled = False
        self._is_awaited = False

    def schedule(self) -> None:
        """See `LoopCommits`."""
        if not self._is_scheduled:
            self._is_scheduled, self._is_awaited = True, False
            self._session.loop.call_soon_threadsafe(self._commit)

    def is_coming(self) -> bool:
        """See `LoopCommits`."""
        is_coming, self._is_awaited = self._is_scheduled and not self._is_awaited, True
        return is_coming

    def _commit(self) -> None:
        self._is_scheduled = False
        self._session.commit_queued()
        try:
            self._session.beside.pull()
        except BaseException as error:
            if isinstance(error, Exception):
                raise
            # Who awaits meets it too: the stop of the run, or what ended the items of a map.


IN_THREAD: Final = Driver()
ON_LOOP: Final = LoopDriver()


def run_to_end(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that `IN_THREAD` drives, which never suspends, and return its value."""
    __tracebackhide__ = True
    try:
        coroutine.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    raise AssertionError("a coroutine suspended in a thread")


def wait(session: Session, is_done: Callable[[], bool], timeout_s: float | None = None) -> bool:
    """Drive the run in the calling thread until `is_done`; return False after `timeout_s`."""
    return run_to_end(IN_THREAD.wait(session, is_done, timeout_s))
