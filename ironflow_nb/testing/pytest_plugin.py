"""The pytest plugin: the fixture `iron_engine`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.home import HOME
from ironflow_nb.journal.memory import MemoryJournal
from ironflow_nb.testing.clock import SimClock


@pytest.fixture
def iron_engine() -> Iterator[Engine]:
    """Make an engine in memory, with a `SimClock`, the one that every call goes to during the test."""
    engine = HOME.adopt(Engine(MemoryJournal(), clock=SimClock()))
    with HOME.replaced(engine):
        try:
            yield engine
        finally:
            engine.close()
