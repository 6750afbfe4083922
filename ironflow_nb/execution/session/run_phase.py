"""The phases of a run in this process, and the requests to stop it.

A run is cancelled or paused from anywhere; its owner does so at the next call of a step. An interrupt takes the same
way to what runs beside the thread that got it: async flows and children.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from enum import IntEnum, StrEnum
from typing import NoReturn


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
    """What is asked of a run, as its signal is called in the journal; an interrupt comes from this process alone."""

    CANCEL = "ironflow:cancel"
    PAUSE = "ironflow:pause"
    INTERRUPT = "ironflow:interrupt"


def is_stop(signal: str) -> bool:
    """Return True if a signal of that name asks the run to stop; all others are the user's."""
    return signal in StopRequest.__members__.values()


class RunStopped(BaseException):
    """Unwinds the flow; no `Exception`, so that the flow's own handlers let it pass."""

    def __init__(self, request: StopRequest, asked_by: str | None) -> None:
        super().__init__(request.value)
        self.request = request
        self.asked_by = asked_by


class RunLifecycle:
    """The phase of one run in this process, and the request to stop it. Its lock is the session's."""

    def __init__(self, lock: AbstractContextManager[object]) -> None:
        self.lock = lock
        self.open()

    def open(self) -> None:
        """Begin a continuation."""
        self.phase = RunPhase.OPEN
        self.stop_request: RunStopped | None = None
        self.interrupted_by: str | None = None
        self.cancels_tasks = False

    def note_stop(self, request: RunStopped, phase: RunPhase) -> None:
        """Note that the run is to stop, in that phase if it is not beyond."""
        with self.lock:
            self.stop_request = request
            self.phase = max(self.phase, phase)

    def note_interrupt(self, reason: str) -> None:
        """Ask the background thread to interrupt the run; called by a signal handler, which can't wait for a lock."""
        self.interrupted_by = reason

    def finish(self) -> None:
        """Note that the flow has ended; bodies in flight are still waited for."""
        with self.lock:
            self.phase = max(self.phase, RunPhase.FINISHING)

    def cancel_tasks(self) -> None:
        """Cancel tasks that an async flow left behind where they call a step."""
        self.cancels_tasks = True

    def close(self) -> None:
        """Refuse calls from now on."""
        with self.lock:
            self.phase = RunPhase.CLOSED

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
