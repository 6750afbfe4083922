"""Folders that are walked down to without following a link, and files in them that are written whole or not at all.

A path that the grants have resolved has no link in it. Each of its folders is opened from the one above with
``O_NOFOLLOW``, and every file is used by its name in the open folder: so no link can be put there after the grants
were checked. Windows has no such opening: there a path is used as it is, and a program that can write into a granted
folder may replace a part of the path in between.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any, Final

from ironflow_nb.errors import NodeTimeout
from ironflow_nb.execution import system_entropy
from ironflow_nb.graphs.grants import Need
from ironflow_nb.graphs.kinds import NodeContext
from ironflow_nb.values.private_files import refuse_used

MAX_ENTRIES: Final = 10_000
PART_PREFIX: Final = ".ironflow-"
PART_SUFFIX: Final = ".part"
_CHUNK: Final = 1 << 20

_HAS_DESCRIPTORS: Final = os.open in os.supports_dir_fd
_NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0)
_FOLDER: Final = getattr(os, "O_DIRECTORY", 0) | _NO_LINK
# To walk through a folder needs no right to list it.
_WALK: Final = getattr(os, "O_PATH", os.O_RDONLY) | _FOLDER
_FILE: Final = _NO_LINK | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)

MayMake = Callable[[Path], bool]
"""Returns True if a missing folder may be created."""


class Folder:
    """An open folder. Each name is a name in it, and no link is followed."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self.path = path
        self._descriptor = descriptor

    def _at(self, name: str) -> str:
        return name if self._descriptor is not None else str(self.path / name)

    def status(self, name: str) -> os.stat_result | None:
        """Return the status of the file or link of that name; None if there is none."""
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
            require_file(os.fstat(descriptor))  # it may have been replaced in between
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def rename(self, name: str, into: Folder, new_name: str) -> None:
        """Move a file or folder to a name that may be taken: a file of that name is replaced."""
        source, target = self._at(name), into._at(new_name)
        refuse_used(source, dir_fd=self._descriptor)
        refuse_used(target, dir_fd=into._descriptor)
        os.replace(source, target, src_dir_fd=self._descriptor, dst_dir_fd=into._descriptor)

    def rename_to_free(self, name: str, into: Folder, new_name: str) -> None:
        """Move a file to a free name.

        Raises:
            FileExistsError: the name is taken.
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
            if into.status(new_name) is not None:  # a file system without hard links has no atomic way
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
        """Yield name and status of each entry of the folder, in no order."""
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
        """Write the names in the folder to the disk, so that they survive a power cut; not all systems can."""
        if self._descriptor is None:
            return
        with suppress(OSError):
            descriptor = os.open(".", os.O_RDONLY | _FOLDER, dir_fd=self._descriptor)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def require_file(found: os.stat_result) -> None:
    """Check that it is an ordinary file.

    Raises:
        OSError: it is a folder, a link, a device, a pipe or a socket.
    """
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    if stat.S_ISLNK(found.st_mode):
        raise OSError(errno.ELOOP, "a link was put in its place")
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no ordinary file, but a device, a pipe or a socket")


@contextmanager
def open_folder(path: Path, may_make: MayMake | None = None) -> Iterator[Folder]:
    """Open a folder by a path without links; missing folders of it are created where `may_make` allows it.

    Raises:
        OSError: a part of the path is missing, is no folder, or has become a link.
    """
    if not _HAS_DESCRIPTORS:
        if may_make is not None:
            _make_missing(path, may_make)
        yield Folder(path, None)
        return
    descriptor = _walk(path, may_make)
    try:
        yield Folder(path, descriptor)
    finally:
        os.close(descriptor)


def _walk(path: Path, may_make: MayMake | None) -> int:
    here = Path(path.anchor)
    descriptor = os.open(here, _WALK)
    for part in path.parts[1:]:
        here /= part
        try:
            below = _open_part(descriptor, part, here, may_make)
        finally:
            os.close(descriptor)
        descriptor = below
    return descriptor


def _open_part(descriptor: int, part: str, here: Path, may_make: MayMake | None) -> int:
    try:
        return os.open(part, _WALK, dir_fd=descriptor)
    except FileNotFoundError:
        if may_make is None or not may_make(here):
            raise
        with suppress(FileExistsError):  # another process was faster
            os.mkdir(part, dir_fd=descriptor)
        return os.open(part, _WALK, dir_fd=descriptor)


def _make_missing(path: Path, may_make: MayMake) -> None:
    for folder in [*reversed(path.parents), path]:
        if not folder.is_dir() and may_make(folder):
            folder.mkdir(exist_ok=True)


# -- whole files -------------------------------------------------------------------------------------------------


def chunks_of(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the rest of the file in chunks."""
    while chunk := file.read(_CHUNK):
        yield chunk


def write_whole(
    folder: Folder, name: str, chunks: Iterable[bytes], *, is_replacing: bool, mode: int | None = None
) -> int:
    """Write a file whole or not at all; return how many bytes it has.

    It is written under another name in the same folder, synced, then renamed. A file that may not be replaced and
    already has this content counts as written, so the node can be performed again after a crash.

    Args:
        folder: the folder of the file.
        name: its name there.
        chunks: the content.
        is_replacing: an existing file may be replaced.
        mode: its permission bits; by default those of the file that it replaces, or those of a new file.

    Raises:
        OSError: it can't be written, or exists and may not be replaced.
    """
    there = folder.status(name)
    if there is not None:
        require_file(there)
        mode = stat.S_IMODE(there.st_mode) if mode is None else mode
    part = f"{PART_PREFIX}{system_entropy(8).hex()}{PART_SUFFIX}"
    descriptor = folder.open_file(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        n_bytes = _write_chunks(descriptor, chunks, mode)
        _rename(folder, part, name, is_replacing=is_replacing)
    except BaseException:
        with suppress(OSError):
            folder.remove(part)
        raise
    folder.sync()
    return n_bytes


def _write_chunks(descriptor: int, chunks: Iterable[bytes], mode: int | None) -> int:
    with os.fdopen(descriptor, "wb") as file:
        n_bytes = sum(file.write(chunk) for chunk in chunks)
        file.flush()
        if mode is not None and hasattr(os, "fchmod"):
            os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    return n_bytes


def _rename(folder: Folder, part: str, name: str, *, is_replacing: bool) -> None:
    if is_replacing:
        folder.rename(part, folder, name)
        return
    try:
        folder.rename_to_free(part, folder, name)
    except FileExistsError as error:
        if not _has_same_content(folder, part, name):
            message = "it is there already, with another content; overwrite: true would replace it"
            raise FileExistsError(error.errno, message) from None
        folder.remove(part)


def _has_same_content(folder: Folder, name: str, other: str) -> bool:
    with (
        os.fdopen(folder.open_file(name, os.O_RDONLY), "rb") as one,
        os.fdopen(folder.open_file(other, os.O_RDONLY), "rb") as two,
    ):
        while True:
            left, right = one.read(_CHUNK), two.read(_CHUNK)
            if left != right:
                return False
            if not left:
                return True


def append_bytes(folder: Folder, name: str, content: bytes) -> int:
    """Append to a file, and return its new size in bytes. After an error the file has its old size again."""
    descriptor = folder.open_file(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        before = os.fstat(descriptor).st_size
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, before)
            raise
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


# -- listing -----------------------------------------------------------------------------------------------------

Entry = tuple[str, os.stat_result]


def list_entries(
    place: Path, written: str, context: NodeContext, *, pattern: str, is_recursive: bool
) -> list[dict[str, Any]]:
    """Return the files and folders whose names fit the pattern, sorted by path, each path so that it can be read.

    A link is listed as its target if that is granted; no link is followed into a folder. Devices, pipes and files that
    are being written are left out.

    Raises:
        OSError, ValueError: the folder can't be read, has too many entries, or a name that is no text.
        NodeTimeout: it takes longer than the node's time limit.
    """
    until_s = None if context.timeout_s is None else context.monotonic() + context.timeout_s
    left, entries = [(place, written.rstrip("/"))], []
    while left:
        if until_s is not None and context.monotonic() > until_s:
            raise NodeTimeout(f"{context.node}: {written!r} took longer than {context.timeout_s:g} s to list")
        folder, prefix = left.pop()
        for name, found in _listed_entries(folder, prefix, context):
            is_folder = stat.S_ISDIR(found.st_mode)
            path = f"{prefix}/{name}"
            if is_recursive and is_folder and not (folder / name).is_symlink():
                left.append((folder / name, path))
            if fnmatchcase(name, pattern):
                entries.append(
                    {"path": path, "name": _checked_name(name), "bytes": found.st_size, "is_folder": is_folder}
                )
            if len(entries) > MAX_ENTRIES:
                raise ValueError(f"it has more than {MAX_ENTRIES:,} entries; list less of it, or give a pattern")
    return sorted(entries, key=lambda entry: str(entry["path"]))


def _listed_entries(place: Path, prefix: str, context: NodeContext) -> Iterator[Entry]:
    with open_folder(place) as folder:
        for name, found in folder.entries():
            if name.startswith(PART_PREFIX) and name.endswith(PART_SUFFIX):
                continue
            target: os.stat_result | None = found
            if stat.S_ISLNK(found.st_mode):
                target = _link_target(f"{prefix}/{name}", context)
            if target is not None and (stat.S_ISREG(target.st_mode) or stat.S_ISDIR(target.st_mode)):
                yield name, target


def _link_target(path: str, context: NodeContext) -> os.stat_result | None:
    if context.grants.refusal(Need("files", path)) is not None:
        return None
    try:
        return context.grants.resolved(path).stat()
    except (OSError, RuntimeError):
        return None  # the target does not exist


def _checked_name(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise OSError(errno.EILSEQ, f"the name {os.fsencode(name)!r} in it is no UTF-8; rename that") from None
    return name
