"""The journal in a database of SQLite, in a file or in memory: the transactions of the one connection that writes."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from ironflow_nb.core.identity import ValueId
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.errors import JournalConflict
from ironflow_nb.journal import sqlite_lanes
from ironflow_nb.journal import sqlite_rows as sql
from ironflow_nb.journal.ports import (
    CachedResult,
    Check,
    Durability,
    IsTaken,
    LaneChange,
    Lease,
    Reader,
    RunCommit,
    Signal,
    SignalId,
)
from ironflow_nb.journal.sqlite_file import roll_back, transaction
from ironflow_nb.journal.sqlite_reader import SqliteReader
from ironflow_nb.value_store.value_place import large_values
from ironflow_nb.values.stored_value import INLINE_LIMIT, StoredValue
from ironflow_nb.values.value_files import LargeValues

_InRow = Callable[[ValueId | None], str | bytes | None]


class DatabaseJournal(ABC):
    """A journal in SQLite. Its subclasses open the database and guard the connection.

    Lock: the engine's, for everything but `reading`.
    """

    location: str
    files: LargeValues
    n_bytes = 0
    """The size of all values that were written to the database."""
    _guard: AbstractContextManager[object]
    """Entered around every use of the connection."""
    _reader: type[SqliteReader] = SqliteReader

    @abstractmethod
    def _writer(self) -> sqlite3.Connection:
        """Return the connection that writes, in no transaction."""

    def _writing(self, durability: Durability | None = None) -> sqlite3.Connection:
        """Return the connection that writes, ready for a commit of that durability."""
        return self._writer()

    def _refuse_lost(self) -> None:  # noqa: B027 -- a database in memory is never lost
        """Raise an error if the file is not the one that was opened."""

    @abstractmethod
    def exists(self) -> bool:
        """See the port."""

    # -- writing -------------------------------------------------------------------------------------------------

    def append(self, commits: Sequence[RunCommit], *, durability: Durability, lease: Lease | None = None) -> None:
        """See the port."""
        with self._guard:
            connection = self._writing(durability)
            make = partial(self._kept_files, connection, commits) if self._write_files(connection, commits) else None
            _transact(connection, commits, lease, make)
            self._refuse_lost()  # after COMMIT: the file may have gone since `_writing` looked at it

    def exchange(
        self, act: Callable[[Reader], Sequence[RunCommit]], *, durability: Durability, lease: Lease | None = None
    ) -> None:
        """See the port."""
        with self._guard:
            connection = self._writing(durability)

            def answered() -> Sequence[RunCommit]:
                commits = act(self._reader(connection, self.files))
                self._write_files(connection, commits)
                return commits

            _transact(connection, (), lease, answered)
            self._refuse_lost()

    def _write_files(self, connection: sqlite3.Connection, commits: Sequence[RunCommit]) -> bool:
        """Write large values to their files, and count the bytes of the others; return True if there is a file."""
        has_files = False
        for commit in commits:
            for value in commit.values:
                if value.size >= INLINE_LIMIT and value.content is not None:
                    large_values(connection, self.files).write(value.value_id, value.content)
                    has_files = True
                else:
                    self.n_bytes += value.size
            for value in commit.row_values:
                self.n_bytes += value.size
            self.n_bytes += commit.n_bytes
        return has_files

    def _kept_files(self, connection: sqlite3.Connection, commits: Sequence[RunCommit]) -> Sequence[RunCommit]:
        """Return the commits, after writing again the files that were removed since: nothing referred to them yet.

        Lock: in the transaction that will refer to them; files are removed in others that write.
        """
        for commit in commits:
            for value in commit.values:
                if value.size >= INLINE_LIMIT and value.content is not None:
                    files = large_values(connection, self.files)
                    if not files.has(value.value_id):
                        files.write(value.value_id, value.content)
        return commits

    def write_lease(self, lease: Lease) -> None:
        """See the port."""
        with self._guard:
            self._writing().execute(sql.LEASES.put, sql.LEASES.values(lease))

    def send(
        self, signal: Signal, payload: StoredValue | None = None, *, known: SignalId | None = None, check: Check = None
    ) -> SignalId | None:
        """See the port."""
        commit = RunCommit(run_id=signal.run_id, events=(), values=() if payload is None else (payload,))
        with self._guard:
            connection = self._writing(Durability.POWER)
            self._write_files(connection, [commit])
            with transaction(connection):
                if known is not None and (earlier := _put_signal_id(connection, known)):
                    return earlier
                self._kept_files(connection, [commit])
                if check is not None:
                    check(self._reader(connection, self.files))
                write_commit(connection, commit)
                connection.execute(sql.SIGNALS.put, sql.SIGNALS.values(signal))
            self._refuse_lost()
        return None

    def claim(self, wanted: CachedResult, is_taken: IsTaken, *, lease: Lease | None = None) -> CachedResult | None:
        """See the port."""
        with self._guard:
            connection = self._writing()
            with transaction(connection):
                reader = self._reader(connection, self.files)
                found = reader.cached(wanted.identity, wanted.code)
                if found is not None and is_taken(found, reader.leases()):
                    return found
                if lease is not None:
                    connection.execute(sql.LEASES.put, sql.LEASES.values(lease))
                connection.execute(sql.CACHED.put, sql.CACHED.values(wanted))
                return None

    def change_lanes(self, act: Callable[[Reader], LaneChange], *, lease: Lease | None = None) -> None:
        """See the port."""
        with self._guard:
            connection = self._writing(Durability.PROCESS)
            with transaction(connection):
                sqlite_lanes.change_lanes(connection, act(self._reader(connection, self.files)))
                if lease is not None:
                    connection.execute(sql.LEASES.put, sql.LEASES.values(lease))

    def release(self, *owners: str) -> None:
        """See the port."""
        if self.exists():
            with self._guard:
                connection = self._writing()
                with transaction(connection):
                    for table in ("leases", "lane_places"):
                        connection.executemany(f"DELETE FROM {table} WHERE owner = ?", [(owner,) for owner in owners])

    def replace_signatures(self, codec: str, macs: dict[ValueId, bytes]) -> int:
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
            connection.execute("BEGIN")  # all reads inside are of one moment, whatever other processes commit
            try:
                yield self._reader(connection, self.files)
            finally:
                roll_back(connection)


def _transact(
    connection: sqlite3.Connection,
    commits: Sequence[RunCommit],
    lease: Lease | None,
    make: Callable[[], Sequence[RunCommit]] | None = None,
) -> None:
    """Write the commits, or what `make` answers within the transaction."""
    is_committing = False
    try:
        connection.execute("BEGIN IMMEDIATE")
        if make is not None:
            commits = make()
        if lease is not None:
            connection.execute(sql.LEASES.put, sql.LEASES.values(lease))
        for commit in commits:
            write_commit(connection, commit)
        is_committing = True
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        # An interrupt may have come before or after COMMIT took effect: only the file knows.
        if not is_committing or not commits or not all(_is_written(connection, commit) for commit in commits):
            raise


def write_commit(connection: sqlite3.Connection, commit: RunCommit) -> None:
    """Write the rows of a commit. Lock: in a transaction that writes.

    Raises:
        JournalConflict: a run has its next version already, or another run has its key.
    """
    execute = connection.cursor().execute  # that of the connection makes a cursor each time
    small: dict[ValueId | None, str | bytes] = {}
    for value in commit.row_values:
        small[value.value_id] = sql.row_value(value)
    in_row = small.get
    for value in commit.values:
        execute(sql.PUT_VALUE, sql.value_values(value))
    for definition in commit.definitions:
        execute(sql.DEFINITIONS.put, sql.DEFINITIONS.values(definition))
    try:
        for recorded in commit.events:
            execute(sql.EVENTS.put, sql.event_values(commit.run_id, recorded))
        if commit.run is not None:
            _write_run(connection, commit.run, commit.run_before, in_row)
    except sqlite3.IntegrityError as error:
        raise JournalConflict(
            f"another engine appended to run {commit.run_id}: {error}", run_id=commit.run_id
        ) from error
    for row in commit.steps:
        put, given = sql.PUT_COMPLETED_STEP, sql.completed_step(row)
        if given is None:
            put, given = sql.STEPS.put, sql.STEPS.values(row)
        execute(put, (*given, in_row(row.inputs_id), in_row(row.output_id)))
    for row_key in commit.removed:
        execute(sql.REMOVE_STEP, row_key)
    for kind, key in commit.done_work:
        execute(sql.DONE_WORK, (commit.run_id, kind, key))
    for work in commit.put_work:
        execute(sql.WORK.put, sql.WORK.values(work))
    for addition in commit.additions:
        addition.write(connection, commit.run_id)
    for cached in commit.cached:
        if cached.output_id is None:
            execute(sql.END_CLAIM, (cached.identity, cached.code, cached.run_id, cached.owner))
        else:
            execute(sql.CACHED.put, sql.CACHED.values(cached))
    for signal_id in commit.taken:
        execute(sql.TAKE_SIGNAL, (commit.events[-1].version, signal_id))


def _put_signal_id(connection: sqlite3.Connection, known: SignalId) -> SignalId | None:
    """Keep the id of a signal; if its run has one of that id, return that."""
    key = known.run_id, known.caller_id
    if earlier := sql.SIGNAL_IDS.first(connection, "WHERE run_id = ? AND caller_id = ?", key):
        return earlier
    connection.execute(sql.SIGNAL_IDS.put, sql.SIGNAL_IDS.values(known))
    return None


def _write_run(connection: sqlite3.Connection, run: RunRow, before: RunRow | None, in_row: _InRow) -> None:
    values = in_row(run.inputs_id), in_row(run.output_id)
    # To write a column that has not changed is to write the pages of its indexes, too.
    if before is not None:
        change = sql.run_change(before, run, values)
        if change is None or connection.execute(*change).rowcount:
            return
    connection.execute(sql.RUNS.put, (*sql.RUNS.values(run), *values))


def _is_written(connection: sqlite3.Connection, commit: RunCommit) -> bool:
    if not commit.events:
        return False
    last = commit.events[-1]
    found = connection.execute(sql.EVENT_OF_VERSION, (commit.run_id, last.version)).fetchone()
    written: bool = found == sql.event_values(commit.run_id, last)
    return written
