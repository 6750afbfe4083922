"""Many clients at once, and slow ones: a run is followed by a thousand, and nobody waits for those who send nothing."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

import ironflow_nb as iron
from tests.server.conftest import Service
from tests.waits.conftest import LIMIT_S, until

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from ironflow_nb.remote.run_offers import RunOffers
from ironflow_nb.server.access_guard import AccessGuard
from ironflow_nb.server.http_server import HttpServer, allow_many_connections
from ironflow_nb.server.server_threads import N_THREADS

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has another limit of connections")

N_CLIENTS: Final = 1000
PART_OF_A_HEAD: Final = b"POST /runs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Le"


@pytest.fixture
def many_files() -> Iterator[None]:
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    allow_many_connections()
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < N_CLIENTS + 200:
        pytest.skip("this machine does not allow so many connections")
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def follow_by_many(port: int, run_id: str, open_gate: object) -> list[bytes]:
    """Follow the run by all clients, open its gate when all have its first event; return what each was told."""
    request = f"GET /runs/{run_id}/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: text/event-stream\r\n\r\n"
    clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(N_CLIENTS)]
    for _, writer in clients:
        writer.write(request.encode())
    begun = [await reader.readuntil(b"RunStarted") for reader, _ in clients]
    assert callable(open_gate)
    open_gate()
    end = b"event: end\ndata: "
    told = [first + await reader.readuntil(end) for first, (reader, _) in zip(begun, clients, strict=True)]
    for _, writer in clients:
        writer.close()
    return told


@pytest.mark.slow
@pytest.mark.usefixtures("many_files")
def test_a_thousand_clients_follow_one_run_to_its_end(service: Service) -> None:
    service.begin()
    run_id = service.start("gated", input={"n": 3})["run_id"]
    until(lambda: "gate 3" in service.bodies())
    told = asyncio.run(follow_by_many(service.client.base_url.port or 0, run_id, service.open))
    assert [each.count(b"StepCompleted") for each in told] == [3] * N_CLIENTS
    assert service.client.get("/health").status_code == 200


def test_clients_that_send_nothing_disturb_nobody(served: Service) -> None:
    place = ("127.0.0.1", served.client.base_url.port or 0)
    with ExitStack() as slow:
        for n in range(300):
            connection = slow.enter_context(socket.create_connection(place))
            connection.sendall(PART_OF_A_HEAD[: n % len(PART_OF_A_HEAD)])
        found = served.start("squares", input={"n": 2}, wait=True, status=200)
        assert found["result"] == [0, 1]


def test_clients_that_go_away_while_they_wait_keep_no_thread_and_end_no_run(service: Service) -> None:
    service.begin()
    place = ("127.0.0.1", service.client.base_url.port or 0)
    body = b'{"flow": "waits", "wait": true, "timeout_s": 600}'
    head = f"POST /runs HTTP/1.1\r\nHost: {place[0]}:{place[1]}\r\nContent-Type: application/json\r\n"
    with ExitStack() as clients:
        for _ in range(N_THREADS + 5):
            connection = clients.enter_context(socket.create_connection(place))
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        until(lambda: len(listed(service)) == N_THREADS + 5)
    assert service.start("squares", input={"n": 2}, wait=True, status=200)["result"] == [0, 1]
    for run_id in listed(service):
        service.client.post(f"/runs/{run_id}/signals/go").raise_for_status()
    until(lambda: set(listed(service, "status")) == {"completed"})
    assert service.end() == 0


def listed(service: Service, column: str = "run_id") -> list[str]:
    found = service.client.get("/runs", params={"flow": "waits", "limit": 100}).json()["runs"]
    return [each[column] for each in found]


def test_a_connection_without_a_request_is_closed(tmp_path: Path) -> None:
    with iron.open(tmp_path / "journal.db") as engine:
        server = HttpServer(engine, AccessGuard("127.0.0.1"), 0, RunOffers(engine), head_s=0.05)
        server.start()
        until(lambda: server.is_ready)
        place = ("127.0.0.1", int(server.url.rpartition(":")[2]))
        whole = f"GET /health HTTP/1.1\r\nHost: 127.0.0.1:{place[1]}\r\n\r\n".encode()
        for sent in (b"", PART_OF_A_HEAD):
            with socket.create_connection(place, LIMIT_S) as connection:
                connection.sendall(sent)
                assert connection.recv(1) == b""
        with socket.create_connection(place, LIMIT_S) as connection:
            connection.sendall(whole)
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 OK")
            connection.sendall(PART_OF_A_HEAD)
            while connection.recv(1 << 16):
                pass
        server.stop()
        until(lambda: not server.is_running)
