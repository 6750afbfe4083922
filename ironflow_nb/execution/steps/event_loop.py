"""The engine's own event loop, on a thread of its own.

Tasks that a flow makes there are branches of it: the task factory gives each its scope when it is made, with the
arguments of its coroutine as they are then.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final

from ironflow_nb.core.identity import step_name
from ironflow_nb.execution.session.attempts import place_of
from ironflow_nb.execution.steps import step_runner, wait_runner
from ironflow_nb.execution.steps.context import SCOPE, RunContext
from ironflow_nb.execution.system.system import Threads
from ironflow_nb.execution.system.threads import BackgroundErrors, Turns

Job = Callable[[], Coroutine[Any, Any, Any]]

LAST_WORDS_S: Final = 1.0
"""How long cancelled tasks may take to end when the engine is closed."""


class EngineLoop:
    """An event loop that runs from its first use until it is closed."""

    def __init__(self, threads: Threads, background_errors: BackgroundErrors) -> None:
        self.loop = threads.event_loop()
        self.loop.set_task_factory(branching_tasks)
        self._background_errors = background_errors
        self._turns = Turns[Job](threads.lock())
        self._is_closing = False
        try:
            threads.spawn("ironflow-loop", self._run)
        except BaseException:
            self.loop.close()
            raise

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        while not self._is_closing:
            try:
                self.loop.run_forever()
            except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001
                # asyncio ends the loop with what it has set on a task already; the other flows of it go on.
                self._background_errors.note("running async flows", error)
        left = asyncio.all_tasks(self.loop)
        for task in left:
            task.cancel()
        ended = asyncio.Task(asyncio.wait(left, timeout=LAST_WORDS_S), loop=self.loop) if left else None
        while ended is not None and not ended.done():
            # The stop that `close` has asked for, or one of a flow, may still come: the loop runs again after it.
            with suppress(Exception, SystemExit, KeyboardInterrupt):
                self.loop.run_until_complete(ended)
        self.loop.close()

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Run the coroutine as a task of the loop, in the context of the caller."""
        context = contextvars.copy_context()
        result: Future[Any] = Future()

        def begin() -> None:
            task = asyncio.Task(coroutine, loop=self.loop, context=context)
            _tasks.add(task)
            task.add_done_callback(lambda done: _settle(done, result))
            result.add_done_callback(lambda done: done.cancelled() and self.loop.call_soon_threadsafe(task.cancel))

        _tasks: set[asyncio.Task[Any]] = set()  # a loop only keeps weak references to its tasks
        self.loop.call_soon_threadsafe(begin)
        return result

    def submit(self, job: Job, *, is_limited: bool) -> None:
        """Run the coroutine that the job makes; of a limited one when it is its turn."""
        if not is_limited:
            self.spawn(job())
        elif self._turns.admit(job):
            self.spawn(self._in_turn(job))

    async def _in_turn(self, job: Job) -> None:
        try:
            await job()
        finally:  # as after an exit in a body, which ends the task and not the loop
            following = self._turns.following()
            if following is not None and not self._is_closing:
                self.spawn(self._in_turn(following))

    def close(self) -> None:
        """Cancel the tasks of the loop and end it, if it runs; its thread is a daemon that nobody waits for."""
        self._is_closing = True
        with suppress(RuntimeError):  # it has ended
            self.loop.call_soon_threadsafe(self.loop.stop)


def _settle(task: asyncio.Task[Any], result: Future[Any]) -> None:
    if result.cancelled():
        return
    if task.cancelled():
        result.set_exception(asyncio.CancelledError())
    elif (error := task.exception()) is not None:
        result.set_exception(error)
    else:
        result.set_result(task.result())


def branching_tasks(
    loop: asyncio.AbstractEventLoop, coroutine: Any, context: contextvars.Context | None = None, **options: Any
) -> asyncio.Task[Any]:
    """Make a task; one made by a flow is a branch of it."""
    scope = SCOPE.get()
    if scope is None or scope.step is not None:
        return asyncio.Task(coroutine, loop=loop, context=context, **options)
    if not (step_runner.is_call(coroutine) or wait_runner.is_wait(coroutine)):
        context = contextvars.copy_context() if context is None else context
        context.run(SCOPE.set, _branch(scope, coroutine))
    task = asyncio.Task(coroutine, loop=loop, context=context, **options)
    scope.session.beside.add_task(task)  # of a call, too: until it begins, the flow does not wait
    return task


def begin_task(scope: RunContext, coroutine: Any) -> tuple[asyncio.Task[Any], object]:
    """Begin the coroutine as a task of the flow; return also what recognises it in another continuation.

    That is the call of a step, or else the branch that its task is.
    """
    described: object = None
    if step_runner.is_call(coroutine) or wait_runner.is_wait(coroutine):
        if coroutine.cr_frame is not None:  # of a coroutine that has not begun, the locals are its arguments
            place = place_of(coroutine.cr_frame.f_locals["asked"])
            described = None if place is None else (place[0], place[2])
        task = asyncio.ensure_future(coroutine)
        scope.session.beside.add_task(task)  # the loop alone does not keep it
    else:
        context = contextvars.copy_context()
        task = asyncio.create_task(coroutine, context=context)
        inside = context.run(SCOPE.get)
        described = None if inside is None else inside.branch
    # Its flow may have left it: the failure is in the journal, and asyncio need not complain of it.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task, described


def _branch(scope: RunContext, coroutine: Any) -> RunContext:
    name = step_name(None, getattr(coroutine, "__qualname__", "task"))
    # Of a coroutine that has not begun, the locals are its arguments.
    frame = getattr(coroutine, "cr_frame", None)
    return scope.branched(name, dict(frame.f_locals) if frame else None)
