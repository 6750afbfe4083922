"""The journal in DynamoDB, which any number of machines share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from platformdirs import user_cache_path

from ironflow_nb.dynamodb.commit_log import CommitLog
from ironflow_nb.dynamodb.dynamo_tables import DynamoTables, ProcessClock, dynamo_place
from ironflow_nb.dynamodb.dynamo_values import DynamoValues
from ironflow_nb.dynamodb.replica import LoggedConnection, Overtaken, Replica
from ironflow_nb.errors import JournalReadOnly
from ironflow_nb.journal.ports import Durability, Lease, Reader, RunCommit
from ironflow_nb.journal.schema import SCHEMA_VERSION
from ironflow_nb.journal.sqlite_database import DatabaseJournal
from ironflow_nb.journal.sqlite_file import begin_reading, connect_memory, create_tables, open_reader, transaction
from ironflow_nb.journal.sqlite_journal import translated
from ironflow_nb.journal.sqlite_reader import SqliteReader
from ironflow_nb.journal.sqlite_rows import LEASES

P = ParamSpec("P")
T = TypeVar("T")

LOOK_S: Final = 0.2
"""The time between two looks for what is new in the log."""
LEASES_S: Final = 2.0
_RACES: Final = 2
"""The number of commits that are tried without a reservation."""


def _reserved(act: Callable[Concatenate[DynamoJournal, P], T]) -> Callable[Concatenate[DynamoJournal, P], T]:
    """Return the method of a journal that decides by what it reads: nobody else commits from there to its end."""

    def reserving(journal: DynamoJournal, /, *given: P.args, **options: P.kwargs) -> T:
        with journal._reserving():  # noqa: SLF001 -- a method of its class
            return act(journal, *given, **options)

    return reserving


class DynamoJournal(DatabaseJournal):
    """A journal whose commits are items of DynamoDB, and which is read from a copy on this machine.

    The first write makes the tables. Every commit is as durable as DynamoDB is, whatever was asked for.
    """

    def __init__(
        self, url: str, clock: ProcessClock, pause: Callable[[float], object], *, read_only: bool = False
    ) -> None:
        """Take the URL; AWS is asked at the first use. `pause` waits for seconds.

        Raises:
            ValueError: it is no URL of such a journal.
        """
        self.place = dynamo_place(url)
        self.location, self.read_only = self.place.location, read_only
        self._clock, self._tables = clock, DynamoTables(self.place, clock, pause)
        self._log = CommitLog(self._tables)
        self.files = DynamoValues(self._tables)
        self._folder = self.place.folder or Path(user_cache_path("ironflow_nb"), "dynamodb")
        self._guard = translated(self._folder)
        self._replica: Replica | None = None
        self._connection: LoggedConnection | None = None
        self._leases_s = self._missed_s = -LEASES_S

    @property
    def ahead(self) -> int:
        """By how many microseconds the clock of AWS is ahead of that of this machine."""
        return self._tables.ahead_us

    # -- reading -------------------------------------------------------------------------------------------------

    def _copy(self, new_id: str | None = None) -> Replica | None:
        """Return the copy on this machine, or None if nothing was ever written; with a new id it is begun."""
        if self._replica is None:
            if new_id is not None:
                self._tables.make()
            journal_id = self._log.journal_id(new_id)
            if journal_id is None:
                return None
            self._replica = Replica(self._folder / f"{journal_id}-{SCHEMA_VERSION}.db", self._log)
            self._replica.catch_up()
        return self._replica

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """See the port."""
        with self._guard:
            replica = self._copy()
            if replica is None:
                connection = connect_memory()
                create_tables(connection)
            else:
                replica.catch_up()
                self._read_leases(replica)
                connection = open_reader(replica.path)
            with closing(connection):
                begin_reading(connection, self._folder)
                yield SqliteReader(connection, self.files)

    @contextmanager
    def current(self) -> Iterator[Reader]:
        """See the port."""
        replica = self._copy()
        is_unwritten = replica is None or self.read_only
        if replica is not None and not is_unwritten:
            self._look(replica, 0.0)
        with self.reading() if is_unwritten else super().current() as reader:
            yield reader

    def _look(self, replica: Replica, within_s: float) -> None:
        """Catch up, unless the copy was known to have all such a time ago."""
        with self._guard:
            if self._clock.monotonic() - replica.caught_up_s > within_s:
                replica.catch_up()
            if self._clock.monotonic() - self._leases_s > LEASES_S:
                self._read_leases(replica)

    def _read_leases(self, replica: Replica) -> None:
        self._leases_s = self._clock.monotonic()
        with closing(open_reader(replica.path)) as connection:
            owners = [owner for (owner,) in connection.execute("SELECT owner FROM leases")]
        if found := self._log.beats(owners):
            replica.beat(found)

    def exists(self) -> bool:
        """See the port."""
        replica = self._copy()
        if replica is not None and not replica.number:
            replica.catch_up()
        return replica is not None and replica.number > 0

    def change_token(self) -> int:
        """See the port. One item is read, five times a second at most."""
        if self._replica is None and self._clock.monotonic() - self._missed_s < LOOK_S:
            return 0
        replica = self._copy()
        if replica is None:
            self._missed_s = self._clock.monotonic()
            return 0
        self._look(replica, LOOK_S)
        return replica.number - (0 if self._connection is None else self._connection.n_commits)

    def close(self) -> None:
        """See the port."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()

    # -- writing -------------------------------------------------------------------------------------------------

    def _writer(self) -> Any:  # it answers as a connection of SQLite does
        if self.read_only:
            raise JournalReadOnly(f"the journal {self.location} was opened with read_only=True")
        if self._connection is None:
            replica = self._copy(os.urandom(12).hex())
            assert replica is not None
            self._connection = LoggedConnection(replica, self._log)
        elif self._connection.in_transaction:  # a second interrupt stopped the rollback of the first
            self._connection.execute("ROLLBACK")
        return self._connection

    @contextmanager
    def _reserving(self) -> Iterator[None]:
        connection = self._writer()
        before, connection.reserves = connection.reserves, True
        try:
            yield
        finally:
            connection.reserves = before

    def append(self, commits: Sequence[RunCommit], *, durability: Durability, lease: Lease | None = None) -> None:
        """See the port. Of processes that write at once one is first; the others catch up and write again."""
        write = super().append
        for _ in range(_RACES):
            try:
                return write(commits, durability=durability, lease=lease)
            except Overtaken:
                continue
        with self._reserving():
            return write(commits, durability=durability, lease=lease)

    exchange = _reserved(DatabaseJournal.exchange)
    send = _reserved(DatabaseJournal.send)
    claim = _reserved(DatabaseJournal.claim)
    change_lanes = _reserved(DatabaseJournal.change_lanes)
    replace_signatures = _reserved(DatabaseJournal.replace_signatures)

    def write_lease(self, lease: Lease) -> None:
        """See the port. Only the first sign of life is a commit; those after it lie beside the log."""
        with self.current() as reader:
            is_known = lease.owner in reader.leases()
        if is_known:
            self._log.beat(lease)
            assert self._replica is not None
            self._replica.beat([lease])
            return
        with self._guard, self._reserving():
            connection = self._writer()
            with transaction(connection):
                connection.execute(LEASES.put, LEASES.values(lease))

    def release(self, *owners: str) -> None:
        """See the port."""
        if self.exists():
            with self._reserving():
                super().release(*owners)
            for owner in owners:
                self._log.end(owner)
