"""Journals that were never finished, or that lost one of their files: made properly, or refused clearly."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import ironflow_nb as iron
from ironflow_nb.journal.ports import Durability, Select
from ironflow_nb.journal.schema import SCHEMA_VERSION
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from tests.contracts.histories import A, B, one_run

FAST = Durability.PROCESS
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def runs(path: Path) -> set[str]:
    with SqliteJournal(path).reading() as reader:
        return {row.run_id for row in reader.runs(Select())}


def is_sound(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        return bool(version == SCHEMA_VERSION and connection.execute("PRAGMA integrity_check").fetchone() == ("ok",))


def write(path: Path, run: str = B) -> None:
    journal = SqliteJournal(path)
    try:
        journal.append([one_run(type(A)(run))], durability=FAST)
    finally:
        journal.close()


def outcome(path: Path) -> str:
    """Write to the file as it is; a refusal leaves it as it is."""
    before = path.read_bytes()
    refusal: iron.JournalError | None = None
    try:
        write(path)
    except iron.JournalError as error:
        refusal = error
    if refusal is None:
        assert B in runs(path)
        assert is_sound(path)
        return "made"
    assert str(path) in str(refusal)
    assert path.read_bytes() == before
    return type(refusal).__name__


@pytest.mark.crash
def test_a_process_that_dies_at_any_statement_of_making_a_journal_leaves_one_that_can_be_made(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.hostile.dying", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, env=os.environ, check=True, timeout=100)
    journals = sorted(tmp_path.glob("*/journal.db"), key=lambda path: int(path.parent.name))
    assert len(journals) > 20
    for path in journals:
        assert runs(path) <= {A}
        write(path)
        assert runs(path) - {A} == {B}
        assert is_sound(path)
    assert runs(journals[-1]) == {A, B}


def whole(path: Path) -> bytes:
    """Return the content of a journal with one run."""
    write(path, A)
    content = path.read_bytes()
    path.unlink()
    return content


@pytest.mark.parametrize("size", [1, 15, 16, 99, 100, 511, 512, 4095, 4096, 8192, 20000, -4096, -1])
def test_a_journal_that_was_cut_is_refused_or_made(path: Path, size: int) -> None:
    content = whole(path)
    path.write_bytes(content[:size])
    told = outcome(path)
    assert told in {"NotAJournal", "JournalCorrupt", "made"}
    if 1 < size <= len(content) // 2:  # a file of one byte is an empty one to SQLite
        assert told != "made"


def test_a_log_without_its_journal_is_no_part_of_a_new_one(path: Path) -> None:
    journal = SqliteJournal(path)
    journal.append([one_run(A)], durability=FAST)
    log = path.with_name("journal.db-wal").read_bytes()
    journal.close()
    path.unlink()
    path.with_name("journal.db-wal").write_bytes(log)
    assert runs(path) == set()
    write(path)
    assert runs(path) == {B}
    assert is_sound(path)


def test_a_journal_whose_log_was_deleted_is_that_of_its_last_checkpoint(path: Path) -> None:
    copy = path.with_name("copy.db")
    journal = SqliteJournal(path)
    journal.append([one_run(A)], durability=FAST)
    journal.close()
    journal = SqliteJournal(path)
    journal.append([one_run(B)], durability=FAST)
    shutil.copy(path, copy)  # without the log, in which the second run lies
    journal.close()
    assert runs(copy) == {A}
    write(copy)
    assert runs(copy) == {A, B}
    assert is_sound(copy)


def test_a_copy_of_a_journal_that_was_never_checkpointed_is_made_anew(path: Path) -> None:
    copy = path.with_name("copy.db")
    journal = SqliteJournal(path)
    journal.append([one_run(A)], durability=FAST)
    shutil.copy(path, copy)
    assert runs(copy) == set()
    write(copy)
    assert runs(copy) == {B}
    assert is_sound(copy)
    assert runs(path) == {A}
    journal.close()


def test_a_journal_with_the_log_of_another_one_is_told_from_it(path: Path) -> None:
    other = path.with_name("other.db")
    for place, run in ((path, A), (other, B)):
        journal = SqliteJournal(place)
        journal.append([one_run(run)], durability=FAST)
        if place == other:
            log = other.with_name("other.db-wal").read_bytes()
        journal.close()
    path.with_name("journal.db-wal").write_bytes(log)
    # SQLite can't tell whose log it is: what comes out is one of the two or a refusal, and never a mixture.
    try:
        found = runs(path)
    except iron.JournalError:
        return
    assert found in ({A}, {B})


def test_shared_memory_that_was_left_behind_is_no_trouble(path: Path) -> None:
    journal = SqliteJournal(path)
    journal.append([one_run(A)], durability=FAST)
    memory = path.with_name("journal.db-shm").read_bytes()
    journal.close()
    path.with_name("journal.db-shm").write_bytes(memory)
    assert runs(path) == {A}
    write(path)
    path.unlink()
    path.with_name("journal.db-shm").write_bytes(memory)
    write(path)
    assert runs(path) == {B}
