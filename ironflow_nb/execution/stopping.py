"""Cancelling and pausing: asked for from anywhere, done by the owner at the next boundary of a step."""

from __future__ import annotations

from enum import StrEnum


class Stop(StrEnum):
    """What is asked of a run, as its signal is called in the journal."""

    CANCEL = "ironflow:cancel"
    PAUSE = "ironflow:pause"


class Stopped(BaseException):
    """Unwinds the flow; no `Exception`, so that the flow's own handlers let it pass."""

    def __init__(self, stop: Stop, asked_by: str | None) -> None:
        super().__init__(stop.value)
        self.stop = stop
        self.asked_by = asked_by
