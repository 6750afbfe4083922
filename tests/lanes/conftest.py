"""Bodies that note who is at work, and waiting for what other threads and processes bring about."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

import ironflow_nb as iron
from ironflow_nb.core.lane_rules import LanePlace
from ironflow_nb.execution.engine import Engine

LIMIT_S: Final = 60.0


def until(is_so: Callable[[], object]) -> None:
    """Wait until it is so."""
    pause = threading.Event()
    for _ in range(round(LIMIT_S * 100)):
        if is_so():
            return
        pause.wait(0.01)
    raise AssertionError("it did not come")


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
