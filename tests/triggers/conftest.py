"""An engine on a file with a clock that tests move, and flows that note what they were given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ironflow_nb.execution import Engine
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.handles.run import Run
from ironflow_nb.journal.ports import Durability
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from ironflow_nb.testing.clock import SimClock
from ironflow_nb.testing.memory_journal import MemoryJournal


def engine_on(path: Path, **options: Any) -> Engine:
    return REGISTRY.adopt(Engine(SqliteJournal(path / "journal.db"), durability=Durability.PROCESS, **options))


@pytest.fixture
def clock() -> SimClock:
    return SimClock()


@pytest.fixture(params=["file", "memory"])
def engine(tmp_path: Path, clock: SimClock, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Return an engine that stands still in time, the one that every call goes to; on each kind of journal."""
    with forgotten_definitions():
        is_file = request.param == "file"
        made = engine_on(tmp_path, clock=clock) if is_file else REGISTRY.adopt(Engine(MemoryJournal(), clock=clock))
        with REGISTRY.replaced(made):
            yield made
            for session in list(made.sessions.values()):  # a run that waits would keep its thread
                if session.is_open:
                    Run(made, session.run_id).cancel().wait()
        made.close()


class forgotten_definitions:
    """What a test defines is not there for the next one: it would be started by its events."""

    def __enter__(self) -> None:
        self._known = dict(REGISTRY._definitions)

    def __exit__(self, *_: object) -> None:
        REGISTRY._definitions.clear()
        REGISTRY._definitions.update(self._known)


def keys(definition: Any) -> list[str]:
    """Return the keys of the runs of a flow, oldest first."""
    return definition.runs()["key"].tolist()[::-1]


def instants(definition: Any) -> list[str]:
    """Return the instants that the schedules of a flow have fired, in the order of the runs."""
    return [key.split(" ")[-1].removesuffix("+00:00") for key in keys(definition)]
