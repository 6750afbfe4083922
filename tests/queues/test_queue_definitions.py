"""What can be said of a queue, what is refused, and what is known of it without a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow
from ironflow_nb.cli.definition_loader import load_definitions
from ironflow_nb.errors import DefinitionError, InputInvalid, JournalError
from ironflow_nb.execution import watch
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.queues.failed_messages import put_failed
from ironflow_nb.queues.message_queue import MessageQueue
from ironflow_nb.queues.notifier import Message
from ironflow_nb.queues.queue_url import queue_url
from tests.queues.brokers import free_port
from tests.queues.conftest import end, events
from tests.waits.conftest import until

URL = "redis://:a%20secret@127.0.0.1:1/0?stream=orders"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "is a text"),
        ("orders", "is no URL of a queue"),
        ("kafka://host/orders", "kafka: is no URL of a queue"),
        ("redis://host/0", "lacks stream="),
        ("redis://host/0?stream=", "lacks stream="),
        ("amqp://host/?stream=orders", "lacks queue="),
        ("nats://host?stream=orders&steam=1", "has steam="),
        ("redis://host?stream=orders&idle_s=soon", "idle_s is a number of seconds, not 'soon'"),
        ("https://sqs.eu-west-1.amazonaws.com/1/orders?queue=a", "has queue="),
    ],
)
def test_a_url_that_is_wrong_is_refused(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        iron.queue("orders", url, emit="placed")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({}, DefinitionError),
        ({"flow": len}, DefinitionError),
        ({"emit": ""}, ValueError),
        ({"emit": "a", "data": "body."}, ValueError),
    ],
)
def test_an_option_that_is_wrong_is_refused(options: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        iron.queue("orders", URL, **options)
    with pytest.raises(ValueError, match="name"):
        iron.queue("", URL, emit="placed")


def test_a_password_is_never_shown() -> None:
    made = iron.queue("orders", URL, emit="placed")
    assert repr(made) == "<queue orders: event placed; redis://127.0.0.1:1/0?stream=orders, not started>"
    found = queue_url(URL + "&ssl=x")
    assert found.address == "redis://:a%20secret@127.0.0.1:1/0?ssl=x"
    assert found.hidden("no a secret, no a%20secret") == "no ***, no ***"


def test_a_message_is_delivered_here_as_in_a_test(engine: Engine) -> None:
    queue = iron.queue("orders", URL, emit="placed", data="{n: body.n, shop: headers.shop}", when="body.n")
    first = queue.deliver({"n": 1}, {"shop": "north"}, message_id="a")
    assert queue.deliver('{"n": 1}', message_id="a") == first
    assert queue.deliver(b'{"n": 1}') not in {None, first}
    assert queue.deliver({}) is None
    assert events(engine)[0] == {"n": 1, "shop": "north"}
    with pytest.raises(InputInvalid, match="queue orders can't use the message"):
        queue.deliver(b"{")


def test_a_message_is_a_run_of_typed_arguments(engine: Engine) -> None:
    made = flow(lambda n: n + 1, name="next_number")
    queue = iron.queue("numbers", URL, flow=made, key="body.n")
    run = queue.deliver({"n": 1})
    again = queue.deliver({"n": 1})
    assert isinstance(run, iron.Run)
    assert isinstance(again, iron.Run)
    assert (run.result(), again.id) == (2, run.id)
    with pytest.raises(InputInvalid, match="has to find an object of arguments by name"):
        iron.queue("numbers", URL, flow=made).deliver([1])


def test_a_message_without_an_id_needs_a_key(engine: Engine) -> None:
    queue = iron.queue("orders", URL, emit="placed")
    with pytest.raises(InputInvalid, match="name one of its content"):
        queue._use(engine, Message(message_id=None, body=b"{}"))


def test_a_dead_letter_is_tried_again_by_the_definition_of_then(engine: Engine) -> None:
    queue = iron.queue("orders", URL, emit="placed", key="body.id")
    message = Message(message_id="7", body=b'{"n": 1}', headers={"shop": "north"})
    for _ in range(2):  # as when it comes once more
        put_failed(engine, "queue orders", message, InputInvalid("it does not fit", name="orders"))
    [row] = queue.dead_letters().to_dict("records")
    assert (row["message_id"], row["body"], row["headers"]) == ("7", '{"n": 1}', {"shop": "north"})
    [work] = iron.work().to_dict("records")
    assert (work["run_name"], work["state"], work["attempts"], work["key"]) == ("orders", "dead", 1, row["key"])
    assert queue.requeue(key="another") == 0
    assert queue.requeue(key=row["key"]) == 1
    until(lambda: list(queue.dead_letters()["error"].str.contains("identifies nothing")) == [True])
    queue = iron.queue("orders", URL, emit="placed", data="{n: body.n, shop: headers.shop}")
    assert queue.requeue() == 1
    until(lambda: events(engine) == [{"n": 1, "shop": "north"}])
    until(lambda: len(iron.work()) == 0)


def test_what_may_fit_later_has_another_attempt(engine: Engine) -> None:
    iron.queue("orders", URL, emit="placed")
    put_failed(engine, "queue orders", Message(message_id="7", body=b'{"n": 1}'), OSError("no space"))
    [work] = iron.work().to_dict("records")
    assert (work["state"], work["attempts"]) == ("waiting", 1)
    watch(engine)
    until(lambda: events(engine) == [{"n": 1}])


def test_a_queue_that_can_not_be_reached_is_tried_again(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    url = f"redis://:a%20secret@127.0.0.1:{free_port()}/0?stream=orders"
    queue = iron.queue("orders", url, emit="placed").start()
    until(lambda: "can't be asked: ConnectionError" in caplog.text)
    assert queue.is_taking
    assert "secret" not in caplog.text
    end(queue)
    assert not queue.is_taking


def test_a_definition_takes_the_place_of_the_one_before(engine: Engine) -> None:
    idle = iron.queue("orders", URL, emit="placed")
    before = iron.queue("orders", URL, emit="placed").start()
    after = iron.queue("orders", URL, emit="placed")
    assert [each.is_taking for each in (idle, before, after)] == [False, False, True]
    assert REGISTRY.find("queue", "orders") is after
    end(before)
    end(after)


def test_an_engine_that_is_closed_takes_nothing_more(engine: Engine) -> None:
    queue = iron.queue("orders", URL, emit="placed").start()
    engine.close()
    until(lambda: not queue.is_taking)
    end(queue)
    assert not queue.is_taking


def test_a_journal_that_refuses_makes_no_dead_letter(engine: Engine, ended: Callable[[MessageQueue], object]) -> None:
    queue = iron.queue("orders", URL, emit="placed")
    engine.close()
    with pytest.raises((JournalError, iron.errors.EngineClosed)):
        queue._use(engine, Message(message_id="1", body=b"{}"))


def test_a_worker_loads_a_queue_and_does_not_start_it_while_it_loads(tmp_path: Any, engine: Engine) -> None:
    lines = [
        "import ironflow_nb as iron",
        f"orders = iron.queue('orders', {URL!r}, emit='placed').start()",
        "orders.start()",
        f"iron.queue('others', {URL!r}, emit='placed').start()",
        "orders.deliver({})",
    ]
    (tmp_path / "shop.py").write_text("\n".join(lines))
    load_definitions(str(tmp_path / "shop.py"))
    found: Any = [REGISTRY.find("queue", name) for name in ("orders", "others")]
    assert [each.is_taking for each in found] == [False, False]
    assert events(engine) == []
