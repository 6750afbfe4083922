"""Files of large values, named by the id of the value.

A file is written and synced before any row of the journal refers to it.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Final, Protocol

from ironflow_nb.core.identity import ValueId
from ironflow_nb.errors import JournalError, JournalFull, JournalReadOnly, ValueUnreadable
from ironflow_nb.values.private_files import make_folder, new_file, refuse_used
from ironflow_nb.values.stored_value import ContentParts

_CHUNK: Final = 1 << 20
_SYSTEM: Final = str(sys.platform)  # a plain text, so that type checkers look at every branch
_TO_THE_DISK: Final = "F_FULLFSYNC"
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})
_NO_RIGHT: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class LargeValues(Protocol):
    """The content of large values, by their ids, outside of the database."""

    def write(self, value_id: ValueId, content: bytes | ContentParts) -> None:
        """Write the content; on return it is as durable as the journal can be."""

    def read(self, value_id: ValueId, size: int) -> bytes:
        """Return the content.

        Raises:
            ValueUnreadable: it is missing, or not as long as it was.
        """

    def path(self, value_id: ValueId) -> PurePath:
        """Return the path of the content for messages."""

    def has(self, value_id: ValueId) -> bool:
        """Return True if the content is there."""

    def remove(self, value_id: ValueId) -> None:
        """Remove the content. Lock: inside a transaction that writes."""

    def written_before(self, instant_s: float) -> Iterator[ValueId]:
        """Yield the ids of contents that were written before that instant (seconds UTC)."""


class ValueFiles:
    """The folder of value files beside a journal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, value_id: ValueId) -> Path:
        """Return the path of the value's file."""
        name = value_id.hex()
        return self.folder / name[2:4] / name

    def write(self, value_id: ValueId, content: bytes | ContentParts) -> None:
        """Write the content durably, unless its file exists and is undamaged.

        Raises:
            JournalFull, JournalReadOnly, JournalError: the file can't be written.
        """
        path = self.path(value_id)
        # Two engines of one process may write the same value at once, so the id of the content is in the name.
        temporary = path.with_name(f"{path.name}.{os.getpid()}.{id(content):x}.tmp")
        try:
            if _has_content(path, content):
                _sync_folder(path.parent)  # another writer may not have synced it yet
                return
            _make_folder(path.parent)
            try:
                with new_file(temporary) as file:
                    file.writelines(_chunks(content))
                    file.flush()
                    _sync(file.fileno())
                _replace_file(temporary, path, content)
            finally:
                temporary.unlink(missing_ok=True)
            _sync_folder(path.parent)
        except OSError as error:
            what = f"a value of {len(content)} bytes can't be written to {path.parent}"
            raise _journal_error(error, what, path) from error

    def read(self, value_id: ValueId, size: int) -> bytes:
        """Return the content.

        Raises:
            ValueUnreadable: the file is missing, unreadable, or does not have `size` bytes.
        """
        path = self.path(value_id)
        try:
            refuse_used(path)
            content = path.read_bytes()
        except FileNotFoundError as error:
            raise ValueUnreadable(f"the value file {path} is missing", value_id=value_id) from error
        except OSError as error:
            raise ValueUnreadable(f"the value file {path} can't be read: {error}", value_id=value_id) from error
        if len(content) != size:
            raise ValueUnreadable(
                f"the value file {path} has {len(content)} bytes and was written with {size}", value_id=value_id
            )
        return content

    def has(self, value_id: ValueId) -> bool:
        """Return True if there is a file of the value."""
        return self.path(value_id).exists()

    def remove(self, value_id: ValueId) -> None:
        """Remove the file of the value, if there is one.

        Lock: inside a transaction that writes; nobody begins to refer to the value meanwhile.
        """
        try:
            self.path(value_id).unlink(missing_ok=True)
        except OSError as error:
            what = f"a value file can't be removed from {self.folder}"
            raise _journal_error(error, what, self.path(value_id)) from error

    def written_before(self, instant_s: float) -> Iterator[ValueId]:
        """Yield the ids of files that were written before, and remove what dead writers of these left behind."""
        for folder in self.folder.iterdir() if self.folder.is_dir() else ():
            for path in folder.iterdir() if folder.is_dir() else ():
                with suppress(OSError, ValueError):
                    if path.stat().st_mtime > instant_s:
                        continue
                    if path.suffix == ".tmp":
                        path.unlink()
                    else:
                        yield ValueId(bytes.fromhex(path.name))


def _journal_error(error: OSError, what: str, path: Path) -> JournalError:
    kind: type[JournalError]
    if error.errno in _NO_SPACE:
        kind, to_do = JournalFull, "make space there, then run the cell again: it continues from what was recorded"
    elif error.errno in _NO_RIGHT:
        kind, to_do = JournalReadOnly, "check the permissions of the folder"
    else:
        kind, to_do = JournalError, "check that its disk is connected, then run the cell again"
    return kind(f"{what}: {error.strerror or error}; {to_do}", path=path, errno=error.errno)


def _chunks(content: bytes | ContentParts) -> Iterator[memoryview]:
    """Yield the content in chunks of at most 1 MB."""
    for part in content.parts if isinstance(content, ContentParts) else [memoryview(content)]:
        for start in range(0, len(part), _CHUNK):
            yield part[start : start + _CHUNK]


def _has_content(path: Path, content: bytes | ContentParts) -> bool:
    """Return True if the file has exactly that content; a damaged file may have the same length."""
    try:
        if path.stat().st_size != len(content):
            return False
        refuse_used(path)
        with path.open("rb") as file:
            return all(file.read(len(chunk)) == chunk for chunk in _chunks(content))
    except OSError:
        return False


def _replace_file(temporary: Path, path: Path, content: bytes | ContentParts) -> None:
    try:
        temporary.replace(path)
    except PermissionError:
        # Windows does not replace a file that is being read. Another process may have written the same content.
        if not _has_content(path, content):
            raise


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        make_folder(folder)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    # A file name is durable only after its folder is synced. Windows can't open a folder and does not need this.
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    if _SYSTEM == "darwin":  # there fsync leaves the bytes in the cache of the disk
        import fcntl

        with suppress(OSError):  # not every disk supports it
            fcntl.fcntl(descriptor, getattr(fcntl, _TO_THE_DISK))
            return
    os.fsync(descriptor)
