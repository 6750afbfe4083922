"""Branches of a ``def`` flow: functions that run side by side, each on a thread and in a branch of its own."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ironflow_nb.core.identity import step_name
from ironflow_nb.execution.definitions.parameters import closure_of
from ironflow_nb.execution.session.attempts import Promise
from ironflow_nb.execution.session.session import Session
from ironflow_nb.execution.steps.context import SCOPE, RunContext
from ironflow_nb.execution.steps.drivers import wait
from ironflow_nb.execution.system.interrupts import call_body
from ironflow_nb.execution.system.system import THREAD_PREFIX


class Branch:
    """One function that runs beside the others; its flow answers for it."""

    def __init__(self, scope: RunContext, function: Callable[[], Any]) -> None:
        """Number the branch, by the function and what it was given, among those of its flow."""
        self.session: Session = scope.session
        self.outcome = Promise()
        self._function = function
        name, arguments = _described(function)
        branch = self.session.open_branch(scope.branch, name, arguments, stretch=scope.stretch)
        self._scope = RunContext(self.session, branch, stretch=scope.stretch)

    def begin(self) -> None:
        """Start the function on a thread of its own."""
        context = contextvars.copy_context()
        context.run(SCOPE.set, self._scope)
        try:
            self.session.ledger.threads.spawn(f"{THREAD_PREFIX}branch", partial(context.run, self._run))
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
        with self.session.lock:
            if error is None:
                self.outcome.succeed(value)
            else:
                self.outcome.fail(error)
        self.session.wakeups.wake()

    def is_finished(self) -> bool:
        """Tell whether the function has ended."""
        return self.outcome.is_done

    def unobserved_error(self) -> BaseException | None:
        """Return nothing: who gathered the branch raises its failure."""
        return None


def gathered(scope: RunContext, functions: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run the functions as branches of the flow, wait for all of them, and return their results in order.

    Raises:
        BaseException: that of the branch which failed first; the others have ended by then.
    """
    __tracebackhide__ = True
    session = scope.open_session()
    branches = [Branch(scope, function) for function in functions]
    failed: list[Branch] = []
    for branch in branches:
        with session.lock:
            branch.outcome.when_done(partial(_note_failure, branch, failed))
        session.add_child(branch, scope.stretch)
        branch.begin()
    wait(session, lambda: all(branch.is_finished() for branch in branches))
    for branch in branches:
        session.children.remove(branch)
    if failed:
        assert failed[0].outcome.error is not None
        raise failed[0].outcome.error
    return [branch.outcome.value for branch in branches]


def _note_failure(branch: Branch, failed: list[Branch]) -> None:
    if branch.outcome.error is not None:
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
