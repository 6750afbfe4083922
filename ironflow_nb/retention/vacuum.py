"""Giving the space of deleted rows back to the disk."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing

from ironflow_nb.errors import JournalBusy, JournalError, JournalFull, JournalReadOnly
from ironflow_nb.execution import REGISTRY, SERVERS, Engine
from ironflow_nb.journal.sqlite_file import open_writer
from ironflow_nb.journal.sqlite_journal import SqliteJournal, translated
from ironflow_nb.journal.write_ahead_log import WriteAheadLog
from ironflow_nb.values.private_files import register_journal


def vacuum(*, engine: Engine | None = None) -> int:
    """Write the journal anew without the space that deleted rows have left; return by how many bytes it is smaller.

    Nobody else can write meanwhile (a second for about 100 MB), and the disk needs room for the file twice more. So it
    is refused while any process works on the journal.

    Args:
        engine: the journal to shrink; by default the current one.

    Raises:
        JournalBusy: a run goes on here, or another process works on the journal.
        JournalFull: the disk has too little space.
        JournalReadOnly, JournalError: the journal is open for reading only, lies in memory, or does not exist.
    """
    engine = engine or REGISTRY.engine()
    journal = engine.journal
    engine.flush()
    if isinstance(journal, SqliteJournal) and journal.read_only:
        raise JournalReadOnly(f"the journal {journal.path} was opened with read_only=True", path=journal.path)
    if journal.location.startswith(SERVERS):
        raise JournalError(
            f"the journal {journal.location} is no file that could be written anew: PostgreSQL uses the space of "
            "deleted rows again by itself (autovacuum; VACUUM FULL returns it), the log in DynamoDB keeps all of them"
        )
    if not isinstance(journal, SqliteJournal) or not journal.exists():
        raise JournalError(f"the journal {journal.location} is no file, so there is nothing to shrink")
    _refuse_others(engine, journal)
    before = _size(journal)
    free = shutil.disk_usage(journal.path.parent).free
    if free < 2 * before:
        raise JournalFull(
            f"the journal {journal.path} has {before} bytes, and to write it anew takes twice as many; {free} are free "
            "on its disk: make space there",
            path=journal.path,
        )
    with engine.access.lock:
        _write_anew(journal)
    return before - _size(journal)


def _write_anew(journal: SqliteJournal) -> None:
    journal.close()  # it opens the file again at its next use
    try:
        # A connection that writes as that of an engine does: others may begin to write as soon as this one has.
        with translated(journal.path), closing(open_writer(journal.path)) as connection:
            connection.execute("VACUUM")
            with closing(WriteAheadLog(connection, journal.path)) as log:
                log.write_back(connection, 0)  # until then all lies in the log
    finally:
        register_journal(journal)


def _size(journal: SqliteJournal) -> int:
    """Return the size of the file with what still lies in its log."""
    with journal.reading() as reader:
        return reader.extension(_n_bytes)


def _n_bytes(connection: sqlite3.Connection) -> int:
    n_pages, page_size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    return int(n_pages * page_size)


def _refuse_others(engine: Engine, journal: SqliteJournal) -> None:
    with journal.reading() as reader:
        owners = set(engine.access.living_owners(reader)) - {engine.owner}
        pids = sorted(lease.pid for lease in reader.leases().values() if lease.owner in owners)
    if engine.is_active() or pids:
        who = f"process {', '.join(map(str, pids))}" if pids else "a run of this process"
        raise JournalBusy(
            f"{who} works on the journal {journal.path}, and could not write while it is written anew; end it first. "
            "Until then the free space in the file is used again",
            path=journal.path,
            pids=pids,
        )
