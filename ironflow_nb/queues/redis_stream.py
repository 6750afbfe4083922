"""Messages of a stream of Redis, by a group of consumers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec
import redis

from ironflow_nb.queues.notifier import N_RECEIVED, RECEIVE_S, Message
from ironflow_nb.queues.queue_url import QueueUrl

IDLE_S: Final = 60.0
"""After that time a message that a consumer has not acknowledged is another one's."""
_BODY: Final = "body"
_TIMEOUT_S: Final = 20.0


class RedisStream:
    """A stream of Redis. The field ``body`` of an entry is its body, and others are headers.

    Without that field all of them are the body.
    """

    def __init__(self, url: QueueUrl, group: str, consumer: str) -> None:
        self._stream, self._group, self._consumer = url.options["stream"], url.options.get("group", group), consumer
        self._idle_ms = round(url.seconds("idle_s", IDLE_S) * 1000)
        self._cursor: Any = "0-0"
        self._client = redis.Redis.from_url(url.address, socket_timeout=_TIMEOUT_S)
        try:
            self._client.xgroup_create(self._stream, self._group, id="0", mkstream=True)
        except redis.RedisError as error:
            if not str(error).startswith("BUSYGROUP"):  # it is there already
                self._client.close()
                raise

    def receive(self) -> Sequence[Message]:
        """See `Notifier`. What others have left lying comes first."""
        if left := self._left_by_others():
            return left
        found: Any = self._client.xreadgroup(
            self._group, self._consumer, {self._stream: ">"}, count=N_RECEIVED, block=round(RECEIVE_S * 1000)
        )
        entries = dict(found or {}).values()
        return [_message(entry_id, fields) for each in entries for entry_id, fields in each]

    def _left_by_others(self) -> list[Message]:
        group = self._stream, self._group
        claimed: Any = self._client.xautoclaim(*group, self._consumer, self._idle_ms, self._cursor, count=N_RECEIVED)
        self._cursor, entries = claimed[0], [(entry_id, fields) for entry_id, fields in claimed[1] if fields]
        if not entries:
            return []
        known: Any = self._client.xpending_range(
            *group, entries[0][0], entries[-1][0], len(entries), consumername=self._consumer
        )
        n_deliveries = {each["message_id"]: each["times_delivered"] for each in known}
        return [_message(entry_id, fields, n_deliveries.get(entry_id, 1)) for entry_id, fields in entries]

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """See `Notifier`. The entries stay in the stream, for other groups: its sender bounds its length."""
        self._client.xack(self._stream, self._group, *(each.receipt for each in messages))

    def close(self) -> None:
        """See `Notifier`."""
        with suppress(redis.RedisError):
            consumers: Iterable[Any] = self._client.xinfo_consumers(self._stream, self._group)
            if any(each["name"] == self._consumer.encode() and not each["pending"] for each in consumers):
                self._client.xgroup_delconsumer(self._stream, self._group, self._consumer)
        self._client.close()


def _message(entry_id: bytes, fields: Mapping[bytes, bytes], n_deliveries: int = 1) -> Message:
    given = {name.decode(errors="replace"): value for name, value in fields.items()}
    body = given.pop(_BODY, None)
    texts = {name: value.decode(errors="replace") for name, value in given.items()}
    return Message(
        message_id=entry_id.decode(),
        body=msgspec.json.encode(texts) if body is None else body,
        headers={} if body is None else texts,
        n_deliveries=n_deliveries,
        receipt=entry_id,
    )
