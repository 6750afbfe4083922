"""The pytest plugin: the fixtures `iron_engine` and `recorded_run`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import os

    from ironflow_nb.execution import Engine
    from ironflow_nb.handles.run import Run


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


@pytest.fixture
def recorded_run(iron_engine: Engine) -> Callable[[str | os.PathLike[str]], Run[Any]]:
    """Give a function that adds a run which `ironflow_nb.export` wrote to the journal of the test, and returns it.

    The file is trusted as the code of the test is, also if another user exported it. The run does not go on by itself.
    """
    from ironflow_nb.handles.portable_runs import import_trusted

    return partial(import_trusted, iron_engine)
