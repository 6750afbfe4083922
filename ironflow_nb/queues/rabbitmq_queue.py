"""Messages of a queue of RabbitMQ, or of another broker that speaks AMQP 0-9-1."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import pika
import pika.exceptions

from ironflow_nb.queues.notifier import N_RECEIVED, RECEIVE_S, Message
from ironflow_nb.queues.queue_url import QueueUrl

_N_DELIVERIES: Final = "x-delivery-count"


class RabbitmqQueue:
    """A queue of RabbitMQ, which is there already. A message is known by its `message_id`, which its sender sets.

    Quorum queues count deliveries; others know only whether a message was delivered before.
    """

    def __init__(self, url: QueueUrl, _group: str, _consumer: str) -> None:
        self._received: list[Message] = []
        self._connection = pika.BlockingConnection(pika.URLParameters(url.address))
        try:
            self._channel = self._connection.channel()
            self._channel.basic_qos(prefetch_count=N_RECEIVED)
            self._channel.basic_consume(url.options["queue"], self._note)
        except BaseException:
            self.close()
            raise

    def _note(self, _channel: Any, delivery: Any, properties: Any, body: bytes) -> None:
        given = properties.headers or {}
        headers = {name: _text(value) for name, value in given.items()} | {"routing-key": delivery.routing_key}
        n_before = given.get(_N_DELIVERIES)
        n_deliveries = 1 + (n_before if isinstance(n_before, int) else int(delivery.redelivered))
        self._received.append(
            Message(
                message_id=properties.message_id or None,
                body=body,
                headers=headers,
                n_deliveries=n_deliveries,
                receipt=delivery.delivery_tag,
            )
        )

    def receive(self) -> Sequence[Message]:
        """See `Notifier`."""
        self._connection.process_data_events(time_limit=RECEIVE_S)
        if not self._channel.consumer_tags and not self._received:
            raise ConnectionError("the queue was deleted")
        received, self._received = self._received[:N_RECEIVED], self._received[N_RECEIVED:]
        return received

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """See `Notifier`."""
        for each in messages:
            self._channel.basic_ack(each.receipt)

    def close(self) -> None:
        """See `Notifier`."""
        with suppress(pika.exceptions.AMQPError):
            self._connection.close()


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
