"""What every kind of queue promises, over real servers: each message once in the journal, and none for ever."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow
from ironflow_nb.execution.engine import Engine
from ironflow_nb.queues.message_queue import MessageQueue, _notifier_class
from ironflow_nb.queues.queue_url import queue_url
from tests.queues.brokers import BrokerServer, NatsServer, body_of
from tests.queues.conftest import end, events
from tests.waits.conftest import until

KINDS = ("redis", "nats", "sqs", pytest.param("rabbitmq", marks=pytest.mark.slow))  # it takes seconds to begin
Ended = Callable[[MessageQueue], MessageQueue]


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest) -> BrokerServer:
    found: BrokerServer = request.getfixturevalue(f"{request.param}_server")
    return found


def test_each_message_is_one_event(server: BrokerServer, engine: Engine, ended: Ended) -> None:
    url = server.new_url()
    large = b'{"n": "' + b"x" * (server.largest - 100) + b'"}'
    for n in range(12):  # more than are received at once
        server.send(url, body_of(n), {"shop": f"number {n}"})
    server.send(url, large)
    data = "{n: body.n, shop: headers.shop}"
    ended(iron.queue("orders", url, emit="placed", data=data, when="body.n != `3`").start())
    until(lambda: len(events(engine)) == 12)
    found = {(each["n"], each["shop"]) for each in events(engine)}
    small = {(n, f"number {n}") for n in range(12) if n != 3}
    assert found == small | {("x" * (server.largest - 100), None)}
    until(lambda: server.n_left(url) == 0)


def test_each_message_is_one_run_of_a_flow(server: BrokerServer, engine: Engine, ended: Ended) -> None:
    made = flow(_doubled, name="doubled")
    url = server.new_url()
    queue = ended(iron.queue("numbers", url, flow=made).start())
    for n in range(3):
        server.send(url, body_of(n))
    until(lambda: list(made.runs()["status"]) == ["completed"] * 3)
    assert sorted(made.runs()["output"]) == ["0", "2", "4"]
    end(queue)
    assert server.n_left(url) == 0


async def _doubled(n: int) -> int:
    return 2 * n


def test_what_was_recorded_and_not_acknowledged_comes_again_and_is_known(
    server: BrokerServer, engine: Engine, ended: Ended
) -> None:
    """So it is after the death of a process, a lost acknowledgement, or a cut connection."""
    url = server.new_url()
    queue = ended(iron.queue("orders", url, emit="placed"))
    for n in range(2):
        server.send(url, body_of(n))
    connect = partial(_notifier_class(queue._url.broker), queue_url(url), "ironflow-orders")
    first = connect("another process")
    received: list[Any] = []
    while len(received) < 2:
        received += first.receive()
    ids = {queue._use(engine, each) for each in [*received, *received]}
    assert len(ids) == 2
    first.close()
    server.send(url, body_of(2))
    queue.start()
    until(lambda: len(events(engine)) == 3)
    until(lambda: server.n_left(url) == 0)
    end(queue)
    assert sorted(each["n"] for each in events(engine)) == [0, 1, 2]


def test_what_can_not_be_used_is_a_dead_letter_beside_the_others(
    server: BrokerServer, engine: Engine, ended: Ended
) -> None:
    url = server.new_url()
    bodies = [b"{", b"[1]", body_of(1), b"null" if server.name == "sqs" else b"\xff\xfe", body_of(2)]
    for body in bodies:
        server.send(url, body)
    queue = ended(iron.queue("orders", url, emit="placed", data="body.n", key="body.n").start())
    until(lambda: len(queue.dead_letters()) == 3)
    until(lambda: sorted(events(engine)) == [1, 2])
    end(queue)
    assert server.n_left(url) == 0
    dead = queue.dead_letters()
    assert {"{", "[1]"} < set(dead["body"])
    assert list(dead["attempts"]) == [1] * 3
    assert all(dead["error"].str.contains("InputInvalid: queue orders can't use the message"))


def test_a_queue_that_is_gone_for_a_while_loses_no_message(
    server: BrokerServer, engine: Engine, ended: Ended, caplog: pytest.LogCaptureFixture
) -> None:
    url = server.new_url()
    queue = ended(iron.queue("orders", url, emit="placed").start())
    server.send(url, body_of(1))
    until(lambda: len(events(engine)) == 1)
    server.interrupt(url)
    until(lambda: "queue orders" in caplog.text and "it is tried again" in caplog.text)
    assert "a secret" not in caplog.text
    assert "a secret" not in repr(queue)
    server.resume(url)
    server.send(url, body_of(2))
    until(lambda: len(events(engine)) == 2)
    until(lambda: server.n_left(url) == 0)


def test_a_consumer_of_nats_that_was_deleted_is_made_anew(
    nats_server: NatsServer, engine: Engine, ended: Ended
) -> None:
    """It begins with the first message of the stream, which is known."""
    url = nats_server.new_url()
    ended(iron.queue("orders", url, emit="placed").start())
    nats_server.send(url, body_of(1))
    until(lambda: len(events(engine)) == 1)
    nats_server.delete_consumer(url, "ironflow-orders")
    nats_server.send(url, body_of(2))
    until(lambda: len(events(engine)) == 2)
    until(lambda: nats_server.n_left(url) == 0)
    assert len(events(engine)) == 2
