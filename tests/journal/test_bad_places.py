"""A journal at a place that is not one, and a journal file that others have been at."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from msgspec.structs import replace

from ironflow_nb.errors import JournalBusy, JournalCorrupt, JournalError, JournalReadOnly, JournalTooNew, NotAJournal
from ironflow_nb.journal import sqlite_file
from ironflow_nb.journal.ports import Durability, Select, Signal
from ironflow_nb.journal.schema import APPLICATION_ID, SCHEMA_VERSION
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from tests.contracts.histories import A, Author, B, answers, lease, one_run, value

FAST = Durability.PROCESS
AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
N_PROCESSES, N_FILES = 6, 4

WRITES: dict[str, Callable[[SqliteJournal], object]] = {
    "append": lambda journal: journal.append([one_run(B)], durability=FAST),
    "lease": lambda journal: journal.write_lease(lease("me")),
    "send": lambda journal: journal.send(Signal(run_id=A, name="pause", sent_at=1)),
    "release": lambda journal: journal.release("me"),
    "resign": lambda journal: journal.replace_signatures("pickle", {value(b"x").value_id: b"m"}),
}


def read(journal: SqliteJournal) -> object:
    with journal.reading() as reader:
        return answers(reader)


def look(journal: SqliteJournal) -> object:
    with journal.current() as reader:
        return answers(reader)


READS: dict[str, Callable[[SqliteJournal], object]] = {"reading": read, "current": look}
USES = WRITES | READS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def kept(path: Path) -> Iterator[Path]:
    """A closed journal with one run in it."""
    journal = SqliteJournal(path)
    journal.append([one_run(A)], durability=FAST, lease=lease("me"))
    journal.close()
    yield path
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def refusal(path: Path, use: Callable[[SqliteJournal], object], *, read_only: bool = False) -> JournalError:
    """Return the error of that use, which names the path."""
    journal = SqliteJournal(path, read_only=read_only)
    try:
        with pytest.raises(JournalError) as caught:
            use(journal)
    finally:
        journal.close()
    assert str(path) in str(caught.value)
    assert caught.value.ids["path"] == path
    return caught.value


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_folder_is_no_journal(path: Path, use: Callable[[SqliteJournal], object]) -> None:
    path.mkdir()
    error = refusal(path, use)
    assert type(error) is NotAJournal
    assert "folder" in str(error)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("depth", [1, 2])
def test_a_file_among_the_parents_leaves_no_place_for_a_journal(tmp_path: Path, depth: int) -> None:
    parent = tmp_path / "a file"
    parent.write_text("text")
    path = parent.joinpath(*"xy"[: depth - 1], "journal.db")
    assert type(refusal(path, WRITES["append"])) is JournalReadOnly
    assert type(refusal(path, WRITES["lease"])) is JournalReadOnly
    assert parent.read_text() == "text"


@pytest.mark.parametrize("content", [b"xy", b"hello, world\n" * 3, b"\0" * 4096, bytes(range(256)) * 36])
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_what_is_no_database_is_no_journal(path: Path, content: bytes, use: Callable[[SqliteJournal], object]) -> None:
    path.write_bytes(content)
    error = refusal(path, use)
    assert type(error) is NotAJournal
    assert "not a SQLite database" in str(error)
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("mark", ["", "PRAGMA application_id=77", "PRAGMA user_version=1", "PRAGMA journal_mode=WAL"])
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_the_database_of_another_application_is_left_alone(
    path: Path, mark: str, use: Callable[[SqliteJournal], object]
) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"CREATE TABLE runs (theirs TEXT); INSERT INTO runs VALUES ('x'); {mark}")
    before = path.read_bytes()
    error = refusal(path, use)
    assert type(error) is NotAJournal
    assert "not a journal" in str(error)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_database_without_tables_that_is_marked_by_another_application_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA application_id=77")
    before = path.read_bytes()
    assert type(refusal(path, WRITES["append"])) is NotAJournal
    assert path.read_bytes() == before


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_journal_of_a_newer_schema_is_left_alone(kept: Path, use: Callable[[SqliteJournal], object]) -> None:
    with closing(sqlite3.connect(kept)) as connection:
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    before = kept.read_bytes()
    error = refusal(kept, use)
    assert type(error) is JournalTooNew
    assert error.ids["schema"] == SCHEMA_VERSION + 1
    assert "upgrade" in str(error)
    assert kept.read_bytes() == before


@pytest.mark.parametrize("use", WRITES.values(), ids=WRITES)
def test_a_handle_that_only_reads_refuses_to_write(kept: Path, use: Callable[[SqliteJournal], object]) -> None:
    before = kept.read_bytes()
    error = refusal(kept, use, read_only=True)
    assert type(error) is JournalReadOnly
    assert isinstance(error, PermissionError)
    assert kept.read_bytes() == before


def test_a_handle_that_only_reads_reads_everything_and_sees_what_is_new(kept: Path) -> None:
    watching, writing = SqliteJournal(kept, read_only=True), SqliteJournal(kept)
    try:
        assert read(watching) == look(watching) == read(writing)
        token = watching.change_token()
        assert watching.change_token() == token
        writing.append([one_run(B)], durability=FAST)
        assert watching.change_token() != token
        assert read(watching) == look(watching) == read(writing)
        with watching.reading() as reader:
            assert [row.run_id for row in reader.events(Select())] == [A, B]
    finally:
        watching.close()
        writing.close()


@pytest.mark.skipif(AS_ROOT, reason="root may write everywhere")
def test_a_file_without_the_right_to_write_reads_and_refuses_to_be_written(kept: Path) -> None:
    expected = read(SqliteJournal(kept))
    kept.chmod(0o444)
    kept.parent.chmod(0o555)
    try:
        assert read(SqliteJournal(kept)) == expected
        assert type(refusal(kept, WRITES["append"])) is JournalReadOnly
    finally:
        kept.parent.chmod(0o755)
        kept.chmod(0o644)


@pytest.mark.parametrize("read_only", [True, False])
def test_a_missing_file_reads_as_empty_and_is_not_made(tmp_path: Path, read_only: bool) -> None:
    journal = SqliteJournal(tmp_path / "folder" / "journal.db", read_only=read_only)
    for use in READS.values():
        answer = use(journal)
        assert isinstance(answer, dict)
        assert answer["runs"] == answer["events"] == answer["steps"] == [[]]
        assert answer["leases"] == {}
    assert not journal.exists()
    assert journal.change_token() == 0
    journal.release("me")
    journal.close()
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_content_reads_as_empty_and_becomes_a_journal(path: Path) -> None:
    path.touch()
    journal = SqliteJournal(path)
    with journal.reading() as reader:
        assert reader.runs(Select()) == []
    assert path.stat().st_size == 0
    journal.append([one_run(A)], durability=FAST)
    journal.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)


def test_a_journal_that_another_process_holds_is_busy(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_TIMEOUT_S", 0.05)
    before = read(SqliteJournal(kept))
    with closing(sqlite3.connect(kept, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        error = refusal(kept, WRITES["append"])
        assert type(error) is JournalBusy
        assert isinstance(error, TimeoutError)
        assert read(SqliteJournal(kept)) == before
        holder.execute("ROLLBACK")
    journal = SqliteJournal(kept)
    journal.append([one_run(B)], durability=FAST)
    journal.close()


def test_a_status_that_was_never_written_is_a_corrupt_journal(path: Path) -> None:
    author = Author()
    author.start(A)
    author.begin_step(A, "fetch")
    journal = SqliteJournal(path)
    journal.append([author.entry(A)], durability=FAST)
    for table in ("runs", "steps"):
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(f"UPDATE {table} SET status = 'sleeping'")
        with journal.reading() as reader, pytest.raises(JournalCorrupt, match="sleeping"):
            reader.runs(Select()) if table == "runs" else reader.steps(Select())
    journal.close()


def create(path: Path, number: int, barrier: Barrier) -> None:
    """Append to every file as soon as all processes are there."""
    for n_file in range(N_FILES):
        journal = SqliteJournal(path / f"{n_file}" / "journal.db")
        barrier.wait(60)
        run = type(A)(f"{number}" * 12)
        journal.append([replace(one_run(run), values=(value(b"x" * 70_000),))], durability=FAST)
        barrier.wait(60)
        journal.close()


def test_many_processes_make_one_file_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(N_PROCESSES)
    processes = [context.Process(target=create, args=(tmp_path, n, barrier)) for n in range(N_PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * N_PROCESSES
    for n_file in range(N_FILES):
        with SqliteJournal(tmp_path / f"{n_file}" / "journal.db").reading() as reader:
            runs = {row.run_id for row in reader.runs(Select())}
            assert runs == {f"{number}" * 12 for number in range(N_PROCESSES)}
            assert [row.position for row in reader.events(Select())] == list(range(1, N_PROCESSES + 1))
            assert reader.values(reader.value_ids("tagged"))[value(b"x" * 70_000).value_id].content == b"x" * 70_000
