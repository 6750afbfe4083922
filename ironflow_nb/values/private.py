"""Files and folders that only their user can read, from the moment on at which they are there, whatever the umask."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

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
