"""Requests and their answers as plain values: what the routes take and return, whatever serves them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

import msgspec

from ironflow_nb.access.permissions import Permission
from ironflow_nb.access.resource_names import EVERYTHING
from ironflow_nb.execution import Engine

if TYPE_CHECKING:
    from ironflow_nb.remote.run_offers import RunOffers
    from ironflow_nb.server.card_feed import CardFeed
    from ironflow_nb.server.event_feed import EventFeed
    from ironflow_nb.server.known_moments import KnownMoments
    from ironflow_nb.server.server_metrics import ServerMetrics

JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class HttpCall:
    """One request: the parameters of its path and query, and its body, all checked."""

    engine: Engine
    feed: EventFeed
    offers: RunOffers
    cards: CardFeed
    moments: KnownMoments
    metrics: ServerMetrics
    path: Mapping[str, str]
    query: Any
    body: Any
    headers: Mapping[str, str]
    may: Callable[[Permission, str], bool]
    """Returns True if who asks may do that with the resource of that id; lists leave out what nobody may read."""
    is_gone: Callable[[], Awaitable[bool]]
    """Returns True if who asks has gone away, and hears no answer."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a request: JSON, or a stream of server-sent events, or content of another type."""

    data: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: AsyncIterator[bytes] | None = None
    content: bytes | None = None
    media_type: str = JSON


def everything(_call: HttpCall) -> str:
    """Return the id of all resources: who asks has to be allowed all of them."""
    return EVERYTHING


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a body or a query may have, and nothing else."""

    one_of: ClassVar[tuple[str, ...]] = ()
    """Fields of which exactly one is given; the default of each is `UNSET`."""


def is_needed(body: type[Strict]) -> bool:
    """Return True if a request without that body has said nothing."""
    return bool(body.one_of) or any(each.required for each in msgspec.structs.fields(body))


class HttpRoute(NamedTuple):
    """A route, what a key has to allow for it, what it does in words, and what does the same in Python."""

    method: str
    path: str
    action: Permission
    act: Callable[[HttpCall], Reply | Awaitable[Reply]]
    """A plain function runs on a thread, an async one on the loop."""
    summary: str
    twin: str
    query: type[Strict] | None = None
    body: type[Strict] | None = None
    is_raw: bool = False
    """Whether it gets the bytes of its body as they came, of any type."""
    media_type: str = JSON
    """The type of the body, where it is raw, and of the answer, unless it is a refusal."""
    other_types: tuple[str, ...] = ()
    """Other types that the answer may have."""
    most_bytes: int | None = None
    """The size of its largest body, if that is not the usual one."""
    resource: Callable[[HttpCall], str] | None = everything
    """Returns the id of what the action is done to; None if the route asks `HttpCall.may` for each row itself."""


def refused(status: int, code: str, message: str, **more: Any) -> Reply:
    """Return a refusal; all of them have this shape."""
    return Reply({"error": {"code": code, "message": message, **more}}, status)
