"""Messages of a stream of NATS JetStream, by a durable consumer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import nats
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import NotFoundError

from ironflow_nb.queues.notifier import N_RECEIVED, RECEIVE_S, Message
from ironflow_nb.queues.queue_url import QueueUrl

T = TypeVar("T")

IDLE_S: Final = 60.0
"""After that time a message that was not acknowledged is delivered again."""
_CONNECT_S: Final = 5
_ID: Final = "Nats-Msg-Id"


class NatsStream:
    """A stream of JetStream, which is there already; its durable consumer is made if it is not.

    Its library is one of coroutines, so a loop of its own runs during each call.
    """

    def __init__(self, url: QueueUrl, group: str, _consumer: str) -> None:
        self._loop = asyncio.new_event_loop()
        try:
            self._do(self._connect(url, re.sub(r"[^\w-]", "_", url.options.get("group", group))))
        except BaseException:
            self._loop.close()
            raise

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)

    async def _connect(self, url: QueueUrl, durable: str) -> None:
        self._connection = await nats.connect(
            url.address, allow_reconnect=False, connect_timeout=_CONNECT_S, error_cb=_ignored
        )
        try:
            self._subscription = await self._subscribed(url, durable)
        except BaseException:
            await self._connection.close()
            raise

    async def _subscribed(self, url: QueueUrl, durable: str) -> Any:
        stream, jetstream = url.options["stream"], self._connection.jetstream()
        self._ask = partial(jetstream.consumer_info, stream, durable)
        try:
            await self._ask()
        except NotFoundError:
            config = ConsumerConfig(
                durable_name=durable,
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=url.seconds("idle_s", IDLE_S),
                filter_subject=url.options.get("subject"),
            )
            await jetstream.add_consumer(stream, config)
        return await jetstream.pull_subscribe_bind(durable, stream)

    def receive(self) -> Sequence[Message]:
        """See `Notifier`."""
        return self._do(self._fetched())

    async def _fetched(self) -> list[Message]:
        try:
            found = await self._subscription.fetch(N_RECEIVED, timeout=RECEIVE_S)
        except TimeoutError:
            found = []
            await self._ask()  # of a consumer that was deleted nothing comes, either
        if not self._connection.is_connected:
            raise ConnectionError("the connection is lost")
        return [_message(each) for each in found]

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """See `Notifier`."""
        self._do(self._acknowledged(messages))

    async def _acknowledged(self, messages: Sequence[Message]) -> None:
        for each in messages:
            await each.receipt.ack()
        await self._connection.flush(_CONNECT_S)

    def close(self) -> None:
        """See `Notifier`."""
        try:
            self._do(self._connection.close())
        finally:
            self._loop.close()


async def _ignored(_error: Exception) -> None:
    """The next call meets errors of the connection, not the loop of the library."""


def _message(given: Any) -> Message:
    about, headers = given.metadata, {**(given.headers or {}), "subject": given.subject}
    # The number in the stream alone would be that of another message once the stream was made anew.
    own_id = f"{about.stream} {about.sequence.stream} {about.timestamp.timestamp():.6f}"
    return Message(
        message_id=headers.get(_ID, own_id),
        body=given.data,
        headers=headers,
        n_deliveries=about.num_delivered,
        receipt=given,
    )
