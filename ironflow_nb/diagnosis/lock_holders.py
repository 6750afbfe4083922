"""Which processes use a journal now, and what they hold: as Linux tells it, without touching the file.

In a file with a write-ahead log the locks lie on single bytes of its ``-shm`` file; in one with a rollback journal on
bytes behind the end of the database file itself. Both are part of SQLite's file format.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from ironflow_nb.diagnosis.inspection import beside

_PROCESSES: Final = Path("/proc")
_LOCKS: Final = Path("/proc/locks")
_GONE: Final = " (deleted)"
_COMMAND_LENGTH: Final = 60

WRITE: Final = "write"
READ: Final = "read"
_WRITER: Final = range(120, 121)
_READERS: Final = range(123, 128)
_RESERVED: Final = range(0x40000000, 0x40000002)


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
