"""The tables of a journal file as others see them: they refuse to forget, follow from the events, and can be read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ironflow_nb.core.events import RunCompleted, RunContinued, RunFailed, StepRetryScheduled
from ironflow_nb.core.identity import step_ref
from ironflow_nb.journal.ports import Durability, Select
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from tests.contracts.histories import A, Author, B, digest, folded, value

OUTPUT = value(b"out")
NOW = 1_700_000_000_000_000  # 2023-11-14T22:13:20Z


@pytest.fixture
def author() -> Author:
    return Author()


@pytest.fixture
def path(tmp_path: Path, author: Author) -> Path:
    """A journal with a run that was continued after a failure, and one that began a microsecond later."""
    author.start(A, at=NOW, key="k", notebook="n.ipynb")
    author.begin_step(A, "fetch", at=NOW + 1)
    author.fail_step(A, "fetch", duration_s=0.25)
    author.note(A, StepRetryScheduled(due_at=NOW), step=step_ref("fetch", 0), attempt=1)
    author.begin_step(A, "fetch", attempt=2)
    author.fail_step(A, "fetch", attempt=2)
    author.note(A, RunFailed(error=digest(9), caused_by=(step_ref("fetch", 0),)))
    author.note(A, RunContinued(reason="rerun", owner="me", definition=digest(1), durability="power"))
    author.begin_step(A, "fetch", attempt=3)
    author.complete_step(A, "fetch", attempt=3, output=OUTPUT.value_id)
    author.note(A, RunCompleted(output=OUTPUT.value_id), at=NOW + 2_500_000)
    first = author.entry(A, values=[OUTPUT])
    author.start(B, at=NOW + 1)
    journal = SqliteJournal(tmp_path / "journal.db")
    journal.append([first, author.entry(B)], durability=Durability.PROCESS)
    journal.close()
    return journal.path


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as opened:
        yield opened


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET data = '{}'",
        "UPDATE events SET at = at WHERE position = 1",
        "UPDATE OR REPLACE events SET version = 1 WHERE position = 2",
        "DELETE FROM events",
        "DELETE FROM events WHERE position = (SELECT max(position) FROM events)",
    ],
)
def test_events_can_be_neither_changed_nor_deleted(connection: sqlite3.Connection, statement: str) -> None:
    before = connection.execute("SELECT * FROM events").fetchall()
    with pytest.raises(sqlite3.IntegrityError, match="events are append-only"):
        connection.execute(statement)
    assert connection.execute("SELECT * FROM events").fetchall() == before
    assert len(before) == 12


def test_runs_and_steps_follow_from_the_events(path: Path, author: Author) -> None:
    with SqliteJournal(path, read_only=True).reading() as reader:
        events = reader.events(Select())
        for run in (A, B):
            state = folded(events, run)
            assert reader.runs(Select(run_ids=[run])) == [state.run]
            assert reader.steps(Select(run_ids=[run])) == list(state.steps.values())
            assert state == author.states[run]
        assert [row.run_id for row in reader.runs(Select())] == [B, A]
        assert [row.status for row in reader.steps(Select())] == ["failed", "failed", "completed"]


def rows(connection: sqlite3.Connection, view: str) -> list[dict[str, Any]]:
    cursor = connection.execute(f"SELECT * FROM {view}")
    return [dict(zip([column[0] for column in cursor.description], row, strict=True)) for row in cursor]


def test_the_history_of_runs_can_be_selected(connection: sqlite3.Connection) -> None:
    common = {
        "kind": "flow",
        "name": "pages.report",
        "n_reused": 0,
        "parent_run_id": None,
        "key": None,
        "notebook": None,
    }
    began = {"run_id": B, "status": "running", "started_at": "2023-11-14T22:13:20.000001Z", "n_sessions": 1}
    ended: dict[str, Any] = {
        "run_id": A,
        "status": "completed",
        "started_at": "2023-11-14T22:13:20.000000Z",
        "n_sessions": 2,
    }
    ended |= {"key": "k", "notebook": "n.ipynb"}
    assert rows(connection, "run_history") == [
        common | began | {"ended_at": None, "duration_s": None, "key": None, "notebook": None},
        common
        | ended
        | {"ended_at": "2023-11-14T22:13:22.500000Z", "duration_s": 2.5, "key": "k", "notebook": "n.ipynb"},
    ]


def test_the_history_of_steps_can_be_selected(connection: sqlite3.Connection) -> None:
    found = rows(connection, "step_history")
    assert [(row["step"], row["attempt"], row["status"], row["duration_s"]) for row in found] == [
        ("fetch[0]", 1, "failed", 0.25),
        ("fetch[0]", 2, "failed", 0.25),
        ("fetch[0]", 3, "completed", 0.5),
    ]
    assert [row["started_at"][-7:] for row in found] == ["000001Z", "000004Z", "000008Z"]
    assert [row["output_id"] or None for row in found] == [None, None, OUTPUT.value_id.hex()]
    assert [row["error_id"] or None for row in found] == [digest(9).hex(), digest(9).hex(), None]


def test_the_history_of_events_can_be_selected(connection: sqlite3.Connection) -> None:
    found = rows(connection, "event_history")
    assert [row["position"] for row in found] == list(range(1, 13))
    assert found[1] == {
        "position": 2, "run_id": A, "version": 2, "at": "2023-11-14T22:13:20.000001Z", "type": "StepStarted",
        "step": "fetch[0]", "attempt": 1, "data": found[1]["data"],
    }  # fmt: skip
    assert connection.execute("SELECT count(*) FROM event_history WHERE json_valid(data)").fetchone() == (12,)
