"""One connection to PostgreSQL that answers to what the rooms ask a connection of SQLite, and its errors."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from hashlib import blake2b
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.types.numeric import Int8Dumper
from psycopg.types.string import StrDumper

from ironflow_nb.errors import ConnectionLost, JournalBusy, JournalError, JournalFull, JournalReadOnly
from ironflow_nb.journal.postgres_dialect import in_postgres

DEFAULT_SCHEMA: Final = "ironflow"
BUSY_TIMEOUT_S: Final = 10
"""So long a commit waits for the others, and so long one that stands still can make others wait."""
_SETTINGS: Final[Mapping[str, str]] = {
    "application_name": "ironflow_nb", "connect_timeout": "10", "keepalives_idle": "30", "keepalives_interval": "10",
    "keepalives_count": "3", "tcp_user_timeout": "30000",
}  # fmt: skip
_SCHEMA: Final = re.compile(r"[a-z_][a-z0-9_]{0,39}")
_NO_TEXT: Final = "\0"
_LOOKS: Final = 3
_BEGIN: Final = "SELECT begin_commit(?, ?, ?)"
# It waits for a commit that is under way, which has locked the row.
_GIVE_UP: Final = """
    INSERT INTO commit_marks AS mark (writer, number) VALUES (?, ?) ON CONFLICT (writer)
    DO UPDATE SET number = excluded.number WHERE mark.number <> ? RETURNING number
"""


class PostgresPlace(NamedTuple):
    """Where a journal is: what libpq connects to, the schema with its tables, and its name in messages."""

    address: str
    schema: str
    location: str

    @property
    def channel(self) -> str:
        """The channel on which commits are told."""
        return f"{self.schema}_commits"

    @property
    def lock(self) -> int:
        """The number of the advisory lock that who writes holds."""
        return int.from_bytes(blake2b(f"ironflow_nb {self.schema}".encode(), digest_size=8).digest(), signed=True)


def postgres_place(url: str) -> PostgresPlace:
    """Return the place that a URL names: ``postgresql://user@host:port/database?schema=name`` and options of libpq.

    Raises:
        ValueError: it is no such URL, or the name of the schema has other than small letters, digits and underscores.
    """
    parts = urlsplit(url)
    given = dict(parse_qsl(parts.query))
    schema = given.pop("schema", DEFAULT_SCHEMA)
    if not _SCHEMA.fullmatch(schema):
        raise ValueError(f"schema={schema!r} has other than small letters, digits and underscores, at most 40")
    asked = urlunsplit(("postgresql", parts.netloc, parts.path, urlencode(given, quote_via=quote), ""))
    try:
        known = {name: str(each) for name, each in psycopg.conninfo.conninfo_to_dict(asked).items()}
    except psycopg.ProgrammingError as error:
        raise ValueError(f"{_without_password(url)} can't be read as the URL of a database: {error}") from None
    return PostgresPlace(psycopg.conninfo.make_conninfo("", **{**_SETTINGS, **known}), schema, _without_password(url))


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    user, is_given, host = parts.netloc.rpartition("@")
    netloc = f"{user.partition(':')[0]}{is_given}{host}"
    kept = [(name, value) for name, value in parse_qsl(parts.query) if name != "password"]
    return urlunsplit((parts.scheme, netloc, parts.path, urlencode(kept, quote_via=quote, safe="/"), ""))


class RowRefused(sqlite3.IntegrityError):
    """A row has the key of another one. What writes rows knows this error from SQLite."""


class _TextDumper(StrDumper):
    """Text of PostgreSQL has no null character; the picture of one takes its place."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace(_NO_TEXT, "\u2400") if _NO_TEXT in obj else obj)


def prepare_connection(raw: psycopg.Connection[Any], schema: str) -> None:
    """Prepare a new connection: text and integers have the types of our columns, and tables are found."""
    raw.autocommit = True  # each transaction is begun by its own statement
    raw.adapters.register_dumper(str, _TextDumper)
    raw.adapters.register_dumper(int, Int8Dumper)  # one type of all integers lets one plan serve all
    raw.execute(f"SET search_path = {schema}; SET lock_timeout = '{BUSY_TIMEOUT_S}s'")


class PostgresConnection:
    """A connection, which knows whether it is in a transaction and resolves the outcome of a commit that was cut off.

    A transaction that writes holds the advisory lock of the journal from its beginning until it is visible to all:
    PostgreSQL releases such a lock after the commit. So positions, which are given under the lock, become visible in
    their order, and no reader can miss one that comes late; what is read in the transaction is the newest, as in
    ``BEGIN IMMEDIATE`` of SQLite. A process that stands still in it is cut off by the server after `BUSY_TIMEOUT_S`.

    What is visible is durable, also if many wait for the disk one after the other: who reads what a crash takes away
    would build on it.

    Each transaction that writes leaves its number in the table `commit_marks`, and a lower one is refused. So another
    connection can find out whether one that was cut off is committed, and keep it from being committed later.
    """

    def __init__(
        self,
        raw: psycopg.Connection[Any],
        place: PostgresPlace,
        elsewhere: Callable[[], AbstractContextManager[PostgresConnection]],
        give_back: Callable[[psycopg.Connection[Any]], None],
    ) -> None:
        self.raw, self.place, self.give_back = raw, place, give_back
        self._elsewhere = elsewhere
        self._writer_id, self._number = "", 0
        self._acts: dict[str, Callable[[], Any]] = {
            "BEGIN IMMEDIATE": self._begin_writing,
            "BEGIN": lambda: self.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"),
            "COMMIT": self._commit,
            "ROLLBACK": self._roll_back,
        }

    @property
    def is_lost(self) -> bool:
        """Return True if the connection can't be used any more."""
        return bool(self.raw.closed)

    @property
    def in_transaction(self) -> bool:
        """Return True between the beginning of a transaction and its end."""
        return self.raw.info.transaction_status not in {TransactionStatus.IDLE, TransactionStatus.UNKNOWN}

    def cursor(self) -> PostgresConnection:
        """Return what executes statements."""
        return self

    def execute(self, statement: str, given: Sequence[Any] | Mapping[str, Any] = ()) -> Any:
        """Execute a statement of SQLite, translated; return its rows."""
        act = self._acts.get(statement)
        return act() if act is not None else self.run(in_postgres(statement), given)

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> Any:
        """Execute a statement for each of the rows; `rowcount` of what is returned counts those that it changed."""
        cursor = self.raw.cursor()
        with _Refused(self):
            cursor.executemany(in_postgres(statement), list(rows))
        return cursor

    def run(self, query: str, given: Sequence[Any] | Mapping[str, Any] | None = None) -> Any:
        """Execute a statement of PostgreSQL, or without parameters several; return the rows of the first."""
        with _Refused(self):
            return self.raw.execute(query, given)

    @contextmanager
    def pipeline(self) -> Iterator[None]:
        """Send statements without waiting for their answers, which are there at the end; an error is raised then."""
        with _Refused(self), self.raw.pipeline():
            yield

    def prepare_writing(self) -> None:
        """Have the server cut the connection off if this process stands still in a transaction, and get an id of it."""
        set_timeout = f"SET idle_in_transaction_session_timeout = '{BUSY_TIMEOUT_S}s'"
        (self._writer_id,) = self.run(f"SELECT gen_random_uuid()::text; {set_timeout}").fetchone()

    def count_commit(self) -> None:
        """Give the next commit that is sent as a pipeline its number: from here on `is_committed` is about it."""
        self._number += 1

    def _begin_writing(self) -> None:
        if self.raw.pgconn.pipeline_status:
            self.run("BEGIN")
            self.execute(_BEGIN, (self.place.lock, self._writer_id, self._number))
        else:
            self.count_commit()
            self.run(f"BEGIN; SELECT begin_commit({self.place.lock}, '{self._writer_id}', {self._number})")

    def _commit(self) -> None:
        ended = f"NOTIFY {self.place.channel}", "COMMIT"
        if self.raw.pgconn.pipeline_status:  # what failed before keeps the server from these
            for statement in ended:
                self.run(statement)
            return
        if self.raw.info.transaction_status == TransactionStatus.INERROR:  # it would be a rollback without a word
            raise JournalError(f"the journal {self.place.location} refused a statement before; nothing is written")
        try:
            self.run("; ".join(ended))
        except (ConnectionLost, KeyboardInterrupt):  # which may have come before or after it took effect
            self.raw.close()
            if not self.is_committed():
                raise

    def is_committed(self) -> bool:
        """Ask the server, through another connection, for the outcome of the last commit; if there is none, prevent it.

        Raises:
            JournalError: the server does not come back, and nobody knows.
        """
        for _ in range(_LOOKS):
            with suppress(ConnectionLost), self._elsewhere() as other:
                given_up = other.execute(_GIVE_UP, (self._writer_id, self._number + 1, self._number)).fetchone()
                return given_up is None
        raise JournalError(
            f"the connection to {self.place.location} was cut while a commit was under way, and the server does not "
            "say what became of it; run the cell again: it continues from what was recorded"
        )

    def _roll_back(self) -> None:
        if not self.is_lost:
            self.run("ROLLBACK")


class _Refused:
    """Raises the errors of PostgreSQL inside as errors of the journal."""

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, psycopg.Error):
            raise server_error(error, self._connection.place, is_lost=self._connection.is_lost) from error


def server_error(error: psycopg.Error, place: PostgresPlace, *, is_lost: bool) -> JournalError | RowRefused:
    """Return the error of PostgreSQL as one of the journal."""
    where, why = place.location, str(error).strip()
    if isinstance(error, psycopg.errors.UniqueViolation | psycopg.errors.PipelineAborted):
        return RowRefused(why)
    if isinstance(error, psycopg.errors.InsufficientPrivilege | psycopg.errors.ReadOnlySqlTransaction):
        return JournalReadOnly(f"the journal {where} can't be used for this: {why}; ask its owner for the right")
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return JournalBusy(
            f"another process held the journal {where} for {BUSY_TIMEOUT_S} s and let nobody write; wait for it, then "
            "run the cell again: it continues from what was recorded",
            pids=[],
        )
    if isinstance(error, psycopg.errors.DiskFull):
        return JournalFull(f"the server of the journal {where} has no space left, and what was to be recorded is not")
    if is_lost or isinstance(error, psycopg.OperationalError):
        return ConnectionLost(
            f"the server of the journal {where} can't be reached: {why}; run the cell again when it is back: it "
            "continues from what was recorded"
        )
    return JournalError(f"the journal {where} refused: {why}")
