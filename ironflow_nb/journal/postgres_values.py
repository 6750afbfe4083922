"""The contents of large values in a journal on PostgreSQL: rows of pieces, which every machine can read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ironflow_nb.core.identity import ValueId
from ironflow_nb.errors import ValueUnreadable
from ironflow_nb.journal.postgres_connection import PostgresConnection
from ironflow_nb.values.stored_value import ContentParts

_PIECE: Final = 16 * 1024 * 1024
_PUT: Final = "INSERT INTO value_contents (value_id, number, content) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_RENEW: Final = "UPDATE value_contents SET written_at = clock_timestamp() WHERE value_id = ?"


class PostgresValues:
    """The contents, through the connection that writes, and through one that `reading` lends."""

    def __init__(
        self,
        writer: Callable[[], PostgresConnection],
        reading: Callable[[], AbstractContextManager[PostgresConnection]],
    ) -> None:
        self._writer, self._reading = writer, reading

    def path(self, value_id: ValueId) -> Path:
        """See `LargeValues`."""
        return Path("value_contents", value_id.hex())

    def write(self, value_id: ValueId, content: bytes | ContentParts) -> None:
        """See `LargeValues`. Outside of a transaction each piece is one of its own."""
        connection = self._writer()
        if connection.execute(_RENEW, (value_id,)).rowcount == -(-len(content) // _PIECE):
            return  # all pieces are there, and are young again
        whole = memoryview(bytes(content))
        for number, start in enumerate(range(0, len(whole), _PIECE)):
            connection.execute(_PUT, (value_id, number, whole[start : start + _PIECE]))

    def read(self, value_id: ValueId, size: int) -> bytes:
        """See `LargeValues`."""
        query = "SELECT content FROM value_contents WHERE value_id = ? ORDER BY number"
        with self._reading() as connection:
            content = b"".join(piece for (piece,) in connection.execute(query, (value_id,)))
        if len(content) != size:
            what = "is missing" if not content else f"has {len(content)} bytes and was written with {size}"
            raise ValueUnreadable(f"the content of value {value_id.hex()} {what}", value_id=value_id)
        return content

    def has(self, value_id: ValueId) -> bool:
        """See `LargeValues`."""
        query = "SELECT 1 FROM value_contents WHERE value_id = ? LIMIT 1"
        return self._writer().execute(query, (value_id,)).fetchone() is not None

    def remove(self, value_id: ValueId) -> None:
        """See `LargeValues`."""
        self._writer().execute("DELETE FROM value_contents WHERE value_id = ?", (value_id,))

    def written_before(self, instant_s: float) -> Iterator[ValueId]:
        """See `LargeValues`."""
        query = "SELECT value_id FROM value_contents GROUP BY value_id HAVING max(written_at) < ?"
        with self._reading() as connection:
            found = connection.execute(query, (datetime.fromtimestamp(instant_s, UTC),)).fetchall()
        return iter([ValueId(value_id) for (value_id,) in found])
