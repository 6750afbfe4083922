"""Doing several things side by side inside a flow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ironflow_nb.errors import WrongColour
from ironflow_nb.execution import SCOPE, call_body, gathered
from ironflow_nb.flows.results import StepFuture

T = TypeVar("T")


def gather(*branches: Callable[[], T] | StepFuture[T]) -> list[T]:
    """Run functions side by side, each as a branch of the flow, and return their results in order.

    A branch is a function without arguments, for instance a `functools.partial`, which calls steps as the flow itself
    does, or the future of a step that was submitted. Each runs on a thread of its own, and is recognised again by the
    function, by what that was given, and by which one among equals it is: of branches that ran together, none ever
    gets what another one recorded. Waits until all have ended; then raises the failure that came first. Outside of a
    flow, and inside a step, the functions are called one after the other.

    Raises:
        TypeError: something is neither a function nor a future.
        WrongColour: the flow is async; await ``asyncio.gather`` there.
    """
    __tracebackhide__ = True
    for branch in branches:
        if not (isinstance(branch, StepFuture) or callable(branch)):
            raise TypeError(
                f"iron.gather takes functions without arguments and futures of steps, not {type(branch).__name__}; "
                "write functools.partial(function, argument), or step.submit(argument)"
            )
    scope = SCOPE.get()
    if scope is None or scope.step is not None:
        return [_plain(branch) for branch in branches]
    if scope.is_on_loop():
        raise WrongColour("iron.gather would block the event loop of this async flow; use await asyncio.gather(...)")
    functions: list[Callable[[], Any]] = [branch for branch in branches if not isinstance(branch, StepFuture)]
    values = iter(gathered(scope, functions))
    return [branch.result() if isinstance(branch, StepFuture) else next(values) for branch in branches]


def _plain(branch: Callable[[], T] | StepFuture[T]) -> T:
    return branch.result() if isinstance(branch, StepFuture) else call_body(branch, (), {})
