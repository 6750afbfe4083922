"""Cancelling and pausing: asked for from anywhere, done by the owner at the next boundary of a step.

An interrupt travels the same way to what runs beside the thread that got it: async flows and children.
"""

from __future__ import annotations

from enum import StrEnum


class StopRequest(StrEnum):
    """What is asked of a run, as its signal is called in the journal; an interrupt comes from this process alone."""

    CANCEL = "ironflow:cancel"
    PAUSE = "ironflow:pause"
    INTERRUPT = "ironflow:interrupt"


class RunStopped(BaseException):
    """Unwinds the flow; no `Exception`, so that the flow's own handlers let it pass."""

    def __init__(self, stop: StopRequest, asked_by: str | None) -> None:
        super().__init__(stop.value)
        self.stop = stop
        self.asked_by = asked_by
