"""The write-ahead log beside a journal file: written back while nobody writes, and watched as the file itself is.

SQLite before 3.51.3 can damage a file when one connection writes back a log that is written back already, at the very
moment in which another begins it anew (https://sqlite.org/wal.html#walresetbug). To begin it anew takes the right to
write. So no connection of the package writes it back by itself after commits: `write_back` takes that right first, and
keeps it until another connection has written the log back. The one other time is when the last connection closes, and
SQLite does that alone with the file.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from ironflow_nb.journal.sqlite_file import connect, look_at, open_reader

CHANGES_BETWEEN: Final = 600
"""After so many changed rows, 4 kB of values counted as one, it is written back: at about 4 MB, as SQLite does."""
CHANGES_WHEN_READ: Final = 100
"""The same where somebody reads what lies in the log, which is not begun anew before he has left."""
_PAGE: Final = 4096
_LAST_ROWS: Final = """
SELECT (SELECT max(position) FROM events), (SELECT max(signal_id) FROM signals), (SELECT max(work_id) FROM work),
       (SELECT count(*) FROM leases), (SELECT count(*) FROM projections)
"""


class WriteAheadLog:
    """The log of a file that one connection writes, from the moment on at which it was opened.

    A file that has a rollback journal has none, and nothing ever becomes of it.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._path = path
        self._log, self._shared = _beside(path, "-wal"), _beside(path, "-shm")
        self._opened = {file: found for file in (self._log, self._shared) if (found := look_at(file)) is not None}
        self._name, self._known = str(self._log), self._opened.get(self._log)  # looked at twice for every commit
        self._size = None if self._known is None else self._known.st_size
        self._began_at = connection.total_changes
        self.n_bytes = 0
        """How long the values are that were written since it was written back."""

    def is_long(self, connection: sqlite3.Connection) -> bool:
        """Tell whether so much was written through the connection that the log is to be written back."""
        n_changes = connection.total_changes - self._began_at
        return self._size is not None and n_changes + self.n_bytes // _PAGE > CHANGES_BETWEEN

    def write_back(self, connection: sqlite3.Connection) -> None:
        """Write the log into the journal, as far as nobody reads what lies in it; what SQLite refuses waits."""
        connection.execute("BEGIN IMMEDIATE")
        try:
            is_whole = _is_written_back(self._path)
        finally:
            connection.execute("ROLLBACK")
        left = CHANGES_BETWEEN if is_whole else CHANGES_WHEN_READ
        self._began_at, self.n_bytes = connection.total_changes - CHANGES_BETWEEN + left, 0

    def trouble(self) -> str | None:
        """Return what became of the log, if SQLite writes to one that nobody will find or be able to read."""
        if self._size is None or self._known is None:
            return None
        found = look_at(self._name)
        if found is None or not os.path.samestat(found, self._known):
            return f"the log {self._log} was {'deleted' if found is None else 'replaced'}"
        # It is cut rightly as well, when all of it is in the journal.
        if found.st_size < self._size and not _is_readable(self._path):
            return f"the log {self._log} was cut"
        self._size = found.st_size
        return None

    def rescue(self, connection: sqlite3.Connection) -> bool:
        """Write what the log holds into the journal, whoever uses it; return whether all of it is there."""
        with suppress(sqlite3.Error):
            connection.execute("PRAGMA busy_timeout=0")
            return not connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        return False

    def leave(self, connection: sqlite3.Connection) -> None:
        """See that nothing of a journal that is no longer in its place harms what is there now.

        SQLite finds the log by its name and would take that of one journal for that of another. What it holds is
        written back first: the journal may have been moved, and then lacks it.
        """
        if self.rescue(connection):
            for file, known in self._opened.items():
                found = look_at(file)
                if found is not None and os.path.samestat(found, known):
                    file.unlink(missing_ok=True)


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(f"{path.name}{ending}")


def _is_written_back(path: Path) -> bool:
    with suppress(sqlite3.Error), closing(connect(path, "mode=rw")) as other:
        other.execute("PRAGMA checkpoint_fullfsync=ON")
        other.execute("SELECT count(*) FROM sqlite_master").fetchone()  # the log is opened by who reads
        _, n_frames, n_written = other.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return bool(n_frames == n_written)
    return False


def _is_readable(path: Path) -> bool:
    """Tell whether a connection that knows nothing yet can read what was written last, by others too."""
    try:
        with closing(open_reader(path)) as reader:
            reader.execute(_LAST_ROWS).fetchone()
    except sqlite3.Error:
        return False
    return True
