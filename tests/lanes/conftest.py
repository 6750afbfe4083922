"""Bodies that note who is at work."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import ironflow_nb as iron
from ironflow_nb.core.lane_rules import LanePlace
from ironflow_nb.execution.engine import Engine
from tests.waits.conftest import LIMIT_S, until


class Room:
    """Where bodies are at work: how many at most, and in which order they came."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.inside: list[object] = []
        self.most = 0
        self.came: list[object] = []
        self.door = threading.Event()
        self.door.set()

    @contextmanager
    def entered(self, who: object) -> Iterator[None]:
        with self._lock:
            self.inside.append(who)
            self.came.append(who)
            self.most = max(self.most, len(self.inside))
        try:
            yield
        finally:
            with self._lock:
                self.inside.remove(who)

    def work(self, who: object) -> object:
        """Be at work until the door is open."""
        with self.entered(who):
            assert self.door.wait(LIMIT_S)
        return who


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with iron.open(tmp_path / "journal.db", durability="process") as opened:
        yield opened


def places(engine: Engine) -> list[LanePlace]:
    """Return who holds and who waits."""
    with engine.reading() as reader:
        return reader.lane_places()


__all__ = ["Room", "engine", "places", "until"]
