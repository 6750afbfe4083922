"""The executors of one engine: those that functions make for it, and what is at work in any of them."""

from __future__ import annotations

import os
import signal
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from ironflow_nb.core.option_values import is_executor
from ironflow_nb.execution.system.system import Threads, at_exit

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future


class Executors:
    """An executor that a function made is kept until it is broken, its function is gone, or the engine is closed.

    Executors that were given as they are belong to who made them: nothing is ended in them.
    """

    def __init__(self, threads: Threads) -> None:
        self._lock = threads.lock()
        self._made: weakref.WeakKeyDictionary[Any, Executor] = weakref.WeakKeyDictionary()
        self.killed: weakref.WeakSet[Executor] = weakref.WeakSet()
        """Those whose processes were ended here."""
        self._at_work: dict[Future[Any], Executor] = {}
        self._process: int | None = None
        self.is_closed = False

    def get(self, given: Any) -> Executor:
        """Return the executor that was given, or the one that the given function has made or makes now.

        Raises:
            TypeError: it made something else.
        """
        if is_executor(given):
            return cast("Executor", given)
        with self._lock:
            made = self._made.get(given)
            if made is None:
                made = given()
                if not is_executor(made):
                    raise TypeError(f"executor={given!r} made no concurrent.futures.Executor, but {made!r}")
                self._made[given] = made
            return made

    def submit(self, given: Any, call_in: Callable[[Executor], Callable[[], Any]]) -> tuple[Executor, Future[Any]]:
        """Begin a call, and return where; `call_in` makes it for an executor. A broken one is made anew, if it can be.

        Raises:
            Exception: that of the executor, which takes no more work.
        """
        self._end_with_process()
        executor = self.get(given)
        call = call_in(executor)
        try:
            future: Future[Any] = executor.submit(call)
        except Exception:
            if self.is_closed or not self._forget(given, executor):
                raise
            executor = self.get(given)
            future = executor.submit(call)
        self._at_work[future] = executor
        future.add_done_callback(lambda done: self._at_work.pop(done, None))
        if self.is_closed:
            future.cancel()
        return executor, future

    def kill(self, given: Any, executor: Executor) -> bool:
        """End the processes of the executor, with everything in them; return False if they are not the engine's."""
        if not self._forget(given, executor):
            return False
        with self._lock:  # of several bodies whose time is up, one ends the processes
            if executor in self.killed:
                return True
            self.killed.add(executor)
            return _kill_workers(executor)

    def _forget(self, given: Any, executor: Executor) -> bool:
        with self._lock:
            if given is executor:
                return False
            if self._made.get(given) is executor:
                del self._made[given]
            return True

    def _end_with_process(self) -> None:
        """Close before Python waits at exit for the processes of executors, and for all that is queued in them."""
        if self._process is None:
            self._process = os.getpid()
            at_exit(partial(_close, weakref.ref(self)))

    def close(self) -> None:
        """Withdraw what has not begun, and end the executors that functions made; nothing is waited for."""
        if self._process != os.getpid():  # none was used, or this is a process that an executor forked
            return
        self.is_closed = True
        for future in list(self._at_work):
            future.cancel()
        busy = set(map(id, self._at_work.copy().values()))
        with self._lock:
            made = list(self._made.values())
            self._made.clear()
        for executor in made:
            if id(executor) in busy:
                self.killed.add(executor)
            if id(executor) not in busy or not _kill_workers(executor):
                executor.shutdown(wait=hasattr(executor, "_processes"))


def _close(reference: weakref.ref[Executors]) -> None:
    if (executors := reference()) is not None:
        executors.close()


def _kill_workers(executor: Executor) -> bool:
    """End the processes of an executor; return False if it has none here. Python has a method for that since 3.14."""
    processes = list((getattr(executor, "_processes", None) or {}).values())
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process.pid, getattr(signal, "SIGKILL", signal.SIGTERM))  # those of loky have no `kill`
    if processes:
        # Until its thread has seen that. Otherwise Python 3.11, at exit, may write into a pipe that this thread closes.
        executor.shutdown(wait=True)
    return bool(processes)
