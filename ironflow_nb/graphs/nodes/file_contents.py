"""What is in files: made from the data of a graph, and written whole or not at all.

What is in granted folders.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any, Final

from ironflow_nb.errors import NodeTimeout
from ironflow_nb.execution import system_entropy
from ironflow_nb.graphs.grants import Need
from ironflow_nb.graphs.kinds import NodeContext
from ironflow_nb.graphs.language.data import write_json
from ironflow_nb.graphs.nodes.folders import Folder, open_folder, require_file

MAX_BYTES: Final = 50_000_000
PART_PREFIX: Final = ".ironflow-"
PART_SUFFIX: Final = ".part"
_CHUNK: Final = 1 << 20


def bytes_of(content: Any, *, is_line: bool = False) -> bytes:
    """Return what is written of a value: a text and bytes as they are, other data as JSON.

    Raises:
        ValueError, TypeError: it has no such form.
    """
    match content:
        case str():
            return content.encode()
        case bytes() | bytearray() | memoryview():
            return bytes(content)
        case _:
            indent = None if is_line else 2
            return f"{write_json(content, ensure_ascii=False, indent=indent, separators=None)}\n".encode()


def text_of(content: bytes) -> str:
    """Return the text, without the mark that some programs begin it with.

    Raises:
        ValueError: it is no UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is no text of UTF-8, at byte {error.start}; as: bytes reads it") from None


def chunks_of(file: IO[bytes]) -> Iterator[bytes]:
    """Yield what is left of the file."""
    while chunk := file.read(_CHUNK):
        yield chunk


def put(folder: Folder, name: str, chunks: Iterable[bytes], *, is_replacing: bool, mode: int | None = None) -> int:
    """Write a file whole or not at all; return how many bytes it has.

    It is written under another name beside, synced, then renamed. One that may not be replaced, but has the very
    content, is as good as written: so the node can be done again after a crash.

    Args:
        folder: where it is to be.
        name: its name there.
        chunks: the content.
        is_replacing: a file that is there may be replaced.
        mode: who may do what with it; by default as of the file that is replaced, or as the system makes files.

    Raises:
        OSError: it can't be written, or is there and may not be replaced.
    """
    there = folder.status(name)
    if there is not None:
        require_file(there)
        mode = stat.S_IMODE(there.st_mode) if mode is None else mode
    part = f"{PART_PREFIX}{system_entropy(8).hex()}{PART_SUFFIX}"
    descriptor = folder.open_file(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        n_bytes = _fill(descriptor, chunks, mode)
        _rename(folder, part, name, is_replacing=is_replacing)
    except BaseException:
        with suppress(OSError):
            folder.remove(part)
        raise
    folder.sync()
    return n_bytes


def _fill(descriptor: int, chunks: Iterable[bytes], mode: int | None) -> int:
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
        if not _is_same(folder, part, name):
            told = "it is there already, with another content; overwrite: true would replace it"
            raise FileExistsError(error.errno, told) from None
        folder.remove(part)


def _is_same(folder: Folder, name: str, other: str) -> bool:
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


def append(folder: Folder, name: str, content: bytes) -> int:
    """Append to a file; return how many bytes it has then. What could be written only in part is taken back."""
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


MAX_ENTRIES: Final = 10_000

Found = tuple[str, os.stat_result]


def entries_in(
    place: Path, written: str, context: NodeContext, *, pattern: str, is_recursive: bool
) -> list[dict[str, Any]]:
    """Return the files and folders whose names fit the pattern, sorted by path, each path so that it can be read.

    A link is there as what it leads to, if that is granted; none is followed into a folder. Devices, pipes and what is
    being written are left out.

    Raises:
        OSError, ValueError: the folder can't be read, or has too many entries, or names that are no text.
        NodeTimeout: it takes longer than the node may.
    """
    until_s = None if context.timeout_s is None else context.monotonic() + context.timeout_s
    left, entries = [(place, written.rstrip("/"))], []
    while left:
        if until_s is not None and context.monotonic() > until_s:
            raise NodeTimeout(f"{context.node}: {written!r} took longer than {context.timeout_s:g} s to list")
        folder, prefix = left.pop()
        for name, found in _seen(folder, prefix, context):
            is_folder = stat.S_ISDIR(found.st_mode)
            path = f"{prefix}/{name}"
            if is_recursive and is_folder and not (folder / name).is_symlink():
                left.append((folder / name, path))
            if fnmatchcase(name, pattern):
                entries.append({"path": path, "name": _text(name), "bytes": found.st_size, "is_folder": is_folder})
            if len(entries) > MAX_ENTRIES:
                raise ValueError(f"it has more than {MAX_ENTRIES:,} entries; list less of it, or give a pattern")
    return sorted(entries, key=lambda entry: str(entry["path"]))


def _seen(place: Path, prefix: str, context: NodeContext) -> Iterator[Found]:
    with open_folder(place) as folder:
        for name, found in folder.entries():
            if name.startswith(PART_PREFIX) and name.endswith(PART_SUFFIX):
                continue
            leads_to: os.stat_result | None = found
            if stat.S_ISLNK(found.st_mode):
                leads_to = _led_to(f"{prefix}/{name}", context)
            if leads_to is not None and (stat.S_ISREG(leads_to.st_mode) or stat.S_ISDIR(leads_to.st_mode)):
                yield name, leads_to


def _led_to(path: str, context: NodeContext) -> os.stat_result | None:
    if context.grants.refusal(Need("files", path)) is not None:
        return None
    try:
        return context.grants.resolved(path).stat()
    except (OSError, RuntimeError):
        return None  # it leads nowhere


def _text(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise OSError(errno.EILSEQ, f"the name {os.fsencode(name)!r} in it is no UTF-8; rename that") from None
    return name
