"""What a journal in SQLite writes and reads, wherever its database lies: one connection writes."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from ironflow_nb.core.identity import ValueId
from ironflow_nb.errors import JournalConflict
from ironflow_nb.journal import sqlite_rows as sql
from ironflow_nb.journal.ports import CachedResult, Durability, IsTaken, Lease, Reader, RunCommit, Signal
from ironflow_nb.journal.sqlite_file import transaction
from ironflow_nb.journal.sqlite_reader import LargeValues, SqliteReader
from ironflow_nb.values.stored_value import INLINE_LIMIT


class DatabaseJournal(ABC):
    """The statements of a journal. A subclass says where the database lies, and how it is opened and guarded.

    Lock: the one of the engine, except for `reading`, which needs none.
    """

    location: str
    files: LargeValues
    _guard: AbstractContextManager[object]
    """Held while the connection is used."""

    @abstractmethod
    def _writer(self) -> sqlite3.Connection:
        """Return the connection that writes, outside of any transaction."""

    def _writing(self, durability: Durability | None = None) -> sqlite3.Connection:
        """Return the connection that writes, ready for a commit of that durability."""
        return self._writer()

    def _refuse_lost(self) -> None:  # noqa: B027 -- a database in memory is never lost
        """Raise if the database has gone while it was written to."""

    @abstractmethod
    def exists(self) -> bool:
        """See the port."""

    # -- writing -------------------------------------------------------------------------------------------------

    def append(self, entries: Sequence[RunCommit], *, durability: Durability, lease: Lease | None = None) -> None:
        """See the port."""
        with self._guard:
            connection = self._writing(durability)
            self._write_files(entries)
            _transact(connection, lambda: entries, lease)
            self._refuse_lost()  # for it may have gone since it was looked at

    def exchange(
        self, act: Callable[[Reader], Sequence[RunCommit]], *, durability: Durability, lease: Lease | None = None
    ) -> None:
        """See the port."""
        with self._guard:
            connection = self._writing(durability)

            def answered() -> Sequence[RunCommit]:
                entries = act(SqliteReader(connection, self.files))
                self._write_files(entries)
                return entries

            _transact(connection, answered, lease)
            self._refuse_lost()

    def _write_files(self, entries: Sequence[RunCommit]) -> int:
        """Write large values; return how many bytes the values have that go into the database itself."""
        n_bytes = 0
        for entry in entries:
            for value in entry.values:
                if value.size >= INLINE_LIMIT and value.content is not None:
                    self.files.write(value.value_id, value.content)
                else:
                    n_bytes += value.size
            n_bytes += sum(addition.n_bytes for addition in entry.additions)
        return n_bytes

    def write_lease(self, lease: Lease) -> None:
        """See the port."""
        with self._guard:
            self._writing().execute(sql.LEASES.put, sql.LEASES.values(lease))

    def send(self, signal: Signal) -> None:
        """See the port."""
        with self._guard:
            self._writing().execute(sql.SIGNALS.put, sql.SIGNALS.values(signal))
            self._refuse_lost()

    def claim(self, wanted: CachedResult, is_taken: IsTaken, *, lease: Lease | None = None) -> CachedResult | None:
        """See the port."""
        with self._guard:
            connection = self._writing()
            with transaction(connection):
                reader = SqliteReader(connection, self.files)
                found = reader.cached(wanted.identity, wanted.code)
                if found is not None and is_taken(found, reader.leases()):
                    return found
                if lease is not None:
                    connection.execute(sql.LEASES.put, sql.LEASES.values(lease))
                connection.execute(sql.CACHED.put, sql.CACHED.values(wanted))
                return None

    def release(self, *owners: str) -> None:
        """See the port."""
        if self.exists():
            with self._guard:
                connection = self._writing()
                with transaction(connection):
                    connection.executemany("DELETE FROM leases WHERE owner = ?", [(owner,) for owner in owners])

    def resign_values(self, codec: str, macs: dict[ValueId, bytes]) -> int:
        """See the port."""
        rows = [(mac, value_id, codec) for value_id, mac in macs.items()]
        with self._guard:
            connection = self._writing()
            with transaction(connection):
                return connection.executemany(sql.SIGN_VALUE, rows).rowcount

    @contextmanager
    def current(self) -> Iterator[Reader]:
        """See the port."""
        with self._guard:
            connection = self._writer()
            connection.execute("BEGIN")  # what is read inside is one moment, whatever other processes commit
            try:
                yield SqliteReader(connection, self.files)
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")


def _transact(connection: sqlite3.Connection, make: Callable[[], Sequence[RunCommit]], lease: Lease | None) -> None:
    is_committing = False
    entries: Sequence[RunCommit] = ()
    try:
        connection.execute("BEGIN IMMEDIATE")
        entries = make()
        if lease is not None:
            connection.execute(sql.LEASES.put, sql.LEASES.values(lease))
        for entry in entries:
            _write_entry(connection, entry)
        is_committing = True
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        # Only the file knows whether a COMMIT that was disturbed took place.
        if not is_committing or not entries or not all(_is_written(connection, entry) for entry in entries):
            raise


def _write_entry(connection: sqlite3.Connection, entry: RunCommit) -> None:
    execute = connection.execute
    for value in entry.values:
        execute(sql.PUT_VALUE, sql.value_values(value))
    for definition in entry.definitions:
        execute(sql.DEFINITIONS.put, sql.DEFINITIONS.values(definition))
    try:
        for fact in entry.facts:
            execute(sql.EVENTS.put, sql.event_values(entry.run_id, fact))
        if entry.run is not None:
            execute(sql.RUNS.put, sql.RUNS.values(entry.run))
    except sqlite3.IntegrityError as error:
        raise JournalConflict(f"somebody else appended to run {entry.run_id}: {error}", run_id=entry.run_id) from error
    for row in entry.steps:
        execute(sql.STEPS.put, sql.STEPS.values(row))
    for kind, key in entry.done_work:
        execute(sql.DONE_WORK, (entry.run_id, kind, key))
    for work in entry.put_work:
        execute(sql.WORK.put, sql.WORK.values(work))
    for addition in entry.additions:
        addition.write(connection, entry.run_id)
    for cached in entry.cached:
        if cached.output_id is None:
            execute(sql.GIVE_BACK, (cached.identity, cached.code, cached.run_id, cached.owner))
        else:
            execute(sql.CACHED.put, sql.CACHED.values(cached))
    for signal_id in entry.taken:
        execute("UPDATE signals SET taken_version = ? WHERE signal_id = ?", (entry.facts[-1].version, signal_id))


def _is_written(connection: sqlite3.Connection, entry: RunCommit) -> bool:
    if not entry.facts:
        return False
    last = entry.facts[-1]
    found = connection.execute(sql.EVENT_OF_VERSION, (entry.run_id, last.version)).fetchone()
    written: bool = found == sql.event_values(entry.run_id, last)
    return written
