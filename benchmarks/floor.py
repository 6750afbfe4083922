"""The floor: the same rows written with nothing but ``sqlite3``, in the same mode, on the same disk.

The pragmas are those of a journal: a write-ahead log, checkpoints after as many pages as a journal's log has then,
``synchronous`` FULL for power and NORMAL for process, and a cache of prepared statements.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from ironflow_nb.journal.sqlite_file import LOG_LIMIT, STATEMENT_CACHE

PAGES_BETWEEN: Final = {"power": 660, "process": 3000}
"""Pages of the log after which SQLite writes it back: those of as many rows as a journal writes between."""
PAYLOAD: Final = 220  # bytes of one step's inline value
ADD: Final = "INSERT INTO rows (step, data) VALUES (?, ?)"

Row = tuple[str, bytes]


def connect(path: Path, durability: str) -> sqlite3.Connection:
    """Return a connection that writes as that of a journal does."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=STATEMENT_CACHE)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA fullfsync=ON")  # where the system knows a weaker sync, on macOS
    connection.execute("PRAGMA checkpoint_fullfsync=ON")
    connection.execute(f"PRAGMA journal_size_limit={LOG_LIMIT}")
    connection.execute(f"PRAGMA wal_autocheckpoint={PAGES_BETWEEN[durability]}")
    connection.execute(f"PRAGMA synchronous={'FULL' if durability == 'power' else 'NORMAL'}")
    connection.execute("CREATE TABLE rows (position INTEGER PRIMARY KEY, step TEXT, data BLOB)")
    return connection


def rows(n_rows: int) -> list[Row]:
    """Return as many rows of the size of a step."""
    return [(f"step[{n}]", os.urandom(PAYLOAD)) for n in range(n_rows)]


def commit(connection: sqlite3.Connection, batch: Iterable[Row]) -> None:
    """Write rows in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    for row in batch:
        connection.execute(ADD, row)
    connection.execute("COMMIT")


def read_rows(path: Path, run_id: str) -> float:
    """Return the seconds of one row of the run's steps, fetched with all its columns, and its result decoded."""
    connection = sqlite3.connect(path)
    begun = time.perf_counter()
    found = connection.execute("SELECT * FROM steps WHERE run_id = ?", (run_id,))
    output = [column for column, *_ in found.description].index("output")
    n_rows = sum(msgspec.json.decode(row[output]) is not None for row in found)
    spent = time.perf_counter() - begun
    connection.close()
    return spent / n_rows


def between(folder: Path, floor: Callable[[Path], float], measured: Callable[[Path], float]) -> tuple[float, float]:
    """Return the floor, once before and once after what is measured, so that a disk that gets slower slows both."""
    before = floor(_made(folder / "before"))
    found = measured(_made(folder / "measured"))
    after = floor(_made(folder / "after"))
    return (before + after) / 2, found


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def committed_rows(folder: Path, durability: str, n_rows: int) -> float:
    """Return the seconds of one row, each in a transaction of its own."""
    connection = connect(folder / "floor.db", durability)
    given = rows(n_rows)
    begun = time.perf_counter()
    for row in given:
        commit(connection, [row])
    spent = time.perf_counter() - begun
    connection.close()
    return spent / n_rows


class GroupCommit:
    """Commits what threads hand in: whoever finds nobody at it leads, and takes along all that is queued."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._queue: list[Row] = []
        self._condition = threading.Condition()
        self._is_led = False
        self._n_queued = 0
        self._n_committed = 0

    def commit(self, row: Row) -> None:
        """Return when the row is committed."""
        with self._condition:
            self._queue.append(row)
            self._n_queued = mine = self._n_queued + 1
            while self._n_committed < mine and self._is_led:
                self._condition.wait()
            if self._n_committed >= mine:
                return
            batch, self._queue, last, self._is_led = self._queue, [], self._n_queued, True
        commit(self._connection, batch)
        with self._condition:
            self._n_committed, self._is_led = last, False
            self._condition.notify_all()


def rows_of_threads(folder: Path, durability: str, n_rows: int, n_threads: int) -> float:
    """Return the seconds of one row, when some threads commit them in groups."""
    group = GroupCommit(connection := connect(folder / "floor.db", durability))
    given = rows(n_rows)

    def write(number: int) -> None:
        for row in given[number::n_threads]:
            group.commit(row)

    with ThreadPoolExecutor(n_threads) as pool:
        begun = time.perf_counter()
        list(pool.map(write, range(n_threads)))
        spent = time.perf_counter() - begun
    assert connection.execute("SELECT count(*) FROM rows").fetchone() == (n_rows,)
    connection.close()
    return spent / n_rows


def gathered_rows(folder: Path, durability: str, n_rows: int) -> float:
    """Return the seconds of one row, when the coroutines of a gather commit them in groups."""
    connection = connect(folder / "floor.db", durability)
    queue: list[tuple[Row, asyncio.Future[None]]] = []

    def flush() -> None:
        batch = queue.copy()
        queue.clear()
        commit(connection, [row for row, _ in batch])
        for _, written in batch:
            written.set_result(None)

    async def write(row: Row) -> None:
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        if not queue:
            loop.call_soon(flush)
        written = loop.create_future()
        queue.append((row, written))
        await written

    async def write_all() -> float:
        begun = time.perf_counter()
        await asyncio.gather(*map(write, given))
        return time.perf_counter() - begun

    given = rows(n_rows)
    spent = asyncio.run(write_all())
    connection.close()
    return spent / n_rows
