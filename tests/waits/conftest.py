"""Waiting for what other threads and processes bring about."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

import pytest

LIMIT_S: Final = 60.0


@pytest.fixture(autouse=True)
def no_flow_is_left(ended_flows: None) -> None:
    """Have each test end the flows that it starts; see `ended_flows`."""


def until(is_so: Callable[[], object]) -> None:
    """Wait until it is so."""
    pause = threading.Event()
    for _ in range(round(LIMIT_S * 100)):
        if is_so():
            return
        pause.wait(0.01)
    raise AssertionError("it did not come")
