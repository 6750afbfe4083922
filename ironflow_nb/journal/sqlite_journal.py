"""The journal in one file of SQLite: one connection writes, short-lived ones read."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ironflow_nb.errors import JournalError, JournalReadOnly
from ironflow_nb.journal.file_systems import network_file_system
from ironflow_nb.journal.ports import Durability, Reader
from ironflow_nb.journal.sqlite_database import DatabaseJournal
from ironflow_nb.journal.sqlite_file import (
    WAL,
    begin_reading,
    connect_memory,
    journal_mode,
    look_at,
    open_reader,
    open_writer,
    own_place,
    roll_back,
    translation,
)
from ironflow_nb.journal.sqlite_reader import SqliteReader
from ironflow_nb.journal.write_ahead_log import WriteAheadLog
from ironflow_nb.values.private_files import register_journal, unregister_journal
from ironflow_nb.values.value_files import ValueFiles

_LOGGED: Final = {Durability.POWER: "FULL", Durability.PROCESS: "NORMAL"}
# Without a log NORMAL can damage the file in a power cut, and only EXTRA syncs the removal of the rollback journal.
_ROLLED_BACK: Final = {Durability.POWER: "EXTRA", Durability.PROCESS: "FULL"}


class translated:  # noqa: N801 -- a context manager; one made of a generator costs ten times as much
    """Raises the errors of SQLite inside as errors of the journal."""

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, sqlite3.Error):
            raise translation(error, self._path) from error


class SqliteJournal(DatabaseJournal):
    """A journal in a file, which the first write creates.

    On a network file system it has a rollback journal instead of the write-ahead log, and a commit waits for readers.
    """

    def __init__(
        self, path: Path, *, read_only: bool = False, network: Callable[[Path], str | None] = network_file_system
    ) -> None:
        """Make the path absolute; the file is opened at its first use.

        `network` returns the type of the file system of a path if other machines may write to it.
        """
        self.path = own_place(path)
        self._name = str(self.path)
        self.location = str(self.path)
        self.read_only = read_only
        self._guard = translated(self.path)
        self.files = ValueFiles(self.path.parent / "values")
        self._connection: sqlite3.Connection | None = None
        self._opened: os.stat_result | None = None
        self._log: WriteAheadLog | None = None
        self._lost: sqlite3.Connection | None = None
        self._network = network
        self._synchronous: Durability | None = None
        self._levels = _LOGGED
        register_journal(self)

    def _writing(self, durability: Durability | None = None) -> sqlite3.Connection:
        connection = self._writer()
        is_synced = durability is Durability.POWER
        if self._log is not None and self._log.is_long(connection, self.n_bytes, is_synced=is_synced):
            self._log.write_back(connection, self.n_bytes)
        if durability is not None and self._synchronous is not durability:
            connection.execute(f"PRAGMA synchronous={self._levels[durability]}")
            self._synchronous = durability
        return connection

    # -- reading -------------------------------------------------------------------------------------------------

    @contextmanager
    def current(self) -> Iterator[Reader]:
        """See the port."""
        is_unwritten = self.read_only or (self._opened is None and not self.exists())
        with self.reading() if is_unwritten else super().current() as reader:
            yield reader

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """See the port."""
        with self._guard:
            connection = open_reader(self.path) if self.exists() else connect_memory()
            try:
                begin_reading(connection, self.path)
                yield SqliteReader(connection, self.files)
            finally:
                connection.close()

    def change_token(self) -> int:
        """See the port."""
        if not self.exists():
            return 0
        with self._guard:
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
        unregister_journal(self)
        if self._log is not None:
            self._log.close()
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
        # The token compares two looks of one connection, so a journal that only reads keeps one.
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
            self._opened, self._log = look_at(self.path), WriteAheadLog(self._connection, self.path)
            self.n_bytes = 0
        elif self._connection.in_transaction:
            # A second interrupt stopped the rollback of the first; nothing of this transaction was acknowledged.
            roll_back(self._connection)
        return self._connection

    def _refuse_lost(self) -> None:
        # SQLite goes on writing to a file that was deleted or replaced, and nobody finds what it writes.
        opened, log = self._opened, self._log
        if opened is None:
            return
        try:  # asked twice a commit, so it calls the system and no function of ours
            found = os.lstat(self._name)
            if found.st_ino == opened.st_ino and found.st_dev == opened.st_dev and found.st_size:
                if log is None or log.known is None:
                    return
                found = os.lstat(log.name)
                if found.st_ino == log.known.st_ino and found.st_dev == log.known.st_dev and found.st_size >= log.size:
                    log.size = found.st_size
                    return
        except OSError:
            pass
        self._refuse_what_is_lost(opened)

    def _refuse_what_is_lost(self, opened: os.stat_result) -> None:
        """Raise an error that says what happened to the file or its log, if it is not that SQLite cut the log."""
        found = look_at(self._name)
        if found is None or not os.path.samestat(found, opened) or not found.st_size:
            became = "deleted" if found is None else "replaced" if found.st_size else "emptied"
            # An emptied file keeps its log: written back, it would be half a journal.
            self._give_up(None if became == "emptied" else WriteAheadLog.leave)
            self._log = None  # the file can be put back
            raise JournalError(
                f"the journal {self.path} was {became} while this process had it open, so nothing more can be recorded "
                f"in it; put it back, or open what is there now, or a new one, with iron.use({self.location!r})",
                path=self.path,
            )
        trouble = None if self._log is None else self._log.trouble()
        if trouble is not None:
            self._give_up(WriteAheadLog.rescue)
            raise JournalError(
                f"{trouble} while this process had the journal open, so nothing more is recorded through it; what the "
                f"log still held is written into the journal; open it anew, with iron.use({self.location!r}), in every "
                "process that has it open",
                path=self.path,
            )

    def _give_up(self, act: Callable[[WriteAheadLog, sqlite3.Connection], object] | None) -> None:
        if self._log is not None:
            self._log.close()
        if self._connection is not None:
            # Not closed: while it is open, the system gives the number of its file to no other file.
            self._lost, self._connection, self._synchronous = self._connection, None, None
        if self._lost is not None and self._log is not None and act is not None:
            act(self._log, self._lost)
