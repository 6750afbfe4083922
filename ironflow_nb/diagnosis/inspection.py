"""Inspection of a journal file: its contents, read without a trace, and the processes that use it.

Only SQLite may open a file of the journal here. When a process closes any descriptor of a file, POSIX drops all locks
of this process on the file, and a flow of this process may rely on them.

The users of the file and their locks are read from `/proc` on Linux. With a write-ahead log, the locks are on single
bytes of the ``-shm`` file. With a rollback journal, they are on bytes behind the end of the database file. Both are
part of SQLite's file format.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from ironflow_nb.core.run_state import RunRow
from ironflow_nb.core.status import OWNED
from ironflow_nb.core.wait_rules import StartKind
from ironflow_nb.errors import JournalError, StoreUnreachable
from ironflow_nb.execution import Clock
from ironflow_nb.journal.ports import Lease, QueueItem, QueueSelect, Select
from ironflow_nb.journal.sqlite_file import begin_reading
from ironflow_nb.journal.sqlite_journal import translated
from ironflow_nb.journal.sqlite_reader import SqliteReader
from ironflow_nb.value_store.object_store import ObjectStore
from ironflow_nb.value_store.value_place import noted_place, trusted_place, values_in
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

_PROCESSES: Final = Path("/proc")
_LOCKS: Final = Path("/proc/locks")
_GONE: Final = " (deleted)"
_COMMAND_LENGTH: Final = 60

WRITE: Final = "write"
READ: Final = "read"
_WRITER: Final = range(120, 121)
_READERS: Final = range(123, 128)
_RESERVED: Final = range(0x40000000, 0x40000002)


class JournalContents(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of a journal at one moment, including its log. Times are microseconds UTC.

    A number is None if it could not be found in time. `mode` is None if no process has the journal open. `damage` has
    the messages of SQLite's integrity check, and None if the file is too large for it. `n_values` counts large values,
    whose files in `value_place` have `value_bytes` bytes together; those of `n_values_lost` are missing or have another
    size; None is the folder beside the journal, and `place_trouble` why nothing is asked for there.
    `starts` are due schedules and events, and dead letters of them.
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
    value_place: str | None = None
    place_trouble: str | None = None
    has_pickles: bool | None = None
    leases: Mapping[str, Lease] = msgspec.field(default_factory=dict)
    unfinished: Collection[RunRow] = ()
    starts: Collection[QueueItem] = ()


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
    place, trouble = place_and_trouble(connection)
    files = values_in(place) if place is not None and trouble is None else ValueFiles(path.parent / "values")
    reader = SqliteReader(connection, files)
    leases, unfinished = reader.leases(), reader.runs(Select(statuses=OWNED))
    now, queue = clock.now(), reader.work(QueueSelect())
    deadline_s = clock.monotonic() + LIMIT_S
    connection.set_progress_handler(lambda: clock.monotonic() > deadline_s, _STEPS_BETWEEN_LOOKS)
    has_pickles = _in_time(lambda: bool(connection.execute(_HAS_PICKLES, (PICKLE,)).fetchone()[0]))
    sizes = None
    if trouble is None:
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
        value_place=place,
        place_trouble=trouble,
        n_values=None if sizes is None else len(sizes),
        n_values_lost=sum(is_size != was_size for was_size, is_size in sizes or ()),
        value_bytes=sum(is_size or 0 for _, is_size in sizes or ()),
        damage=_damage(connection, facts.size),
        leases=leases,
        unfinished=unfinished,
        starts=[item for item in queue if item.kind in set(StartKind) and item.due_at <= now],
    )


def place_and_trouble(connection: sqlite3.Connection) -> tuple[str | None, str | None]:
    """Return the place of large values, if it is not beside the journal, and why nothing is asked for there, if so."""
    try:
        return trusted_place(connection), None
    except StoreUnreachable as error:
        return noted_place(connection), str(error)


def _value_sizes(
    connection: sqlite3.Connection, files: ValueFiles | ObjectStore, is_late: Callable[[], bool]
) -> list[tuple[int, int | None]] | None:
    """Return for each large value the recorded size and the size of its file, in bytes; None if it is too late."""
    sizes: list[tuple[int, int | None]] = []
    for value_id, size in connection.execute(_LARGE, (INLINE_LIMIT,)):
        if is_late():
            return None
        try:
            found = size_of(files.path(value_id)) if isinstance(files, ValueFiles) else files.size(value_id)
        except JournalError:  # an object store can't be reached, which another check tells
            return None
        sizes.append((size, found))
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


# -- users and their locks ---------------------------------------------------------------------------------------


class JournalUser(msgspec.Struct, frozen=True):
    """A process that has the file open; `has_lost` if its open file was deleted or replaced since."""

    pid: int
    command: str
    has_lost: bool = False


class LockHold(msgspec.Struct, frozen=True):
    """A lock of a process: the write lock, or a read mark, which keeps a part of the log from being reused."""

    pid: int
    kind: str
    place: int


def users_of(path: Path) -> list[JournalUser] | None:
    """Return the processes, as far as this user can see them, that have the file open; None if there is no `/proc`."""
    if not (_PROCESSES / "self" / "fd").is_dir():
        return None
    real = os.path.realpath(path)
    return [user for pid in _pids() if (user := _journal_user(pid, real)) is not None]


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir(_PROCESSES) if name.isdigit())  # noqa: PTH208


def _journal_user(pid: int, real: str) -> JournalUser | None:
    links = [link for link in _open_files(pid) if link.removesuffix(_GONE) == real]
    return JournalUser(pid, command_of(pid), all(link.endswith(_GONE) for link in links)) if links else None


def _open_files(pid: int) -> Iterator[str]:
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except OSError:  # the process has ended, or belongs to another user
        return
    for name in names:
        try:
            yield os.readlink(f"{folder}/{name}")  # noqa: PTH115 -- a path object for each of thousands is slow
        except OSError:
            continue


def command_of(pid: int) -> str:
    """Return the command line of the process, cut to 60 characters; an empty text if it can't be seen."""
    try:
        words = (_PROCESSES / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    text = " ".join([os.path.basename(words[0]), *words[1:]]).split("\n")[0].strip()  # noqa: PTH119
    return text if len(text) <= _COMMAND_LENGTH else f"{text[: _COMMAND_LENGTH - 3]}..."


def holds_on(path: Path) -> frozenset[LockHold] | None:
    """Return the locks that processes hold on the journal at this moment; None if the system does not tell."""
    try:
        lines = _LOCKS.read_text().splitlines()
    except OSError:
        return None
    files = {_inode(beside(path, "-shm")): True, _inode(path): False}
    return frozenset(hold for line in lines if (hold := _parse_hold(line.split(), files)) is not None)


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return -1


def _parse_hold(fields: list[str], files: dict[int, bool]) -> LockHold | None:
    # 1: POSIX  ADVISORY  WRITE 25820 fe:00:2564182 120 120 -- a waiting lock has an arrow after its number
    if len(fields) != 8 or fields[1] != "POSIX" or not fields[4].isdigit():
        return None
    inode = int(fields[5].rpartition(":")[2])
    if inode not in files:
        return None
    pid, first, last = int(fields[4]), int(fields[6]), fields[7]
    held = range(first, first + 1 if last == "EOF" else int(last) + 1)
    is_write = fields[3] == "WRITE"
    if is_write and _overlap(held, _WRITER if files[inode] else _RESERVED):
        return LockHold(pid, WRITE, first)
    return LockHold(pid, READ, first) if files[inode] and _overlap(held, _READERS) else None


def _overlap(one: range, other: range) -> bool:
    return one.start < other.stop and other.start < one.stop
