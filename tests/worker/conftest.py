"""Flows that are handed over, and workers in this process, each with an engine of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ironflow_nb import flow, step
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.execution.runs.worker import RunWorker
from ironflow_nb.journal.ports import Durability, QueueSelect
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from tests.waits.conftest import LIMIT_S, until

BODIES: list[Any] = []


class Gate:
    """Holds bodies back; each test has a new one, which is open at its end."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def renew(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def wait(self) -> None:
        assert self._event.wait(LIMIT_S)


GATE = Gate()


def engine_on(path: Path, **options: Any) -> Engine:
    return REGISTRY.adopt(Engine(SqliteJournal(path / "journal.db"), durability=Durability.PROCESS, **options))


def worker_on(path: Path, **options: Any) -> tuple[Engine, RunWorker]:
    engine = engine_on(path, **options)
    worker = RunWorker(engine)
    engine.wake_with(lambda _: worker, replaces=True)
    engine.watch()
    return engine, worker


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Engine]:
    """Return the engine of the process that hands runs over."""
    before = {*threading.enumerate()}  # simulated deaths leave threads behind
    BODIES.clear()
    GATE.renew()
    engine = engine_on(tmp_path)
    with REGISTRY.replaced(engine):
        yield engine
    GATE.set()
    engine.close()
    until(lambda: not [each for each in {*threading.enumerate()} - before if each.name.startswith("ironflow-run")])


@step
def work(n: int) -> int:
    BODIES.append(n)
    return n


@step
def held(n: int) -> int:
    BODIES.append(n)
    GATE.wait()
    return n


@step
async def work_async(n: int) -> int:
    BODIES.append(n)
    return n


@flow
def plain(n: int) -> Any:
    return [work(k) for k in range(n)]


@flow
async def plain_async(n: int) -> Any:
    return [await work_async(k) for k in range(n)]


@flow
def parent(n: int) -> Any:
    return plain(n)


@flow
def parent_of_held() -> Any:
    return held(2), work(3)


def queue(engine: Engine) -> list[str]:
    with engine.reading() as reader:
        return [item.kind for item in reader.work(QueueSelect())]


def killed(engine: Engine) -> None:
    """Leave the journal as a killed process does."""
    engine.access.close("it was killed", abandon=True)
    engine.sessions.clear()
    engine._background.stop()
    with engine.access.lock:
        engine.journal.close()
    from ironflow_nb.execution.system.process_identity import give_up

    give_up(engine.owner)
