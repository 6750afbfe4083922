"""Where the calling code stands: outside of every run, in a flow, or inside a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar, copy_context
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

import msgspec

from ironflow_nb.core.identity import ROOT_BRANCH, BranchId, RunId, StepRef
from ironflow_nb.execution.definitions.step_spec import StepSpec
from ironflow_nb.execution.recording.journal_access import JournalAccess
from ironflow_nb.execution.session.attempts import Attempt, Promise, RecordedAnswer
from ironflow_nb.execution.session.concurrent_work import Child
from ironflow_nb.execution.session.session import Session
from ironflow_nb.execution.system.interrupts import call_body

P = ParamSpec("P")
R = TypeVar("R")


class RunContext(msgspec.Struct, frozen=True):
    """A place inside a run: the branch of its flow, and the step whose body is running, if one is.

    `continuation` is the memory of the continuation of the run in which the code began. A body has `limit_s` seconds,
    and is that of an `attempt`.
    """

    session: Session
    branch: BranchId = ROOT_BRANCH
    step: StepRef | None = None
    continuation: object = None
    limit_s: float | None = None
    attempt: Attempt | None = None

    def resolve(
        self, spec: StepSpec, args: tuple[Any, ...], kwargs: Mapping[str, Any], site: str | None = None
    ) -> RecordedAnswer | Promise | Attempt:
        """Answer a call of the code here, or return the attempt to perform; see `Session.resolve_call`."""
        return self.session.resolve_call(spec, self.branch, args, kwargs, continuation=self.continuation, site=site)

    def raise_if_left_behind(self) -> None:
        """Cancel the calling task if an async flow left it behind, which has ended but for what is in flight.

        Raises:
            CancelledError: it did. No `except Exception` of a loop takes that for a step that failed and goes on.
        """
        if self.session.cancels_tasks and self.session.is_on_loop():
            import asyncio

            raise asyncio.CancelledError

    @property
    def is_in_worker(self) -> bool:
        """Return True in a worker of an executor, which has the body of a step, and nothing of its run."""
        return self.session is None

    @property
    def run_id(self) -> RunId:
        """The run."""
        return self.session.run_id

    @property
    def access(self) -> JournalAccess:
        """The journal of the run, with the clock, the threads and the digester that go with it."""
        return self.session.access

    def is_on_loop(self) -> bool:
        """Return True if the calling code runs on the loop of this async flow, which it must not block."""
        return self.session.is_on_loop()

    def at(self, branch: BranchId) -> RunContext:
        """Return the place in another branch that is open."""
        return RunContext(self.session, branch, continuation=self.continuation)

    def branched(self, name: str, arguments: Mapping[str, Any] | None) -> RunContext:
        """Return the place of a new branch, that does `name` with those arguments."""
        return self.at(self.session.open_branch(self.branch, name, arguments, continuation=self.continuation))

    def add_child(self, child: Child, pull: Callable[[], None] | None = None) -> None:
        """Add work beside the flow, which the flow waits for; its threads `pull` the items of a map."""
        with self.session.lock:
            self.session.raise_if_outlived(self.continuation)
            self.session.beside.add(child, pull)


SCOPE: Final[ContextVar[RunContext | None]] = ContextVar("ironflow_scope", default=None)


def bind(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function bound to the run of its caller, for threads that the engine did not start.

    Such threads call steps in any order. Calls with equal arguments are told apart by their order alone, so give each
    thread an argument of its own, or use ``map``, ``submit`` or ``gather``, which know their places.
    """
    context = copy_context()

    @wraps(function)
    def bound(*args: P.args, **kwargs: P.kwargs) -> R:
        # A context can be entered once at a time, and the function may be called by many threads.
        return context.copy().run(call_body, function, args, kwargs)

    return bound
