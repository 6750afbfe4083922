"""Inspection of a journal file: its contents, read without a trace, and the processes that use it.

Only SQLite may open a file of the journal here. When a process closes any descriptor of a file, POSIX drops all locks
of this process on the file, and a flow of this process may rely on them.

The users of the file and their locks are read from `/proc` on Linux. With a write-ahead log, the locks are on single
bytes of the ``-shm`` file. With a rollback journal, they are on bytes behind the end of the database file. Both are
part of SQLite's file format.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Mapping
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from ironflow_nb.core.run_state import RunRow
from ironflow_nb.core.status import OWNED
from ironflow_nb.errors import JournalError
from ironflow_nb.execution import Clock
from ironflow_nb.journal.ports import Lease, Select
from ironflow_nb.journal.sqlite_file import begin_reading, translated
from ironflow_nb.journal.sqlite_reader import SqliteReader
from ironflow_nb.values.codecs import PICKLE
from ironflow_nb.values.stored_value import INLINE_LIMIT
from ironflow_nb.values.value_files import ValueFiles

T = TypeVar("T")

BUSY_S: Final = 0.5
LIMIT_S: Final = 3.0
"""The time for counting rows and looking for value files together; numbers that it does not suffice for are None."""
CHECKED_BYTES: Final = 64_000_000
"""The size up to which all pages are checked. SQLite needs a second for every 100 MB, and can't be interrupted."""
_STEPS_BETWEEN_LOOKS: Final = 20_000
_COUNTS: Final = (
    "SELECT count(*) FROM runs",
    'SELECT count(*) FROM (SELECT DISTINCT run_id, name, "index" FROM steps)',
    "SELECT count(*) FROM events",
)
_NEWEST: Final = "SELECT max(at) FROM (SELECT at FROM events ORDER BY position DESC LIMIT 100)"
_HAS_PICKLES: Final = 'SELECT EXISTS (SELECT 1 FROM "values" WHERE codec = ?)'
_LARGE: Final = 'SELECT value_id, size FROM "values" WHERE size >= ?'


class JournalContents(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of a journal at one moment, including its log. Times are microseconds UTC.

    A number is None if it could not be found in time. `mode` is None if no process has the journal open. `damage` has
    the messages of SQLite's integrity check, and None if the file is too large for it. `n_values` counts large values,
    whose files have `value_bytes` bytes together; the files of `n_values_lost` are missing or have another size.
    """

    schema: int
    mode: str | None
    page_size: int
    size: int
    n_runs: int | None = None
    n_steps: int | None = None
    n_events: int | None = None
    newest_at: int | None = None
    damage: Collection[str] | None = None
    n_values: int | None = None
    n_values_lost: int = 0
    value_bytes: int = 0
    has_pickles: bool | None = None
    leases: Mapping[str, Lease] = msgspec.field(default_factory=dict)
    unfinished: Collection[RunRow] = ()


def size_of(path: Path) -> int | None:
    """Return the size of the file in bytes; None if it is missing or can't be seen."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def beside(path: Path, ending: str) -> Path:
    """Return the path of SQLite's file beside the journal with that ending: ``-wal``, ``-shm``, ``-journal``."""
    return path.with_name(path.name + ending)


def inspect(path: Path, clock: Clock) -> JournalContents:
    """Return the contents of the file.

    Raises:
        JournalError: the file can't be read, or is not a journal.
    """
    options = _uri_options(path)
    try:
        found = _read_contents(path, options, clock)
    except JournalError:
        if _uri_options(path) == options:
            raise
    else:
        if _uri_options(path) == options:
            return found
    # A process opened the journal meanwhile, so a read without locks may mix several moments. Read again, with locks.
    return _read_contents(path, _uri_options(path), clock)


def _uri_options(path: Path) -> str:
    """Return the options with which SQLite opens the file and creates no other file beside it."""
    log, shared = size_of(beside(path, "-wal")), size_of(beside(path, "-shm"))
    if log and shared is None:
        raise JournalError(
            f"the log of {path} exists without its -shm file, so the journal was not read; if no process has locked "
            "the journal exclusively, read it once, for instance with iron.runs(), and ask again",
            path=path,
        )
    if log is not None and shared is not None:
        return "mode=ro"
    # No process has it open. A reader would create both files and leave them there, but not with `immutable`.
    return "mode=ro&immutable=1" if _has_log_mode(path) else "mode=ro"


def _has_log_mode(path: Path) -> bool:
    # Without locks there is no write-ahead log: SQLite refuses a file in WAL mode, and creates nothing.
    with suppress(sqlite3.Error), closing(_connect(path, "mode=ro&nolock=1")) as connection:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return False
    return True


def _connect(path: Path, options: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?{options}", uri=True, timeout=BUSY_S, isolation_level=None)


def _read_contents(path: Path, options: str, clock: Clock) -> JournalContents:
    with translated(path), closing(_connect(path, options)) as connection:
        connection.execute("PRAGMA query_only=ON")
        begin_reading(connection, path)
        facts = JournalContents(
            schema=_number(connection, "PRAGMA user_version"),
            mode=None if "immutable" in options else connection.execute("PRAGMA journal_mode").fetchone()[0],
            page_size=_number(connection, "PRAGMA page_size"),
            size=_number(connection, "PRAGMA page_size") * _number(connection, "PRAGMA page_count"),
        )
        return _with_rows(connection, path, facts, clock) if facts.schema else facts


def _with_rows(connection: sqlite3.Connection, path: Path, facts: JournalContents, clock: Clock) -> JournalContents:
    files = ValueFiles(path.parent / "values")
    reader = SqliteReader(connection, files)
    leases, unfinished = reader.leases(), reader.runs(Select(statuses=OWNED))
    deadline_s = clock.monotonic() + LIMIT_S
    connection.set_progress_handler(lambda: clock.monotonic() > deadline_s, _STEPS_BETWEEN_LOOKS)
    has_pickles = _in_time(lambda: bool(connection.execute(_HAS_PICKLES, (PICKLE,)).fetchone()[0]))
    sizes = _in_time(lambda: _value_sizes(connection, files, lambda: clock.monotonic() > deadline_s))
    n_runs, n_steps, n_events = (_in_time(partial(_number, connection, query)) for query in _COUNTS)
    connection.set_progress_handler(None, 0)
    return msgspec.structs.replace(
        facts,
        n_runs=n_runs,
        n_steps=n_steps,
        n_events=n_events,
        newest_at=connection.execute(_NEWEST).fetchone()[0],
        has_pickles=has_pickles,
        n_values=None if sizes is None else len(sizes),
        n_values_lost=sum(is_size != was_size for was_size, is_size in sizes or ()),
        value_bytes=sum(is_size or 0 for _, is_size in sizes or ()),
        damage=_damage(connection, facts.size),
        leases=leases,
        unfinished=unfinished,
    )


def _value_sizes(
    connection: sqlite3.Connection, files: ValueFiles, is_late: Callable[[], bool]
) -> list[tuple[int, int | None]] | None:
    """Return for each large value the recorded size and the size of its file, in bytes; None if it is too late."""
    sizes: list[tuple[int, int | None]] = []
    for value_id, size in connection.execute(_LARGE, (INLINE_LIMIT,)):
        if is_late():
            return None
        sizes.append((size, size_of(files.path(value_id))))
    return sizes


def _damage(connection: sqlite3.Connection, size: int) -> Collection[str] | None:
    if size > CHECKED_BYTES:
        return None
    return [row[0] for row in connection.execute("PRAGMA integrity_check(3)") if row[0] != "ok"]


def _number(connection: sqlite3.Connection, query: str) -> int:
    number: int = connection.execute(query).fetchone()[0]
    return number


def _in_time(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        return None
