"""The routes as an ASGI application: requests are checked and become calls, replies become responses."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ironflow_nb.access.permissions import Permission, Principal, may_ever
from ironflow_nb.access.resource_names import EVERYTHING
from ironflow_nb.execution import ACTOR, Engine
from ironflow_nb.remote.run_offers import RunOffers
from ironflow_nb.server.access_guard import LOCAL, AccessGuard
from ironflow_nb.server.card_feed import CardFeed
from ironflow_nb.server.decider_routes import DECIDER_ROUTES
from ironflow_nb.server.event_feed import EventFeed
from ironflow_nb.server.http_calls import HttpCall, HttpRoute, Reply, is_needed, refused
from ironflow_nb.server.journal_routes import JOURNAL_ROUTES
from ironflow_nb.server.known_moments import KnownMoments
from ironflow_nb.server.openapi_document import openapi_document
from ironflow_nb.server.page_routes import PAGE_ROUTES
from ironflow_nb.server.refusals import refusal_of
from ironflow_nb.server.run_routes import RUN_ROUTES
from ironflow_nb.server.server_metrics import ServerMetrics
from ironflow_nb.server.server_sent_events import MEDIA_TYPE
from ironflow_nb.server.server_threads import in_thread, use_threads
from ironflow_nb.server.work_routes import WORK_ROUTES

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

MOST_BODY_BYTES: Final = 1_048_576
_BODY_S: Final = 30.0
_FORBIDDEN: Final = refused(403, "forbidden", "the key does not allow it")
ROUTES: Final[tuple[HttpRoute, ...]] = (
    *RUN_ROUTES,
    *JOURNAL_ROUTES,
    *DECIDER_ROUTES,
    *WORK_ROUTES,
    *PAGE_ROUTES,
    HttpRoute(
        "GET",
        "/openapi.json",
        Permission.SERVER_READ,
        lambda _: Reply(openapi_document(ROUTES)),
        "this document",
        "help(iron)",
    ),
)


def make_application(
    engine: Engine, feed: EventFeed, guard: AccessGuard, offers: RunOffers, most_bytes: int = MOST_BODY_BYTES
) -> Any:
    """Return the ASGI application.

    Raises:
        ModuleNotFoundError: the extra `server` is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.exceptions import HTTPException
        from starlette.routing import Route
    except ModuleNotFoundError:
        message = "the server needs Starlette and uvicorn: pip install 'ironflow-nb[server]'"
        raise ModuleNotFoundError(message, name="starlette") from None

    served = _Service(
        engine, feed, CardFeed(engine), KnownMoments(engine), ServerMetrics(engine), guard, most_bytes, offers
    )
    return Starlette(
        routes=[Route(each.path, served.endpoint(each), methods=[each.method]) for each in ROUTES],
        exception_handlers={HTTPException: served.refuse_path},
        lifespan=served.lifespan,
    )


@dataclass(frozen=True, slots=True)
class _Service:
    engine: Engine
    feed: EventFeed
    cards: CardFeed
    moments: KnownMoments
    metrics: ServerMetrics
    guard: AccessGuard
    most_bytes: int
    offers: RunOffers

    @asynccontextmanager
    async def lifespan(self, _application: Any) -> AsyncIterator[None]:
        """Follow the journal while requests are answered."""
        use_threads()
        task = asyncio.create_task(self.feed.run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def endpoint(self, route: HttpRoute) -> Callable[[Request], Any]:
        """Return what answers the requests of a route."""

        async def answer(request: Request) -> Response:
            clock = asyncio.get_running_loop().time
            began_s = clock()
            reply = self.guard.refusal(request.method, request.headers)
            try:
                reply = reply or await self._reply(route, request)
            except asyncio.CancelledError:  # the server ends, and has waited for this request long enough
                reply = refused(503, "server_stops", "the server ends; ask the next one")
            self.metrics.count_request(route.method, route.path, reply.status, clock() - began_s)
            return _response(reply)

        return answer

    async def refuse_path(self, request: Request, error: Any) -> Response:
        """Answer a request of no route, or with a method that its route does not have."""
        refusal = self.guard.refusal(request.method, request.headers)
        found_or_refused = refusal or await self._principal(Permission.SERVER_READ, request)
        if isinstance(found_or_refused, Reply):
            return _response(found_or_refused)
        if error.status_code == 405:
            methods = ", ".join(each.method for each in ROUTES if _fits(each.path, request.url.path))
            found = refused(405, "method_not_allowed", f"{request.url.path} takes {methods}, not {request.method}")
            return _response(Reply(found.data, 405, {"Allow": methods}))
        return _response(refused(404, "no_route", f"there is no {request.url.path}; /openapi.json lists what there is"))

    async def _reply(self, route: HttpRoute, request: Request) -> Reply:
        try:
            who = await self._principal(route.action, request)
            if isinstance(who, Reply):
                return who
            if not may_ever(who, route.action):  # its body is nobody's business
                return await in_thread(self._permitted, route, who, EVERYTHING) or _FORBIDDEN
            body = await self._body(route, request)
            if isinstance(body, Reply):
                return body
            query = _query(route, request)
            if isinstance(query, Reply):
                return query
            may = partial(self.guard.may, who)
            path, headers = request.path_params, request.headers
            call = HttpCall(
                self.engine, self.feed, self.offers, self.cards, self.moments, self.metrics, path, query, body,
                headers, may, request.is_disconnected,
            )  # fmt: skip
            return await self._answered(route, who, call)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the client gets an answer
            return refusal_of(error)

    async def _principal(self, action: Permission, request: Request) -> Principal | Reply:
        """Return who asks, or that a key is needed."""
        local = self.guard.local(action, request.headers)
        return await in_thread(self.guard.principal, self.engine, request.headers) if local is None else local

    async def _answered(self, route: HttpRoute, who: Principal, call: HttpCall) -> Reply:
        """Answer in the name of who asks, if that is allowed."""
        if who is LOCAL:
            return await _acted(route, call)
        resource = route.resource
        if resource is not None:
            refusal = await in_thread(lambda: self._permitted(route, who, resource(call)))
            if refusal is not None:
                return refusal
        token = ACTOR.set(who.name)
        try:
            return await _acted(route, call)
        finally:
            ACTOR.reset(token)

    def _permitted(self, route: HttpRoute, who: Principal, resource_id: str) -> Reply | None:
        return self.guard.permit(self.engine, who, route.action, route.method, resource_id)

    async def _body(self, route: HttpRoute, request: Request) -> Any:
        """Return the checked body of the request, None without one; or why it is refused."""
        from starlette.requests import ClientDisconnect

        most_bytes = route.most_bytes or self.most_bytes
        try:
            async with asyncio.timeout(_BODY_S):
                content = await _content(request, most_bytes)
        except ClientDisconnect:
            return refused(400, "body_cut_off", "the client has left before its body was there")
        except TimeoutError:
            return _unread(refused(408, "body_too_slow", f"the body was not there within {_BODY_S:g} s"))
        if content is None:
            return _unread(refused(413, "body_too_large", f"a body may have {most_bytes} bytes"))
        if route.is_raw:
            return content
        if route.body is None or (not content and not is_needed(route.body)):
            return None
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            return refused(415, "no_json", f"a body is JSON: Content-Type: application/json, not {kind[:100]!r}")
        try:
            body = msgspec.json.decode(content, type=route.body)
        except msgspec.ValidationError as error:
            return refused(422, "body_invalid", _advised(error, route.body))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            return refused(400, "no_json", f"the body is no JSON: {error}")
        given = [name for name in route.body.one_of if getattr(body, name) is not msgspec.UNSET]
        if route.body.one_of and len(given) != 1:
            found = " and ".join(given) or "none of them"
            return refused(422, "body_invalid", f"give one of {', '.join(route.body.one_of)}; it has {found}")
        return body


def _unread(refusal: Reply) -> Reply:
    """Return the refusal of a body that was not read: its client asks again over another connection."""
    return replace(refusal, headers={"connection": "close"})


async def _acted(route: HttpRoute, call: HttpCall) -> Reply:
    found = route.act(call) if inspect.iscoroutinefunction(route.act) else in_thread(route.act, call)
    reply = await found
    assert isinstance(reply, Reply)
    return reply


async def _content(request: Request, most_bytes: int) -> bytes | None:
    """Return the body; None if it is too large, of which no more is read than is allowed."""
    told_size = request.headers.get("content-length", "")
    if told_size.isdecimal() and int(told_size) > most_bytes:
        return None
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > most_bytes:
            return None
    return bytes(content)


def _query(route: HttpRoute, request: Request) -> Any:
    if route.query is None:
        return None
    given = request.query_params.multi_items()
    names = [name for name, _ in given]
    if repeated := {name for name in names if names.count(name) > 1}:
        return refused(422, "query_invalid", f"each parameter is given once, and not {min(repeated)[:40]!r}")
    try:
        found = msgspec.convert(dict(given), route.query, strict=False)
    except msgspec.ValidationError as error:
        return refused(422, "query_invalid", _advised(error, route.query))
    if absent := [name for name in names if getattr(found, name) is None]:  # msgspec takes the text null for that
        return refused(422, "query_invalid", f"{absent[0]} is null; leave it out")
    return found


def _advised(error: Exception, kind: type[msgspec.Struct]) -> str:
    fields = msgspec.structs.fields(kind)
    listed = ", ".join(each.name if each.required else f"{each.name}?" for each in fields)
    return f"{error}; it may have {listed}"


def _fits(pattern: str, path: str) -> bool:
    ours, given = pattern.split("/"), path.split("/")
    return len(ours) == len(given) and all(
        one == other or one.startswith("{") for one, other in zip(ours, given, strict=True)
    )


def _response(reply: Reply) -> Response:
    from starlette.responses import Response, StreamingResponse

    if reply.stream is not None:
        return StreamingResponse(reply.stream, reply.status, dict(reply.headers), media_type=MEDIA_TYPE)
    content = reply.content
    if content is None:
        content = b"" if reply.status in {204, 304} else json.dumps(reply.data).encode()
    headers = {"X-Content-Type-Options": "nosniff", **reply.headers}
    return Response(content, reply.status, headers, media_type=reply.media_type)
