"""The phases of a run in this process, and the requests to stop it.

A run is cancelled or paused from anywhere; its owner does so at the next call of a step. An interrupt takes the same
way to what runs beside the thread that got it: async flows and children.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum, StrEnum
from typing import Any, NoReturn, Protocol

from ironflow_nb.core.breaker_rules import BreakerRule
from ironflow_nb.core.events import RunCancelRequested
from ironflow_nb.core.identity import RunId
from ironflow_nb.core.time_limits import NO_LIMITS, Limit, TimeLimits, first_limit
from ironflow_nb.execution.recording.journal_access import Mail, PendingEvent
from ironflow_nb.execution.session.attempts import Gate
from ironflow_nb.execution.session.replay import Replayer
from ironflow_nb.execution.session.run_writer import RunWriter
from ironflow_nb.execution.session.undos import Compensation, Undos
from ironflow_nb.execution.system.threads import Wakeups


class RunPhase(IntEnum):
    """How far one continuation of a run has come. A phase is never left for an earlier one."""

    OPEN = 0
    """Calls are answered and performed."""
    STOPPING = 1
    """A stop was requested: the next call raises it."""
    UNWINDING = 2
    """The stop was raised in the flow, which can swallow it and still stops."""
    FINISHING = 3
    """The flow has ended: nothing begins beside it any more, and what is in flight ends."""
    CLOSED = 4
    """The last event is recorded, or waits to be: calls are refused."""


class StopRequest(StrEnum):
    """What is asked of a run, as its signal is called in the journal; the last three come from this process alone."""

    CANCEL = "ironflow:cancel"
    PAUSE = "ironflow:pause"
    DETACH = "ironflow:detach"
    """The run is handed over to a worker."""
    INTERRUPT = "ironflow:interrupt"
    TIMEOUT = "ironflow:timeout"
    PARK = "ironflow:park"
    """All of the run waits, and its thread is wanted back."""


def is_stop(signal: str) -> bool:
    """Return True if a signal of that name asks the run to stop; all others are the user's."""
    return signal in StopRequest.__members__.values()


class RunStopped(BaseException):
    """Unwinds the flow; no `Exception`, so that the flow's own handlers let it pass."""

    def __init__(self, request: StopRequest, asked_by: str | None) -> None:
        super().__init__(request.value)
        self.request = request
        self.asked_by = asked_by


class LoopCommits(Protocol):
    """The commits of queued results on the loop of an async flow."""

    def schedule(self) -> None:
        """Schedule one, if none is."""

    def is_coming(self) -> bool:
        """Return True if one is scheduled, once: the loop may be blocked, so a second call returns False."""


class RunLifecycle:
    """The phase of one run in this process, what executes it, and the requests to stop it and its children.

    Its lock is the session's.
    """

    replayer: Replayer
    """The memory of the current continuation."""

    def __init__(self, writer: RunWriter) -> None:
        self.writer = writer
        self.access = writer.access
        self.run_id: RunId = writer.run_id
        self.lock = self.access.threads.lock()
        self.wakeups = Wakeups(self.access.threads.ident)
        self.stops = Wakeups(self.access.threads.ident)
        """The wakeups of waits for a body in an executor; only a stop of the run concerns them."""
        self.child_runs: list[RunLifecycle] = []
        self.parent: RunLifecycle | None = None
        self.n_kept_by_child: dict[RunId, int] = {}
        self.loop: Any = None
        self.thread: int | None = None
        self.loop_commits: LoopCommits | None = None
        self.compensation: Compensation | None = None
        self.compensates_on_cancel = False
        self.undos = Undos()
        self.breakers: dict[str, BreakerRule] = {}

    def open(self) -> None:
        """Begin a continuation."""
        self.phase = RunPhase.OPEN
        self.stop_request: RunStopped | None = None
        self.interrupted_by: str | None = None
        self.is_queued = False
        self.cancels_tasks = False
        self.task: Any = None
        self._limits = NO_LIMITS
        self._limit: Limit | None = None
        self._ends_s = math.inf
        self.is_within_limit = False
        self.executor: Any = None
        self.sets_apart = False
        """True if its bodies do not run where they are called: they have an executor, or a time limit."""
        self.admission: Gate | None = None
        self.lanes: frozenset[str] = frozenset()
        self.start_now: Callable[[], None] | None = None

    def admit_by(self, admission: Gate | None, lanes: frozenset[str]) -> None:
        """Note what this continuation must pass before it begins, and in which lanes it and the runs around it are."""
        self.admission, self.lanes = admission, lanes

    def start_by(self, start: Callable[[], None]) -> None:
        """Note what starts a run that is queued. A stop does so at once: the thread meets the stop."""
        self.start_now = start

    def queue(self, *, is_queued: bool) -> None:
        """Note that it waits for its places in lanes without a thread, or does so no more."""
        self.is_queued = is_queued

    @property
    def is_only_queued(self) -> bool:
        """Return True if it is queued, with nothing to write or to look after: thousands may be so at once."""
        return self.is_queued and not (self.writer.is_pending or self._limit is not None or self.interrupted_by)

    # -- its time ------------------------------------------------------------------------------------------------

    def limit_time(self, limits: TimeLimits, owned_s: float) -> None:
        """Note how long this continuation may take, of a run on which owners have worked so long before."""
        left_s = None if limits.deadline_s is None else limits.deadline_s - owned_s
        self._limit = first_limit(limits.timeout_s, left_s)
        if self._limit is not None:
            self._limits = limits
            self._ends_s = self.access.clock.monotonic() + self._limit.after_s
            self.is_within_limit = self.sets_apart = True  # so are its children

    def limit_left(self) -> Limit | None:
        """Return the limit of the run with the seconds that it leaves, or None without one."""
        if self._limit is None:
            return None
        return Limit(self._ends_s - self.access.clock.monotonic(), self._limit.option, is_of_run=True)

    def shortened(self, duration_s: float | None) -> float | None:
        """Return how long a wait of that length may last: at most until the run is to stop because its time is up."""
        if self._limit is None or self.phase is not RunPhase.OPEN:
            return duration_s
        left_s = max(self._ends_s - self.access.clock.monotonic(), 0.0)
        return left_s if duration_s is None else min(duration_s, left_s)

    def stop_if_out_of_time(self) -> None:
        """Stop the run if its time is up; asked wherever it waits or begins a step, and by the background thread."""
        if self._limit is not None and self.access.clock.monotonic() >= self._ends_s:
            self.stop(StopRequest.TIMEOUT, self._limits.in_words(self._limit.option))

    def run_bodies_in(self, executor: Any) -> None:
        """Note the executor of the steps that have none themselves; see `step`."""
        self.executor = executor
        self.sets_apart |= executor is not None

    # -- what executes it ----------------------------------------------------------------------------------------

    def enter(self, *, loop: Any = None, task: Any = None, commits: LoopCommits | None = None) -> None:
        """Note the thread that executes the flow, and for an async one the loop and the task."""
        self.thread = self.access.threads.ident()
        self.loop, self.task, self.loop_commits = loop, task, commits

    @property
    def name(self) -> str:
        """The name of what runs."""
        return self.writer.row.name if self.writer.row is not None else "the flow"

    def is_on_loop(self) -> bool:
        """Return True if the calling code runs on the loop of this async flow, which it must not block.

        That some loop runs in this thread says nothing: under every cell of a notebook there is one.
        """
        asyncio = sys.modules.get("asyncio")
        return self.loop is not None and asyncio is not None and asyncio._get_running_loop() is self.loop

    # -- phases --------------------------------------------------------------------------------------------------

    def note_stop(self, request: RunStopped, phase: RunPhase) -> None:
        """Note that the run is to stop, in that phase if it is not beyond."""
        with self.lock:
            self.stop_request = request
            self.phase = max(self.phase, phase)
        self.stops.wake()

    def note_interrupt(self, reason: str) -> None:
        """Ask the background thread to interrupt the run; called by a signal handler, which can't wait for a lock."""
        self.interrupted_by = reason

    def finish(self) -> None:
        """Note that the flow has ended; bodies in flight are still waited for."""
        with self.lock:
            self.phase = max(self.phase, RunPhase.FINISHING)
        self.stops.wake()

    def cancel_tasks(self) -> None:
        """Cancel tasks that an async flow left behind where they call a step."""
        self.cancels_tasks = True

    def close(self) -> None:
        """Refuse calls from now on, and hold no place in lanes."""
        with self.lock:
            self.phase = RunPhase.CLOSED
            if self.admission is not None:
                self.admission.drop()
        self.stops.wake()

    @property
    def is_open(self) -> bool:
        """Return True while the last event of this continuation is still to come."""
        return self.phase is not RunPhase.CLOSED

    @property
    def is_interrupted(self) -> bool:
        """Return True if an interrupt stops the run."""
        return self.stop_request is not None and self.stop_request.request is StopRequest.INTERRUPT

    @property
    def is_being_interrupted(self) -> bool:
        """Return True if an interrupt stops the run, or is noted and will."""
        return self.is_interrupted or self.interrupted_by is not None

    def raise_if_stop_requested(self) -> None:
        """Unwind the flow if it was asked to stop.

        Raises:
            RunStopped: it was.
        """
        if RunPhase.STOPPING <= self.phase <= RunPhase.UNWINDING:
            self.unwind()

    def unwind(self, error: BaseException | None = None) -> NoReturn:
        """Raise that the run stops, in place of the error that came of it; a flow that swallows it still stops."""
        with self.lock:
            stop = self.stop_request
            if stop is not None:  # else the run was interrupted, and is continued by now: its phase is another one's
                self.phase = max(self.phase, RunPhase.UNWINDING)
        request, asked_by = (StopRequest.INTERRUPT, None) if stop is None else (stop.request, stop.asked_by)
        raise RunStopped(request, asked_by) from error

    # -- stopping ------------------------------------------------------------------------------------------------

    def stop(
        self, request: StopRequest, asked_by: str | None, signal_id: int | None = None, *, with_parent: bool = False
    ) -> None:
        """Stop the run at the next call of a step; bodies on threads are not disturbed, awaited ones cancelled.

        An async child runs in a task of its parent, which is cancelled once, `with_parent` there. An interrupt also
        ends the wait for bodies with which a flow ends.
        """
        with self.lock:
            if signal_id is not None:
                self.writer.post(Mail(taken=(signal_id,)))
            if self.phase is RunPhase.CLOSED or self.is_interrupted:
                return
            if self.compensation is not None and request is not StopRequest.INTERRUPT:
                return  # it is about to end anyway, and what is half undone helps nobody
            is_first = self.phase is RunPhase.OPEN
            if request is not StopRequest.INTERRUPT and not is_first and not self._gives_way_to(request):
                return
            if request is StopRequest.CANCEL:
                self.writer.append(PendingEvent(RunCancelRequested(asked_by=asked_by)))
            self.note_stop(RunStopped(request, asked_by), RunPhase.STOPPING)
        self._stop_children(self.stop_request)
        self.wakeups.wake()
        if self.start_now is not None:
            self.start_now()
        is_cancelled = not is_first and request is StopRequest.CANCEL  # its task, for the request that gives way
        if self.task is not None and self.loop is not None and not with_parent and not is_cancelled:
            self.loop.call_soon_threadsafe(self.task.cancel)

    def _gives_way_to(self, request: StopRequest) -> bool:
        """Return True if the run is to pause or to be handed over: a cancel is more."""
        stop = self.stop_request
        is_mild = stop is not None and stop.request in {StopRequest.PAUSE, StopRequest.DETACH}
        return request is StopRequest.CANCEL and is_mild

    def cut_off(self, reason: str) -> None:
        """Note that an interrupt has cut the flow off, unless it is to stop anyway. Its children stop, too."""
        with self.lock:
            self.note_stop(self.stop_request or RunStopped(StopRequest.INTERRUPT, reason), RunPhase.FINISHING)
        self._stop_children(RunStopped(StopRequest.INTERRUPT, reason))

    def _stop_children(self, stop: RunStopped | None) -> None:
        if stop is not None:
            # The time of the parent is not that of the child, which so can be continued. Nor is a child detached alone.
            instead = {StopRequest.TIMEOUT: StopRequest.INTERRUPT, StopRequest.DETACH: StopRequest.PAUSE}
            request = instead.get(stop.request, stop.request)
            for child in list(self.child_runs):
                child.stop(request, stop.asked_by, with_parent=self.task is not None)

    def take_interrupt(self) -> None:
        """Carry out the interrupt that a handler of signals has noted, in the continuation that it was noted in."""
        if self.interrupted_by is not None:
            with self.lock:
                if self.interrupted_by is not None:  # else another continuation has begun
                    self.stop(StopRequest.INTERRUPT, self.interrupted_by)

    @property
    def n_finished_inside(self) -> int:
        """How many steps its unfinished child runs have finished: those that have stopped, and those that still do."""
        going = {child.run_id: child.replayer.n_finished + child.n_finished_inside for child in list(self.child_runs)}
        return sum((going | self.n_kept_by_child).values())

    @contextmanager
    def with_child_run(self, child: RunLifecycle) -> Iterator[None]:
        """Stop a child run together with this one, and count what it has finished if it does not complete."""
        self.child_runs.append(child)
        child.parent = self
        child.is_within_limit |= self.is_within_limit
        child.sets_apart |= self.is_within_limit
        if self.stop_request is not None:  # looked at when the child can be found: a stop may have missed it
            self._stop_children(self.stop_request)
        try:
            yield
            self.n_kept_by_child.pop(child.run_id, None)  # now it counts as one step
        except BaseException:
            self.n_kept_by_child[child.run_id] = child.replayer.n_finished + child.n_finished_inside
            raise
        finally:
            self.child_runs.remove(child)
            self.undos.include(child.undos)
