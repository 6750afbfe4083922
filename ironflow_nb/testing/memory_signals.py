"""Signals in plain Python, and the ids that their senders gave them."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from ironflow_nb.core.identity import RunId
from ironflow_nb.journal.ports import Signal, SignalId


class MemorySignals:
    """The signals of a journal in memory that were not received yet, and the ids of all that have one."""

    def __init__(self) -> None:
        self._pending: dict[int, Signal] = {}
        self._ids: dict[tuple[RunId, str], SignalId] = {}
        self._n_sent = 0

    def copy(self) -> MemorySignals:
        """Return a copy, for a copy of the journal."""
        other = MemorySignals()
        other._pending, other._ids, other._n_sent = dict(self._pending), dict(self._ids), self._n_sent
        return other

    def known(self, given: SignalId) -> SignalId | None:
        """Return what the signal of that id was."""
        return self._ids.get((given.run_id, given.caller_id))

    def put(self, signal: Signal, known: SignalId | None) -> None:
        """Keep the signal, and its id if it has one."""
        self._n_sent += 1
        self._pending[self._n_sent] = replace(signal, signal_id=self._n_sent)
        if known is not None:
            self._ids[known.run_id, known.caller_id] = known

    def take(self, signal_ids: Iterable[int]) -> None:
        """Forget the signals that were received."""
        for signal_id in signal_ids:
            self._pending.pop(signal_id, None)

    def pending(self) -> list[Signal]:
        """Return those that were not received, in the order of sending."""
        return list(self._pending.values())
