"""How a journal of an older schema becomes one of the current one; imported only by who meets such a journal.

A migration adds and never takes away, so that a process of the older version goes on writing through the connection
that it has; whenever it opens the journal anew, as for every look at its history, it is told `JournalTooNew`. Each
migration may meet its own work, for a new journal is made by one script and has no record of migrations.
"""

from __future__ import annotations

import re
import sqlite3
from typing import Final

from sqlite_utils import Database, Migrations

from ironflow_nb.journal.schema import CACHED, INDEXES, OBSERVATIONS, PROJECTIONS, SCHEMA_VERSION, statements

MIGRATIONS: Final = Migrations("ironflow_nb")


@MIGRATIONS(transactional=False)
def schema_2(database: Database) -> None:
    """Add the results that steps with ``cache=`` share between runs, what deciders were sent, and projections."""
    _add(database, CACHED + OBSERVATIONS + PROJECTIONS)


@MIGRATIONS(transactional=False)
def schema_3(database: Database) -> None:
    """Add the indexes by which runs of one name, and open runs, are listed."""
    _add(database, INDEXES)


def _add(database: Database, script: str) -> None:
    for statement in statements(script):
        database.conn.execute(re.sub("CREATE (TABLE|INDEX|UNIQUE INDEX)", r"CREATE \1 IF NOT EXISTS", statement))


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the journal to the current schema; called in a transaction, which its caller commits."""
    MIGRATIONS.apply(Database(connection))
    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
