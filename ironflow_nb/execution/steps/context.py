"""Where the calling code stands: outside of every run, in a flow, or inside a step."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar, Token, copy_context
from functools import wraps
from typing import Final, ParamSpec, TypeVar

import msgspec

from ironflow_nb.core.identity import ROOT_BRANCH, BranchId, StepRef
from ironflow_nb.execution.recording.journal_access import RunStorage
from ironflow_nb.execution.session.session import Session
from ironflow_nb.execution.system.interrupts import call_body

P = ParamSpec("P")
R = TypeVar("R")


class RunContext(msgspec.Struct, frozen=True):
    """A place inside a run: the branch of its flow, and the step whose body is running, if one is.

    `stretch` is the memory of the stretch of the run in which the code began.
    """

    session: Session
    branch: BranchId = ROOT_BRANCH
    step: StepRef | None = None
    stretch: object = None

    def open_session(self) -> Session:
        """Return the session for a call.

        Raises:
            RunFinished: the run was interrupted and continued since the calling code began, which has outlived it.
        """
        if self.stretch is not self.session.recall:
            raise self.session.finished()
        return self.session

    def encode_with(self, around: Callable[[RunStorage], RunStorage]) -> None:
        """Let what the run records from here on be encoded by the storage that is made around its own."""
        self.session.storage = around(self.session.storage)


SCOPE: Final[ContextVar[RunContext | None]] = ContextVar("ironflow_scope", default=None)


def leave(token: Token[RunContext | None]) -> None:
    """Stand again where the token was made."""
    # A coroutine that nobody awaits any more is closed by the garbage collector, in whatever context that runs.
    with suppress(ValueError):
        SCOPE.reset(token)


def bind(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function bound to the run of its caller, for threads that the engine did not start."""
    context = copy_context()

    @wraps(function)
    def bound(*args: P.args, **kwargs: P.kwargs) -> R:
        # A context can be entered once at a time, and the function may be called by many threads.
        return context.copy().run(call_body, function, args, kwargs)

    return bound
