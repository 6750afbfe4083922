"""Writes that are stopped half-way: all of the batch is there or nothing of it, and the next append works."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ironflow_nb.errors import JournalError, JournalFull
from ironflow_nb.journal.ports import Durability, Journal, RunCommit, Select, Signal
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from tests.contracts.histories import A, Author, B, C, answers, definition, lease, one_run, value

FAST = Durability.PROCESS


class Disturbed:
    """A connection whose statements are disturbed: before or after the one that `when` chooses, `error` is raised."""

    def __init__(
        self, connection: sqlite3.Connection, error: BaseException, when: Callable[[int, str], bool], *, after: bool
    ) -> None:
        self._connection, self._error, self._when, self._after = connection, error, when, after
        self.statements: list[str] = []

    def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        return self.disturbed(statement, lambda: self._connection.execute(statement, *parameters))

    def cursor(self) -> DisturbedCursor:
        return DisturbedCursor(self, self._connection.cursor())

    def disturbed(self, statement: str, execute: Callable[[], sqlite3.Cursor]) -> sqlite3.Cursor:
        self.statements.append(statement)
        is_disturbed = self._when(len(self.statements) - 1, statement)
        if is_disturbed and not self._after:
            raise self._error
        cursor = execute()
        if is_disturbed:
            raise self._error
        return cursor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class DisturbedCursor:
    """A cursor of such a connection."""

    def __init__(self, connection: Disturbed, cursor: sqlite3.Cursor) -> None:
        self._connection, self._cursor = connection, cursor

    def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        return self._connection.disturbed(statement, lambda: self._cursor.execute(statement, *parameters))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[SqliteJournal]:
    """A journal with one run and a signal to it."""
    opened = SqliteJournal(path)
    opened.append([one_run(A)], durability=FAST, lease=lease("me"))
    opened.send(Signal(run_id=B, name="pause", sent_at=1))
    yield opened
    opened.close()


def disturb(
    journal: SqliteJournal, error: BaseException, when: Callable[[int, str], bool], *, after: bool = False
) -> Disturbed:
    disturbed = Disturbed(connection_of(journal), error, when, after=after)
    journal._connection = disturbed  # type: ignore[assignment]
    return disturbed


def connection_of(journal: SqliteJournal) -> sqlite3.Connection:
    connection = journal._connection
    assert connection is not None
    return connection._connection if isinstance(connection, Disturbed) else connection


def batch() -> list[RunCommit]:
    """Return two runs, the first with something for every table."""
    author = Author()
    author.start(B, key="k")
    author.begin_step(B, "fetch")
    author.complete_step(B, "fetch", output=value(b"out").value_id)
    return [author.entry(B, values=[value(b"out")], definition=definition(), taken=[1]), one_run(C)]


def outside(path: Path) -> object:
    """Return what another process sees."""
    with SqliteJournal(path, read_only=True).reading() as reader:
        return answers(reader)


def inside(journal: Journal) -> object:
    with journal.current() as reader:
        return answers(reader)


def whole(tmp_path: Path) -> object:
    """Return what is there when nothing is disturbed."""
    undisturbed = SqliteJournal(tmp_path / "undisturbed" / "journal.db")
    undisturbed.append([one_run(A)], durability=FAST, lease=lease("me"))
    undisturbed.send(Signal(run_id=B, name="pause", sent_at=1))
    undisturbed.append(batch(), durability=FAST, lease=lease("me", heartbeat_at=9))
    undisturbed.close()
    return outside(undisturbed.path)


def test_an_interrupt_at_any_statement_leaves_nothing(journal: SqliteJournal, path: Path, tmp_path: Path) -> None:
    nothing, everything, undisturbed = outside(path), whole(tmp_path), connection_of(journal)
    at, disturbed_statement = 0, ""
    while disturbed_statement != "COMMIT":
        for after in (False, True):
            disturbed = disturb(journal, KeyboardInterrupt(), lambda number, _, at=at: number == at, after=after)  # type: ignore[misc]
            if after and disturbed_statement == "COMMIT":
                break  # it took place: see below
            with pytest.raises(KeyboardInterrupt):
                journal.append(batch(), durability=FAST, lease=lease("me", heartbeat_at=9))
            disturbed_statement = disturbed.statements[at]
            journal._connection = undisturbed
            assert not undisturbed.in_transaction
            assert outside(path) == inside(journal) == nothing
        at += 1
    assert at > 12
    journal._connection = undisturbed
    journal.append(batch(), durability=FAST, lease=lease("me", heartbeat_at=9))
    assert outside(path) == everything


@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", 'INSERT INTO "events"', 'INSERT INTO "runs"', "COMMIT"])
def test_a_second_interrupt_before_the_rollback_is_mended_by_the_next_use(
    journal: SqliteJournal, path: Path, tmp_path: Path, statement: str
) -> None:
    nothing, everything = outside(path), whole(tmp_path)
    undisturbed = connection_of(journal)

    def when(number: int, text: str) -> bool:
        return text.startswith(statement) or text == "ROLLBACK"

    disturb(journal, KeyboardInterrupt(), when, after=statement.startswith("BEGIN"))
    with pytest.raises(KeyboardInterrupt):
        journal.append(batch(), durability=FAST, lease=lease("me", heartbeat_at=9))
    journal._connection = undisturbed
    assert undisturbed.in_transaction or statement.startswith("BEGIN")
    assert outside(path) == nothing
    assert inside(journal) == nothing
    journal.append(batch(), durability=FAST, lease=lease("me", heartbeat_at=9))
    assert outside(path) == everything


@pytest.mark.parametrize("kind", [sqlite3.OperationalError, KeyboardInterrupt, MemoryError])
def test_a_commit_that_fails_leaves_nothing(journal: SqliteJournal, path: Path, kind: type[BaseException]) -> None:
    nothing, undisturbed = outside(path), connection_of(journal)
    disturb(journal, kind("disturbed"), lambda _, statement: statement == "COMMIT")
    with pytest.raises((JournalError, kind)) as caught:
        journal.append(batch(), durability=FAST, lease=lease("you"))
    if kind is sqlite3.OperationalError:
        assert type(caught.value) is JournalError
        assert str(path) in str(caught.value)
        assert "disturbed" in str(caught.value)
    journal._connection = undisturbed
    assert outside(path) == inside(journal) == nothing
    journal.append(batch(), durability=FAST)
    with journal.reading() as reader:
        assert len(reader.events(Select())) == 5


@pytest.mark.parametrize("kind", [sqlite3.OperationalError, KeyboardInterrupt])
def test_a_commit_that_took_place_is_no_error(
    journal: SqliteJournal, path: Path, tmp_path: Path, kind: type[BaseException]
) -> None:
    disturb(journal, kind("disturbed"), lambda _, statement: statement == "COMMIT", after=True)
    journal.append(batch(), durability=FAST, lease=lease("me", heartbeat_at=9))
    assert outside(path) == whole(tmp_path)


def test_a_commit_that_failed_is_not_taken_for_what_somebody_else_wrote(journal: SqliteJournal, path: Path) -> None:
    theirs, undisturbed = SqliteJournal(path), connection_of(journal)

    def when(_: int, statement: str) -> bool:
        if statement.lstrip().startswith("SELECT"):  # the question whether the batch is there
            theirs.append([one_run(C, owner="you")], durability=FAST)
        return statement == "COMMIT"

    disturb(journal, KeyboardInterrupt(), when)
    with pytest.raises(KeyboardInterrupt):
        journal.append([one_run(C, owner="me")], durability=FAST)
    journal._connection = undisturbed
    with theirs.reading() as reader:
        assert [row.owner for row in reader.runs(Select())] == ["you", "me"]
        assert len(reader.events(Select())) == 2
    theirs.close()


def test_sqlite_interrupted_inside_a_statement_leaves_nothing(journal: SqliteJournal, path: Path) -> None:
    nothing, connection = outside(path), connection_of(journal)
    asked: list[int] = []

    def interrupt() -> int:
        asked.append(1)
        return int(len(asked) > 40)

    connection.set_progress_handler(interrupt, 1)
    with pytest.raises(JournalError) as caught:
        journal.append(batch(), durability=FAST, lease=lease("you"))
    connection.set_progress_handler(None, 0)
    assert str(path) in str(caught.value)
    assert len(asked) > 40
    assert outside(path) == inside(journal) == nothing
    journal.append(batch(), durability=FAST)


def test_a_full_disk_is_told_and_leaves_nothing(journal: SqliteJournal, path: Path) -> None:
    nothing, connection = outside(path), connection_of(journal)
    (n_pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count={n_pages}")
    author = Author()
    author.start(B)
    entry = author.entry(B, values=[value(b"x" * 60_000)])
    with pytest.raises(JournalError, match="full") as caught:
        journal.append([entry], durability=FAST, lease=lease("you"))
    assert type(caught.value) is JournalFull
    assert str(path) in str(caught.value)
    assert outside(path) == inside(journal) == nothing
    connection.execute(f"PRAGMA max_page_count={n_pages + 1000}")
    journal.append([entry], durability=FAST)
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("at", range(4))
def test_signing_values_again_signs_all_or_none(journal: SqliteJournal, path: Path, at: int) -> None:
    journal.append(batch(), durability=FAST)
    nothing, undisturbed = outside(path), connection_of(journal)
    disturbed = disturb(journal, KeyboardInterrupt(), lambda number, _: number == at // 2, after=bool(at % 2))
    macs = {value(b"out").value_id: b"new"}
    try:
        journal.replace_signatures("tagged", macs)
    except KeyboardInterrupt:
        journal._connection = undisturbed
        if at == 3:  # the COMMIT took place
            assert disturbed.statements == ["BEGIN IMMEDIATE", "COMMIT"]
        else:
            assert outside(path) == inside(journal) == nothing
        assert journal.replace_signatures("tagged", macs) == 1
    else:
        pytest.fail("nothing was disturbed")
    with journal.reading() as reader:
        assert reader.values(list(macs))[value(b"out").value_id].mac == b"new"


@pytest.mark.parametrize("after", [False, True])
def test_an_interrupt_of_a_commit_without_entries_is_not_swallowed(journal: SqliteJournal, after: bool) -> None:
    undisturbed = connection_of(journal)
    disturb(journal, KeyboardInterrupt(), lambda _, statement: statement == "COMMIT", after=after)
    with pytest.raises(KeyboardInterrupt):
        journal.exchange(lambda _: (), durability=FAST)
    journal._connection = undisturbed
