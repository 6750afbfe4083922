"""Endpoints: a server pushes runs to an ASGI application, which executes one stretch of a run per request."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from tests.remote.conftest import RemoteService
from tests.server.test_runs_over_http import code
from tests.waits.conftest import LIMIT_S, until

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

import ironflow_nb as iron
from ironflow_nb.errors import DefinitionError
from ironflow_nb.remote.wire_format import MEDIA_TYPE, PushAnswer, PushMessage, packed, unpacked
from ironflow_nb.server import endpoint
from ironflow_nb.triggers.webhook_signatures import SCHEMES

pytestmark = [pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL"), pytest.mark.slow]

SECRET = "a secret of server and endpoint"
APP = """
import uvicorn, sys
from pathlib import Path
from starlette.applications import Starlette
from starlette.routing import Mount
import job
from ironflow_nb.server import endpoint

flows = [each for each in vars(job).values() if type(each).__name__ == "Flow"]
application = Starlette(routes=[Mount("/run", app=endpoint(*flows, most_bytes=8_000_000))])
uvicorn.run(application, port=int(sys.argv[1]), log_level="error")
"""


class PushService(RemoteService):
    """A service that pushes to an endpoint, which is a process of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        text = (folder / "job.py").read_text()
        once = "\n@step(once=True)\ndef pays(n):\n    note(f'pays {n}')\n\n@flow\ndef careful(n: int):\n    pays(n)\n"
        (folder / "job.py").write_text(text + once)
        (folder / "app.py").write_text(APP)
        self.environment["IRONFLOW_SIGNING_KEY"] = SECRET
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self.port = taken.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/run/"

    def begin_endpoint(self, **environment: str) -> subprocess.Popen[str]:
        number = len(self.workers)
        with (self.folder / f"endpoint {number}.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "app.py", str(self.port)], cwd=self.folder, env=self.environment | environment,
                stderr=log, text=True,
            )  # fmt: skip
        self.workers.append(process)
        until(lambda: process.poll() is not None or self.answers())
        return process

    def answers(self) -> bool:
        try:
            return httpx.get(self.url).status_code == 405
        except httpx.TransportError:
            return False

    def endpoint_said(self, number: int = 0) -> str:
        return (self.folder / f"endpoint {number}.log").read_text()


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PushService]:
    """Return a service with its endpoint, for all tests of a module, which end neither."""
    service = PushService(tmp_path_factory.mktemp("pushed"))
    service.begin_endpoint()
    service.begin("--endpoint", service.url, files=("job",))
    yield service
    service.close()


@pytest.fixture
def pushing(tmp_path: Path) -> Iterator[PushService]:
    service = PushService(tmp_path)
    yield service
    service.close()


@pytest.mark.parametrize(
    ("flow", "given", "result"),
    [
        ("squares", {"n": 3}, [0, 1, 4]),
        ("chain", {"n": 3}, 3),
        ("mapped_async", {"n": 10}, list(range(10))),
        ("large", {"n": 3_000_000}, 3_000_000),
        ("sleeps", {"s": 0.5}, 4),
    ],
)
def test_a_run_is_executed_by_the_endpoint_and_recorded_on_the_server(
    pushed: PushService, flow: str, given: dict[str, Any], result: Any
) -> None:
    found = pushed.start(flow, input=given, wait=True, status=200)
    assert found["result"] == result
    assert {step["status"] for step in pushed.run(found["run_id"])["steps"]} == {"completed"}


def test_a_signal_and_an_event_pass(pushed: PushService) -> None:
    waits = pushed.start("waits")["run_id"]
    pushed.until_status(waits, "waiting")
    assert pushed.client.post(f"/runs/{waits}/signals/go", json={"payload": 7}).status_code == 202
    assert pushed.until_status(waits, "completed")["result"] == [1, 7, 4]
    pushed.start("emits", input={"n": 5}, wait=True, status=200)
    until(lambda: [run["status"] for run in pushed.client.get("/runs?flow=ordered").json()["runs"]] == ["completed"])


def test_a_step_that_runs_once_does_not_begin_and_its_run_is_left_to_workers(pushed: PushService) -> None:
    run_id = pushed.start("careful", input={"n": 1})["run_id"]
    until(lambda: f"run {run_id} is left to workers" in pushed.said())
    assert "runs once" in pushed.said()
    assert "pays 1" not in pushed.bodies()
    pushed.begin_work("job")
    assert pushed.until_status(run_id, "completed")["result"] is None
    assert pushed.bodies().count("pays 1") == 1


@pytest.mark.crash
def test_an_endpoint_is_killed_in_a_stretch_and_nothing_recorded_is_done_again(pushing: PushService) -> None:
    process = pushing.begin_endpoint()
    pushing.begin("--endpoint", pushing.url, files=("job",))
    run_id = pushing.start("with_child", input={"n": 4})["run_id"]
    until(lambda: "gate 4" in pushing.bodies())
    process.kill()
    process.wait(LIMIT_S)
    until(lambda: "has failed" in pushing.said())
    pushing.open()
    pushing.begin_endpoint()
    assert pushing.until_status(run_id, "completed")["result"] == 10
    assert sorted(pushing.bodies()) == ["gate 4", "gate 4", *(f"slow {n}" for n in range(4))]


@pytest.mark.crash
def test_a_server_is_killed_in_a_stretch(pushing: PushService) -> None:
    pushing.begin_endpoint()
    pushing.begin("--endpoint", pushing.url, files=("job",))
    run_id = pushing.start("chain", input={"n": 40})["run_id"]
    until(lambda: len(pushing.bodies()) > 5)
    recorded = len([step for step in pushing.run(run_id)["steps"] if step["status"] == "completed"])
    pushing.end(signal.SIGKILL)
    pushing.begin("--endpoint", pushing.url, files=("job",))
    assert pushing.until_status(run_id, "completed")["result"] == sum(range(40))
    again = [line for line in set(pushing.bodies()) if pushing.bodies().count(line) > 1]
    assert all(int(line.split()[1]) >= recorded for line in again)


def test_an_endpoint_that_fails_is_left_alone_and_its_runs_wait(pushing: PushService) -> None:
    pushing.begin_endpoint(IRONFLOW_SIGNING_KEY="another secret than that")
    pushing.begin("--endpoint", pushing.url, files=("job",))
    run_id = pushing.start("squares", input={"n": 2})["run_id"]
    until(lambda: [row["status"] for row in pushing.client.get("/breakers").json()["breakers"]] == ["open"])
    assert "401" in pushing.said()
    assert SECRET not in pushing.said()
    assert pushing.run(run_id)["status"] == "pending"
    pushing.end()
    pushing.workers[0].kill()
    pushing.workers[0].wait(LIMIT_S)
    pushing.begin("--endpoint", pushing.url, files=("job",))
    assert [row["status"] for row in pushing.client.get("/breakers").json()["breakers"]] == ["open"]
    with iron.open(pushing.folder / ".ironflow" / "journal.db"):
        iron.Breaker(f"endpoint {pushing.url}").reset()
    pushing.begin_endpoint()
    assert pushing.until_status(run_id, "completed")["result"] == [0, 1]


def signed(body: bytes, *, at: int | None = None, secret: str = SECRET) -> dict[str, str]:
    import time

    headers = SCHEMES["ironflow"].headers(secret, body, str(int(time.time()) if at is None else at), "")
    return headers | {"Content-Type": MEDIA_TYPE}


def test_only_signed_requests_are_answered_and_each_once(pushed: PushService) -> None:
    body = packed(PushMessage(number="1"))
    good = signed(body)
    answer = httpx.post(pushed.url, content=body, headers=good)
    assert ("flow", "job.squares") in unpacked(answer.content, PushAnswer).names
    refused = [
        httpx.post(pushed.url, content=body, headers=headers)
        for headers in (good, {}, signed(body, at=0), signed(body, secret="x" * 20), signed(body + b"x"))
    ]
    assert [each.status_code for each in refused] == [401] * 5
    assert "was here before" in refused[0].json()["error"]["message"]
    wrong = b"no message"
    assert httpx.post(pushed.url, content=wrong, headers=signed(wrong)).status_code == 400
    assert httpx.get(pushed.url).status_code == 405


def asked_with(pieces: list[bytes], headers: dict[str, str], **options: Any) -> tuple[int, int]:
    """Return the status with which an endpoint answers a body of these pieces, and how many of them it has read."""
    made = iron.flow(lambda: 1, name="made_for_an_endpoint")
    application, left, sent = endpoint(made, secret=SECRET, **options), list(pieces), []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(message: Any) -> None:
        sent.append(message)

    found = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    asyncio.run(application({"type": "http", "method": "POST", "headers": found}, receive, send))
    return sent[0]["status"], len(pieces) - len(left)


def test_a_request_that_is_too_large_is_refused_before_all_of_it_is_read() -> None:
    pieces = [b"x" * 100] * 10
    assert asked_with(pieces, {}, most_bytes=250) == (413, 3)
    assert asked_with(pieces, {"Content-Length": "1000"}, most_bytes=250) == (413, 0)
    assert asked_with(pieces, {"Content-Length": "1000"}, most_bytes=1000) == (401, 10)
    assert asked_with([b""], {"Content-Length": str(1 << 30)}) == (413, 0)


def test_an_endpoint_in_a_server_refuses_what_is_too_large(pushed: PushService) -> None:
    whole = b" " * 8_000_001
    for content in (whole, (whole[start : start + 2**16] for start in range(0, len(whole), 2**16))):
        assert code(httpx.post(pushed.url, content=content, timeout=LIMIT_S)) == (413, "body_too_large")


def test_an_endpoint_that_begins_late_opens_no_breaker(pushing: PushService) -> None:
    def breakers() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = pushing.client.get("/breakers").json()["breakers"]
        return found

    with gateway(pushing.port):
        pushing.begin("--endpoint", pushing.url, files=("job",))
        run_id = pushing.start("gated", input={"n": 0})["run_id"]
        until(lambda: "503" in pushing.said())
    until(lambda: "refused" in pushing.said())
    assert breakers() == []
    pushing.begin_endpoint()
    more = [pushing.start("gated", input={"n": n})["run_id"] for n in range(1, 7)]
    until(lambda: len([line for line in pushing.bodies() if line.startswith("gate")]) == 7)
    pushing.workers[0].kill()
    pushing.workers[0].wait(LIMIT_S)
    until(lambda: pushing.said().count("has failed") >= 7)
    assert [each["status"] for each in breakers()] == ["closed"]
    pushing.open()
    pushing.begin_endpoint()
    for each in (run_id, *more):
        pushing.until_status(each, "completed")


@contextmanager
def gateway(port: int) -> Iterator[None]:
    """Stand on the port for an endpoint that has not begun: 503."""

    class Absent(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_error(503)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", port), Absent) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield
        server.shutdown()
        thread.join()


def test_an_endpoint_needs_flows_and_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IRONFLOW_SIGNING_KEY", raising=False)
    made = iron.flow(lambda: 1, name="made_for_an_endpoint")
    with pytest.raises(DefinitionError, match="takes the flows"):
        endpoint()
    for secret in (None, "short", ["x" * 20, ""]):
        with pytest.raises(DefinitionError, match="needs a secret"):
            endpoint(made, secret=secret)
    assert endpoint(made, secret="x" * 20) is not None


def test_a_server_that_pushes_needs_the_secret(pushing: PushService) -> None:
    del pushing.environment["IRONFLOW_SIGNING_KEY"]
    with pytest.raises(AssertionError, match="IRONFLOW_SIGNING_KEY"):
        pushing.command("serve", "job", "--port", "0", "--endpoint", pushing.url)
    pushing.environment["IRONFLOW_SIGNING_KEY"] = SECRET
    for url in ("nowhere", "ftp://a"):
        with pytest.raises(AssertionError, match="no address"):
            pushing.command("serve", "job", "--port", "0", "--endpoint", url)
