"""The rows of a deleted run: all that a run consists of in the journal, and their deletion.

A run is gone with the commit that takes its row and adds `RunDeleted`. Its other rows follow in commits of a bounded
size; until then an item in the queue of work says that they are still there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from ironflow_nb.core.events import RunDeleted
from ironflow_nb.core.identity import RunId, ValueId
from ironflow_nb.core.status import RunStatus
from ironflow_nb.journal.ports import Addition
from ironflow_nb.journal.schema import RUNS, statements
from ironflow_nb.journal.table import json_list

ROWS_AT_ONCE: Final = 250
"""The rows of a table that one commit deletes: a few milliseconds in which nobody else writes."""
DELETION: Final = "deletion"
"""The kind of an item in the queue of work: the rows of a deleted run are still there."""
_LISTED: Final = "(SELECT value FROM json_each(?))"
_REFUSALS: Final = [each for each in statements(RUNS) if each.partition("CREATE TRIGGER events_refuse_delete")[1]]
_IS_LEFT: Final = f"run_id IN {_LISTED} AND type <> '{RunDeleted.__name__}'"
# The tables with rows of a run, with their keys and conditions; the items of the queue say that rows are left.
_TABLES: Final = {
    "events": ("position", _IS_LEFT),
    "steps": ("rowid", f"run_id IN {_LISTED}"),
    "logs": ("rowid", f"run_id IN {_LISTED}"),
    "metrics": ('run_id, name, "index", attempt, branch, metric, nth', f"run_id IN {_LISTED}"),
    "progress": ('run_id, name, "index", attempt', f"run_id IN {_LISTED}"),
}


class RunOutline(NamedTuple):
    """The facts that decide whether a run can be deleted. Instants are microseconds UTC."""

    run_id: RunId
    kind: str
    name: str
    status: RunStatus
    ended_at: int
    parent_run_id: RunId | None
    origin_run_id: RunId | None
    is_fork: bool


class RunRows:
    """Reads of all rows that belong to runs."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def outlines(self) -> Iterator[RunOutline]:
        """Yield the outlines of all runs, newest first."""
        rows = self._connection.execute(
            """
            SELECT run_id, kind, name, status, ifnull(ended_at, updated_at), parent_run_id, origin_run_id,
                origin_position IS NOT NULL FROM runs ORDER BY rowid DESC
            """
        )
        return map(RunOutline._make, rows)

    def sizes(self, run_ids: Collection[RunId]) -> dict[RunId, int]:
        """Return the number of events of each run."""
        query = f"SELECT run_id, max(version) FROM events WHERE run_id IN {_LISTED} GROUP BY run_id"
        return dict(self._connection.execute(query, (json_list(run_ids),)))

    def beginnings(self, since: int) -> list[tuple[RunId, RunId | None]]:
        """Return the runs that began after that position, each with its origin."""
        query = """
            SELECT DISTINCT e.run_id, r.origin_run_id FROM events e JOIN runs r ON r.run_id = e.run_id
            WHERE e.position > ? AND e.version = 1
        """
        return self._connection.execute(query, (since,)).fetchall()

    def unfinished_deletions(self) -> list[RunId]:
        """Return the deleted runs that have rows left."""
        query = "SELECT run_id FROM work WHERE kind = ?"
        return [run_id for (run_id,) in self._connection.execute(query, (DELETION,))]

    def has_rows(self, run_ids: Collection[RunId]) -> bool:
        """Return True if the deleted runs have rows left."""
        given = (json_list(run_ids),)
        found = (
            self._connection.execute(f"SELECT 1 FROM {table} WHERE {where} LIMIT 1", given).fetchone()
            for table, (_, where) in _TABLES.items()
        )
        return any(found)


class RunRowsDeleted(Addition, frozen=True):
    """The runs are gone: their own rows, what is queued for them, their mail and their signatures."""

    run_ids: tuple[RunId, ...]
    signatures: tuple[ValueId, ...]

    def write(self, connection: sqlite3.Connection, run_id: RunId) -> None:
        """See `Addition`."""
        given = (json_list(self.run_ids),)
        for table in ("runs", "work", "signals", "signal_ids", "lane_places"):
            connection.execute(f"DELETE FROM {table} WHERE run_id IN {_LISTED}", given)
        connection.executemany('DELETE FROM "values" WHERE value_id = ?', [(each,) for each in self.signatures])
        connection.execute(
            f"""
            INSERT INTO work (run_id, kind, key, due_at, created_at)
            SELECT run_id, ?, '', at, at FROM events WHERE run_id IN {_LISTED} AND type = ?
            """,
            (DELETION, *given, RunDeleted.__name__),
        )


class RowsDeleted(Addition, frozen=True):
    """Some of the rows that deleted runs have left are gone."""

    run_ids: tuple[RunId, ...]

    def write(self, connection: sqlite3.Connection, run_id: RunId) -> None:
        """See `Addition`."""
        given = (json_list(self.run_ids),)
        connection.execute("DROP TRIGGER events_refuse_delete")
        for table, (key, where) in _TABLES.items():
            chosen = f"SELECT {key} FROM {table} WHERE {where} LIMIT {ROWS_AT_ONCE}"
            connection.execute(f"DELETE FROM {table} WHERE ({key}) IN ({chosen})", given)
        for trigger in _REFUSALS:
            connection.execute(trigger)


class DeletionFinished(Addition, frozen=True):
    """All rows of the deleted runs are gone; only the record of their deletion is left."""

    run_ids: tuple[RunId, ...]

    def write(self, connection: sqlite3.Connection, run_id: RunId) -> None:
        """See `Addition`."""
        query = f"DELETE FROM work WHERE kind = ? AND run_id IN {_LISTED}"
        connection.execute(query, (DELETION, json_list(self.run_ids)))
