"""Events as columns from a file: in pieces of many events, and of single ones where something is damaged."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ironflow_nb.core.identity import RunId
from ironflow_nb.journal import sqlite_reader
from ironflow_nb.journal.event_columns import columns_of
from ironflow_nb.journal.ports import Durability, EventColumns, Select
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from tests.contracts.histories import A, Author, B, whole
from tests.contracts.selections import OUTPUT

N_EVENTS = 42


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteJournal]:
    """A journal of two runs that take turns, read in pieces of eight events."""
    monkeypatch.setattr(sqlite_reader, "_EVENTS_OF_PIECE", 8)
    author, journal = Author(), SqliteJournal(path)
    for run in (A, B):
        author.start(run)
    for index in range(10):
        for run in (A, B):
            author.begin_step(run, "pages.fétch", index)
            author.complete_step(run, "pages.fétch", index, output=OUTPUT, duration_s=index / 3)
            journal.append([author.entry(run)], durability=Durability.PROCESS)
    yield journal
    journal.close()


def spoil(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TRIGGER events_refuse_update")
        connection.execute("DROP TRIGGER events_refuse_delete")
        assert connection.execute(statement, values).rowcount


def read(journal: SqliteJournal, select: Select) -> tuple[list[EventColumns], EventColumns]:
    """Return the pieces, and what they should be together."""
    with journal.reading() as reader:
        return list(reader.event_columns(select)), columns_of(reader.events(select))


def test_many_events_come_in_pieces(journal: SqliteJournal) -> None:
    pieces, expected = read(journal, Select())
    assert [len(piece.data) for piece in pieces] == [8, 8, 8, 8, 8, 2]
    assert whole(pieces) == expected
    assert len(expected.data) == N_EVENTS


@pytest.mark.parametrize(
    "select",
    [
        Select(run_ids=[A]),
        Select(run_ids=[A], without=[A]),
        Select(run_ids=[B], limit=11),
        Select(limit=17),
        Select(name="StepStarted"),
        Select(name="RunStarted"),
        Select(run_prefix=B[:11], name="StepCompleted", limit=7),
    ],
)
def test_a_selection_in_pieces_is_the_same_events(journal: SqliteJournal, select: Select) -> None:
    pieces, expected = read(journal, select)
    assert whole(pieces) == expected


def test_few_events_far_apart_are_looked_up(journal: SqliteJournal) -> None:
    pieces, expected = read(journal, Select(name="RunStarted", run_ids=[A, B]))
    assert [piece.position for piece in pieces] == [expected.position]


def test_a_gap_between_the_events_is_nothing(journal: SqliteJournal, path: Path) -> None:
    spoil(path, "DELETE FROM events WHERE position BETWEEN 9 AND 24")
    pieces, expected = read(journal, Select())
    assert whole(pieces) == expected
    assert len(expected.data) == N_EVENTS - 16


@pytest.mark.parametrize(
    "data", ["", "no json", "[1, 2]", "{", "{}, {}", '{"a": [1', b"\xff\x00\xfe", b'{"\xff": 1}', "null"], ids=repr
)
def test_damaged_data_is_missing_alone(journal: SqliteJournal, path: Path, data: object) -> None:
    spoil(path, "UPDATE events SET data = ? WHERE position = 13", data)
    pieces, expected = read(journal, Select())
    found = whole(pieces)
    assert found == expected
    assert [n for n, fields in enumerate(found.data, start=1) if fields is None] == [13]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("version", "nine"), ("version", "9,10"), ("version", 1.5), ("at", b"\xff"), ("attempt", "one"),
        ("attempt", 2.5), ("step", "a\x1fb"), ("type", "a\x1fb"), ("type", b"\xff"), ("step", b"\xff"),
        ("run_id", b"\xff"),
    ],
)  # fmt: skip
def test_other_damage_is_shown_as_it_is(journal: SqliteJournal, path: Path, column: str, value: Any) -> None:
    spoil(path, f"UPDATE events SET {column} = ? WHERE position = 13", value)
    pieces, expected = read(journal, Select())
    assert whole(pieces) == expected
    assert getattr(expected, column)[12] == value


def test_a_text_too_long_for_sqlite_is_read_event_by_event(journal: SqliteJournal) -> None:
    with journal.reading() as reader:
        assert isinstance(reader, sqlite_reader.SqliteReader)
        reader._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1_000)
        assert whole(reader.event_columns(Select())) == columns_of(reader.events(Select()))


def test_of_no_events_there_are_empty_columns(journal: SqliteJournal) -> None:
    pieces, expected = read(journal, Select(run_ids=[RunId("5555555555ss")]))
    assert pieces == [expected]
    assert expected.data == []
