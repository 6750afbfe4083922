"""Branches of a ``def`` flow: functions that run side by side, each on a thread and in a branch of its own."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ironflow_nb.core.identity import step_name
from ironflow_nb.execution.definitions.parameters import closure_of
from ironflow_nb.execution.session.attempts import PromisedWork
from ironflow_nb.execution.steps.context import SCOPE, RunContext
from ironflow_nb.execution.steps.drivers import wait
from ironflow_nb.execution.system.interrupts import call_body
from ironflow_nb.execution.system.system import THREAD_PREFIX


class Branch(PromisedWork):
    """A function that runs beside its flow, on a thread of its own. What began it raises its failure."""

    has_thread = True

    def __init__(self, context: RunContext, function: Callable[[], Any]) -> None:
        super().__init__(context.session.lock)
        self.promise.is_observed = True
        self._context = context
        self._function = function

    def begin(self) -> None:
        """Start the function."""
        self._context.add_child(self)
        context = contextvars.copy_context()
        context.run(SCOPE.set, self._context)
        try:
            threads = self._context.session.access.threads
            threads.spawn(f"{THREAD_PREFIX}branch", partial(context.run, self._run))
        except Exception as error:  # noqa: BLE001 -- no thread can be started; others of the flow may go on
            self._end(None, error)

    def _run(self) -> None:
        value, error = None, None
        try:
            value = call_body(self._function, (), {})
        except BaseException as raised:  # noqa: BLE001 -- whatever it is, it is the flow's to raise
            error = raised
        self._end(value, error)

    def _end(self, value: Any, error: BaseException | None) -> None:
        session = self._context.session
        with session.lock:
            session.beside.remove(self)
            if error is None:
                self.promise.succeed(value)
            else:
                self.promise.fail(error)
        session.wakeups.wake()


def gathered(scope: RunContext, functions: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run the functions as branches of the flow, wait for all of them, and return their results in order.

    Each is recognised by its function and by what that was given.

    Raises:
        BaseException: that of the branch which failed first; the others have ended by then.
    """
    __tracebackhide__ = True
    branches = [Branch(scope.branched(*_described(function)), function) for function in functions]
    failed: list[Branch] = []
    for branch in branches:
        branch.when_done(partial(_note_failure, branch, failed))
        branch.begin()
    wait(scope.session, lambda: all(branch.is_finished() for branch in branches))
    if failed:
        assert failed[0].promise.error is not None
        raise failed[0].promise.error
    return [branch.promise.value for branch in branches]


def _note_failure(branch: Branch, failed: list[Branch]) -> None:
    if branch.promise.error is not None:
        failed.append(branch)


def _described(function: Callable[[], Any]) -> tuple[str, Mapping[str, Any]]:
    """Return the name of a function and everything that it was given: of a partial, of a closure, as defaults."""
    given: dict[str, Any] = {}
    while isinstance(function, partial):
        given |= {str(index): value for index, value in enumerate(function.args)} | function.keywords
        function = function.func
    given |= {"<defaults>": getattr(function, "__defaults__", None) or ()} | closure_of(function)
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return step_name(getattr(function, "__module__", None), name), given
