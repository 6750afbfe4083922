"""The HTTP server of a process, on a thread of its own: uvicorn."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from ironflow_nb.errors import DefinitionError
from ironflow_nb.execution import Engine, logger
from ironflow_nb.remote.run_offers import RunOffers
from ironflow_nb.server.access_guard import AccessGuard
from ironflow_nb.server.application import make_application
from ironflow_nb.server.event_feed import EventFeed
from ironflow_nb.server.request_heads import HEAD_S, protocol_with_limit

_LAST_ANSWERS_S: Final = 5
_MOST_FILES: Final = 65_536


class HttpServer:
    """Listens from its beginning on, and answers from `start` to `stop`."""

    def __init__(
        self, engine: Engine, guard: AccessGuard, port: int, offers: RunOffers,
        certificate: tuple[Path, Path] | None = None, head_s: float = HEAD_S,
    ) -> None:  # fmt: skip
        """Take the port. `certificate` are the files of a certificate and its key: with them it speaks TLS.

        A connection whose request has no complete headers within `head_s` is closed.

        Raises:
            ModuleNotFoundError: the extra `server` is not installed.
            DefinitionError: the port is taken, the host is not of this machine, or the certificate can't be used.
        """
        self._engine = engine
        self._feed = EventFeed(engine)
        application = make_application(engine, self._feed, guard, offers)
        import uvicorn

        config = uvicorn.Config(
            application, log_config=None, access_log=False, lifespan="on", server_header=False, proxy_headers=False,
            ws="none", http=protocol_with_limit(head_s), timeout_graceful_shutdown=_LAST_ANSWERS_S,
            **_of_tls(certificate),
        )  # fmt: skip
        try:
            config.load()
        except OSError as error:  # of ssl, too
            raise DefinitionError(f"the certificate can't be used: {error}") from error
        self._server: Any = uvicorn.Server(config)
        host = guard.host
        self._socket = _listening(host, port)
        self._is_running = False
        address = self._socket.getsockname()
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if certificate else 'http'}://{shown}:{address[1]}"

    def start(self) -> None:
        """Answer requests from now on."""
        self._is_running = True
        self._engine.threads.spawn("ironflow-server", self._run)

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        except (Exception, SystemExit):  # noqa: BLE001 -- uvicorn exits, as if the process were its own
            logger().exception("the HTTP server has failed")
        finally:
            self._is_running = False
            self._socket.close()

    @property
    def is_running(self) -> bool:
        """Whether requests are answered."""
        return self._is_running

    @property
    def is_ready(self) -> bool:
        """Whether the first request would be answered at once."""
        return bool(self._server.started)

    def stop(self) -> None:
        """Take no more requests, and end with the last answer: requests that wait are answered now."""
        self._feed.stop()
        self._server.should_exit = True


def allow_many_connections() -> None:
    """Raise the limit of open files, and so of connections, to what the system allows; it is often 1,024."""
    with suppress(ImportError, OSError, ValueError):  # Windows has no such limit
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _MOST_FILES if most == resource.RLIM_INFINITY else min(most, _MOST_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _of_tls(certificate: tuple[Path, Path] | None) -> dict[str, Any]:
    return {} if certificate is None else {"ssl_certfile": certificate[0], "ssl_keyfile": certificate[1]}


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        found = socket.create_server((host, port), family=family)
    except OSError as error:
        raise DefinitionError(
            f"nothing can listen on {host}:{port}: {error.strerror or error}; choose another one with --port, or 0 for "
            "any that is free"
        ) from error
    # Inherited by its connections: asyncio does it for other sockets, and an answer would wait 40 ms for its last part.
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return found
