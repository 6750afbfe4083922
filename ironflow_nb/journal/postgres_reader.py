"""Reads of a journal in PostgreSQL, as far as it needs other queries than SQLite."""

from __future__ import annotations

from collections.abc import Iterator

from ironflow_nb.journal.event_columns import columns_of
from ironflow_nb.journal.ports import EventColumns, Select
from ironflow_nb.journal.sqlite_reader import FAILED, SqliteReader

_EVENTS_OF_PIECE = 20_000


class PostgresReader(SqliteReader):
    """Reads through one connection."""

    def event_columns(self, select: Select) -> Iterator[EventColumns]:
        """See the port."""
        rows = self.events(select)
        for start in range(0, max(len(rows), 1), _EVENTS_OF_PIECE):
            yield columns_of(rows[start : start + _EVENTS_OF_PIECE])

    @staticmethod
    def latest(columns: str, key: str, where: str) -> str:
        """See `SqliteReader`."""
        return f"""
            SELECT DISTINCT ON ({key}) {columns}, count(*) FILTER (WHERE {FAILED}) OVER (PARTITION BY {key}) AS n_failed
            FROM steps WHERE {where} ORDER BY {key}, attempt DESC
        """
