"""Folders that are walked down to without following a link, so that none can be put there after the grants said yes.

A path that the grants have resolved has no link in it. Each of its folders is opened from the one above with
``O_NOFOLLOW``, and what is done to a file is done by its name in the open folder. Windows has no such opening: there a
path is used as it is, and who can write into a granted folder may swap a part of it in between.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ironflow_nb.values.private_files import refuse_used

_HAS_DESCRIPTORS: Final = os.open in os.supports_dir_fd
_NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0)
_FOLDER: Final = getattr(os, "O_DIRECTORY", 0) | _NO_LINK
# To walk through a folder needs no right to list it.
_WALK: Final = getattr(os, "O_PATH", os.O_RDONLY) | _FOLDER
_FILE: Final = _NO_LINK | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)

Asked = Callable[[Path], bool]
"""Tells whether a folder that is missing may be made."""


class Folder:
    """An open folder; every name is one in it, and no link is followed."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self.path = path
        self._descriptor = descriptor

    def _at(self, name: str) -> str:
        return name if self._descriptor is not None else str(self.path / name)

    def status(self, name: str) -> os.stat_result | None:
        """Return what is known of a name; None if there is nothing of that name."""
        try:
            return os.stat(self._at(name), dir_fd=self._descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def open_file(self, name: str, flags: int) -> int:
        """Open an ordinary file, and nothing else: no folder, device, pipe or link.

        Raises:
            OSError: it is not there, is something else, or may not be opened.
        """
        found = self.status(name)
        if found is not None:
            require_file(found)
        refuse_used(self._at(name), dir_fd=self._descriptor)
        descriptor = os.open(self._at(name), flags | _FILE, 0o666, dir_fd=self._descriptor)
        try:
            require_file(os.fstat(descriptor))  # it may have become another since
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def rename(self, name: str, into: Folder, new_name: str) -> None:
        """Give what has the name a place that may be taken: whatever file is there is replaced."""
        source, target = self._at(name), into._at(new_name)
        refuse_used(source, dir_fd=self._descriptor)
        refuse_used(target, dir_fd=into._descriptor)
        os.replace(source, target, src_dir_fd=self._descriptor, dst_dir_fd=into._descriptor)

    def rename_to_free(self, name: str, into: Folder, new_name: str) -> None:
        """Give a file a name that nothing else has.

        Raises:
            FileExistsError: something has it.
        """
        source, target = self._at(name), into._at(new_name)
        if self._descriptor is None:
            Path(source).rename(target)  # Windows refuses a name that is taken
            return
        try:
            os.link(source, target, src_dir_fd=self._descriptor, dst_dir_fd=into._descriptor, follow_symlinks=False)
        except OSError as error:
            if error.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}:
                raise
            if into.status(new_name) is not None:  # a disk without second names has no better way
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
            self.rename(name, into, new_name)
        else:
            self.remove(name)

    def remove(self, name: str) -> None:
        """Remove a file or a link."""
        refuse_used(self._at(name), dir_fd=self._descriptor)
        os.unlink(self._at(name), dir_fd=self._descriptor)

    def remove_tree(self, name: str) -> None:
        """Remove a folder with all that is in it; links in it are removed, not followed."""
        shutil.rmtree(self._at(name), dir_fd=self._descriptor)

    def entries(self) -> Iterator[tuple[str, os.stat_result]]:
        """Yield what is in the folder, in no order."""
        descriptor = None
        if self._descriptor is not None:
            descriptor = os.open(".", os.O_RDONLY | _FOLDER, dir_fd=self._descriptor)
        try:
            with os.scandir(self.path if descriptor is None else descriptor) as found:
                for entry in found:
                    with suppress(FileNotFoundError):  # it was removed in between
                        yield entry.name, entry.stat(follow_symlinks=False)
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def sync(self) -> None:
        """See that its names outlive a power cut, as far as the system lets us."""
        if self._descriptor is None:
            return
        with suppress(OSError):
            descriptor = os.open(".", os.O_RDONLY | _FOLDER, dir_fd=self._descriptor)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def require_file(found: os.stat_result) -> None:
    """Refuse what is no ordinary file.

    Raises:
        OSError: it is none.
    """
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    if stat.S_ISLNK(found.st_mode):
        raise OSError(errno.ELOOP, "a link was put in its place")
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no ordinary file, but a device, a pipe or a socket")


@contextmanager
def open_folder(path: Path, may_make: Asked | None = None) -> Iterator[Folder]:
    """Open a folder by a path that has no links, and make what is missing of it where that is allowed.

    Raises:
        OSError: a folder on the way is missing, is none, or has become a link.
    """
    if not _HAS_DESCRIPTORS:
        if may_make is not None:
            _make_all(path, may_make)
        yield Folder(path, None)
        return
    descriptor = _walk(path, may_make)
    try:
        yield Folder(path, descriptor)
    finally:
        os.close(descriptor)


def _walk(path: Path, may_make: Asked | None) -> int:
    here = Path(path.anchor)
    descriptor = os.open(here, _WALK)
    for part in path.parts[1:]:
        here /= part
        try:
            below = _step(descriptor, part, here, may_make)
        finally:
            os.close(descriptor)
        descriptor = below
    return descriptor


def _step(descriptor: int, part: str, here: Path, may_make: Asked | None) -> int:
    try:
        return os.open(part, _WALK, dir_fd=descriptor)
    except FileNotFoundError:
        if may_make is None or not may_make(here):
            raise
        with suppress(FileExistsError):  # somebody was faster
            os.mkdir(part, dir_fd=descriptor)
        return os.open(part, _WALK, dir_fd=descriptor)


def _make_all(path: Path, may_make: Asked) -> None:
    for folder in [*reversed(path.parents), path]:
        if not folder.is_dir() and may_make(folder):
            folder.mkdir(exist_ok=True)
