"""Journals of older schemas become current ones when they are first written to: wholly or not at all."""

from __future__ import annotations

import re
import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from ironflow_nb.core.identity import Digest
from ironflow_nb.deciders.store import deciders_of
from ironflow_nb.errors import JournalTooNew
from ironflow_nb.journal import migrations
from ironflow_nb.journal.ports import Durability, Select
from ironflow_nb.journal.schema import SCHEMA_VERSION
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from tests.contracts.histories import A, B, one_run

OLD = [
    path
    for path in sorted((Path(__file__).parent.parent / "journals").glob("schema_*.db"))
    if path.stem != f"schema_{SCHEMA_VERSION}"
]


@pytest.fixture(params=OLD, ids=lambda path: path.stem)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copy(request.param, tmp_path / "old.db"))


def write(path: Path) -> None:
    journal = SqliteJournal(path)
    try:
        journal.append([one_run(A)], durability=Durability.PROCESS)
    finally:
        journal.close()


def schema(path: Path) -> dict[str, str]:
    """Return what the file consists of, in words that do not depend on white space."""

    def words(sql: str) -> str:
        return re.sub(r"\s*([,()])\s*", r"\1", " ".join(sql.replace("IF NOT EXISTS ", "").split()))

    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE '%sqlite%'").fetchall()
    return {name: words(sql) for name, sql in rows}


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        found: int = connection.execute("PRAGMA user_version").fetchone()[0]
        return found


def test_an_old_journal_becomes_what_a_new_one_is(old: Path, tmp_path: Path) -> None:
    write(old)
    write(tmp_path / "new.db")
    assert schema(old) == schema(tmp_path / "new.db")
    assert version(old) == SCHEMA_VERSION


def test_who_only_reads_an_old_journal_leaves_it_as_it_is(old: Path) -> None:
    before = old.read_bytes()
    with SqliteJournal(old, read_only=True).reading() as reader:
        assert reader.runs(Select())
    assert old.read_bytes() == before


def test_an_old_journal_answers_what_its_schema_lacks_with_nothing(old: Path) -> None:
    with SqliteJournal(old, read_only=True).reading() as reader:
        known = deciders_of(reader)
        assert [known.observations(), known.projections(), known.skipped("p")] == [[], [], []]
        assert reader.cached(Digest(b"i"), Digest(b"c")) is None
        assert known.projection_state("p") is None
        assert reader.runs(Select())


def test_a_process_of_an_older_version_goes_on_writing_and_is_told_when_it_opens_the_journal(tmp_path: Path) -> None:
    older = SqliteJournal(tmp_path / "journal.db")
    older.append([one_run(A)], durability=Durability.PROCESS)
    with closing(sqlite3.connect(older.path)) as connection:
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    older.append([one_run(B)], durability=Durability.PROCESS)
    with pytest.raises(JournalTooNew), older.reading():
        pass
    older.close()


def test_a_migration_that_stops_in_the_middle_changes_nothing(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    was, before = version(old), schema(old)

    class Stopped(BaseException):
        """Comes when the tables are made and the version is not yet written."""

    class Stopping:
        def apply(self, database: object) -> None:
            real.apply(database)
            raise Stopped

    real = migrations.MIGRATIONS
    monkeypatch.setattr(migrations, "MIGRATIONS", Stopping())
    with pytest.raises(Stopped):
        write(old)
    assert (version(old), schema(old)) == (was, before)
    monkeypatch.undo()
    write(old)
    assert version(old) == SCHEMA_VERSION


def test_many_who_open_an_old_journal_at_once_all_succeed(old: Path) -> None:
    gate, failures = threading.Barrier(6), []

    def open_it() -> None:
        gate.wait()
        try:
            journal = SqliteJournal(old)
            with journal.current() as reader:
                reader.runs(Select())
            journal.close()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert version(old) == SCHEMA_VERSION
