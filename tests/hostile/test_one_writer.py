"""An engine has one connection that writes, whatever its threads: before SQLite 3.51.3 two can damage a log."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from tests.conftest import Lab


class Watched(sqlite3.Connection):
    """A connection that tells what is asked of it."""

    def __init__(self, place: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(place, *args, **kwargs)
        self.place = place
        self.set_trace_callback(lambda statement: STATEMENTS.append((self, statement)))


STATEMENTS: list[tuple[Watched, str]] = []
WRITES = ("BEGIN IMMEDIATE", "BEGIN EXCLUSIVE", "INSERT", "UPDATE", "DELETE", "CREATE", "PRAGMA wal_checkpoint")


@step
def work(n: int) -> int:
    return n


@step
async def async_work(n: int) -> int:
    return n


@flow
def mapped(n: int) -> int:
    return sum(work.map(range(n), concurrency=8))


@flow
def sequential(n: int) -> int:
    return sum(work(number) for number in range(n))


@flow
async def awaited(n: int) -> int:
    return sum([await async_work(number) for number in range(n)])


def test_only_one_connection_of_an_engine_writes_and_checkpoints(
    tmp_path: Path, new_lab: Callable[[Path], Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **kwargs: connect(*args, factory=Watched, **kwargs))
    STATEMENTS.clear()
    lab = new_lab(tmp_path / "journal.db")
    runs = [flow.start(n) for n in range(20, 24) for flow in (mapped, awaited, sequential)]
    threads = [threading.Thread(target=lambda: (iron.runs(), iron.steps(), iron.events())) for _ in range(4)]
    for thread in threads:
        thread.start()
    mapped(30)
    for run in runs:
        run.result(timeout_s=30)
    for thread in threads:
        thread.join()
    lab.engine.close()
    writers = {id(connection): connection for connection, text in STATEMENTS if text.lstrip().startswith(WRITES)}
    assert len(writers) == 1
    assert len({id(connection) for connection, _ in STATEMENTS}) > 4
    # A connection that only reads never commits, and so never writes the log back before it is the last to close.
    others = {text for connection, text in STATEMENTS if id(connection) not in writers}
    assert "PRAGMA query_only=ON" in others
    assert not [text for text in others if "wal_" in text or "journal_" in text]
    STATEMENTS.clear()
