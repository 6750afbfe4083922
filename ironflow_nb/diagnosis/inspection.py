"""What a journal file says of itself, read without leaving a trace.

No file of a journal may be opened here but by SQLite: when a process closes any descriptor of a file, POSIX takes all
its locks on that file away, and a flow of this process may be relying on them.
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
"""Counting, and looking for value files, take no longer than this each; what they don't get to is None."""
CHECKED_BYTES: Final = 64_000_000
"""A larger file is not checked page by page: SQLite can't be interrupted in it, and needs a second for every 100 MB."""
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
    """What is in a journal at one moment, with what lies in its log. Times are microseconds UTC.

    None is what could not be found out in time. `mode` is None where nobody has the journal open.
    `damage` are the words of SQLite about what is wrong, none if all is well. Of the large values, whose files have
    `value_bytes` together, `n_values_lost` can't be read any more.
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
    """Return how long the file is; None if there is none, or none that can be seen."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def beside(path: Path, ending: str) -> Path:
    """Return the path of a file that SQLite keeps beside the journal: ``-wal``, ``-shm``, ``-journal``."""
    return path.with_name(path.name + ending)


def inspect(path: Path, clock: Clock) -> JournalContents:
    """Return what is in the file.

    Raises:
        JournalError: it can't be read, or is no journal.
    """
    way = _way_in(path)
    try:
        found = _contents(path, way, clock)
    except JournalError:
        if _way_in(path) == way:
            raise
    else:
        if _way_in(path) == way:
            return found
    # Somebody began to write meanwhile, and what was read without locks may be of several moments.
    return _contents(path, _way_in(path), clock)


def _way_in(path: Path) -> str:
    """Return how SQLite opens the file without making another one beside it."""
    log, shared = size_of(beside(path, "-wal")), size_of(beside(path, "-shm"))
    if log and shared is None:
        raise JournalError(
            f"the log of {path} lies there without its -shm file, so the journal was not read; if no process keeps the "
            "journal to itself, read it once, for instance with iron.runs(), and ask again",
            path=path,
        )
    if log is not None and shared is not None:
        return "mode=ro"
    # Nobody has it open. A reader would make both files and leave them, except of a file that promises not to change.
    return "mode=ro&immutable=1" if _has_log_mode(path) else "mode=ro"


def _has_log_mode(path: Path) -> bool:
    # Without locks there can be no write-ahead log, so SQLite refuses a file that wants one, and makes nothing.
    with suppress(sqlite3.Error), closing(_connect(path, "mode=ro&nolock=1")) as connection:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return False
    return True


def _connect(path: Path, way: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?{way}", uri=True, timeout=BUSY_S, isolation_level=None)


def _contents(path: Path, way: str, clock: Clock) -> JournalContents:
    with translated(path), closing(_connect(path, way)) as connection:
        connection.execute("PRAGMA query_only=ON")
        begin_reading(connection, path)
        facts = JournalContents(
            schema=_number(connection, "PRAGMA user_version"),
            mode=None if "immutable" in way else connection.execute("PRAGMA journal_mode").fetchone()[0],
            page_size=_number(connection, "PRAGMA page_size"),
            size=_number(connection, "PRAGMA page_size") * _number(connection, "PRAGMA page_count"),
        )
        return _filled(connection, path, facts, clock) if facts.schema else facts


def _filled(connection: sqlite3.Connection, path: Path, facts: JournalContents, clock: Clock) -> JournalContents:
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
    """Return how long the file of each large value was written, and how long it is."""
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
