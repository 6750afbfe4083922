"""Errors of journals, and of the engine that has one open."""

from __future__ import annotations

import errno as _errno
from pathlib import Path

from ironflow_nb.errors.root_error import IronflowError


class JournalError(IronflowError, OSError):
    """The journal could not be opened, read or written."""

    path: Path | None = None
    errno: int | None = None


class NotAJournal(JournalError):
    """The path does not lead to a journal, but to a folder, another kind of file, or another application's database."""


class JournalTooNew(JournalError):
    """The journal was written by a newer version of ironflow_nb."""

    schema: int


class JournalReadOnly(JournalError, PermissionError):
    """The journal is open for reading only, and something was to be written."""


class JournalBusy(JournalError, TimeoutError):
    """Another process held the write lock of the journal for too long."""

    pids: list[int]


class JournalFull(JournalError):
    """There is no space left for the journal: the disk is full, or a quota or limit is reached."""

    errno: int | None = _errno.ENOSPC


class ConnectionLost(JournalError):
    """The connection to the server of the journal was cut, and the transaction in it is not committed."""


class StoreUnreachable(JournalError):
    """The store of large values can't be reached, refuses, or is not to be trusted: no value in it is lost for that."""


class JournalConflict(JournalError):
    """The next version of a run was already taken: another process, or another engine, appends to it."""

    run_id: str | None = None
    name: str | None = None


class JournalCorrupt(JournalError):
    """A row of the journal is damaged; `damaged` has a message for each run with such rows."""

    run_id: str | None = None
    event_type: str | None = None
    damaged: dict[str, str] | None = None


class EngineClosed(IronflowError, RuntimeError):
    """The engine was closed, or belongs to the process that this one was forked from."""
