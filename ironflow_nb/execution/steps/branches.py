"""Branches of a ``def`` flow: functions that run side by side, each on a thread and in a branch of its own."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ironflow_nb.core.identity import step_name
from ironflow_nb.execution.definitions.parameters import closure_of
from ironflow_nb.execution.session.attempts import PromisedWork, failure_of
from ironflow_nb.execution.steps.context import SCOPE, RunContext
from ironflow_nb.execution.steps.drivers import wait
from ironflow_nb.execution.steps.fan_out import is_collected
from ironflow_nb.execution.system.interrupts import call_body
from ironflow_nb.execution.system.system import THREAD_PREFIX


class Branch(PromisedWork):
    """A function that runs beside its flow, on a thread of its own.

    What began it raises its failure, if it `is_watched`; otherwise a failure that the flow never sees fails the run.
    """

    has_thread = True

    def __init__(self, context: RunContext, function: Callable[[], Any], *, is_watched: bool = True) -> None:
        super().__init__(context.session.lock)
        self.promise.is_observed = is_watched
        self.context = context
        self._function = function

    @property
    def described(self) -> object:
        """What recognises the branch in another continuation of the run."""
        return self.context.branch

    def begin(self) -> None:
        """Start the function as work that the flow answers for."""
        self.context.add_child(self)
        self.start()

    def start(self) -> None:
        """Start the function. The flow answers for the branch already."""
        context = contextvars.copy_context()
        context.run(SCOPE.set, self.context)
        try:
            self.context.session.access.threads.spawn(f"{THREAD_PREFIX}branch", partial(context.run, self._run))
        except Exception as error:  # noqa: BLE001 -- no thread can be started; others of the flow may go on
            self._end(None, error)

    def _run(self) -> None:
        value, error = None, None
        try:
            value = call_body(self._function, (), {})
        except BaseException as raised:  # noqa: BLE001 -- whatever it is, it is the flow's to raise
            error = failure_of(raised, "a branch")
        self._end(value, error)

    def read(self) -> Any:
        """Return the value, which is there, or raise the error."""
        __tracebackhide__ = True
        return self.promise.result()

    def _end(self, value: Any, error: BaseException | None) -> None:
        session = self.context.session
        with session.lock:
            if error is None or self.promise.is_observed:
                session.beside.remove(self)
            if error is None:
                self.promise.succeed(value)
            else:
                self.promise.fail(error)
        session.wakeups.wake()


def begin_branch(scope: RunContext, function: Callable[[], Any]) -> Branch:
    """Begin the function as a branch of the flow, recognised by it and by what it was given."""
    branch = _branch(scope, function, is_watched=False)
    branch.begin()
    return branch


def _branch(scope: RunContext, function: Callable[[], Any], *, is_watched: bool) -> Branch:
    return Branch(scope.branched(*_described(function)), function, is_watched=is_watched)


def gathered(scope: RunContext, functions: Sequence[Callable[[], Any]], *, collects: bool = False) -> list[Any]:
    """Run the functions as branches of the flow, wait for all of them, and return their results in order.

    If it `collects`, a failure stands in the place of its result.

    Raises:
        BaseException: that of the branch which failed first; the others have ended by then.
    """
    __tracebackhide__ = True
    branches = [_branch(scope, function, is_watched=True) for function in functions]
    failed: list[BaseException] = []
    for branch in branches:
        branch.when_done(partial(_note_failure, branch, failed))
        branch.context.add_child(branch)
    # Each branch that begins to wait sees all of them, and that this thread waits.
    with scope.session.wakeups.woken(scope.session.access.threads.wakeup()):
        for branch in branches:
            branch.start()
        wait(scope.session, lambda: all(branch.is_finished() for branch in branches))
    for error in failed:
        if not (collects and is_collected(error)):
            raise error
    return [branch.promise.value if branch.promise.error is None else branch.promise.error for branch in branches]


def _note_failure(branch: Branch, failed: list[BaseException]) -> None:
    if branch.promise.error is not None:
        failed.append(branch.promise.error)


def _described(function: Callable[[], Any]) -> tuple[str, Mapping[str, Any]]:
    """Return the name of a function and everything that it was given: of a partial, of a closure, as defaults."""
    given: dict[str, Any] = {}
    while isinstance(function, partial):
        given |= {str(index): value for index, value in enumerate(function.args)} | function.keywords
        function = function.func
    given |= {"<defaults>": getattr(function, "__defaults__", None) or ()} | closure_of(function)
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return step_name(getattr(function, "__module__", None), name), given
