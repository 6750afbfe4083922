"""The definition of a run, which is made and written some time after the run has begun: to make it takes a while."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from ironflow_nb.execution.recording.journal_access import RunStorage
from ironflow_nb.execution.session.run_writer import RunWriter
from ironflow_nb.journal.ports import StoredDefinition


class DeferredDefinition:
    """The definition of one run, if the journal does not have it yet; `lock` is that of the session."""

    def __init__(self, writer: RunWriter, lock: AbstractContextManager[object]) -> None:
        self._writer = writer
        self._lock = lock
        self._make: Callable[[], StoredDefinition] | None = None
        self._written: StoredDefinition | None = None

    def defer(self, make: Callable[[], StoredDefinition]) -> None:
        """Have the definition made later, by that function."""
        self._make = make

    def current(self) -> StoredDefinition | None:
        """Return the definition, if this process made it; until its commit no other process has it."""
        make = self._make
        return self._written if make is None else make()

    def write(self, storage: RunStorage) -> None:
        """Add the definition to the next commit, once. It is made outside of the lock.

        A closed journal takes none; and in a forked child it may wait for the import of a thread that is not there.
        """
        if (make := self._make) is not None and not self._writer.access.is_closed:
            stored = storage.definition(make())
            with self._lock:
                if self._make is not None:  # only now: a thread that finds it gone may commit the end of the run
                    self._written, self._make = stored, None
                    self._writer.define(stored)
