"""The journal in one SQLite file: one connection writes, short-lived ones read."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ironflow_nb.core.ids import ValueId
from ironflow_nb.errors import JournalConflict, JournalError, JournalReadOnly
from ironflow_nb.journal import sqlite_projections, sqlite_work
from ironflow_nb.journal import sqlite_rows as sql
from ironflow_nb.journal.memory import MemoryJournal
from ironflow_nb.journal.places import network_file_system
from ironflow_nb.journal.ports import Cached, Durability, Entry, IsTaken, Lease, Reader, Signal
from ironflow_nb.journal.sqlite_file import (
    WAL,
    begin_reading,
    journal_mode,
    look_at,
    open_reader,
    open_writer,
    own_place,
    transaction,
    translated,
)
from ironflow_nb.journal.sqlite_log import Log
from ironflow_nb.journal.sqlite_reader import SqliteReader
from ironflow_nb.values.files import ValueFiles
from ironflow_nb.values.journal_files import end_use, note_use
from ironflow_nb.values.stored import INLINE_LIMIT

_LOGGED: Final = {Durability.POWER: "FULL", Durability.PROCESS: "NORMAL"}
# Without a log NORMAL can damage the file in a power cut, and only EXTRA syncs the removal of the rollback journal.
_ROLLED_BACK: Final = {Durability.POWER: "EXTRA", Durability.PROCESS: "FULL"}


class SqliteJournal:
    """A journal file; it is created by the first write.

    On a network file system it has a rollback journal in the place of the log: a commit waits there until nobody reads.
    """

    def __init__(
        self, path: Path, *, read_only: bool = False, network: Callable[[Path], str | None] = network_file_system
    ) -> None:
        """Take the path, which becomes absolute now; nothing is opened before it is used.

        `network` names the file system of a path, if it is one of a network.
        """
        self.path = own_place(path)
        self._name = str(self.path)
        self.location = str(self.path)
        self.read_only = read_only
        self.files = ValueFiles(self.path.parent / "values")
        self._connection: sqlite3.Connection | None = None
        self._opened: os.stat_result | None = None
        self._log: Log | None = None
        self._lost: sqlite3.Connection | None = None
        self._network = network
        self._synchronous: Durability | None = None
        self._levels = _LOGGED
        note_use(self)

    # -- writing -------------------------------------------------------------------------------------------------

    def append(self, entries: Sequence[Entry], *, durability: Durability, lease: Lease | None = None) -> None:
        """See the port."""
        with translated(self.path):
            connection = self._writing(durability)
            self._write_files(entries)
            _transact(connection, lambda: entries, lease)
            self._refuse_lost()  # for it may have gone since it was looked at

    def exchange(
        self, act: Callable[[Reader], Sequence[Entry]], *, durability: Durability, lease: Lease | None = None
    ) -> None:
        """See the port."""
        with translated(self.path):
            connection = self._writing(durability)

            def answered() -> Sequence[Entry]:
                entries = act(SqliteReader(connection, self.files))
                self._write_files(entries)
                return entries

            _transact(connection, answered, lease)
            self._refuse_lost()

    def _write_files(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            for value in entry.values:
                if value.size >= INLINE_LIMIT and value.content is not None:
                    self.files.write(value.value_id, value.content)
                elif self._log is not None:
                    self._log.n_bytes += value.size
            if self._log is not None:
                self._log.n_bytes += sum(each.state.size for each in entry.projections if each.state is not None)

    def _writing(self, durability: Durability | None = None) -> sqlite3.Connection:
        connection = self._writer()
        if self._log is not None and self._log.is_long(connection):
            self._log.write_back(connection)
        if durability is not None and self._synchronous is not durability:
            connection.execute(f"PRAGMA synchronous={self._levels[durability]}")
            self._synchronous = durability
        return connection

    def write_lease(self, lease: Lease) -> None:
        """See the port."""
        with translated(self.path):
            self._writing().execute(sql.PUT_LEASE, sql.lease_values(lease))

    def send(self, signal: Signal) -> None:
        """See the port."""
        with translated(self.path):
            self._writing().execute(sql.SEND_SIGNAL, sql.signal_values(signal))
            self._refuse_lost()

    def claim(self, wanted: Cached, is_taken: IsTaken, *, lease: Lease | None = None) -> Cached | None:
        """See the port."""
        with translated(self.path):
            connection = self._writing()
            with transaction(connection):
                reader = SqliteReader(connection, self.files)
                found = reader.cached(wanted.identity, wanted.code)
                if found is not None and is_taken(found, reader.leases()):
                    return found
                if lease is not None:
                    connection.execute(sql.PUT_LEASE, sql.lease_values(lease))
                connection.execute(sql.PUT_CACHED, sql.cached_values(wanted))
                return None

    def release(self, *owners: str) -> None:
        """See the port."""
        if self.exists():
            with translated(self.path):
                connection = self._writing()
                with transaction(connection):
                    connection.executemany("DELETE FROM leases WHERE owner = ?", [(owner,) for owner in owners])

    def resign_values(self, codec: str, macs: dict[ValueId, bytes]) -> int:
        """See the port."""
        rows = [(mac, value_id, codec) for value_id, mac in macs.items()]
        with translated(self.path):
            connection = self._writing()
            with transaction(connection):
                return connection.executemany(sql.SIGN_VALUE, rows).rowcount

    # -- reading -------------------------------------------------------------------------------------------------

    @contextmanager
    def current(self) -> Iterator[Reader]:
        """See the port."""
        if self.read_only or (self._opened is None and not self.exists()):
            with self.reading() as reader:
                yield reader
            return
        with translated(self.path):
            connection = self._writer()
            connection.execute("BEGIN")  # what is read inside is one moment, whatever other processes commit
            try:
                yield SqliteReader(connection, self.files)
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """See the port."""
        with translated(self.path):
            if not self.exists():
                yield MemoryJournal()  # what was never written is empty
                return
            connection = open_reader(self.path)
            try:
                is_made = begin_reading(connection, self.path)
                yield SqliteReader(connection, self.files) if is_made else MemoryJournal()
            finally:
                connection.close()

    def change_token(self) -> int:
        """See the port."""
        if not self.exists():
            return 0
        with translated(self.path):
            connection = self._watcher() if self.read_only else self._writer()
            token: int = connection.execute("PRAGMA data_version").fetchone()[0]
            return token

    def exists(self) -> bool:
        """See the port."""
        found = look_at(self.path)
        return found is not None and found.st_size > 0

    def close(self) -> None:
        """See the port."""
        self._opened = None
        end_use(self)
        self._close_lost()
        if self._connection is not None:
            connection, self._connection, self._synchronous = self._connection, None, None
            with suppress(sqlite3.Error):
                connection.close()

    def _close_lost(self) -> None:
        if self._lost is not None:
            lost, self._lost = self._lost, None
            with suppress(sqlite3.Error):
                lost.close()

    def _watcher(self) -> sqlite3.Connection:
        # The token is one of a connection, so a journal that only reads keeps one for it.
        if self._connection is None:
            self._connection = open_reader(self.path)
        return self._connection

    def _writer(self) -> sqlite3.Connection:
        self._refuse_lost()
        if self._connection is None:
            if self.read_only:
                raise JournalReadOnly(f"the journal {self.path} was opened with read_only=True", path=self.path)
            self._close_lost()
            self._connection = open_writer(self.path, self._network)
            self._levels = _LOGGED if journal_mode(self._connection) == WAL else _ROLLED_BACK
            self._opened, self._log = look_at(self.path), Log(self._connection, self.path)
        elif self._connection.in_transaction:
            # Left open by something that stopped a transaction from outside; nothing of it was acknowledged.
            self._connection.execute("ROLLBACK")
        return self._connection

    def _refuse_lost(self) -> None:
        # A deleted file takes every write and keeps none, and so does one that another has taken the place of.
        if self._opened is None:
            return
        found = look_at(self._name)
        if found is None or not os.path.samestat(found, self._opened) or not found.st_size:
            became = "deleted" if found is None else "replaced" if found.st_size else "emptied"
            self._give_up(Log.leave if became != "emptied" else None)  # half a journal would be less than none
            self._log = None  # so that the file can be put back
            raise JournalError(
                f"the journal {self.path} was {became} while this process had it open, so nothing more can be recorded "
                f"in it; put it back, or open what is there now, or a new one, with iron.use({self.location!r})",
                path=self.path,
            )
        trouble = None if self._log is None else self._log.trouble()
        if trouble is not None:
            self._give_up(Log.rescue)
            raise JournalError(
                f"{trouble} while this process had the journal open, so nothing more is recorded through it; what the "
                f"log still held is written into the journal; open it anew, with iron.use({self.location!r}), in every "
                "process that has it open",
                path=self.path,
            )

    def _give_up(self, act: Callable[[Log, sqlite3.Connection], object] | None) -> None:
        if self._connection is not None:
            # Not closed: as long as it is open, no other file has the number by which this one is known.
            self._lost, self._connection, self._synchronous = self._connection, None, None
        if self._lost is not None and self._log is not None and act is not None:
            act(self._log, self._lost)


def _transact(connection: sqlite3.Connection, make: Callable[[], Sequence[Entry]], lease: Lease | None) -> None:
    is_committing = False
    entries: Sequence[Entry] = ()
    try:
        connection.execute("BEGIN IMMEDIATE")
        entries = make()
        if lease is not None:
            connection.execute(sql.PUT_LEASE, sql.lease_values(lease))
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


def _write_entry(connection: sqlite3.Connection, entry: Entry) -> None:
    execute = connection.execute
    for value in entry.values:
        execute(sql.PUT_VALUE, sql.value_values(value))
    for definition in entry.definitions:
        execute(sql.PUT_DEFINITION, sql.definition_values(definition))
    try:
        for fact in entry.facts:
            execute(sql.ADD_EVENT, sql.event_values(entry.run_id, fact))
        if entry.run is not None:
            execute(sql.PUT_RUN, sql.run_values(entry.run))
    except sqlite3.IntegrityError as error:
        raise JournalConflict(f"somebody else appended to run {entry.run_id}: {error}", run_id=entry.run_id) from error
    for row in entry.steps:
        execute(sql.PUT_STEP, sql.step_values(row))
    sqlite_work.write(connection, entry)
    for projected in entry.projections:
        sqlite_projections.write(connection, projected)
    for cached in entry.cached:
        if cached.output_id is None:
            execute(sql.GIVE_BACK, (cached.identity, cached.code, cached.run_id, cached.owner))
        else:
            execute(sql.PUT_CACHED, sql.cached_values(cached))
    for signal_id in entry.taken:
        execute("UPDATE signals SET taken_version = ? WHERE signal_id = ?", (entry.facts[-1].version, signal_id))


def _is_written(connection: sqlite3.Connection, entry: Entry) -> bool:
    if not entry.facts:
        return False
    last = entry.facts[-1]
    found = connection.execute(sql.EVENT_OF_VERSION, (entry.run_id, last.version)).fetchone()
    written: bool = found == sql.event_values(entry.run_id, last)
    return written
