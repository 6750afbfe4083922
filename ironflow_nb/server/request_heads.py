"""Connections whose request does not come, or has no end: each has a while for it, and some bytes.

So slow ones do not use up the server, nor do those that send headers without end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import asyncio

HEAD_S: Final = 20.0
"""The time from the first byte of a request, or from the connection, to the end of its headers."""
MOST_HEAD_BYTES: Final = 65_536
"""The size of these headers; not every parser of uvicorn has a limit of its own."""


def protocol_with_limit(head_s: float = HEAD_S) -> type[Any]:
    """Return uvicorn's protocol, but that a connection is closed whose headers are not there in time, or too large."""
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    chosen: Any = AutoHTTPProtocol

    class LimitedProtocol(chosen):  # type: ignore[misc]
        _timer: asyncio.TimerHandle | None = None
        _n_bytes = 0

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._look()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._look()
            self._n_bytes = 0 if self._timer is None else self._n_bytes + len(data)
            if self._n_bytes > MOST_HEAD_BYTES:
                self.transport.close()

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
