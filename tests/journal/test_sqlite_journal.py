"""The journal in a file keeps the contract, and what a file adds to it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from ironflow_nb.journal.ports import Durability, Select
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from ironflow_nb.values.stored_value import INLINE_LIMIT
from tests.contracts.histories import A, B, C, one_run, value
from tests.contracts.journal import JournalContract
from tests.contracts.lanes import LaneContract
from tests.contracts.projections import ProjectionContract
from tests.contracts.selections import SelectContract
from tests.contracts.stored_values import ValueContract
from tests.contracts.work import WorkContract

FAST = Durability.PROCESS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "er" / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[SqliteJournal]:
    opened = SqliteJournal(path)
    yield opened
    opened.close()


@pytest.fixture
def other_handle(path: Path) -> Iterator[SqliteJournal]:
    opened = SqliteJournal(path)
    yield opened
    opened.close()


class TestSqliteJournal(
    JournalContract, ValueContract, SelectContract, WorkContract, ProjectionContract, LaneContract,
):  # fmt: skip
    pass


def test_the_path_is_absolute_from_the_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    journal = SqliteJournal(Path("journal.db"))
    monkeypatch.chdir(tmp_path)
    journal.append([one_run(A)], durability=FAST)
    journal.close()
    assert journal.location == str(tmp_path / "one" / "journal.db")
    assert (tmp_path / "one" / "journal.db").exists()


@pytest.mark.parametrize(("durability", "level"), [(Durability.POWER, 2), (Durability.PROCESS, 1)])
def test_a_commit_is_as_durable_as_asked(journal: SqliteJournal, durability: Durability, level: int) -> None:
    other = Durability.POWER if durability is Durability.PROCESS else Durability.PROCESS
    for run, asked in ((A, durability), (B, other), (C, durability)):
        journal.append([one_run(run)], durability=asked)
    assert journal._connection is not None
    assert journal._connection.execute("PRAGMA synchronous").fetchone() == (level,)
    assert journal._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_what_was_appended_is_there_after_the_file_is_opened_again(journal: SqliteJournal, path: Path) -> None:
    journal.append([one_run(A)], durability=FAST)
    journal.close()
    journal.close()
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    reopened = SqliteJournal(path)
    with reopened.current() as reader:
        assert [row.run_id for row in reader.runs(Select())] == [A]
    reopened.append([one_run(B)], durability=FAST)
    reopened.close()


def test_readers_leave_no_file_behind(journal: SqliteJournal, path: Path) -> None:
    journal.append([one_run(A)], durability=FAST)
    journal.close()
    before = path.read_bytes()
    for read_only in (False, True):
        with SqliteJournal(path, read_only=read_only).reading() as reader:
            assert reader.head(A)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_large_content_lies_beside_the_file_and_small_content_in_it(journal: SqliteJournal, path: Path) -> None:
    small, large = value(b"s" * (INLINE_LIMIT - 1)), value(b"l" * INLINE_LIMIT)
    journal.append([replace(one_run(A), values=(small, large))], durability=FAST)
    with closing(sqlite3.connect(path)) as connection:
        data = dict(connection.execute('SELECT value_id, data FROM "values"'))
    assert data == {small.value_id: small.content, large.value_id: None}
    files = [file for file in (path.parent / "values").rglob("*") if file.is_file()]
    assert [file.read_bytes() for file in files] == [large.content]


@pytest.mark.parametrize("damage", ["missing", "shorter", "other bytes"])
@pytest.mark.parametrize("size", [1, 2000, INLINE_LIMIT])
def test_damaged_content_is_no_content_until_it_is_stored_again(
    journal: SqliteJournal, path: Path, size: int, damage: str
) -> None:
    stored = value(b"x" * size)
    journal.append([replace(one_run(A), values=(stored,))], durability=FAST)
    spoiled = {"missing": None, "shorter": b"x" * (size - 1), "other bytes": b"y" * size}[damage]
    if size < INLINE_LIMIT:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute('UPDATE "values" SET data = ?', (spoiled,))
    elif spoiled is None:
        journal.files.path(stored.value_id).unlink()
    else:
        journal.files.path(stored.value_id).write_bytes(spoiled)
    with journal.reading() as reader:
        found = reader.values([stored.value_id])[stored.value_id]
    assert replace(found, read_error=None) == replace(stored, content=None)
    assert found.read_error
    if size >= INLINE_LIMIT:
        assert str(journal.files.path(stored.value_id)) in found.read_error
        assert {"missing": "is missing", "shorter": "has 65535 bytes"}.get(damage, damage) in found.read_error
    journal.append([replace(one_run(B), values=(stored,))], durability=FAST)
    with journal.reading() as reader:
        assert reader.values([stored.value_id]) == {stored.value_id: stored}
