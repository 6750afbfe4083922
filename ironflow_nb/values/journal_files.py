"""Which files belong to journals that this process uses: nothing but SQLite may open them.

POSIX takes all locks of a process on a file away when the process closes any descriptor of that file. SQLite knows, and
keeps its descriptors; whoever opens and closes the file beside it takes the locks away by which SQLite keeps writers
apart, and the journal can be damaged by the next two.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final, Protocol
from weakref import WeakValueDictionary

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
