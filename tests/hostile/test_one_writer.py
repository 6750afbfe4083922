"""An engine has one connection that writes, and writes its log back only while nobody can write.

Before SQLite 3.51.3, to write a log back while another connection begins it anew can damage the file.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.journal import sqlite_file, write_ahead_log
from ironflow_nb.journal.ports import Durability
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from tests.conftest import Lab
from tests.contracts.histories import A, B, lease, one_run


class Watched(sqlite3.Connection):
    """A connection that tells what is asked of it."""

    def __init__(self, place: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(place, *args, **kwargs)
        self.place = place
        self.set_trace_callback(lambda statement: STATEMENTS.append((self, statement)))


STATEMENTS: list[tuple[Watched, str]] = []
WRITES = ("BEGIN IMMEDIATE", "BEGIN EXCLUSIVE", "INSERT", "UPDATE", "DELETE", "CREATE")


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


def watch(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **kwargs: connect(*args, factory=Watched, **kwargs))
    STATEMENTS.clear()


def test_only_one_connection_of_an_engine_writes(
    tmp_path: Path, new_lab: Callable[[Path], Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    watch(monkeypatch)
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
    # An empty database in memory stands in for a file that is not there yet.
    of_file = [(connection, text) for connection, text in STATEMENTS if connection.place != ":memory:"]
    writers = {id(connection): connection for connection, text in of_file if text.lstrip().startswith(WRITES)}
    assert len(writers) == 1
    assert len({id(connection) for connection, _ in STATEMENTS}) > 4
    # A connection that only reads never commits, and so never writes the log back before it is the last to close.
    others = {text for connection, text in STATEMENTS if id(connection) not in writers}
    assert "PRAGMA query_only=ON" in others
    assert {text for text in others if "wal_" in text or "journal_" in text} <= {"PRAGMA wal_checkpoint(PASSIVE)"}
    STATEMENTS.clear()


def test_the_log_is_written_back_only_while_the_connection_that_writes_keeps_others_from_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work_on_it() -> None:
        with iron.open(tmp_path / "journal.db", durability="process"):
            sequential.options(fresh=True)(40)
            mapped.options(fresh=True)(40)

    monkeypatch.setattr(write_ahead_log, "CHANGES_BETWEEN", 40)
    watch(monkeypatch)
    threads = [threading.Thread(target=work_on_it) for _ in range(2)]  # two engines on one file
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statements = list(STATEMENTS)
    STATEMENTS.clear()
    writers = {id(connection) for connection, text in statements if text.startswith("INSERT")}
    assert len(writers) == 2
    assert {id(connection) for connection, text in statements if text == "PRAGMA wal_autocheckpoint=0"} == writers
    written_back = [n for n, (_, text) in enumerate(statements) if text.startswith("PRAGMA wal_checkpoint")]
    assert len(written_back) > 4
    assert len({id(statements[number][0]) for number in written_back}) == 2  # one for each engine, used again
    for number in written_back:
        writing = dict.fromkeys(writers, "") | {
            id(connection): text for connection, text in statements[:number] if id(connection) in writers
        }
        assert "BEGIN IMMEDIATE" in writing.values()
        assert id(statements[number][0]) not in writers


def test_a_journal_is_written_anew_and_its_log_back_while_nobody_else_writes(
    tmp_path: Path, new_lab: Callable[[Path], Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.db"
    lab = new_lab(path)
    mapped(200)
    lab.engine.flush()
    with closing(sqlite3.connect(path)) as reader:  # so that nothing is written back when a connection is closed
        reader.execute("SELECT count(*) FROM runs").fetchone()
        watch(monkeypatch)
        iron.vacuum()
        statements = list(STATEMENTS)
        STATEMENTS.clear()
        (writer,) = (connection for connection, text in statements if text == "VACUUM")
        of_writer = [text for connection, text in statements if connection is writer]
        assert "PRAGMA wal_autocheckpoint=0" in of_writer[: of_writer.index("VACUUM")]
        (number,) = (n for n, (_, text) in enumerate(statements) if text.startswith("PRAGMA wal_checkpoint"))
        assert statements[number][0] is not writer
        assert [text for connection, text in statements[:number] if connection is writer][-1] == "BEGIN IMMEDIATE"
        with closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as without_log:
            assert without_log.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert without_log.execute("SELECT count(*) FROM steps").fetchone() == (200,)
    lab.engine.close()


def test_a_log_is_not_written_back_while_somebody_else_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_TIMEOUT_S", 0.01)
    path = tmp_path / "journal.db"
    journal = SqliteJournal(path)
    journal.append([one_run(A)], durability=Durability.PROCESS)
    before = path.read_bytes()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr(write_ahead_log, "CHANGES_BETWEEN", 0)
        with pytest.raises(iron.errors.JournalBusy):
            journal.append([one_run(B)], durability=Durability.PROCESS)
        assert path.read_bytes() == before
    journal.append([one_run(B)], durability=Durability.PROCESS)
    assert path.read_bytes() != before
    journal.close()


def test_signs_of_life_alone_do_not_let_the_log_grow(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal.db")
    journal.append([one_run(A)], durability=Durability.PROCESS)
    for number in range(3000):
        journal.write_lease(lease("me", heartbeat_at=number))
    assert (tmp_path / "journal.db-wal").stat().st_size < 8_000_000
    journal.close()
