"""Waiting for what other threads and processes bring about."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

LIMIT_S: Final = 60.0


def until(is_so: Callable[[], object]) -> None:
    """Wait until it is so."""
    pause = threading.Event()
    for _ in range(round(LIMIT_S * 100)):
        if is_so():
            return
        pause.wait(0.01)
    raise AssertionError("it did not come")
