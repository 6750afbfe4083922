"""The write-ahead log beside a journal file: it is written back while nobody writes, and watched like the file.

SQLite before 3.51.3 can damage a file when one connection writes back a log that is written back already, while another
connection starts the log anew (https://sqlite.org/wal.html#walresetbug). To start it anew takes the write lock. So no
connection of the package writes the log back after commits by itself: `write_back` takes the write lock first, and
keeps it until another connection has written the log back, which stays open for the next time. Otherwise only the last
connection writes it back, when it closes and nobody else uses the file.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from functools import cached_property
from pathlib import Path
from typing import Final

from ironflow_nb.journal.sqlite_file import connect, look_at, open_reader

CHANGES_BETWEEN: Final = 1800
"""Changed rows after which the log is written back, with 4 kB of values as one row: 12 to 15 MB, below `LOG_LIMIT`."""
CHANGES_BETWEEN_SYNCED: Final = 400
"""The same where every commit is synced: to sync a log that grows takes twice as long as to sync one that is reused."""
CHANGES_WHEN_READ: Final = 100
"""The same while a reader uses the log, which is not started anew before the reader has ended."""
_PAGE: Final = 4096
_LAST_ROWS: Final = """
SELECT (SELECT max(position) FROM events), (SELECT max(signal_id) FROM signals), (SELECT max(work_id) FROM work),
       (SELECT count(*) FROM leases), (SELECT count(*) FROM projections)
"""


class WriteAheadLog:
    """The log of the one connection that writes a file, from the opening of the connection on.

    A file with a rollback journal has no log: it is never long, and in no trouble. `name`, `known` and `size` are what
    the journal compares around every commit.

    Lock: the engine's.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._path = path
        self._log, self._shared = (path.with_name(f"{path.name}{ending}") for ending in ("-wal", "-shm"))
        self._opened = {file: found for file in (self._log, self._shared) if (found := look_at(file)) is not None}
        self.name, self.known = str(self._log), self._opened.get(self._log)
        self.size = 0 if self.known is None else self.known.st_size
        self._began_at, self._n_bytes, self._is_read = connection.total_changes, 0, False

    def is_long(self, connection: sqlite3.Connection, n_bytes: int, *, is_synced: bool) -> bool:
        """Return True if so much was written since the last time that the log should be written back.

        `n_bytes` is the size of all values that were written through the connection; the next commit `is_synced`.
        """
        most = CHANGES_WHEN_READ if self._is_read else CHANGES_BETWEEN_SYNCED if is_synced else CHANGES_BETWEEN
        n_changes = connection.total_changes - self._began_at
        return self.known is not None and n_changes + (n_bytes - self._n_bytes) // _PAGE > most

    def write_back(self, connection: sqlite3.Connection, n_bytes: int) -> None:
        """Write the log into the journal, as far as no reader needs it. The rest waits for the next time."""
        # SQLite syncs the log first; most of it is done before the lock, so that others wait for less. To close the log
        # gives no lock back: SQLite locks the journal and the shared memory.
        with suppress(OSError), Path(self.name).open("rb") as log:
            os.fsync(log)
        connection.execute("BEGIN IMMEDIATE")  # the write lock: nobody starts the log anew meanwhile
        try:
            self._is_read = not self._is_written_back()
        finally:
            connection.execute("ROLLBACK")
        self._began_at, self._n_bytes = connection.total_changes, n_bytes

    @cached_property
    def _other(self) -> sqlite3.Connection:
        """The connection that writes the log back. To open one takes as long as to write a log back."""
        other = connect(self._path, "mode=rw")
        other.execute("PRAGMA checkpoint_fullfsync=ON")
        other.execute("SELECT count(*) FROM sqlite_master").fetchone()  # a read opens the log
        return other

    def _is_written_back(self) -> bool:
        with suppress(sqlite3.Error):
            _, n_frames, n_written = self._other.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            return bool(n_frames == n_written)
        return False

    def close(self) -> None:
        """Close the other connection: before the one that writes, which is to be the last one."""
        if (other := vars(self).pop("_other", None)) is not None:
            other.close()

    def trouble(self) -> str | None:
        """Return what happened to the log, if SQLite writes to a log that nobody will find or can read; else None."""
        if self.known is None:
            return None
        found = look_at(self.name)
        if found is None or not os.path.samestat(found, self.known):
            return f"the log {self._log} was {'deleted' if found is None else 'replaced'}"
        # SQLite itself cuts it too, when all of it is in the journal.
        if found.st_size < self.size and not _is_readable(self._path):
            return f"the log {self._log} was cut"
        self.size = found.st_size
        return None

    def rescue(self, connection: sqlite3.Connection) -> bool:
        """Write the log into the journal, even while others use it; return True if all of it is there."""
        with suppress(sqlite3.Error):
            connection.execute("PRAGMA busy_timeout=0")
            return not connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        return False

    def leave(self, connection: sqlite3.Connection) -> None:
        """Delete the log and the shared memory of a journal that is no longer in its place.

        SQLite finds the log by its name, and would take it for the log of the file that is there now. It is written
        back first: the journal may have been moved, and then lacks what the log holds.
        """
        if self.rescue(connection):
            for file, known in self._opened.items():
                found = look_at(file)
                if found is not None and os.path.samestat(found, known):
                    file.unlink(missing_ok=True)


def _is_readable(path: Path) -> bool:
    """Return True if a new connection can read the newest rows, of all writers."""
    with suppress(sqlite3.Error), closing(open_reader(path)) as reader:
        reader.execute(_LAST_ROWS).fetchone()
        return True
    return False
