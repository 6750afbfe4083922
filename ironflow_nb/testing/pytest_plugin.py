"""The pytest plugin: the fixture `iron_engine`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ironflow_nb.execution import Engine


@pytest.fixture
def iron_engine() -> Iterator[Engine]:
    """Make an engine in memory, with a `SimClock`, the one that every call goes to during the test."""
    # Every run of pytest loads the plugin, also in projects that only happen to have the package installed.
    from ironflow_nb.execution import MEMORY, REGISTRY, make_engine
    from ironflow_nb.testing.clock import SimClock

    engine = make_engine(MEMORY, clock=SimClock())
    with REGISTRY.replaced(engine):
        try:
            yield engine
        finally:
            engine.close()
