"""The journal in a schema of a PostgreSQL database, which any number of machines share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import psycopg
from msgspec.structs import replace
from psycopg_pool import ConnectionPool

from ironflow_nb.errors import ConnectionLost, JournalConflict, JournalError, JournalReadOnly, JournalTooNew
from ironflow_nb.journal.ports import Durability, Lease, Reader, RunCommit
from ironflow_nb.journal.postgres_connection import (
    PostgresConnection,
    RowRefused,
    postgres_place,
    prepare_connection,
    server_error,
)
from ironflow_nb.journal.postgres_dialect import make_tables
from ironflow_nb.journal.postgres_reader import PostgresReader
from ironflow_nb.journal.postgres_values import PostgresValues
from ironflow_nb.journal.schema import SCHEMA_VERSION
from ironflow_nb.journal.sqlite_database import DatabaseJournal, write_commit
from ironflow_nb.journal.sqlite_file import connect_memory, create_tables
from ironflow_nb.journal.sqlite_reader import SqliteReader
from ironflow_nb.journal.sqlite_rows import LEASES

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")

RECONNECT_S: Final = 30.0
"""So long a commit waits for a server that restarts, or for the one that takes its place."""
_CONNECTIONS: Final = 16
_TOLERANCE: Final = 500_000
_NOW: Final = "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)"
_ATTEMPTS: Final = 5


def _repeated(act: Callable[Concatenate[PostgresJournal, P], T]) -> Callable[Concatenate[PostgresJournal, P], T]:
    """Return the method of a journal that acts again after its connection was cut."""

    def repeated(journal: PostgresJournal, /, *given: P.args, **options: P.kwargs) -> T:
        return journal._again(lambda: act(journal, *given, **options))  # noqa: SLF001 -- a method of its class

    return repeated


def _asked_once(act: Callable[..., None]) -> Callable[..., None]:
    """Return the same for a method that writes what it asks: it asks once, for who answers may keep what was read."""

    def repeated(journal: PostgresJournal, ask: Callable[[Reader], A], **options: Any) -> None:
        asked: list[Reader] = []

        def once(reader: Reader) -> A:
            asked.append(reader)
            return ask(reader)

        journal._again(lambda: act(journal, once, **options), is_over=lambda: bool(asked))  # noqa: SLF001 -- as above

    return repeated


class PostgresJournal(DatabaseJournal):
    """A journal in a database, whose tables the first write creates.

    One connection writes, readers come from a pool, and one listens for the commits of others. A commit whose
    connection was cut is written again only when the server says that it was not committed. Every commit is as durable
    as the server is set to: it may crash while this process lives on, which must not forget what was acknowledged.
    """

    ahead = 0
    """By how many microseconds the clock of the server is ahead of `now`."""

    _reader = PostgresReader

    def __init__(self, url: str, *, read_only: bool = False, now: Callable[[], int] | None = None) -> None:
        """Take the URL; the server is asked at the first use. `now` returns the instant here (microseconds UTC).

        Raises:
            ValueError: it is no URL of a database.
        """
        self.place = postgres_place(url)
        self.location = self.place.location
        self.read_only = read_only
        self._guard = nullcontext()  # its connections raise errors of the journal
        self.files = PostgresValues(lambda: self._connection or self._open_writer(), self._lent)
        self._connection: PostgresConnection | None = None
        self._listener: PostgresConnection | None = None
        self._pool = self._new_pool()
        self._is_made = False
        self._n_changes = 0
        self._now = now

    # -- connections ---------------------------------------------------------------------------------------------

    def _writer(self) -> Any:  # it answers as a connection of SQLite does
        connection = self._connection
        if connection is None or connection.is_lost:
            return self._open_writer()
        if connection.in_transaction:  # a second interrupt stopped the rollback of the first
            connection.execute("ROLLBACK")
        return connection

    def _open_writer(self) -> PostgresConnection:
        if self.read_only:
            raise JournalReadOnly(f"the journal {self.location} was opened with read_only=True")
        self._give_back(self._connection)
        self._connection = None
        connection = self._borrowed()
        try:
            self._make_tables(connection)
            connection.prepare_writing()
        except BaseException:
            self._give_back(connection)
            raise
        self._connection = connection
        return connection

    def _borrowed(self) -> PostgresConnection:
        """Return a connection of the pool; wait for the server if it was there before."""
        pool = self._pool
        try:
            if pool.closed:
                psycopg.connect(self.place.address).close()  # which says at once why it can't
                pool.open()  # once, whatever other threads do
                self._compare_clocks()
        except psycopg.Error as error:
            raise JournalError(
                f"the server of the journal {self.location} can't be reached: {str(error).strip()}; check that it runs "
                "and lets this user in, and the URL"
            ) from error
        try:
            return PostgresConnection(pool.getconn(), self.place, self._lent, pool.putconn)
        except psycopg.Error as error:
            raise server_error(error, self.place, is_lost=True) from error

    def _new_pool(self) -> ConnectionPool[psycopg.Connection[Any]]:
        return ConnectionPool(
            self.place.address, min_size=1, max_size=_CONNECTIONS, timeout=RECONNECT_S, num_workers=1, open=False,
            configure=lambda raw: prepare_connection(raw, self.place.schema), check=ConnectionPool.check_connection,
            name="ironflow_nb",
        )  # fmt: skip

    def _give_back(self, connection: PostgresConnection | None) -> None:
        if connection is None:
            return
        with suppress(JournalError):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        connection.give_back(connection.raw)

    def _compare_clocks(self) -> None:
        """Note by how much the clock of the server is ahead, if that is more than clocks that are kept right differ."""
        if self._now is None:
            return
        with self._lent() as connection:
            before = self._now()
            (there,) = connection.execute(_NOW).fetchone()
            after = self._now()
        ahead = there - (before + after) // 2
        if abs(ahead - self.ahead) > max(_TOLERANCE, after - before):
            self.ahead = ahead

    @contextmanager
    def _lent(self) -> Iterator[PostgresConnection]:
        connection = self._borrowed()
        try:
            yield connection
        finally:
            self._give_back(connection)

    def _make_tables(self, connection: PostgresConnection) -> None:
        """Make the tables, or those that a newer version of the package has more, unless another process has."""
        found = self._schema(connection)
        if found != SCHEMA_VERSION:
            connection.run(f"BEGIN; SELECT pg_advisory_xact_lock({self.place.lock})")
            if self._schema(connection) != SCHEMA_VERSION:
                made = f"CREATE SCHEMA IF NOT EXISTS {self.place.schema}", *make_tables()
                noted = f"DELETE FROM schema_version; INSERT INTO schema_version VALUES ({SCHEMA_VERSION})"
                connection.run(";".join((*made, noted)))
            connection.run("COMMIT")
        self._is_made = True

    def _schema(self, connection: PostgresConnection) -> int:
        """Return the version of the schema, 0 if there is none."""
        (table,) = connection.execute("SELECT to_regclass(?)", (f"{self.place.schema}.schema_version",)).fetchone()
        version: int = connection.execute("SELECT max(version) FROM schema_version").fetchone()[0] if table else 0
        if version > SCHEMA_VERSION:
            raise JournalTooNew(
                f"the journal {self.location} has schema {version}, and this version of ironflow_nb knows "
                f"{SCHEMA_VERSION}; upgrade ironflow-nb to use it",
                schema=version,
            )
        return version

    # -- reading -------------------------------------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """See the port."""
        if not self.exists():
            with closing(connect_memory()) as nothing:
                create_tables(nothing)
                yield SqliteReader(nothing, self.files)
            return
        with self._lent() as connection:
            connection.execute("BEGIN")
            yield self._reader(connection, self.files)  # type: ignore[arg-type] # it answers as one of sqlite3 does

    current = reading
    """See the port. A connection of the pool is replaced if it was cut, and may not be the one that writes."""

    def exists(self) -> bool:
        """See the port."""
        if not self._is_made:
            with self._lent() as connection:
                self._is_made = self._schema(connection) > 0
        return self._is_made

    def change_token(self) -> int:
        """See the port. What the server has told is read from the socket; the server is asked nothing."""
        if not self.exists():
            return 0
        if self._listener is None or self._listener.is_lost:
            self._give_back(self._listener)
            self._listener = self._borrowed()
            self._listener.execute(f"LISTEN {self.place.channel}")
            self._n_changes += 1  # what was committed meanwhile was told to nobody
        own = None if self._connection is None else self._connection.raw.info.backend_pid
        try:
            told = list(self._listener.raw.notifies(timeout=0))
        except psycopg.Error as error:
            raise server_error(error, self.place, is_lost=True) from error
        self._n_changes += sum(each.pid != own for each in told)
        return self._n_changes

    def close(self) -> None:
        """See the port."""
        pool, self._pool = self._pool, self._new_pool()
        for connection in (self._connection, self._listener):
            if connection is not None:
                connection.raw.close()
        self._connection = self._listener = None
        pool.close()

    # -- writing -------------------------------------------------------------------------------------------------

    @_repeated
    def append(self, commits: Sequence[RunCommit], *, durability: Durability, lease: Lease | None = None) -> None:
        """See the port. It is one round trip, whatever is in the commits."""
        connection = self._writer()
        has_files = self._write_files(connection, commits)
        connection.count_commit()
        try:
            with connection.pipeline():
                connection.execute("BEGIN IMMEDIATE")
                if has_files:
                    self._kept_files(connection, commits)
                if lease is not None:
                    connection.execute(LEASES.put, LEASES.values(lease))
                for commit in commits:
                    write_commit(connection, replace(commit, run_before=None))  # what it changed would be asked
                connection.execute("COMMIT")
        except (RowRefused, JournalConflict):
            connection.raw.close()  # psycopg believes statements prepared that the server has skipped
            super().append(commits, durability=durability, lease=lease)  # one by one, which says what was refused
        except BaseException as error:
            connection.raw.close()
            if not isinstance(error, ConnectionLost | KeyboardInterrupt) or not connection.is_committed():
                raise

    exchange = _asked_once(DatabaseJournal.exchange)
    change_lanes = _asked_once(DatabaseJournal.change_lanes)
    send = _repeated(DatabaseJournal.send)
    claim = _repeated(DatabaseJournal.claim)
    release = _repeated(DatabaseJournal.release)
    replace_signatures = _repeated(DatabaseJournal.replace_signatures)

    def write_lease(self, lease: Lease) -> None:
        """See the port."""
        write_lease = super().write_lease
        self._again(lambda: write_lease(lease))
        self._compare_clocks()

    def _again(self, act: Callable[[], T], is_over: Callable[[], bool] = lambda: False) -> T:
        """Act again after the connection was cut, for nothing is committed then, but not when `is_over`."""
        for _ in range(_ATTEMPTS - 1):
            try:
                return act()
            except ConnectionLost:
                if is_over():
                    raise
        return act()
