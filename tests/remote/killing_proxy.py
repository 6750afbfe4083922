"""What stands between a server and a worker: it passes commits on, and kills the worker at one of them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import ClassVar

import httpx

from ironflow_nb.remote.wire_format import CommitMessage, FrameKind, first_frame, unpacked
from tests.remote.forked_processes import ForkedProcess
from tests.waits.conftest import LIMIT_S


class Moment(StrEnum):
    """When the worker dies: before the server has its commit, before it knows that, or after."""

    UNSENT = "unsent"
    UNANSWERED = "unanswered"
    ANSWERED = "answered"


class NotPassedOn(Exception):
    """The worker is dead, and what it sent last goes nowhere."""


MARKS = ("RunContinued", "StepCompleted", "RunCompleted")
"""The events by which commits are counted: a slow machine may record in one more that a step has begun."""


@dataclass
class KillingProxy:
    """Kills `victim` at the commit with the mark number `n`, counted from 1, and passes all the rest on to `target`."""

    target: str
    victim: ForkedProcess | None = None
    n: int = 0
    moment: Moment = Moment.UNSENT
    n_marks: int = 0
    url: str = ""
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=LIMIT_S))
    is_now: bool = False

    def aim(self, victim: ForkedProcess, n: int, moment: Moment) -> None:
        """Kill that process at the n-th mark of those that come from now on."""
        self.victim, self.n, self.moment, self.n_marks = victim, n, moment, 0

    @contextmanager
    def commit(self, n_marks: int) -> Iterator[None]:
        """Pass a commit on, unless this is the moment to kill its sender."""
        before, self.n_marks = self.n_marks, self.n_marks + n_marks
        self.is_now = before < self.n <= self.n_marks
        if self.is_now and self.moment is Moment.UNSENT:
            self.kill()
        yield
        if self.is_now and self.moment is Moment.ANSWERED:
            self.kill()

    def answer(self) -> None:
        """Let the sender know that its commit has been recorded, unless it dies before."""
        if self.is_now and self.moment is Moment.UNANSWERED:
            self.kill()

    def kill(self) -> None:
        """Kill the sender, and end its other requests, as its death does without a proxy.

        Raises:
            NotPassedOn: always.
        """
        assert self.victim is not None
        self._hang_up()
        self.victim.kill()
        self._hang_up()  # it may have asked once more
        raise NotPassedOn

    def _hang_up(self) -> None:
        for each in self.client._transport._pool.connections:
            with suppress(OSError, AttributeError):  # it is not open yet, or no more
                each._connection._network_stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


def marks(message: CommitMessage) -> int:
    """Return how many marks are in these commits."""
    return sum(event.type in MARKS for commit in message.commits for event in commit.events)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: ClassVar[KillingProxy]

    @property
    def client(self) -> httpx.Client:
        return self.proxy.client

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name: text for name, text in self.headers.items() if name.lower() not in {"host", "content-length"}}
        url = self.proxy.target + self.path
        try:
            if self.path == "/work/commits":
                with self.proxy.commit(marks(unpacked(body, CommitMessage))):
                    found = self.client.post(url, content=body, headers=headers)
                    self.proxy.answer()
                    self._answer(found)
            elif self.path.startswith("/work/"):
                self._answer(self.client.post(url, content=body, headers=headers))
            else:
                self._pass_frames_on(url, body, headers)
        except (NotPassedOn, OSError, httpx.HTTPError, RuntimeError):
            self.close_connection = True  # one of both sides has gone

    def _answer(self, found: httpx.Response) -> None:
        self.send_response(found.status_code)
        self.send_header("Content-Type", found.headers.get("content-type", ""))
        if found.status_code != 204:
            self.send_header("Content-Length", str(len(found.content)))
        self.end_headers()
        self.wfile.write(found.content)

    def _pass_frames_on(self, url: str, body: bytes, headers: dict[str, str]) -> None:
        with self.client.stream("POST", url, content=body, headers=headers) as found:
            if "content-length" in found.headers:
                found.read()
                self._answer(found)
                return
            self.send_response(found.status_code)
            self.send_header("Connection", "close")  # its end is that of the connection
            self.end_headers()
            content = bytearray()
            for piece in found.iter_bytes():
                content += piece
                while (first := first_frame(content)) is not None:
                    frame, size = first
                    sent = bytes(content[:size])
                    del content[:size]
                    is_commit = frame.kind is FrameKind.COMMIT
                    n = marks(unpacked(frame.content, CommitMessage)) if is_commit else frame.kind is FrameKind.END
                    with self.proxy.commit(int(n)):
                        self.wfile.write(sent)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *args: object) -> None:
        """Say nothing: its clients are killed."""


@contextmanager
def killing_proxy(target: str) -> Iterator[KillingProxy]:
    """Return a proxy of that server, or of that endpoint, on a port of its own."""
    proxy = KillingProxy(target.rstrip("/"))
    handler = type("Handler", (_Handler,), {"proxy": proxy})
    with _Server(("127.0.0.1", 0), handler) as server:
        proxy.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.client.close()
            server.shutdown()
            thread.join()
