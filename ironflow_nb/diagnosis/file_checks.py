"""Checks of a journal file, its disk and the processes that use it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import sys
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec

from ironflow_nb.core.durations import spoken
from ironflow_nb.core.plain_text import counted
from ironflow_nb.diagnosis.findings import Finding, Severity, in_bytes
from ironflow_nb.diagnosis.inspection import (
    CHECKED_BYTES,
    WRITE,
    JournalContents,
    JournalUser,
    LockHold,
    beside,
    command_of,
    holds_on,
    inspect,
    size_of,
    users_of,
)
from ironflow_nb.errors import JournalBusy, JournalError, NotAJournal
from ironflow_nb.execution import Clock, SystemClock, SystemThreads
from ironflow_nb.journal.file_systems import file_system, is_network
from ironflow_nb.journal.ports import Durability
from ironflow_nb.journal.schema import SCHEMA_VERSION
from ironflow_nb.journal.sqlite_file import LOG_LIMIT, WAL, look_at

_SYSTEM: Final = str(sys.platform)  # a plain text, so that type checkers look at every branch
_MOUNTS: Final = Path("/proc/self/mountinfo")
_ANOTHER_PLACE: Final = 'iron.use("/another/folder/journal.db") or IRONFLOW_DB'

_LOG_HARM: Final = "the write-ahead log that this journal has can damage it"
_NO_LOG: Final = "a journal has no write-ahead log: a step takes several times as long, and waits for readers"

N_SYNCS, SYNC_BYTES, SYNC_LIMIT_S = 5, 4096, 1.0
SLOW_SYNC_S: Final = 0.02
NO_SYNC_S: Final = 10e-6
LITTLE_SPACE: Final = 1_000_000_000
NO_SPACE: Final = 50_000_000
LARGE_LOG: Final = LOG_LIMIT
"""SQLite reuses the log from its start after about 4 MB, unless a process reads from it."""
HOLD_S: Final = 0.1


class JournalFile(msgspec.Struct, frozen=True, kw_only=True):
    """A journal file with the facts for all checks. `contents` or `error` is None, both if there is no file.

    `users` and `holds` are None if the system does not tell. `holds` has only locks that lasted for `HOLD_S`.
    """

    path: Path
    durability: Durability
    read_only: bool
    contents: JournalContents | None = None
    error: JournalError | None = None
    users: Collection[JournalUser] | None = None
    holds: Collection[LockHold] | None = None

    @property
    def folder(self) -> Path:
        """The nearest folder above the file that exists."""
        return next(folder for folder in self.path.parents if folder.is_dir() or folder == folder.parent)


def examined(path: Path, *, durability: Durability, read_only: bool) -> JournalFile:
    """Return the facts about the file for all checks."""
    clock = SystemClock()
    at_first = holds_on(path)
    contents: JournalContents | None = None
    error: JournalError | None = None
    try:
        contents = inspect(path, clock) if _has_content(path) else None
    except JournalError as caught:
        error = caught
    users = users_of(path)
    if at_first:
        clock.wait(SystemThreads().wakeup(), HOLD_S)
    holds = None if at_first is None else at_first & (holds_on(path) or frozenset())
    return JournalFile(
        path=path, durability=durability, read_only=read_only, contents=contents, error=error, users=users, holds=holds
    )


def _has_content(path: Path) -> bool:
    there = look_at(path)
    if there is not None and not stat.S_ISREG(there.st_mode):
        # Opening a pipe would wait for its other end.
        raise NotAJournal(f"{path} is not an ordinary file; give the path of a journal file", path=path)
    return there is not None and there.st_size > 0


# -- the file ----------------------------------------------------------------------------------------------------


def file(journal: JournalFile) -> Iterator[Finding]:
    """Yield findings about the file: whether it exists, its contents, and whether it is sound."""
    if journal.error is not None:
        yield _file_error(journal)
    elif journal.contents is None:
        yield Finding("journal", "file", "there is none yet; the first step makes it")
    else:
        yield from _contents_findings(journal.contents)
    for user in journal.users or ():
        if user.pid == os.getpid() and user.has_lost:
            found = (
                "this process still has a file open that was deleted or replaced; an engine on it records nothing more"
            )
            advice = f"put the file back, or begin anew with iron.use({str(journal.path)!r})"
            yield Finding("journal", "lost file", found, Severity.WARNING, advice)


def _file_error(journal: JournalFile) -> Finding:
    holders = {hold.pid for hold in journal.holds or () if hold.kind == WRITE}
    if isinstance(journal.error, JournalBusy) or holders:
        found = f"it is locked by {_format_pids(holders) or 'another process'}, so it could not be read"
        return Finding("journal", "file", found, Severity.WARNING, "wait for that process, or end it, and ask again")
    found, _, advice = str(journal.error).partition("; ")
    return Finding("journal", "file", found, Severity.PROBLEM, advice or "look at the file, or restore it from a copy")


def _contents_findings(contents: JournalContents) -> Iterator[Finding]:
    size = contents.size
    if not contents.schema:
        yield Finding("journal", "file", "it is empty; the first step makes it a journal")
        return
    counts = ((contents.n_runs, "run"), (contents.n_steps, "step"), (contents.n_events, "event"))
    texts = [counted(number, noun) for number, noun in counts if number is not None]
    late = () if len(texts) == len(counts) else ("too much to count in a moment",)
    yield Finding("journal", "file", f"{in_bytes(size)} with {', '.join((*texts, *late))}")
    if contents.n_steps:
        per_step = in_bytes((size + contents.value_bytes) / contents.n_steps)
        yield Finding("journal", "bytes per step", f"{per_step}, large values included")
    yield _values_finding(contents)
    yield _schema_finding(contents.schema)
    yield _integrity_finding(contents.damage, size)


def _values_finding(contents: JournalContents) -> Finding:
    place = contents.value_place or "values/"
    whole = contents.value_place or "values/ beside the journal"
    if contents.n_values is None:
        return Finding("journal", "large values", "could not be looked for in a moment", Severity.NOTICE)
    if not contents.n_values:
        return Finding("journal", "large values", f"none; they would be in {whole}")
    found = f"{counted(contents.n_values, 'file')} in {place}, {in_bytes(contents.value_bytes)}"
    if not contents.n_values_lost:
        return Finding("journal", "large values", found)
    lost = f"{contents.n_values_lost:,} of {counted(contents.n_values, 'file')} in {place} missing or cut short"
    advice = f"put back the folder {whole}; a step whose value is lost runs again"
    return Finding("journal", "large values", lost, Severity.PROBLEM, advice)


def _schema_finding(schema: int) -> Finding:
    if schema == SCHEMA_VERSION:
        return Finding("journal", "schema", f"{schema}, which this version writes")
    found = f"{schema}; this version writes {SCHEMA_VERSION}"
    return Finding("journal", "schema", found, Severity.NOTICE, "the next write migrates it; make a copy before that")


def _integrity_finding(damage: Collection[str] | None, size: int) -> Finding:
    if damage is None:
        found = f"not checked, because the file has more than {in_bytes(CHECKED_BYTES)}"
        advice = 'when nothing runs: sqlite3 journal.db "PRAGMA integrity_check"'
        return Finding("journal", "integrity", found, Severity.NOTICE, advice)
    if not damage:
        return Finding("journal", "integrity", f"sound, all {in_bytes(size)} of it")
    advice = "copy the folder first, then restore the journal from a backup, or try the command .recover of sqlite3"
    return Finding("journal", "integrity", "; ".join(damage).replace("\n", " "), Severity.PROBLEM, advice)


# -- the place ---------------------------------------------------------------------------------------------------


def file_system_type(journal: JournalFile) -> Iterator[Finding]:
    """Yield a finding about the file system of the journal."""
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        advice = "check that it is a disk of this machine: SQLite is not safe on network drives"
        yield Finding("place", "file system", f"not told by {_SYSTEM}", Severity.NOTICE, advice)
        return
    kind = file_system(PurePosixPath(os.path.realpath(journal.path)), mounts)
    if is_network(kind):
        advice = f"keep the journal on a disk of this machine, with {_ANOTHER_PLACE}; copy it when nothing runs"
        has_log = journal.contents is not None and journal.contents.mode == WAL
        found = f"{kind}, a network file system, where {_LOG_HARM if has_log else _NO_LOG}"
        yield Finding("place", "file system", found, Severity.PROBLEM if has_log else Severity.WARNING, advice)
    elif kind in {"tmpfs", "ramfs"}:
        found = f"{kind}, which is memory: the journal survives its process, but not a restart of the machine"
        yield Finding("place", "file system", found, Severity.WARNING, f"put it on a disk, with {_ANOTHER_PLACE}")
    elif kind == "overlay":
        found = "overlay, as in a container: the journal may be deleted with the container"
        yield Finding("place", "file system", found, Severity.NOTICE, f"put it on a volume, with {_ANOTHER_PLACE}")
    else:
        yield Finding("place", "file system", kind or "unknown")


def space(journal: JournalFile) -> Iterator[Finding]:
    """Yield a finding about the free space."""
    free = shutil.disk_usage(journal.folder).free
    state = Severity.PROBLEM if free < NO_SPACE else Severity.WARNING if free < LITTLE_SPACE else Severity.OK
    advice = "make space: a step that can't be recorded stops its run" if state is not Severity.OK else ""
    yield Finding("place", "free space", in_bytes(free), state, advice)


def rights(journal: JournalFile) -> Iterator[Finding]:
    """Yield a finding about the right to write the journal."""
    there = [path for path in (journal.folder, journal.path) if os.access(path, os.F_OK)]
    locked = [path for path in there if not os.access(path, os.W_OK)]
    if locked:
        advice = f"change the permissions, or choose another place, with {_ANOTHER_PLACE}"
        yield Finding("place", "writable", f"no: {locked[0]} may not be written", Severity.PROBLEM, advice)
    elif journal.read_only:
        yield Finding("place", "writable", "yes, but it was opened with read_only=True")
    else:
        yield Finding("place", "writable", "yes")


def sync(journal: JournalFile) -> Iterator[Finding]:
    """Yield a finding about the time that the disk takes for one sync."""
    try:
        times_s = sorted(_sync_times(journal.path.parent, SystemClock()))
    except OSError as error:
        yield Finding("place", "sync", f"not measured: {error.strerror or error}", Severity.NOTICE)
        return
    typical_s = times_s[len(times_s) // 2]
    found = f"{typical_s * 1000:.2g} ms, the median of {len(times_s)} ({_format_range(times_s)})"
    if typical_s < NO_SYNC_S:
        advice = "a power cut may lose acknowledged steps, if this file system only writes to memory"
        yield Finding("place", "sync", f"{found}; no disk is that fast", Severity.NOTICE, advice)
    elif typical_s > SLOW_SYNC_S and journal.durability is Durability.POWER:
        advice = 'every step waits for one; use a faster disk, or durability="process", which waits for none'
        yield Finding("place", "sync", found, Severity.NOTICE, advice)
    else:
        yield Finding("place", "sync", found)


def _format_range(times_s: list[float]) -> str:
    return f"{times_s[0] * 1000:.2g} to {times_s[-1] * 1000:.2g}"


def _sync_times(folder: Path, clock: Clock) -> Iterator[float]:
    from tempfile import TemporaryFile

    sync_file = getattr(os, "fdatasync", os.fsync)  # SQLite calls it too
    with TemporaryFile(dir=folder) as file:
        began_s = clock.monotonic()
        for n_sync in range(N_SYNCS):
            os.write(file.fileno(), bytes(SYNC_BYTES))
            before_s = clock.monotonic()
            sync_file(file.fileno())
            yield clock.monotonic() - before_s
            if clock.monotonic() - began_s > SYNC_LIMIT_S and n_sync:
                return


# -- SQLite ------------------------------------------------------------------------------------------------------


def sqlite(journal: JournalFile) -> Iterator[Finding]:
    """Yield findings about SQLite: version, durability and journal mode."""
    yield _version_finding()
    has_log = journal.contents is None or journal.contents.mode in {WAL, None}
    yield _durability_finding(journal.durability, has_log=has_log)
    if journal.contents is not None:
        yield _mode_finding(journal.contents)


def has_reset_bug(version: tuple[int, ...]) -> bool:
    """Return True if this SQLite can damage a file when one connection restarts the log while another empties it.

    https://sqlite.org/wal.html#walresetbug: fixed in 3.51.3, and in 3.44.6 and 3.50.7 of older lines.
    """
    return version < (3, 51, 3) and not (3, 44, 6) <= version < (3, 45) and not (3, 50, 7) <= version < (3, 51)


def _version_finding() -> Finding:
    version = sqlite3.sqlite_version
    if not has_reset_bug(sqlite3.sqlite_version_info):
        return Finding("sqlite", "version", version)
    found = (
        f"{version}; before 3.51.3, programs that write to one file at the same time can damage it in very rare cases. "
        "Kernels with this version of ironflow can't: they write the log back only while nobody writes"
    )
    return Finding("sqlite", "version", found)


def _durability_finding(durability: Durability, *, has_log: bool) -> Finding:
    if durability is Durability.PROCESS:
        level = "NORMAL" if has_log else "FULL"
        found = f"process (synchronous={level}): survives every death of the kernel, but not every power cut"
        return Finding("sqlite", "durability", found)
    found = f"power (synchronous={'FULL' if has_log else 'EXTRA'}): acknowledged steps survive a power cut"
    return Finding("sqlite", "durability", found)


def _mode_finding(contents: JournalContents) -> Finding:
    mode = {
        None: "write-ahead log, now empty: no process has the journal open",
        WAL: "write-ahead log (WAL): readers and the writer don't wait for one another",
    }.get(contents.mode, f"rollback journal ({contents.mode}): readers and the writer wait for one another")
    return Finding("sqlite", "journal mode", f"{mode}; pages of {contents.page_size} bytes")


# -- users -------------------------------------------------------------------------------------------------------


def log(journal: JournalFile) -> Iterator[Finding]:
    """Yield a finding about the size of the write-ahead log and its readers; none if there is no log."""
    size = size_of(beside(journal.path, "-wal"))
    if size is None:
        return
    readers = sorted({hold.pid for hold in journal.holds or () if hold.kind != WRITE})
    if size <= LARGE_LOG:
        yield Finding("use", "log", in_bytes(size))
    elif readers:
        found = f"{in_bytes(size)}, and it can't be reused while these processes read: {_format_pids(readers)}"
        advice = "close what reads the journal there: a cursor not read to its end, a tool, a kernel that hangs"
        yield Finding("use", "log", found, Severity.WARNING, advice)
    else:
        advice = f"nothing: it is cut to {in_bytes(LOG_LIMIT)} when it is reused from its start"
        found = f"{in_bytes(size)}: a process read for a long time, or wrote much"
        yield Finding("use", "log", found, Severity.NOTICE, advice)


def users(journal: JournalFile) -> Iterator[Finding]:
    """Yield findings about the processes that have the journal open, and the one that is writing."""
    if journal.users is None:
        found = f"not told by {_SYSTEM}"
        yield Finding("use", "open in", found, Severity.NOTICE, f"lsof {journal.path}" if os.name == "posix" else "")
        return
    yield Finding("use", "open in", _format_pids(user.pid for user in journal.users) or "no process of yours")
    writers = sorted({hold.pid for hold in journal.holds or () if hold.kind == WRITE} - {os.getpid()})
    if writers:
        found = f"{_format_pids(writers)} has been writing for {spoken(HOLD_S)} or longer"
        advice = "if it goes on, steps here fail after 10 s of waiting: end that transaction or that process"
        yield Finding("use", "write lock", found, Severity.WARNING, advice)
    elif journal.contents is not None:
        yield Finding("use", "write lock", "free")


def _format_pids(pids: Iterator[int] | Collection[int]) -> str:
    return ", ".join(f"pid {pid} ({'this process' if pid == os.getpid() else command_of(pid)})" for pid in pids)
