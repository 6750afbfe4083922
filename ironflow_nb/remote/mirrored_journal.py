"""The journal of one run in a process that reaches its server over HTTP.

It is in memory and begins with all that the server has of the run. What is committed to it, goes to the server first:
a step is done when the server has it. The server refuses the commits of an owner whose run is another's by now.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from typing import Final, Protocol

from msgspec.structs import replace

from ironflow_nb.core.identity import RunId
from ironflow_nb.errors import JournalConflict, NotRetryable
from ironflow_nb.journal.breaker_rows import ChangedBreaker
from ironflow_nb.journal.ports import Check, Durability, Lease, RunCommit, Signal, SignalId
from ironflow_nb.journal.sqlite_memory import SqliteMemoryJournal
from ironflow_nb.remote.wire_format import TELEMETRY, ReceivedSignals, WireCommit, wire_commit
from ironflow_nb.triggers.trigger_rows import EmittedEvent, ReplacedItem, Subscription
from ironflow_nb.values.stored_value import StoredValue

_LOCAL: Final = (ChangedBreaker, Subscription)
"""Rows that concern this process only."""


class RunServer(Protocol):
    """The server of a run, as its journal here uses it."""

    def commit(self, lease: Lease, commits: Sequence[WireCommit]) -> None:
        """Have the commits recorded; on return they are.

        Raises:
            JournalConflict: the run is another owner's.
            JournalError: the server can't be reached, or refuses.
        """

    def beat(self, lease: Lease, run_ids: Collection[RunId], after: int, *, is_beat: bool) -> ReceivedSignals:
        """Tell that the owner lives; return what has come for its runs."""

    def send(self, signal: Signal, payload: StoredValue | None, known: SignalId | None) -> SignalId | None:
        """Send a signal to a run of the server; see the port of the journal."""

    def emit(self, name: str, value: StoredValue, key: str) -> None:
        """Record an event that starts flows."""

    def release(self, lease: Lease) -> None:
        """Tell that the owner has ended."""


class MirroredJournal(SqliteMemoryJournal):
    """A journal in memory whose commits go to a server first. See the module."""

    def __init__(self, lock: AbstractContextManager[object], server: RunServer, where: str) -> None:
        super().__init__(lock)
        self.location = where
        self._server = server
        self._lease: Lease | None = None
        """The lease in whose name everything goes to the server; None as long as nothing does."""
        self.is_lost = False
        """Whether the server has refused a commit, because the run is another owner's."""
        self._server_ids: dict[int, int] = {}
        self._last_signal = 0

    def begin(self, lease: Lease) -> None:
        """Send everything to the server from now on, in the name of that owner."""
        self._lease = lease

    # -- writing -------------------------------------------------------------------------------------------------

    def append(self, commits: Sequence[RunCommit], *, durability: Durability, lease: Lease | None = None) -> None:
        """See the port; the server has the commits before."""
        if self._lease is not None:
            sent = [each for commit in commits if (each := self._sent(commit)) is not None]
            if sent:
                self._commit(self._lease, sent)
        super().append(commits, durability=durability, lease=lease)

    def _commit(self, lease: Lease, sent: Sequence[WireCommit]) -> None:
        try:
            self._server.commit(lease, sent)
        except JournalConflict:
            self.is_lost = True
            raise

    def _sent(self, commit: RunCommit) -> WireCommit | None:
        """Return what the server gets of the commit, or None if that is nothing."""
        done, put = list(commit.done_work), list(commit.put_work)
        for each in commit.additions:
            if isinstance(each, ReplacedItem):
                done.append((each.claimed.kind, each.claimed.key))
                put += each.following
            elif isinstance(each, EmittedEvent):
                self._emit(each, commit)
                return None
            elif type(each).__name__ not in TELEMETRY and not isinstance(each, _LOCAL):
                raise NotRetryable(
                    f"{type(each).__name__} can't be recorded in a run of a server that is reached over HTTP: do it in "
                    "a process that has the journal"
                )
        if not commit.run_id:
            return None
        taken = [self._server_ids[each] for each in commit.taken if each in self._server_ids]
        # Items that are replaced are put after others are done, as here.
        kept = [pair for pair in done if pair not in {(item.kind, item.key) for item in put}]
        return wire_commit(replace(commit, done_work=tuple(kept), put_work=tuple(put)), taken)

    def _emit(self, event: EmittedEvent, commit: RunCommit) -> None:
        value = next(each for each in commit.values if each.value_id == event.data_id)
        self._server.emit(event.name, value, event.key or f"event:{event.event_id}")

    def write_lease(self, lease: Lease) -> None:
        """See the port."""
        super().write_lease(lease)
        if self._lease is not None:
            self.receive(self._server.beat(lease, (), self._last_signal, is_beat=True))

    def release(self, *owners: str) -> None:
        """See the port."""
        super().release(*owners)
        if self._lease is not None and self._lease.owner in owners:
            self._server.release(self._lease)

    # -- signals -------------------------------------------------------------------------------------------------

    def send(
        self, signal: Signal, payload: StoredValue | None = None, *, known: SignalId | None = None, check: Check = None
    ) -> SignalId | None:
        """See the port: the signal goes to the server, and comes back from there if it is for a run of here."""
        if self._lease is None:
            return super().send(signal, payload, known=known, check=check)
        if check is not None:
            with self.current() as reader:
                check(reader)
        return self._server.send(signal, payload, known)

    def look(self, run_ids: Collection[RunId]) -> Collection[RunId]:
        """Take the signals that have come for these runs; return those runs that are another owner's by now."""
        assert self._lease is not None
        mail = self._server.beat(self._lease, run_ids, self._last_signal, is_beat=False)
        self.receive(mail)
        return mail.lost

    def receive(self, mail: ReceivedSignals) -> None:
        """Put signals of the server into the mailboxes of here."""
        with self._guard:
            for signal, payload in mail.signals:
                assert signal.signal_id is not None
                if signal.signal_id <= self._last_signal:
                    continue
                self._last_signal = signal.signal_id
                super().send(replace(signal, signal_id=None), payload)
                newest = self._connection.execute("SELECT max(signal_id) FROM signals").fetchone()[0]
                self._server_ids[newest] = signal.signal_id
