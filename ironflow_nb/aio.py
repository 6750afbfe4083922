"""The awaitable forms of what waits in a flow, for async flows."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import datetime
from typing import Any

from ironflow_nb.core.durations import Duration
from ironflow_nb.flows.waits import Signals, pause_async, sleep_call, sleep_until_call, wait_for_call

__all__ = ["sleep", "sleep_until", "wait_for"]


def sleep(duration_s: Duration) -> Coroutine[Any, Any, None]:
    """Wait that long; see `ironflow_nb.sleep`."""
    return pause_async("sleep", *sleep_call(duration_s))


def sleep_until(at: datetime) -> Coroutine[Any, Any, None]:
    """Wait until the instant; see `ironflow_nb.sleep_until`."""
    return pause_async("sleep_until", *sleep_until_call(at))


def wait_for(signal: str | Signals, *, timeout_s: Duration | None = None) -> Coroutine[Any, Any, Any]:
    """Wait for a signal to the run and return its payload; see `ironflow_nb.wait_for`."""
    return pause_async("wait_for", *wait_for_call(signal, timeout_s))


for _function in (sleep, sleep_until, wait_for):
    _function.__ironflow_wait__ = True  # type: ignore[union-attr]
