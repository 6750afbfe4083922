"""The transport of the kind ``http``: one deadline for a request, its redirections and the body of the response.

The timeouts of httpx bound single reads and writes, so a response that arrives byte by byte never reaches one.
The environment is not read: no proxy, no ``.netrc``. Only the trusted certificates are those of the machine.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from ssl import SSLContext
from typing import Any, Final, Self

import httpcore
import httpx

from ironflow_nb._version import __version__

_WRITE_BYTES: Final = 64 * 1024
"""The most bytes that one write sends. The deadline is checked between two writes."""

DEFAULT_HEADERS: Final = {
    "accept": "*/*",
    "accept-encoding": "gzip, deflate",
    "user-agent": f"ironflow-nb/{__version__}",
}


class Deadline:
    """The time by which a request must have its whole response."""

    def __init__(self, timeout_s: float, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._ends = monotonic() + timeout_s

    def left_s(self, late: type[httpcore.TimeoutException]) -> float:
        """Return the seconds until the deadline.

        Raises:
            httpcore.TimeoutException: of the given class, if the deadline has passed.
        """
        left_s = self._ends - self._monotonic()
        if left_s <= 0:
            raise late("the deadline has passed")
        return left_s


class TimedStream(httpcore.NetworkStream):
    """A connection that ends at the deadline."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """See the base class."""
        return self._stream.read(max_bytes, self._deadline.left_s(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """See the base class."""
        for start in range(0, len(buffer), _WRITE_BYTES):
            self._stream.write(buffer[start : start + _WRITE_BYTES], self._deadline.left_s(httpcore.WriteTimeout))

    def close(self) -> None:
        """See the base class."""
        self._stream.close()

    def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """See the base class."""
        left_s = self._deadline.left_s(httpcore.ConnectTimeout)
        return TimedStream(self._stream.start_tls(ssl_context, server_hostname, left_s), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        """See the base class."""
        return self._stream.get_extra_info(info)


class TimedBackend(httpcore.NetworkBackend):
    """Opens connections that end at the deadline."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address of the host that answers; each gets an equal share of the remaining time."""
        addresses = _resolve_host(host, port)
        for number, address in enumerate(addresses, 1):
            share_s = self._deadline.left_s(httpcore.ConnectTimeout) / (len(addresses) - number + 1)
            try:
                stream = self._backend.connect_tcp(address, port, share_s, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if number == len(addresses):
                    raise
            else:
                return TimedStream(stream, self._deadline)
        raise httpcore.ConnectError("the host has no address")


def _resolve_host(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(str(error)) from error
    return list(dict.fromkeys(str(each[4][0]) for each in found))


class HttpResponse(httpx.SyncByteStream):
    """The bytes of a response as they arrive."""

    def __init__(self, stream: Iterable[bytes]) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        yield from self._stream

    def close(self) -> None:
        """See the base class."""
        if hasattr(self._stream, "close"):
            self._stream.close()


class TimedTransport(httpx.BaseTransport):
    """The transport of httpx on connections that end at the deadline."""

    def __init__(self, deadline: Deadline) -> None:
        self._backend = TimedBackend(deadline)
        self._pools: dict[str, httpcore.ConnectionPool] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See the base class."""
        url = request.url
        core_request = httpcore.Request(
            method=request.method,
            url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        response = self._pool(url.scheme).handle_request(core_request)
        assert isinstance(response.stream, Iterable)
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=HttpResponse(response.stream),
            extensions=response.extensions,
        )

    def close(self) -> None:
        """See the base class."""
        for pool in self._pools.values():
            pool.close()

    def _pool(self, scheme: str) -> httpcore.ConnectionPool:
        if scheme not in self._pools:
            context = trusted_certificates() if scheme == "https" else None
            self._pools[scheme] = httpcore.ConnectionPool(ssl_context=context, network_backend=self._backend)
        return self._pools[scheme]


@cache
def trusted_certificates() -> SSLContext:
    """Return the certificates that this machine trusts, with ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``."""
    return httpx.create_ssl_context()


class HttpTransport:
    """Sends one request and its redirections, all before one deadline, and keeps their cookies."""

    def __init__(self, timeout_s: float, monotonic: Callable[[], float]) -> None:
        self._transport = TimedTransport(Deadline(timeout_s, monotonic))
        self._cookies = httpx.Cookies()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._transport.close()

    def send(self, method: str, url: httpx.URL, headers: Mapping[str, str], content: bytes | None) -> httpx.Response:
        """Send a request and return its response; the body is read later, from the response.

        Raises:
            httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError: there is no response.
        """
        all_headers = [(name.encode(), value.encode()) for name, value in (DEFAULT_HEADERS | dict(headers)).items()]
        request = httpx.Request(method, url, headers=all_headers, cookies=self._cookies, content=content)
        response = self._transport.handle_request(request)
        response.request = request
        self._cookies.extract_cookies(response)
        return response

    def forget_cookies(self) -> None:
        """Remove the cookies that servers have set so far."""
        self._cookies.clear()
