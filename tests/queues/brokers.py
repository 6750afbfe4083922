"""Real servers of queues for the tests: Redis, RabbitMQ and NATS as programs, SQS as moto's server in this process.

Their libraries are imported where they are used: to import them takes seconds, which every collection of tests would.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from tests.conftest import IN_CI

TIMEOUT_S: Final = 120
_ATTEMPTS: Final = 3
_PLACES: Final = ("/usr/sbin", "/usr/lib/rabbitmq/bin", "/opt/homebrew/sbin", "/usr/local/sbin")


def program(name: str, package: str) -> str:
    """Return a program; without it, fail in CI and skip elsewhere."""
    # Debian's own script of RabbitMQ insists on another user.
    found = shutil.which(name, path=os.pathsep.join([*reversed(_PLACES), os.environ["PATH"]]))
    if found is not None:
        return found
    if IN_CI:
        pytest.fail(f"there is no {name} on this machine: apt-get install {package}")
    pytest.skip(f"there is no {name} on this machine; install {package} to run these tests")


def free_port() -> int:
    """Return a port that nobody listens on, of those that no system gives to outgoing connections."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class BrokerServer(ABC):
    """A server with queues. `send` and `n_left` look at one as its sender and its administrator do."""

    name: str
    largest = 3_000_000

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ironflow-queue-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._was_begun = False
        self.choose_ports()

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command that starts it."""

    def environment(self) -> Mapping[str, str]:
        return {}

    def start(self) -> None:
        """Start it, and wait until it answers; a port that was taken meanwhile is changed for another."""
        for _ in range(_ATTEMPTS):
            if self._has_begun():
                return
            if not self._was_begun:
                self.choose_ports()
        pytest.fail(f"{self.name} does not start: {(self.folder / 'log').read_text()[-2000:]}")

    def choose_ports(self) -> None:
        self.port = free_port()

    def _has_begun(self) -> bool:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), cwd=self.folder, env=os.environ | dict(self.environment()), stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        until_s = time.monotonic() + TIMEOUT_S
        while True:
            try:
                self.probe()
            except Exception:
                if time.monotonic() > until_s or self._process.poll() is not None:
                    self.kill()
                    return False
                time.sleep(0.05)
            else:
                self._was_begun = True
                return True

    def kill(self) -> None:
        """End it at once, as in a crash."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(TIMEOUT_S)
            self._process = None

    def interrupt(self, url: str) -> None:
        """Have the queue be gone for its consumers."""
        self.kill()

    def resume(self, url: str) -> None:
        """Have it be there again."""
        self.start()

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    @abstractmethod
    def probe(self) -> None:
        """Raise an error unless it answers."""

    @abstractmethod
    def new_url(self) -> str:
        """Return the URL of a queue that was made for it."""

    @abstractmethod
    def send(self, url: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Send a message."""

    @abstractmethod
    def n_left(self, url: str) -> int:
        """Return how many messages are not acknowledged."""


def _name_of(url: str) -> str:
    return url.partition("=")[2].partition("&")[0]


class RedisServer(BrokerServer):
    name = "redis"

    def command(self) -> list[str]:
        words = "--bind 127.0.0.1 --save '' --appendonly yes --appendfsync always --port"
        return [program("redis-server", "redis-server"), *words.replace("'", "").split(" "), str(self.port)]

    def client(self) -> Any:
        import redis

        return redis.Redis(port=self.port)

    def probe(self) -> None:
        with self.client() as client:
            client.ping()

    def new_url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0?stream={uuid.uuid4().hex}&idle_s=0.3"

    def send(self, url: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        with self.client() as client:
            client.xadd(_name_of(url), {"body": body, **(headers or {})})

    def n_left(self, url: str) -> int:
        with self.client() as client:
            [group] = client.xinfo_groups(_name_of(url))
            return int(group["pending"] + (group["lag"] or 0))


class RabbitmqServer(BrokerServer):
    name = "rabbitmq"

    def command(self) -> list[str]:
        return [program("rabbitmq-server", "rabbitmq-server")]

    def environment(self) -> Mapping[str, str]:
        (self.folder / "plugins").write_text("[].")
        (self.folder / "rabbitmq.conf").write_text("default_user = ironflow\ndefault_pass = a secret\n")
        folder = str(self.folder)
        return {
            "HOME": folder, "RABBITMQ_NODENAME": f"ironflow-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1", "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.dist_port),
            "ERL_EPMD_PORT": str(self.epmd_port), "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_MNESIA_BASE": folder, "RABBITMQ_LOG_BASE": folder, "RABBITMQ_LOGS": "-",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins", "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
        }  # fmt: skip

    def choose_ports(self) -> None:
        super().choose_ports()
        self.dist_port, self.epmd_port = free_port(), free_port()

    def close(self) -> None:
        self.kill()
        epmd = shutil.which("epmd") or str(next(Path("/usr/lib/erlang").glob("erts-*/bin/epmd"), "epmd"))
        for _ in range(100):  # it refuses until it has noticed that its node is gone
            command = [epmd, "-port", str(self.epmd_port), "-kill"]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
            if "living nodes" not in done.stdout + done.stderr:
                break
            time.sleep(0.05)
        super().close()

    def _connection(self) -> Any:
        import pika

        return pika.BlockingConnection(pika.URLParameters(f"amqp://ironflow:a%20secret@127.0.0.1:{self.port}/"))

    def probe(self) -> None:
        self._connection().close()

    def new_url(self) -> str:
        name = uuid.uuid4().hex
        self._declare(name)
        return f"amqp://ironflow:a%20secret@127.0.0.1:{self.port}/%2F?queue={name}"

    def _declare(self, name: str) -> None:
        connection = self._connection()
        connection.channel().queue_declare(name, durable=True)
        connection.close()

    def send(
        self, url: str, body: bytes, headers: Mapping[str, str] | None = None, *, message_id: str | None = ""
    ) -> None:
        import pika

        own_id = uuid.uuid4().hex if message_id == "" else message_id
        properties = pika.BasicProperties(headers=dict(headers or {}), message_id=own_id, delivery_mode=2)
        connection = self._connection()
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish("", _name_of(url), body, properties)
        connection.close()

    def interrupt(self, url: str) -> None:
        """Delete the queue: to begin the server anew takes half a minute."""
        connection = self._connection()
        connection.channel().queue_delete(_name_of(url))
        connection.close()

    def resume(self, url: str) -> None:
        self._declare(_name_of(url))

    def n_left(self, url: str) -> int:
        """Return how many messages lie there; what a consumer holds comes back with the end of its connection."""
        connection = self._connection()
        found = connection.channel().queue_declare(_name_of(url), passive=True).method.message_count
        connection.close()
        return int(found)


class NatsServer(BrokerServer):
    name = "nats"
    largest = 1_000_000

    def command(self) -> list[str]:
        return [
            program("nats-server", "nats-server"),
            "-js",
            "-sd",
            str(self.folder),
            "-a",
            "127.0.0.1",
            "-p",
            str(self.port),
        ]

    async def _with(self, act: Any) -> Any:
        import nats

        async def ignored(_error: Exception) -> None:
            pass

        client = await nats.connect(
            f"nats://127.0.0.1:{self.port}", allow_reconnect=False, connect_timeout=5, error_cb=ignored
        )
        try:
            return await act(client.jetstream())
        finally:
            await client.close()

    def probe(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port), 1):
            pass
        asyncio.run(self._with(lambda jetstream: jetstream.account_info()))

    def new_url(self) -> str:
        name = uuid.uuid4().hex
        asyncio.run(self._with(lambda jetstream: jetstream.add_stream(name=name, subjects=[f"{name}.*"])))
        return f"nats://127.0.0.1:{self.port}?stream={name}&idle_s=0.3"

    def delete_consumer(self, url: str, name: str) -> None:
        asyncio.run(self._with(lambda jetstream: jetstream.delete_consumer(_name_of(url), name)))

    def send(self, url: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        given = dict(headers) if headers else None
        asyncio.run(self._with(lambda jetstream: jetstream.publish(f"{_name_of(url)}.sent", body, headers=given)))

    def n_left(self, url: str) -> int:
        async def left(jetstream: Any) -> int:
            [found] = await jetstream.consumers_info(_name_of(url))
            return int(found.num_ack_pending + found.num_pending)

        return int(asyncio.run(self._with(left)))


class SqsServer(BrokerServer):
    """Moto's server; its queues are in the memory of this process, so they survive that it is stopped."""

    name = "sqs"
    largest = 200_000

    def command(self) -> list[str]:
        return []

    def start(self) -> None:
        from moto.server import ThreadedMotoServer

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port)
        self._server.start()

    def kill(self) -> None:
        self._server.stop()

    def probe(self) -> None:
        """See `start`."""

    def client(self) -> Any:
        import boto3

        address = f"http://127.0.0.1:{self.port}"
        return boto3.client(
            "sqs", endpoint_url=address, region_name="eu-west-1", aws_access_key_id="k", aws_secret_access_key="s"
        )

    def new_url(self) -> str:
        made = self.client().create_queue(QueueName=uuid.uuid4().hex, Attributes={"VisibilityTimeout": "1"})
        return f"{made['QueueUrl']}?region=eu-west-1&wait_s=1"

    def send(self, url: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        attributes = {name: {"StringValue": text, "DataType": "String"} for name, text in (headers or {}).items()}
        self.client().send_message(
            QueueUrl=url.partition("?")[0], MessageBody=body.decode(), MessageAttributes=attributes
        )

    def n_left(self, url: str) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.client().get_queue_attributes(QueueUrl=url.partition("?")[0], AttributeNames=names)
        return sum(int(found["Attributes"][name]) for name in names)


def body_of(n: int) -> bytes:
    return json.dumps({"n": n}).encode()
