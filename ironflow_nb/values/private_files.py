"""Which files belong to journals that this process uses: nothing but SQLite may open them.

POSIX takes all locks of a process on a file away when the process closes any descriptor of that file. SQLite knows, and
keeps its descriptors; whoever opens and closes the file beside it takes the locks away by which SQLite keeps writers
apart, and the journal can be damaged by the next two.

Files and folders that only their user can read, from the moment on at which they are there, whatever the umask.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, Protocol
from weakref import WeakValueDictionary

FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700
_OTHERS: Final = 0o077
_NO_SECOND_NAMES: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL})


def make_folder(folder: Path) -> None:
    """Make the folder, and those above it that are missing, unless it is there.

    Raises:
        OSError: it can't be made, or is something else.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with suppress(FileExistsError):  # somebody was faster
        folder.mkdir(FOLDER_MODE)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))


def new_file(path: Path) -> BinaryIO:
    """Return a new file to be written.

    Raises:
        OSError: it can't be made, or is there.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, FILE_MODE), "wb")


def publish(temporary: Path, path: Path) -> None:
    """Give the file its name, unless something has it; of two who do so at once one succeeds.

    Raises:
        FileExistsError: something has the name.
        OSError: it can't be named so.
    """
    try:
        os.link(temporary, path)
    except (OSError, AttributeError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_SECOND_NAMES:
            raise
        _rename_to_free(temporary, path)
    else:
        temporary.unlink()


def _rename_to_free(temporary: Path, path: Path) -> None:
    """Rename where a file can't have two names; only Windows refuses a name that is taken by itself."""
    if os.name != "nt" and os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    temporary.rename(path)


def others_may_read(path: Path) -> bool:
    """Tell whether other users of the machine may read or write a file or folder of this user's."""
    if os.name != "posix":
        return False  # rights are lists there, and those of a user's folder are his
    try:
        found = path.stat()
    except OSError:
        return False
    return found.st_uid == os.geteuid() and bool(stat.S_IMODE(found.st_mode) & _OTHERS)


def make_private(path: Path) -> None:
    """Take the rights of others away, as far as the file system knows rights."""
    with suppress(OSError):
        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~_OTHERS)


ENDINGS: Final = ("", "-wal", "-shm", "-journal")


class HasPath(Protocol):
    """A journal in a file."""

    path: Path


_USED: Final[WeakValueDictionary[int, HasPath]] = WeakValueDictionary()


def note_use(journal: HasPath) -> None:
    """Let nobody open the files of the journal, until its use is ended."""
    _USED[id(journal)] = journal


def end_use(journal: HasPath) -> None:
    """Let the files of the journal be opened again, unless another engine uses it."""
    _USED.pop(id(journal), None)


def journal_of(path: str | os.PathLike[str], *, dir_fd: int | None = None) -> Path | None:
    """Return the journal that this process uses and that the file belongs to, whatever name it is asked for by."""
    try:
        found = os.stat(path, dir_fd=dir_fd)
    except (OSError, ValueError):  # what is not there, or can't be, is no journal
        return None
    used = {journal.path for reference in _USED.valuerefs() if (journal := reference()) is not None}
    return next((each for each in used for ending in ENDINGS if _is_same(found, f"{each}{ending}")), None)


def refuse_used(path: str | os.PathLike[str], *, dir_fd: int | None = None) -> None:
    """Refuse a file of a journal that this process uses.

    Raises:
        PermissionError: it is one; the message says how to take a copy.
    """
    journal = journal_of(path, dir_fd=dir_fd)
    if journal is not None:
        what = (
            f"it belongs to the journal {journal}, which is in use here, and whoever opens it beside SQLite can damage "
            "it; read a copy, which iron.backup(path) makes"
        )
        raise PermissionError(errno.EPERM, what, os.fspath(path))


def _is_same(found: os.stat_result, path: str) -> bool:
    try:
        return os.path.samestat(found, os.stat(path))  # noqa: PTH116 -- a path object each would cost more than the look
    except OSError:
        return False


def require_ordinary(path: str | os.PathLike[str]) -> os.stat_result:
    """Return what is known of an ordinary file that may be opened.

    Raises:
        OSError: there is none, it is a folder, a pipe, a device or a socket, or a file of a journal in use.
    """
    found = Path(path).stat()
    if not stat.S_ISREG(found.st_mode):
        what = "a folder" if stat.S_ISDIR(found.st_mode) else "no ordinary file, but a pipe, a device or a socket"
        raise OSError(errno.EINVAL, f"it is {what}", os.fspath(path))
    refuse_used(path)
    return found
