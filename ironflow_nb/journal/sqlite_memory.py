"""The journal of ``:memory:``: a database of SQLite that ends with its process.

It has one connection. A second one would need SQLite's shared cache, where the tables of a reader are locked and a
commit fails at once, or its file system ``memdb`` (since 3.36), where a commit waits for readers. So each reader gets a
copy, which SQLite makes page by page (30 ms for 100,000 events).
"""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

from ironflow_nb.core.identity import ValueId
from ironflow_nb.errors import ValueUnreadable
from ironflow_nb.journal.ports import Durability, Lease, Reader, RunCommit
from ironflow_nb.journal.sqlite_database import DatabaseJournal
from ironflow_nb.journal.sqlite_file import connect_memory, create_tables, roll_back
from ironflow_nb.journal.sqlite_reader import SqliteReader
from ironflow_nb.values.stored_value import ContentParts


class SqliteMemoryJournal(DatabaseJournal):
    """A journal in memory. Its `lock` is re-entrant; it keeps two threads from using the connection at once.

    Lock: the engine's, then this one, which `reading` takes alone.
    """

    location = "memory"

    def __init__(self, lock: AbstractContextManager[object]) -> None:
        self.files = _MemoryValues()
        self._guard = lock
        self._connection = connect_memory()
        create_tables(self._connection)
        weakref.finalize(self, self._connection.close)

    def exchange(
        self, act: Callable[[Reader], Sequence[RunCommit]], *, durability: Durability, lease: Lease | None = None
    ) -> None:
        """See the port."""
        with self._guard:  # no other thread writes between `act` and `append`
            # `act` runs in a transaction that only reads: SQLite would make no copy for `reading` in one that writes.
            with self.current() as reader:
                commits = act(reader)
            self.append(commits, durability=durability, lease=lease)

    def _writer(self) -> sqlite3.Connection:
        roll_back(self._connection)  # a second interrupt may have stopped a rollback
        return self._connection

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """See the port."""
        with closing(connect_memory()) as copy:
            with self._guard:
                self._writer().backup(copy)  # waits as long as a transaction is open that writes
            yield SqliteReader(copy, self.files)

    def change_token(self) -> int:
        """See the port."""
        return self._connection.total_changes

    def exists(self) -> bool:
        """See the port."""
        return self._connection.total_changes > 0

    def close(self) -> None:
        """Do nothing: the journal can be read as long as an object refers to it."""


class _MemoryValues:
    """The content of large values, which readers share."""

    def __init__(self) -> None:
        self._contents: dict[ValueId, bytes] = {}

    def path(self, value_id: ValueId) -> Path:
        return Path("memory", value_id.hex())

    def write(self, value_id: ValueId, content: bytes | ContentParts) -> None:
        self._contents[value_id] = bytes(content)

    def has(self, value_id: ValueId) -> bool:
        return value_id in self._contents

    def remove(self, value_id: ValueId) -> None:
        self._contents.pop(value_id, None)

    def written_before(self, _instant_s: float) -> Iterator[ValueId]:
        return iter(())  # nothing is left behind by a process that died

    def read(self, value_id: ValueId, size: int) -> bytes:
        content = self._contents.get(value_id)
        if content is None or len(content) != size:
            raise ValueUnreadable("a large value is missing in memory", value_id=value_id)
        return content
