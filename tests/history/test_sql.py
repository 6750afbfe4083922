"""Queries in SQL: what they return, that they only read, and that other programs see the views."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step

PAGE = Path(__file__).parents[2] / "docs" / "sql.md"
IN_THE_FILE = ("run_history", "step_history", "event_history")
ONLY_HERE = ("output_history", "value_history", "log_history", "metric_history")


@step
def measure(n: int) -> dict[str, float]:
    iron.metric("loss", n / 2)
    return {"loss": n / 2}


@flow
def trial(n: int) -> str:
    measure(n)
    return "x" * 2000


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "journal.db"
    with iron.open(path):
        for n in range(3):
            trial(n)
        yield path


def test_a_query_returns_a_frame_of_what_it_selects(path: Path) -> None:
    found = iron.sql("SELECT status, count(*) AS n FROM run_history WHERE status = :status", {"status": "completed"})
    assert found.to_dict("records") == [{"status": "completed", "n": 3}]
    losses = iron.sql(
        "SELECT json_extract(output, '$.loss') AS loss FROM output_history WHERE name LIKE ?", ["%measure"]
    )
    assert sorted(losses["loss"]) == [0.0, 0.5, 1.0]
    assert list(iron.sql("SELECT * FROM run_history WHERE 0").columns)[:3] == ["run_id", "kind", "name"]
    assert list(iron.sql("SELECT value FROM metric_history ORDER BY 1")["value"]) == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("view", [*IN_THE_FILE, *ONLY_HERE])
def test_the_page_lists_the_columns_of_each_view(path: Path, view: str) -> None:
    text = PAGE.read_text()
    _, _, section = text.partition(f"| `{view}` |")
    section = section.partition("\n\n")[0] if view in IN_THE_FILE else section.partition("\n")[0]
    columns = iron.sql(f"SELECT * FROM {view} LIMIT 1").columns
    assert {f"`{column}`" for column in columns} <= {f"`{each}`" for each in section.split("`")[1::2]}


@pytest.mark.parametrize("view", IN_THE_FILE)
def test_other_programs_see_the_views(path: Path, view: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        rows = [dict(row) for row in connection.execute(f"SELECT * FROM {view}")]
    assert rows == iron.sql(f"SELECT * FROM {view}").astype(object).where(lambda each: each.notna(), None).to_dict(
        "records"
    )


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM runs", "UPDATE runs SET name = 'x'", "INSERT INTO runs SELECT * FROM runs",
        "DROP VIEW run_history", "CREATE TEMP TABLE x (a)", "PRAGMA query_only = OFF",
        "PRAGMA journal_mode = DELETE", "ATTACH 'x.db' AS y",
        "BEGIN", "COMMIT", "SELECT load_extension('x')",
    ],
)  # fmt: skip
def test_what_would_write_is_refused(path: Path, query: str) -> None:
    before = iron.events()
    with pytest.raises(ValueError, match="does more than read"):
        iron.sql(query)
    assert iron.events().equals(before)
    assert not Path("x.db").exists()


@pytest.mark.parametrize(
    ("query", "params", "message"),
    [
        ("SELECT * FROM run", (), "no such table: run; the views are run_history"),
        ("SELEC", (), "syntax error"),
        ("SELECT 1; SELECT 2", (), "one statement"),
        ("SELECT ?", (1, 2), "bindings"),
        ("VACUUM", (), "VACUUM"),
    ],
)
def test_a_query_that_is_none_says_why(path: Path, query: str, params: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        iron.sql(query, params)


def test_a_journal_that_does_not_exist_has_empty_views(tmp_path: Path) -> None:
    with iron.open(tmp_path / "none.db"):
        for view in (*IN_THE_FILE, *ONLY_HERE):
            assert iron.sql(f"SELECT * FROM {view}").empty
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize("schema", [1, 4])
def test_an_older_journal_can_be_queried(tmp_path: Path, schema: int) -> None:
    old = Path(__file__).parents[1] / "journals" / f"schema_{schema}.db"
    shutil.copy(old, tmp_path / "old.db")
    with iron.open(tmp_path / "old.db", read_only=True):
        assert len(iron.sql("SELECT * FROM run_history")) == 4
        assert not iron.sql("SELECT * FROM output_history").empty
        assert iron.sql("SELECT * FROM log_history").empty


def test_a_journal_in_memory_can_be_queried() -> None:
    with iron.open(":memory:"):
        trial(1)
        assert list(iron.sql("SELECT name FROM run_history")["name"].str.endswith("trial")) == [True]
