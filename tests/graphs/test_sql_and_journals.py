"""The kind sql never opens a journal, whatever name it has and whoever uses it."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.errors import NodeFailed
from ironflow_nb.graphs.nodes.sql import SQL
from tests.graphs.asking import perform

TOLD = "it belongs to the journal|is a journal of runs|is a part of the database|there is no database"


def ask(database: str, *, is_write: bool = False) -> Any:
    options = {"database": database, "query": "select count(*) as n from runs", "write": is_write}
    return perform(SQL, options, allow={"files": ["."]})


@pytest.mark.parametrize("is_in_use", [True, False])
@pytest.mark.parametrize("is_write", [True, False])
@pytest.mark.parametrize("spelling", ["journal.db", "./in/../journal.db", "link", "hard", "journal.db-wal", "in/link"])
def test_a_journal_is_no_database_whatever_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelling: str, is_write: bool, is_in_use: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    engine = iron.open(tmp_path / "journal.db")
    with engine:
        iron.Graph("g").node("a", transform=1)()
    if not is_in_use:
        engine.close()
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to("journal.db")
    (tmp_path / "in" / "link").symlink_to("../link")
    (tmp_path / "hard").hardlink_to("journal.db")
    with pytest.raises(NodeFailed, match=TOLD):
        ask(spelling, is_write=is_write)
    engine.close()


@pytest.mark.parametrize(
    "uri", ["file:journal.db", "file:journal.db?mode=rwc", "file://{}/journal.db", "file:%6aournal.db"]
)
def test_a_uri_is_the_name_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.chdir(tmp_path)
    sqlite3.connect(tmp_path / "journal.db").close()
    with pytest.raises(NodeFailed, match="there is no database 'file:"):
        ask(uri.format(tmp_path))
