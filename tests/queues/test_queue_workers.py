"""Workers that take messages: one that is killed, one that ends, and a message that kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import ironflow_nb as iron
from ironflow_nb.cli.worker_process import Dispatch
from ironflow_nb.execution.engine import Engine
from tests.queues.brokers import RedisServer, body_of
from tests.queues.conftest import end, events
from tests.waits.conftest import until

SHOP = """
import os
import signal
import ironflow_nb as iron
from ironflow_nb import flow
from ironflow_nb.queues import redis_stream

@flow
def doubled(n: int):
    return 2 * n

class DyingStream(redis_stream.RedisStream):
    def acknowledge(self, messages):
        os.kill(os.getpid(), signal.SIGKILL)

if "DIES" in os.environ:
    redis_stream.RedisStream = DyingStream
iron.queue("numbers", os.environ["QUEUE"], flow=doubled)
"""


def worker(folder: Path, url: str, *words: str, **environment: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "ironflow_nb", *words, "--journal", "journal.db"]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            command, cwd=folder, env=os.environ | {"QUEUE": url} | environment, stdout=log, stderr=log
        )


@pytest.mark.slow
def test_a_worker_that_dies_before_it_acknowledges_doubles_nothing(redis_server: RedisServer, tmp_path: Path) -> None:
    url, folder = redis_server.new_url(), tmp_path
    (folder / "shop.py").write_text(SHOP)
    for n in range(3):
        redis_server.send(url, body_of(n))
    assert worker(folder, url, "work", "shop", DIES="1").wait(120) == -signal.SIGKILL
    living = worker(folder, url, "work", "shop")
    with iron.open(folder / "journal.db"):
        until(lambda: list(iron.runs()["status"]) == ["completed"] * 3)
        until(lambda: redis_server.n_left(url) == 0)
        living.send_signal(signal.SIGTERM)
        assert living.wait(120) == 0
        assert sorted(iron.runs()["output"]) == ["0", "2", "4"]
    said = (folder / "log").read_text()
    assert "defined here: flow shop.doubled, queue numbers" in said


def test_a_message_that_was_delivered_too_often_is_not_tried_once_more(
    redis_server: RedisServer, engine: Engine
) -> None:
    url = redis_server.new_url()
    stream = url.partition("stream=")[2].partition("&")[0]
    redis_server.send(url, body_of(1))
    with redis_server.client() as client:
        client.xgroup_create(stream, "ironflow-orders", id="0")
        client.xreadgroup("ironflow-orders", "a process that it has ended", {stream: ">"})
        client.xclaim(stream, "ironflow-orders", "another one", 0, [client.xrange(stream)[0][0]], retrycount=10)
    queue = iron.queue("orders", url, emit="placed").start()
    until(lambda: len(queue.dead_letters()) == 1)
    end(queue)
    assert "delivered 11 times" in queue.dead_letters()["error"][0]
    assert events(engine) == []
    assert redis_server.n_left(url) == 0


def test_a_server_that_executes_nothing_takes_messages(redis_server: RedisServer, engine: Engine) -> None:
    url = redis_server.new_url()
    queue = iron.queue("orders", url, emit="placed")
    Dispatch(engine).begin()
    redis_server.send(url, body_of(1))
    until(lambda: events(engine) == [{"n": 1}])
    end(queue)
    assert redis_server.n_left(url) == 0  # and acknowledged


def test_fields_without_a_body_are_the_body(redis_server: RedisServer, engine: Engine) -> None:
    url = redis_server.new_url()
    with redis_server.client() as client:
        client.xadd(url.partition("stream=")[2].partition("&")[0], {"article": "pen", "n": 2})
    queue = iron.queue("orders", url, emit="placed").start()
    until(lambda: events(engine) == [{"article": "pen", "n": "2"}])
    end(queue)
    assert redis_server.n_left(url) == 0
