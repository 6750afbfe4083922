"""Files that belong to one user, and files of journals in use, which only SQLite may open.

New files and folders are private from their creation on, whatever the umask is.

POSIX drops all locks of a process on a file when the process closes any descriptor of this file. SQLite avoids that by
keeping its descriptors open. Any other code of this process that opens and closes a journal file drops SQLite's locks.
Then two writers can damage the journal.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final, Protocol
from weakref import WeakValueDictionary

FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700
_OTHERS: Final = 0o077
_NO_HARD_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL})


def make_folder(folder: Path) -> None:
    """Make the folder and its missing parents, readable for this user only.

    Raises:
        OSError: the folder can't be made, or the path is not a folder.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with suppress(FileExistsError):  # another process was faster
        folder.mkdir(FOLDER_MODE)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))


def new_file(path: Path) -> BinaryIO:
    """Create the file, readable for this user only, and return it open for writing.

    Raises:
        OSError: it can't be made, or exists.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, FILE_MODE), "wb")


def publish(temporary: Path, path: Path) -> None:
    """Move the temporary file to `path`, which must be free; of two processes that do so at once, one succeeds.

    Raises:
        FileExistsError: the path is taken.
        OSError: the file can't be moved.
    """
    try:
        os.link(temporary, path)
    except (OSError, AttributeError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_HARD_LINKS:
            raise
        _rename_to_free_path(temporary, path)
    else:
        temporary.unlink()


def _rename_to_free_path(temporary: Path, path: Path) -> None:
    """Rename on file systems without hard links; only Windows itself refuses a taken name."""
    if os.name != "nt" and os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    temporary.rename(path)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a new hidden file beside `path`, which gets that name at the end, when it is whole; `path` must be free.

    Hidden files of this name that dead processes have left are removed.

    Raises:
        FileExistsError: the path is taken.
        OSError: a file can't be made or moved.
    """
    make_folder(path.parent)
    for left in path.parent.glob(".*.tmp"):
        if _is_abandoned(left, path):
            with suppress(OSError):
                left.unlink()
    temporary = path.with_name(f".{path.name}.{os.getpid()}@{_machine()}.{id(path):x}.tmp")
    try:
        new_file(temporary).close()
        yield temporary
        publish(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _is_abandoned(file: Path, path: Path) -> bool:
    """Return True if the hidden file was to become `path`, and the process that wrote it on this machine has ended."""
    found = re.fullmatch(r"\.(?P<name>.+)\.(?P<pid>\d+)@(?P<machine>.*)\.[0-9a-f]+\.tmp", file.name)
    if found is None or (found["name"], found["machine"]) != (path.name, _machine()) or os.name != "posix":
        return False  # on Windows the question would end the process
    try:
        os.kill(int(found["pid"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass
    return False


def _machine() -> str:
    return os.uname().nodename if hasattr(os, "uname") else ""


def others_may_read(path: Path) -> bool:
    """Return True if other users of the machine may read or write this user's file or folder."""
    if os.name != "posix":
        return False  # Windows protects a user's folders with access lists
    try:
        found = path.stat()
    except OSError:
        return False
    return found.st_uid == os.geteuid() and bool(stat.S_IMODE(found.st_mode) & _OTHERS)


def make_private(path: Path) -> None:
    """Remove the rights of other users, if the file system has rights."""
    with suppress(OSError):
        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~_OTHERS)


ENDINGS: Final = ("", "-wal", "-shm", "-journal")


class HasPath(Protocol):
    """A journal in a file."""

    path: Path


_OPEN_JOURNALS: Final[WeakValueDictionary[int, HasPath]] = WeakValueDictionary()


def register_journal(journal: HasPath) -> None:
    """Protect the files of the journal from being opened, until `unregister_journal`."""
    _OPEN_JOURNALS[id(journal)] = journal


def unregister_journal(journal: HasPath) -> None:
    """End the protection that this journal gave to its files; another one of the same path keeps its own."""
    _OPEN_JOURNALS.pop(id(journal), None)


def open_journals() -> set[Path]:
    """Return the paths of the journals that this process uses."""
    return {journal.path for reference in _OPEN_JOURNALS.valuerefs() if (journal := reference()) is not None}


def journal_of(path: str | os.PathLike[str], *, dir_fd: int | None = None) -> Path | None:
    """Return the path of the open journal to which the file belongs, or None; links to the file are found too."""
    try:
        found = os.stat(path, dir_fd=dir_fd)
    except (OSError, ValueError):  # a missing file or an impossible name
        return None
    return next((each for each in open_journals() for ending in ENDINGS if _is_same(found, f"{each}{ending}")), None)


def refuse_used(path: str | os.PathLike[str], *, dir_fd: int | None = None) -> None:
    """Raise if the file belongs to a journal that this process uses.

    Raises:
        PermissionError: it does; the message says how to take a copy.
    """
    journal = journal_of(path, dir_fd=dir_fd)
    if journal is not None:
        what = (
            f"it belongs to the journal {journal}, which is in use here, and opening it beside SQLite can damage it; "
            "read a copy, which iron.backup(path) makes"
        )
        raise PermissionError(errno.EPERM, what, os.fspath(path))


def _is_same(found: os.stat_result, path: str) -> bool:
    try:
        return os.path.samestat(found, os.stat(path))  # noqa: PTH116 -- a path object would cost more than the call
    except OSError:
        return False


def require_ordinary(path: str | os.PathLike[str]) -> os.stat_result:
    """Return the status of an ordinary file that may be opened.

    Raises:
        OSError: it is missing, a folder, a pipe, a device, a socket, or a file of a journal in use.
    """
    found = Path(path).stat()
    if not stat.S_ISREG(found.st_mode):
        what = "a folder" if stat.S_ISDIR(found.st_mode) else "no ordinary file, but a pipe, a device or a socket"
        raise OSError(errno.EINVAL, f"it is {what}", os.fspath(path))
    refuse_used(path)
    return found
