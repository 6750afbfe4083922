"""The journal file: opening it, checking what it is, and translating the errors of SQLite."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ironflow_nb.errors import (
    JournalBusy,
    JournalCorrupt,
    JournalError,
    JournalFull,
    JournalReadOnly,
    JournalTooNew,
    NotAJournal,
)
from ironflow_nb.journal.file_systems import network_file_system
from ironflow_nb.journal.schema import APPLICATION_ID, DDL, SCHEMA_VERSION, statements
from ironflow_nb.values.private_files import ENDINGS, make_folder, make_private, new_file, others_may_read, publish

WAL: Final = "wal"
OWN_FOLDER: Final = ".ironflow"
BUSY_TIMEOUT_S: Final = 10.0
STATEMENT_CACHE: Final = 256
LOG_LIMIT: Final = 16 * 1024 * 1024
_WAL_ATTEMPTS: Final = 20
_LOCKS: Final = Path("/proc/locks")
_NO_SPACE: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})
_REFUSED: Final = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM})


def own_place(path: Path) -> Path:
    """Return the path of the file itself, without a link: SQLite makes the log beside the file, not beside the link."""
    path = path.expanduser().absolute()
    return Path(os.path.realpath(path)) if os.path.islink(path) else path  # noqa: PTH114 -- raises nothing


def look_at(path: Path | str) -> os.stat_result | None:
    """Return the status of the file, not of the target of a link, or None if there is no file.

    Raises:
        JournalReadOnly: the system refuses to say.
    """
    try:
        return os.lstat(path)  # called twice a commit; the method of a path takes half as long again
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise JournalReadOnly(
            f"the journal {path} can't be reached: {error.strerror}; check its path and the permissions of its "
            "folders, or give another path to iron.use(...) or in IRONFLOW_DB",
            path=Path(path),
        ) from error


def _refuse_folder(path: Path) -> None:
    found = look_at(path)
    if found is not None and stat.S_ISDIR(found.st_mode):
        raise NotAJournal(f"{path} is a folder; give the path of a journal file", path=path)


def open_writer(path: Path, network: Callable[[Path], str | None] = network_file_system) -> sqlite3.Connection:
    """Return the connection that writes; create the file if there is none.

    A file with a rollback journal keeps it, wherever it lies now: two machines may see one file, and the machine that
    sees a local disk must not give it a write-ahead log.

    The connection does not write its log back after commits; `WriteAheadLog` does, while nobody writes.
    """
    prepare_folder(path)
    if look_at(path) is None:
        _create_private(path)
    connection = connect(path, "mode=rwc")
    try:
        connection.execute("BEGIN")
        schema = _schema(connection, path)
        connection.execute("COMMIT")
        _make_private(path)  # a journal, and no other file of the user
        _refuse_cut(connection, path)
        if not schema:
            _forget_deleted(connection, path)
        kind = network(path)
        if kind is not None:
            _switch_to_rollback(connection, path, kind, is_new=not schema)
        elif not schema or journal_mode(connection) == WAL:
            _switch_to_wal(connection)
        connection.execute("PRAGMA wal_autocheckpoint=0")
        # For macOS, whose plain fsync leaves the data in the cache of the disk.
        connection.execute("PRAGMA fullfsync=ON")
        connection.execute("PRAGMA checkpoint_fullfsync=ON")
        # A reader can keep the log from being reused; it is cut to this size afterwards.
        connection.execute(f"PRAGMA journal_size_limit={LOG_LIMIT}")
        if not schema:
            create_tables(connection)
        elif schema < SCHEMA_VERSION:
            _migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """Return a connection that only reads, and leaves no file behind."""
    _refuse_folder(path)
    try:
        # Every reader makes files beside the journal; only a connection that may write deletes them.
        return _open_reader(path, "mode=rw")
    except sqlite3.OperationalError as error:
        if _code(error) not in _REFUSED | _NO_SPACE:
            raise
        # Without space for the shared memory nobody can be using the journal, but an empty log may be left.
        is_log_of_use = _code(error) in _REFUSED
    log = look_at(path.with_name(f"{path.name}-wal"))
    is_in_use = log is not None and (is_log_of_use or log.st_size > 0)
    return _open_reader(path, "mode=ro" if is_in_use else "mode=ro&immutable=1")


def _open_reader(path: Path, mode: str) -> sqlite3.Connection:
    connection = connect(path, mode)
    try:
        connection.execute("PRAGMA query_only=ON")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def begin_reading(connection: sqlite3.Connection, path: Path) -> None:
    """Begin a transaction that reads one moment. A file in which nothing was written yet reads as an empty journal."""
    connection.execute("BEGIN")
    if _schema(connection, path) < SCHEMA_VERSION:
        _stand_in(connection)


def _stand_in(connection: sqlite3.Connection) -> None:
    """Make the tables and columns that an older schema lacks, empty, and visible to this connection only."""
    known = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    connection.execute("PRAGMA query_only=OFF")
    for table in {"runs", "steps"} & known:
        row = "*, rowid" if table == "runs" else "*"
        connection.execute(
            f"CREATE TEMP VIEW {table} AS SELECT {row}, NULL AS inputs, NULL AS output FROM main.{table}"
        )
    for statement in statements(DDL):
        _, is_table, table = statement.partition("CREATE TABLE ")
        if is_table and table.split(maxsplit=1)[0].strip('"') not in known:
            connection.execute(f"CREATE TEMP TABLE {table}")
    connection.execute("PRAGMA query_only=ON")


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Return a connection to the file; `mode` are the parameters of SQLite's URI."""
    return _connect(f"{path.as_uri()}?{mode}")


def connect_memory() -> sqlite3.Connection:
    """Return a connection to a new, empty database in memory, which ends with it."""
    return _connect(":memory:")


def _connect(address: str) -> sqlite3.Connection:
    # The engine's lock serialises all use; the thread that closes may be another one than the thread that opened.
    return sqlite3.connect(
        address, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False,
        cached_statements=STATEMENT_CACHE,
    )  # fmt: skip


def prepare_folder(path: Path) -> None:
    """Make the folder of a journal if it is missing.

    Raises:
        NotAJournal: the path itself is a folder.
        JournalReadOnly: the folder can't be made.
    """
    folder = path.parent
    _refuse_folder(path)
    try:
        is_new = not folder.exists()
        make_folder(folder)
        if is_new and folder.name == OWN_FOLDER:
            (folder / ".gitignore").write_text("*\n")
    except OSError as error:
        raise JournalReadOnly(
            f"the folder of the journal {path} can't be made: {error}; give another path to iron.use(...) or in "
            "IRONFLOW_DB",
            path=path,
        ) from error


def _make_private(path: Path) -> None:
    """Make the journal readable by its user only. SQLite gives the files beside it the same rights."""
    beside = [path.with_name(f"{path.name}{ending}") for ending in ENDINGS]
    folders = [path.parent / "values", *([path.parent] if path.parent.name == OWN_FOLDER else [])]
    readable = [each for each in (*beside, *folders) if others_may_read(each)]
    for each in readable:
        make_private(each)
    if path in readable:
        import logging

        logging.getLogger("ironflow_nb").warning(
            "the journal %s could be read by other users of this machine; from now on only you can read it", path
        )


def _create_private(path: Path) -> None:
    # Created under another name: to close a descriptor of the journal itself would drop this process's locks on it.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{id(path):x}.new")
    with suppress(OSError):  # SQLite then creates the file, or says why it can't
        try:
            new_file(temporary).close()
            publish(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def _schema(connection: sqlite3.Connection, path: Path) -> int:
    """Return the version of the schema, 0 for an empty file.

    Lock: in a transaction, so that version, application and tables are of one moment.
    """
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if application != APPLICATION_ID:
        if application or version or connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise NotAJournal(
                f"{path} is a SQLite database, but not a journal of ironflow_nb; give another path", path=path
            )
    elif version > SCHEMA_VERSION:
        raise JournalTooNew(
            f"the journal {path} has schema {version}, and this version of ironflow_nb knows {SCHEMA_VERSION}; "
            "upgrade ironflow-nb to read it",
            path=path,
            schema=version,
        )
    return version


def _refuse_cut(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a file that ends within a page: SQLite would read the rest of the page as zeros.

    Beside a log or a rollback journal a file may end so for a while; the rest lies there.
    """
    page_size = connection.execute("PRAGMA page_size").fetchone()[0]
    found = look_at(path)
    beside = [look_at(path.with_name(f"{path.name}{ending}")) for ending in ("-wal", "-journal")]
    if found is not None and found.st_size % page_size and not any(each and each.st_size for each in beside):
        raise JournalCorrupt(f"the journal {path} was cut: it ends within a page; restore it from a copy", path=path)


def _forget_deleted(connection: sqlite3.Connection, path: Path) -> None:
    """Delete the shared memory of a deleted journal of this path, which other processes may still have open.

    SQLite deletes the log beside an empty file by itself.
    """
    connection.execute("BEGIN EXCLUSIVE")  # on an empty file it proves that no process uses this file yet
    try:
        found = look_at(path)
        if found is not None and found.st_size == 0:
            path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
    finally:
        connection.execute("ROLLBACK")


def journal_mode(connection: sqlite3.Connection) -> str:
    """Return the journal mode of SQLite: ``wal``, or a rollback journal such as ``delete``."""
    mode: str = connection.execute("PRAGMA journal_mode").fetchone()[0]
    return mode


def _switch_to_rollback(connection: sqlite3.Connection, path: Path, kind: str, *, is_new: bool) -> None:
    import logging

    had_log = journal_mode(connection) == WAL
    if not had_log and not is_new:
        return
    place = f"the journal {path} lies on a network file system ({kind}), where SQLite's write-ahead log does not work"
    advice = "if you can, put it on a disk of this machine: iron.use(path), or IRONFLOW_DB"
    try:
        connection.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.OperationalError as error:
        what = f"it has one and can't be changed while others use it ({error}); end them, or it may be damaged"
    else:
        what = "it has a rollback journal instead, and a step takes several times as long"
    logging.getLogger("ironflow_nb").warning("%s; %s; %s", place, what, advice)


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    # SQLite does not wait when two processes switch a new file at once; an empty write transaction does wait.
    for attempt in range(_WAL_ATTEMPTS):
        try:
            connection.execute("PRAGMA journal_mode=WAL").fetchone()
        except sqlite3.OperationalError:
            if attempt == _WAL_ATTEMPTS - 1:
                raise
            with suppress(sqlite3.OperationalError):
                connection.executescript("BEGIN IMMEDIATE; COMMIT")
        else:
            return


def create_tables(connection: sqlite3.Connection) -> None:
    """Make the tables of a new journal, unless another process has made them."""
    with transaction(connection):
        if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
            for statement in statements(DDL):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")


def _migrate(connection: sqlite3.Connection) -> None:
    from ironflow_nb.journal.migrations import migrate

    with transaction(connection):
        if connection.execute("PRAGMA user_version").fetchone()[0] < SCHEMA_VERSION:  # no other process was faster
            migrate(connection)


def roll_back(connection: sqlite3.Connection) -> None:
    """End the transaction of the connection, if it is in one, and take back what it did."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit what is done inside, or take all of it back if it raises."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        raise


def translation(error: sqlite3.Error, path: Path) -> JournalError:
    """Return the error of SQLite as one of the journal."""
    code = _code(error)
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        pids = _writers(path)
        who = f"process {', '.join(map(str, pids))}" if pids else "another process or engine"
        return JournalBusy(
            f"{who} held the journal {path} for {BUSY_TIMEOUT_S:g} s and let nobody write; stop it or wait for it, "
            "then run the cell again: it continues from what was recorded",
            path=path,
            pids=pids,
        )
    if code == sqlite3.SQLITE_NOTADB:
        return NotAJournal(f"{path} is not a SQLite database; give the path of a journal", path=path)
    if code in _REFUSED:
        return JournalReadOnly(
            f"the journal {path} can't be opened for this: {error}; check the permissions of the file and its folder",
            path=path,
        )
    if code == sqlite3.SQLITE_FULL:
        return JournalFull(
            f"the disk of the journal {path} is full, and what was to be recorded is not; make space there, then run "
            "the cell again: it continues from what was recorded",
            path=path,
            errno=errno.ENOSPC,
        )
    if code == sqlite3.SQLITE_IOERR:
        # SQLite knows a full disk, but not a quota or a limit on the size of files.
        return JournalError(
            f"the system refused to read or write the journal {path} ({error}); see that its disk is still there and "
            "has space left within the quota, then run the cell again: it continues from what was recorded",
            path=path,
        )
    if code == sqlite3.SQLITE_CORRUPT:
        return JournalCorrupt(f"the journal {path} is damaged: {error}; restore it from a copy", path=path)
    return JournalError(f"the journal {path} refused: {error}", path=path)


def _writers(path: Path) -> list[int]:
    """Return the processes that hold a write lock on the journal, as far as the system tells."""
    try:
        files = [path.with_name(f"{path.name}{ending}").stat() for ending in ("", "-shm") if path.exists()]
        locks = _LOCKS.read_text()
    except OSError:
        return []
    inodes = {str(file.st_ino) for file in files}
    # 1: POSIX  ADVISORY  WRITE 4711 08:01:131074 120 120
    fields = [line.split() for line in locks.splitlines()]
    held = (each for each in fields if len(each) > 5 and each[3] == "WRITE")
    pids = {int(each[4]) for each in held if each[5].rpartition(":")[2] in inodes}
    return sorted(pid for pid in pids if pid > 0 and pid != os.getpid())  # 0 and below: in another container


def _code(error: sqlite3.Error) -> int:
    # The extended codes carry the primary one in their low byte.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
