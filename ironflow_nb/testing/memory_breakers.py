"""The rows of circuit breakers in plain Python: the reference of `ironflow_nb.journal.breaker_rows`."""

from __future__ import annotations

from collections.abc import Sequence

from ironflow_nb.core.breaker_rules import BreakerState
from ironflow_nb.journal.breaker_rows import BreakerReader, ChangedBreaker
from ironflow_nb.journal.ports import Addition


class MemoryBreakers(BreakerReader):
    """The breakers of a journal in memory."""

    def __init__(self) -> None:
        self._states: dict[str, BreakerState] = {}

    def copy(self) -> MemoryBreakers:
        """Return a copy, for a copy of the journal."""
        other = MemoryBreakers()
        other._states = dict(self._states)
        return other

    def put(self, additions: Sequence[Addition]) -> None:
        """Write the rows."""
        self._states |= {each.state.name: each.state for each in additions if isinstance(each, ChangedBreaker)}

    def breaker(self, name: str) -> BreakerState | None:
        """See `BreakerReader`."""
        return self._states.get(name)

    def breakers(self) -> list[BreakerState]:
        """See `BreakerReader`."""
        return [self._states[name] for name in sorted(self._states)]
