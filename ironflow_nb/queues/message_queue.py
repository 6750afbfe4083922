"""`iron.queue`: what the messages of a queue begin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

from ironflow_nb.core.option_values import a_name, a_text
from ironflow_nb.execution import REGISTRY, Engine
from ironflow_nb.handles.intake import Intake, bytes_of_payload, make_intake
from ironflow_nb.handles.run import Run
from ironflow_nb.handles.runnable import Runnable
from ironflow_nb.queues.failed_messages import dead_messages, try_again
from ironflow_nb.queues.notifier import Message, Notifier
from ironflow_nb.queues.queue_consumer import QueueConsumer
from ironflow_nb.queues.queue_url import Broker, QueueUrl, queue_url
from ironflow_nb.triggers.claims import requeue_dead

if TYPE_CHECKING:
    import pandas as pd

    from ironflow_nb.journal.ports import QueueItem

QUEUE: Final = "queue"
"""The kind under which the registry has them."""


def queue(
    name: str,
    url: str,
    *,
    emit: str | None = None,
    flow: Runnable | None = None,
    data: str = "body",
    when: str | None = None,
    key: str | None = None,
) -> MessageQueue:
    """Define what the messages of a queue begin: events, or runs of a flow or graph.

    A worker and a server take them while they run; in a notebook `MessageQueue.start` does. Each message is one event,
    or one run, however often it comes, and is acknowledged once that is in the journal. A queue of the same name, as of
    a cell that is run again, takes the place of the one before, and goes on if that was taking messages.

    Args:
        name: the name under which the journal knows what it has taken.
        url: ``redis://HOST/0?stream=NAME``, ``amqp://USER:PASSWORD@HOST/VHOST?queue=NAME`` (RabbitMQ),
            ``nats://HOST?stream=NAME`` (JetStream), or the ``https://`` of a queue of SQS.
        emit: the name of the event that each message is.
        flow: the flow or graph of which each message is a run, in place of an event.
        data: what of the message they get, a JMESPath expression over ``{body, headers}``; of a flow an object of its
            arguments by name.
        when: a JMESPath expression over the same; messages for which it is not true begin nothing.
        key: a JMESPath expression for what identifies a message, such as ``body.id``; by default the id that it has in
            the queue. A sender that sends again what it has sent needs it.

    Raises:
        ValueError: an option has a value that it does not know.
        DefinitionError: neither an event nor a flow is named, or both.
    """
    intake = make_intake(QUEUE, a_name(name), "message", emit, flow, {"data": data, "when": when, "key": key})
    made, before = MessageQueue(intake, queue_url(url)), REGISTRY.find(QUEUE, intake.name)
    REGISTRY.define(made)
    if isinstance(before, MessageQueue) and before.is_taking:
        before.stop()
        made.start()
    return made


class MessageQueue:
    """What the messages of a queue begin; made by `queue`."""

    kind: Final = QUEUE
    wanted_events: Final[frozenset[str]] = frozenset()

    def __init__(self, intake: Intake, url: QueueUrl) -> None:
        self.name = intake.name
        self._intake, self._url = intake, url
        self._consumer: QueueConsumer | None = None

    def deliver(
        self, payload: object, headers: Mapping[str, str] | None = None, *, message_id: str | None = None
    ) -> str | Run[Any] | None:
        """Take a message as if it came from the queue; return the id of its event, or its run, or None by `when`.

        Args:
            payload: the body: bytes, a text, or what becomes JSON.
            headers: what the sender has told beside it.
            message_id: the same is the same message; by default it is a new one.

        Raises:
            InputInvalid: the body is no JSON, or what it has does not fit.
        """
        engine = REGISTRY.engine()
        own_id = engine.entropy(12).hex() if message_id is None else a_text("message_id", message_id)
        return self._use(engine, Message(message_id=own_id, body=bytes_of_payload(payload), headers=headers or {}))

    def start(self) -> Self:
        """Take messages in a background thread, until `stop` or the end of the process; return the queue.

        While the queue can't be reached it is tried again, after half a second and then less and less often. What can't
        be used is tried again, too, five times in all, and then listed by `dead_letters`.

        Raises:
            ModuleNotFoundError: its library is not installed; the message names the extra.
        """
        engine = REGISTRY.engine()
        if self._consumer is None or not self._consumer.is_taking or self._consumer.engine is not engine:
            self.stop()
            connect = partial(_notifier_class(self._url.broker), self._url, f"ironflow-{self.name}", engine.owner)
            key = f"{self.kind} {self.name}"
            self._consumer = QueueConsumer(engine, key, self._url, connect, partial(self._use, engine))
        return self

    def stop(self) -> None:
        """Take no more messages. What was taken and is not in the journal yet stays in the queue."""
        if self._consumer is not None:
            self._consumer.stop()

    @property
    def is_taking(self) -> bool:
        """Whether a background thread of this process takes its messages."""
        return self._consumer is not None and self._consumer.is_taking

    def dead_letters(self) -> pd.DataFrame:
        """Return the messages that could not be used and are not tried again, one a row.

        Columns: message_id, body (a text), headers, attempts, error, created_at, dead_at, key (for `requeue`).
        """
        return dead_messages(REGISTRY.engine(), f"{self.kind} {self.name}")

    def requeue(self, *, key: str | None = None) -> int:
        """Try dead letters again, with all their attempts; return their number.

        Args:
            key: only the dead letter with this key.
        """
        return requeue_dead(REGISTRY.engine(), self.kind, self.name, key=None if key is None else a_text("key", key))

    def subscribe(self, engine: Engine) -> None:
        """See `StartableDefinition`: there are no emitted events that it wants."""

    def start_due(self, engine: Engine, item: QueueItem) -> bool:
        """See `StartableDefinition`. Who may send to the queue may send what the journal has of it."""
        try_again(engine, item, partial(self._use, engine))
        return True

    def _use(self, engine: Engine, message: Message) -> str | Run[Any] | None:
        return self._intake.begin(engine, message.body, message.headers, message.message_id)

    def __repr__(self) -> str:
        consumer = self._consumer
        is_taking = consumer is not None and consumer.is_taking
        state = f"taking messages, {consumer.n_taken} so far" if consumer is not None and is_taking else "not started"
        return f"<{self._intake}; {self._url.shown}, {state}>"


def _notifier_class(broker: Broker) -> Callable[[QueueUrl, str, str], Notifier]:
    try:
        match broker:
            case Broker.REDIS:
                from ironflow_nb.queues.redis_stream import RedisStream

                return RedisStream
            case Broker.RABBITMQ:
                from ironflow_nb.queues.rabbitmq_queue import RabbitmqQueue

                return RabbitmqQueue
            case Broker.NATS:
                from ironflow_nb.queues.nats_stream import NatsStream

                return NatsStream
            case Broker.SQS:
                from ironflow_nb.queues.sqs_queue import SqsQueue

                return SqsQueue
    except ModuleNotFoundError as error:
        message = f"this queue needs a library: pip install 'ironflow-nb[{broker.value}]'"
        raise ModuleNotFoundError(message, name=error.name) from None
