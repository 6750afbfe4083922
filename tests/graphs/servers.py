"""A real HTTP server on this machine, that answers by path and remembers what it was asked."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Seen:
    """One request as it arrived; the names of headers are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Listening

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.seen.append(Seen(self.command, self.path, headers, body))
        self.server.answers.get(urlsplit(self.path).path, self.server.otherwise)(self)

    def reply(self, status: int, content: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        return


class Listening(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[Seen] = []
        self.answers: dict[str, Answer] = {}
        self.otherwise: Answer = replying(200, {"ok": True})

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: that clients go away in the middle is what some tests are about."""


@dataclass
class Server:
    listening: Listening
    open: list[socket.socket] = field(default_factory=list)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.listening.server_port}"

    @property
    def seen(self) -> list[Seen]:
        return self.listening.seen

    @property
    def last(self) -> Seen:
        return self.listening.seen[-1]

    def url(self, path: str = "/") -> str:
        return f"http://{self.host}{path}"

    def answers(self, path: str, *answers: Answer) -> str:
        """Answer at the path with one after the other, and from then on with the last; return the URL."""
        left = list(answers)
        self.listening.answers[path] = lambda handler: (left.pop(0) if len(left) > 1 else left[0])(handler)
        return self.url(path)


def replying(status: int, data: Any = b"", /, **headers: str) -> Answer:
    """Answer with that status: bytes as they are, a text as text, anything else as JSON; `_` in names is a hyphen."""
    match data:
        case bytes():
            content, kind = data, {}
        case str():
            content, kind = data.encode(), {"content-type": "text/plain; charset=utf-8"}
        case _:
            content, kind = json.dumps(data).encode(), {"content-type": "application/json"}
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.reply(status, content, kind | given)


def redirecting(url: str, status: int = 302, /, **headers: str) -> Answer:
    return replying(status, b"", location=url, **headers)


@contextmanager
def serving() -> Iterator[Server]:
    listening = Listening()
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield Server(listening)
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()


@contextmanager
def talking(talk: Callable[[socket.socket], object]) -> Iterator[str]:
    """Serve whatever bytes `talk` sends to each that connects; yield the host."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, suppress(OSError):
                    talk(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
