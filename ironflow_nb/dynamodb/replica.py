"""The copy of a journal on this machine: a database of SQLite to which the commits of the log are applied in order.

All processes of the machine share it. It holds nothing that the log does not have: it may be deleted when none of them
runs.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from ironflow_nb.dynamodb.commit_log import RESERVED_S, CommitLog, LoggedCommit, Statement
from ironflow_nb.errors import JournalBusy, JournalError
from ironflow_nb.journal.ports import Lease
from ironflow_nb.journal.sqlite_file import connect, open_writer, transaction

BUSY_S: Final = 60.0
"""So long a commit tries to get the next number in the log."""
_WAIT_S: Final = 0.02
_NUMBER: Final = "SELECT number FROM replica"
_SET_NUMBER: Final = "UPDATE replica SET number = ?"
_WRITES: Final = re.compile(r"\s*(INSERT|UPDATE|DELETE|REPLACE|DROP|CREATE)\b", re.IGNORECASE)
_DENIED: Final = frozenset({sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH, sqlite3.SQLITE_PRAGMA})
_BEAT: Final = """
UPDATE leases SET (host, pid, process_started_at, heartbeat_at, lease_s)
= (:host, :pid, :process_started_at, :heartbeat_at, :lease_s) WHERE owner = :owner AND heartbeat_at < :heartbeat_at
"""


class Overtaken(Exception):
    """The next number of the log was another process's, and this transaction has not seen what that one did."""


class Replica:
    """The copy in a file; any thread may read and catch up."""

    def __init__(self, path: Path, log: CommitLog) -> None:
        self.path, self._log, self._clock = path, log, log.tables.clock
        with closing(self.open_to_write()) as connection:
            self.number = number_of(connection)
        self.caught_up_s = -1.0
        """When all commits were known to be applied (seconds of the monotonic clock)."""

    def open_to_write(self) -> sqlite3.Connection:
        """Return a connection that writes, for a file that may not exist yet."""
        connection = open_writer(self.path)
        connection.execute("PRAGMA synchronous=NORMAL")  # what a power cut takes is read from the log again
        connection.execute("PRAGMA wal_autocheckpoint=1000")
        with transaction(connection):
            connection.execute("CREATE TABLE IF NOT EXISTS replica (number INTEGER NOT NULL)")
            connection.execute("INSERT INTO replica SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM replica)")
        return connection

    def catch_up(self, *, waits: bool = False) -> None:
        """Apply what is new in the log; with `waits` also what another process is about to commit."""
        reserved_by, since_s = None, 0.0
        while True:
            now_s = self._clock.monotonic()
            new = self._log.after(self.number)
            if new.commits:
                self._apply(new.commits)
            if not new.is_all:
                continue
            self.caught_up_s = now_s
            if not waits or new.reserved_by is None:
                return
            if new.reserved_by != reserved_by:
                reserved_by, since_s = new.reserved_by, now_s
            elif now_s - since_s > RESERVED_S:
                self._log.make_void(self.number + 1, reserved_by)
            self._log.tables.pause(_WAIT_S)

    def _apply(self, commits: Iterable[LoggedCommit]) -> None:
        with closing(connect(self.path, "mode=rw")) as connection:
            connection.set_authorizer(_authorised)  # the writer of a log must not write to other files here
            with transaction(connection):
                number = number_of(connection)  # another process of this machine may have applied some
                for commit in commits:
                    if commit.number == number + 1:
                        for statement, given in commit.statements:
                            connection.execute(statement, given)
                        number = commit.number
                connection.execute(_SET_NUMBER, (number,))
        self.number = number

    def beat(self, leases: Iterable[Lease]) -> None:
        """Note signs of life, unless somebody writes just now."""
        with suppress(sqlite3.OperationalError), closing(connect(self.path, "mode=rw")) as connection:
            connection.execute("PRAGMA busy_timeout=0")
            with transaction(connection):
                connection.executemany(_BEAT, map(msgspec.structs.asdict, leases))


def number_of(connection: sqlite3.Connection) -> int:
    """Return the number of the last commit that is applied."""
    found: int = connection.execute(_NUMBER).fetchone()[0]
    return found


def _authorised(action: int, _one: str | None, other: str | None, _database: str | None, _by: str | None) -> int:
    is_denied = action in _DENIED or (action == sqlite3.SQLITE_FUNCTION and other == "load_extension")
    return sqlite3.SQLITE_DENY if is_denied else sqlite3.SQLITE_OK


class LoggedConnection:
    """The connection of the copy that writes: what a transaction has written is a commit of the log before it ends.

    Lock: the engine's.
    """

    def __init__(self, replica: Replica, log: CommitLog) -> None:
        self.raw = replica.open_to_write()
        self.reserves = False
        """Whether a transaction reserves its number at its beginning: then it sees all commits before its own."""
        self.n_commits = 0
        self._replica, self._log, self._clock = replica, log, log.tables.clock
        self._acts = {"BEGIN IMMEDIATE": self._begin, "COMMIT": self._commit, "ROLLBACK": self._roll_back}
        self._written: list[Statement] = []
        self._commit_id, self._reserved = "", 0

    @property
    def in_transaction(self) -> bool:
        """Return True between the beginning of a transaction and its end."""
        return self.raw.in_transaction

    def cursor(self) -> LoggedConnection:
        """Return what executes statements."""
        return self

    def execute(self, statement: str, given: Sequence[Any] | Mapping[str, Any] = ()) -> Any:
        """Execute a statement; return its rows."""
        act = self._acts.get(statement)
        if act is not None:
            return act()
        found = self.raw.execute(statement, given)
        if _WRITES.match(statement):
            self._written.append((statement, given))
        return found

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> Any:
        """Execute a statement for each of the rows; `rowcount` of what is returned counts those that it changed."""
        every = list(rows)
        found = self.raw.executemany(statement, every)
        self._written += [(statement, row) for row in every]
        return found

    def close(self) -> None:
        """Close it."""
        self.raw.close()

    def _begin(self) -> None:
        self._commit_id, self._written = os.urandom(12).hex(), []
        self.raw.execute("BEGIN IMMEDIATE")
        until = self._clock.monotonic() + BUSY_S
        while self.reserves:
            self._reserved = number_of(self.raw) + 1  # noted first: whether the request took effect may stay unknown
            if self._log.reserve(self._reserved, self._commit_id):
                return
            self._reserved = 0
            self.raw.execute("ROLLBACK")
            if self._clock.monotonic() > until:
                raise JournalBusy(f"other processes have let nobody write for {BUSY_S:g} s; try again", pids=[])
            self._replica.catch_up(waits=True)
            self.raw.execute("BEGIN IMMEDIATE")

    def _commit(self) -> None:
        if not self._written:
            self._give_back()
            self.raw.execute("COMMIT")
            return
        try:
            number = self._send()
        except BaseException:
            self._roll_back()
            with suppress(JournalError):  # it may be in the log by now, which who asks finds in the copy
                self._replica.catch_up()
            raise
        self.raw.execute(_SET_NUMBER, (number,))
        self.raw.execute("COMMIT")
        self._replica.number = max(self._replica.number, number)
        self._replica.caught_up_s = self._clock.monotonic()
        self.n_commits, self._reserved = self.n_commits + 1, 0

    def _send(self) -> int:
        if self._reserved:
            self._log.fill(self._reserved, self._commit_id, self._written)
            return self._reserved
        number = number_of(self.raw) + 1
        if not self._log.put(number, self._commit_id, self._written):
            raise Overtaken
        return number

    def _roll_back(self) -> None:
        if self.raw.in_transaction:
            self.raw.execute("ROLLBACK")
        self._give_back()

    def _give_back(self) -> None:
        if self._reserved:
            number, self._reserved = self._reserved, 0
            with suppress(JournalError):
                self._log.free(number, self._commit_id)
