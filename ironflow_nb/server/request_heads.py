"""Connections whose request does not come: each has a while for it, so that slow ones do not use up the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import asyncio

HEAD_S: Final = 20.0
"""The time from the first byte of a request, or from the connection, to the end of its headers."""


def protocol_with_limit(head_s: float = HEAD_S) -> type[Any]:
    """Return uvicorn's protocol, but that a connection is closed whose headers are not there in time.

    It is the one of h11, also where httptools is installed: that loses the body of a client that offers HTTP/2, as
    those of Java do, and has no limit for the size of headers.
    """
    from uvicorn.protocols.http.h11_impl import H11Protocol

    chosen: Any = H11Protocol

    class LimitedProtocol(chosen):  # type: ignore[misc]
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._look()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._look()

        def connection_lost(self, error: Exception | None) -> None:
            super().connection_lost(error)
            self._stop()

        def _look(self) -> None:
            is_awaited = self.cycle is None or self.cycle.response_complete  # the request that follows
            if not is_awaited:
                self._stop()
            elif self._timer is None:
                self._timer = self.loop.call_later(head_s, self.transport.close)

        def _stop(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    return LimitedProtocol
