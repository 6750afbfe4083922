"""The rows of circuit breakers, which all processes on the journal share. The table is in `schema`."""

from __future__ import annotations

import sqlite3
from typing import Final

from ironflow_nb.core.breaker_rules import BreakerState
from ironflow_nb.core.identity import RunId
from ironflow_nb.journal.ports import Addition, Reader
from ironflow_nb.journal.table import Table

BREAKERS: Final = Table("breakers", BreakerState, ["name"])


class ChangedBreaker(Addition, frozen=True):
    """A breaker that has changed."""

    state: BreakerState

    def write(self, connection: sqlite3.Connection, run_id: RunId) -> None:
        """See `Addition`."""
        connection.execute(BREAKERS.put, BREAKERS.values(self.state))


class BreakerReader:
    """Reads of the breakers, through the connection of a reader of the journal."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def breaker(self, name: str) -> BreakerState | None:
        """Return the breaker of that name."""
        return BREAKERS.first(self._connection, "WHERE name = ?", (name,))

    def breakers(self) -> list[BreakerState]:
        """Return all breakers, by name."""
        return list(BREAKERS.find(self._connection, "ORDER BY name"))


def breakers_of(reader: Reader) -> BreakerReader:
    """Return the reads of the breakers at the moment of the reader."""
    return reader.extension(BreakerReader)
