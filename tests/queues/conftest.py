"""A server of each kind for each process of the tests, started by the first test that needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.execution.engine import Engine
from ironflow_nb.queues.message_queue import MessageQueue
from ironflow_nb.triggers.trigger_rows import triggers_of
from tests.queues.brokers import BrokerServer, NatsServer, RabbitmqServer, RedisServer, SqsServer
from tests.waits.conftest import until


def _running(made: BrokerServer) -> Iterator[BrokerServer]:
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[BrokerServer]:
    yield from _running(RedisServer())


@pytest.fixture(scope="session")
def rabbitmq_server() -> Iterator[BrokerServer]:
    yield from _running(RabbitmqServer())


@pytest.fixture(scope="session")
def nats_server() -> Iterator[BrokerServer]:
    yield from _running(NatsServer())


@pytest.fixture(scope="session")
def sqs_server() -> Iterator[BrokerServer]:
    yield from _running(SqsServer())


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    with iron.open(tmp_path / "journal.db", durability="process") as opened:
        yield opened


@pytest.fixture
def ended() -> Iterator[Callable[[MessageQueue], MessageQueue]]:
    """Return what notes a queue; all are stopped in the end, and their threads have left."""
    noted: list[MessageQueue] = []

    def note(queue: MessageQueue) -> MessageQueue:
        noted.append(queue)
        return queue

    yield note
    for each in noted:
        end(each)


def end(queue: MessageQueue) -> None:
    """Stop it, and wait until its connection has ended."""
    queue.stop()
    until(lambda: queue._consumer is None or queue._consumer.has_ended)


def events(engine: Engine, name: str = "placed") -> list[Any]:
    """Return the data of the emitted events of that name, in the order in which they are in the journal."""
    with engine.reading() as reader:
        rows = [each for each in triggers_of(reader).events() if each.name == name]
    return [engine.access.read(each.data_id) for each in rows]
