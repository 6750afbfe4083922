"""A journal whose texts are markup, one column after the other: what is shown of it is text."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.core.identity import RunId
from ironflow_nb.durable_cells.listing import cells_diagram
from ironflow_nb.errors import IronflowError
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.handles.run import Run
from ironflow_nb.journal.schema import DDL
from ironflow_nb.notebook.unfinished_card import as_html, unfinished
from tests.hostile import stranger

MARKUP = "<script>alert(7)</script><img src=x onerror=alert(7)>\n\"'\x1b[31m]]>&<!--"
JSON_COLUMNS = {("events", "data"), ("definitions", "diagram")}
WORDS = {"start", "end", "step", "map", "condition", "loop", "child", "fork", "wait", "other"}


def text_columns() -> list[tuple[str, str]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(DDL)
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
        return [
            (table, row[1])
            for (table,) in tables.fetchall()
            for row in connection.execute(f"PRAGMA table_info('{table}')")
            if row[2] == "TEXT"
        ]


@pytest.fixture(scope="module")
def visited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("visited")
    stranger.visit(folder)
    return folder / ".ironflow" / "journal.db"


def in_texts(value: Any) -> Any:
    match value:
        case dict():
            return {key: in_texts(each) for key, each in value.items()}
        case list():
            return [in_texts(each) for each in value]
        case str() if value not in WORDS and not re.fullmatch("[0-9a-f]{20,}", value):
            return value + MARKUP
        case _:
            return value


def spoil(journal: Path, table: str, column: str) -> None:
    """Add markup to every text of the column."""
    with closing(sqlite3.connect(journal)) as connection, connection:
        for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
        connection.execute(
            "UPDATE runs SET status = 'interrupted' WHERE name LIKE '%deploy'"
        )  # of which the card tells
        connection.create_function(
            "spoiled",
            1,
            lambda text: json.dumps(in_texts(json.loads(text))) if (table, column) in JSON_COLUMNS else text + MARKUP,
        )
        connection.execute(f'UPDATE OR IGNORE "{table}" SET "{column}" = spoiled("{column}") WHERE "{column}" != \'\'')


def looks(journal: Path) -> Iterator[Callable[[], object]]:
    yield from (iron.runs, iron.steps, iron.events, iron.doctor, iron.cells, cells_diagram, iron.projections)
    yield lambda: as_html(iron.engine(), unfinished(iron.engine()))
    with closing(sqlite3.connect(journal)) as connection:
        ids = [run_id for (run_id,) in connection.execute("SELECT run_id FROM runs")]
    for run in [Run[Any](iron.engine(), RunId(run_id)) for run_id in ids]:
        yield lambda run=run: run
        yield run.diagram
        yield run.plan
        yield run.debug
        yield lambda run=run: run.error
        yield lambda run=run: iron.Graph.from_run(run)


def markup_of(value: object) -> str:
    bundle = dict(getattr(value, "_repr_mimebundle_", dict)())
    found = [str(each) for kind, each in bundle.items() if kind != "text/plain"]
    found += [str(getattr(value, name)() or "") for name in ("_repr_html_", "_repr_svg_") if hasattr(value, name)]
    return "\n".join([*found, value if isinstance(value, str) else ""])


@pytest.mark.slow
@pytest.mark.sampled(30)
@pytest.mark.parametrize(("table", "column"), text_columns())
def test_markup_in_a_column_is_shown_as_text(
    visited: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, column: str
) -> None:
    journal = Path(shutil.copy(visited, tmp_path / "journal.db"))
    spoil(journal, table, column)
    monkeypatch.setattr(REGISTRY, "_definitions", {})
    with iron.open(journal):
        for look in looks(journal):
            try:
                shown = look()
                markup = markup_of(shown)
            except IronflowError:  # a status that is none, and the like
                continue
            assert repr(shown)
            assert "<script>alert" not in markup
            assert "<img src=x" not in markup
