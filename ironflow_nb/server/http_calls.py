"""Requests and their answers as plain values: what the routes take and return, whatever serves them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ironflow_nb.execution import Engine

if TYPE_CHECKING:
    from ironflow_nb.server.event_feed import EventFeed


@dataclass(frozen=True, slots=True)
class HttpCall:
    """One request: the parameters of its path and query, and its body, all checked."""

    engine: Engine
    feed: EventFeed
    path: Mapping[str, str]
    query: Any
    body: Any
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a request: JSON, or a stream of server-sent events."""

    data: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: AsyncIterator[bytes] | None = None


class HttpRoute(NamedTuple):
    """A route, what it does in words, and what does the same in Python."""

    method: str
    path: str
    act: Callable[[HttpCall], Reply | Awaitable[Reply]]
    """A plain function runs on a thread, an async one on the loop."""
    summary: str
    twin: str
    query: type[msgspec.Struct] | None = None
    body: type[msgspec.Struct] | None = None
    is_raw: bool = False
    """Whether it gets the bytes of its body as they came, of any type."""


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a body or a query may have, and nothing else."""


def refused(status: int, code: str, message: str, **more: Any) -> Reply:
    """Return a refusal; all of them have this shape."""
    return Reply({"error": {"code": code, "message": message, **more}}, status)
