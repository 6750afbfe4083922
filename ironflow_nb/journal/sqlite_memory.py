"""The journal of ``:memory:``: a database of SQLite that ends with its process.

It has one connection. Two would need SQLite's shared cache, in which a reader locks tables against the writer, who is
refused at once and can't wait, or its file system ``memdb``, which SQLite has since 3.36 only, and which has no
write-ahead log: there a commit waits until nobody reads. So a reader is given a copy, which SQLite makes page by page
(30 ms for 100,000 events), and a lock keeps two threads from using the connection at once.
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
from ironflow_nb.journal.sqlite_file import connect_memory, create_tables
from ironflow_nb.journal.sqlite_reader import SqliteReader
from ironflow_nb.values.stored_value import ContentParts


class SqliteMemoryJournal(DatabaseJournal):
    """A journal in memory; `lock` is one that its holder may take again."""

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
        with self._guard:  # nobody else writes between the two
            # Not in a transaction that writes: SQLite copies nothing then, and `act` may read through a copy.
            with self.current() as reader:
                entries = act(reader)
            self.append(entries, durability=durability, lease=lease)

    def _writer(self) -> sqlite3.Connection:
        return self._connection

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """See the port."""
        with closing(connect_memory()) as copy:
            with self._guard:
                self._connection.backup(copy)
            yield SqliteReader(copy, self.files)

    def change_token(self) -> int:
        """See the port."""
        return self._connection.total_changes

    def exists(self) -> bool:
        """See the port."""
        return self._connection.total_changes > 0

    def close(self) -> None:
        """Do nothing: what was recorded can be read as long as somebody holds the journal."""


class _MemoryValues:
    """The content of large values, which is not copied for readers."""

    def __init__(self) -> None:
        self._contents: dict[ValueId, bytes] = {}

    def path(self, value_id: ValueId) -> Path:
        return Path("memory", value_id.hex())

    def write(self, value_id: ValueId, content: bytes | ContentParts) -> None:
        self._contents[value_id] = bytes(content)

    def read(self, value_id: ValueId, size: int) -> bytes:
        content = self._contents.get(value_id)
        if content is None or len(content) != size:
            raise ValueUnreadable("a large value is missing in memory", value_id=value_id)
        return content
