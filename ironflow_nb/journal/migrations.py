"""Migrations of the schema; imported only when an older journal is opened for writing.

A migration takes no table and no column away, so a process of the older version can go on writing through its open
connection.
When it opens the journal anew, as for every look at its history, it gets `JournalTooNew`. Each migration must allow
that its tables exist already: a new journal is made by one script, without a record of migrations.
"""

from __future__ import annotations

import re
import sqlite3
from typing import Final

from sqlite_utils import Database, Migrations

from ironflow_nb.journal import schema
from ironflow_nb.journal.sqlite_rows import ROW_VALUES

MIGRATIONS: Final = Migrations("ironflow_nb")


@MIGRATIONS(transactional=False)
def schema_2(database: Database) -> None:
    """Add the tables of results that runs share, of commands and states of deciders, and of projections."""
    _add(database, schema.CACHED + schema.OBSERVATIONS + schema.PROJECTIONS)


@MIGRATIONS(transactional=False)
def schema_3(database: Database) -> None:
    """Add the indexes for listings of runs by name and by status."""
    _add(database, schema.INDEXES)


@MIGRATIONS(transactional=False)
def schema_4(database: Database) -> None:
    """Add the columns of small values to runs and steps, whose table gets rowids."""
    execute = database.conn.execute
    if "output" in database["runs"].columns_dict:
        return
    for column in ROW_VALUES:
        execute(f"ALTER TABLE runs ADD COLUMN {column} BLOB")
    kept = ", ".join(f'"{row[1]}"' for row in execute("PRAGMA table_info(steps)"))  # without the generated one
    execute("CREATE TEMP TABLE steps_before AS SELECT * FROM steps")
    execute("DROP TABLE main.steps")
    _add(database, schema.STEPS)
    execute(f"INSERT INTO steps ({kept}) SELECT {kept} FROM steps_before ORDER BY run_id, version, attempt")
    execute("DROP TABLE temp.steps_before")


@MIGRATIONS(transactional=False)
def schema_5(database: Database) -> None:
    """Add the tables of schedules and of events that start flows, of what attempts report, of lanes and of breakers."""
    _add(database, schema.TRIGGERS + schema.TELEMETRY + schema.LANES + schema.BREAKERS)


@MIGRATIONS(transactional=False)
def schema_6(database: Database) -> None:
    """Add the table of the ids that senders gave their signals."""
    _add(database, schema.SIGNAL_IDS)


@MIGRATIONS(transactional=False)
def schema_7(database: Database) -> None:
    """Add the tables of the server's keys, of policies, and of what was allowed to whom."""
    _add(database, schema.ACCESS)


@MIGRATIONS(transactional=False)
def schema_8(database: Database) -> None:
    """Add the table of what all processes on the journal have to agree on, and the indexes of the queue of work."""
    _add(database, schema.SETTINGS + schema.INDEXES)


def _add(database: Database, script: str) -> None:
    for statement in schema.statements(script):
        database.conn.execute(re.sub("CREATE (TABLE|INDEX|UNIQUE INDEX)", r"CREATE \1 IF NOT EXISTS", statement))


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the journal to the current schema.

    Lock: in a transaction, which the caller commits.
    """
    MIGRATIONS.apply(Database(connection))
    connection.execute(f"PRAGMA user_version={schema.SCHEMA_VERSION}")
