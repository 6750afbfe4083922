"""What the kind ``http`` asks for: a request made of options, and the next one that a redirection makes of it."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import msgspec

from ironflow_nb.errors import NotGranted
from ironflow_nb.graphs.grants import Need, UrlOrigin, matches_host, origin_of
from ironflow_nb.graphs.kinds import NodeContext, Options, failure
from ironflow_nb.graphs.language.data import coerce, write_json

if TYPE_CHECKING:
    import httpx

HARMLESS: Final = frozenset({"accept", "accept-language", "accept-encoding", "content-type", "user-agent"})
"""The headers that another host gets too, when it is redirected to: any other may hold a credential."""

_OURS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection"})
"""What a header of the user could use to reach another host, or to say another length, than was checked."""

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FORBIDDEN: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]|^[ \t]|[ \t]$")
_PATH_SHOWN: Final = 200


class HttpRequest(msgspec.Struct, frozen=True):
    """One request; the names of headers are in lower case."""

    method: str
    url: httpx.URL
    origin: UrlOrigin
    headers: Mapping[str, str]
    content: bytes | None = None

    def __str__(self) -> str:
        return f"{self.method} {shown(self.url)}"


def shown(url: httpx.URL) -> str:
    """Return the URL as messages show it: without userinfo and without the values of the query."""
    path, _, query = url.raw_path.decode("ascii", "replace").partition("?")
    if len(path) > _PATH_SHOWN:
        path = f"{path[:_PATH_SHOWN]}..."
    names = [name if is_pair else "" for name, is_pair, _ in (part.partition("=") for part in query.split("&"))]
    asked = "?" + "&".join(f"{name}=..." if name else "..." for name in names) if query else ""
    return f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}{path}{asked}"


def asked_of(options: Options, context: NodeContext) -> HttpRequest:
    """Return the request that the options ask for.

    Raises:
        NodeFailed: they can't be a request.
        NotGranted: the host is not granted.
    """
    url, origin = _parsed(options["url"], context, "the url")
    context.grants.require(Need("http", f"{origin.scheme}://{origin.host}:{origin.port}"))
    headers = dict(_headers(options.get("headers") or {}, context))
    if url.userinfo:
        _add_credential(headers, "authorization", _basic(url.username, url.password), context)
    _add_bound(headers, options.get("auth") or {}, origin, context)
    content, content_type = _content(options, context)
    if content_type:
        headers.setdefault("content-type", content_type)
    query = _with_params(url, options.get("params") or {})
    return HttpRequest(options.get("method", "GET"), url.copy_with(userinfo=b"", query=query), origin, headers, content)


def redirected(asked: HttpRequest, status: int, location: str, context: NodeContext) -> HttpRequest:
    """Return the request that follows from a redirection: what may be a credential stays on its host.

    Raises:
        NodeFailed: it leads to what is no URL.
        NotGranted: it leads to a host that is not granted.
    """
    url, origin = _parsed(location, context, f"{asked} answered {status}: what it redirects to", base=asked.url)
    refusal = context.grants.refusal(Need("http", f"{origin.scheme}://{origin.host}:{origin.port}"))
    if refusal is not None:
        raise NotGranted(f"{asked} redirects to {shown(url)}: {refusal}", grant="http", what=str(origin))
    headers, content, method = dict(asked.headers), asked.content, asked.method
    if (status == 303 and method not in {"GET", "HEAD"}) or (status in {301, 302} and method == "POST"):
        headers.pop("content-type", None)
        method, content = "GET", None
    if not _is_same_server(asked.origin, origin):
        headers = {name: value for name, value in headers.items() if name in HARMLESS and not context.has_secret(value)}
        if content is not None and context.has_secret(content):
            raise NotGranted(
                f"{asked} answered {status} and redirects to {shown(url)}: its body has a secret in it, which goes to "
                f"{asked.origin} and nowhere else; if {origin} is to have it, write that url in the node",
                grant="http",
                what=str(origin),
            )
    return HttpRequest(method, url.copy_with(userinfo=b"", fragment=None), origin, headers, content)


def _is_same_server(one: UrlOrigin, other: UrlOrigin) -> bool:
    """Tell whether what the one was sent may be sent to the other: the same, or the same under encryption."""
    return one == other or (one.host == other.host and one[::2] == ("http", 80) and other[::2] == ("https", 443))


# -- parts -------------------------------------------------------------------------------------------------------


def _parsed(
    text: str, context: NodeContext, what: str, *, base: httpx.URL | None = None
) -> tuple[httpx.URL, UrlOrigin]:
    import httpx

    try:
        url = httpx.URL(text) if base is None else base.join(text)
        _ = url.host  # decoded from its letters of ASCII, which may stand for nothing
    except (httpx.InvalidURL, UnicodeError) as error:
        raise failure(context, f"{what} can't be read: {error}") from None
    # As it was written, and as it was understood: where the two differ, what is checked is not what is asked.
    understood = origin_of(f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}/")
    if understood is None or (base is None and understood != origin_of(text)):
        raise failure(context, f"{what} is no plain http or https URL; it is to begin like https://example.org/")
    return url, understood


def _headers(given: Mapping[str, Any], context: NodeContext) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for written, value in given.items():
        name = written.lower()
        if not _NAME.fullmatch(written):
            raise failure(context, f"{written!r} can't be the name of a header; letters, digits and hyphens can")
        if name in _OURS:
            raise failure(context, f"the header {written} follows from the url and the body; leave it out")
        if name in seen:
            raise failure(context, f"the header {written} is there twice; leave one out")
        seen.add(name)
        yield name, _header_value(written, value, context)


def _header_value(name: str, value: Any, context: NodeContext) -> str:
    text = _text(value)
    if _FORBIDDEN.search(text):
        raise failure(
            context, f"the header {name} begins or ends with a blank, or has a new line or control character in it"
        )
    return text


def _add_bound(headers: dict[str, str], auth: Mapping[str, Any], origin: UrlOrigin, context: NodeContext) -> None:
    """Add the credential, if it is for that host and no other."""
    if not auth:
        return
    if not matches_host(auth["host"], origin):
        context.log(f"auth is for {auth['host']}, and the request goes to {origin}: it goes without", "warning")
        return
    match auth:
        case {"bearer": token}:
            name, value = "authorization", f"Bearer {token}"
        case {"basic": {"user": user, "password": password}}:
            if ":" in user:
                raise failure(context, "the user of auth: basic has a colon in it, which HTTP can't send")
            name, value = "authorization", _basic(user, password)
        case _:
            name, value = auth["header"]["name"], auth["header"]["value"]
    ((name, value),) = _headers({name: value}, context)
    _add_credential(headers, name, value, context)


def _add_credential(headers: dict[str, str], name: str, value: str, context: NodeContext) -> None:
    if name in headers:
        raise failure(context, f"{name} is given twice: by headers, auth or the url; leave one out")
    headers[name] = value


def _basic(user: str, password: str) -> str:
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def _content(options: Options, context: NodeContext) -> tuple[bytes | None, str | None]:
    """Return the body, and the type it has if no header says another."""
    __tracebackhide__ = True
    if sum(name in options for name in ("body", "form", "json")) > 1:
        raise failure(context, "body, form and json exclude one another; give one of them")
    if "json" in options:
        return _json(options["json"], context), "application/json"
    if "form" in options:
        return urlencode(_pairs(options["form"])).encode(), "application/x-www-form-urlencoded"
    body = options.get("body")
    if body is None:
        return None, None
    if isinstance(body, str):
        return body.encode(), "text/plain; charset=utf-8"
    if isinstance(body, bytes | bytearray):
        return bytes(body), "application/octet-stream"
    raise failure(context, f"body is a text or bytes, not a {type(body).__name__}; for data write json")


def _json(value: Any, context: NodeContext) -> bytes:
    try:
        return write_json(value, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        # What it says names a type or a place, and no value: "Out of range float values are not JSON compliant".
        said = str(error).partition(": ")[0] if isinstance(error, TypeError) else type(error).__name__
        raise failure(context, f"json can't be written as JSON: {said}") from None


def _with_params(url: httpx.URL, params: Mapping[str, Any]) -> bytes | None:
    """Return the query of the URL with more behind it; what is there already stays as it was written."""
    more = urlencode(_pairs(params))
    query = url.query.decode("ascii")
    return "&".join(part for part in (query, more) if part).encode() or None


def _pairs(fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return names and texts: a list is its items one by one, and null is left out."""
    many = ((name, value if isinstance(value, list | tuple) else [value]) for name, value in fields.items())
    return [(name, _text(value)) for name, values in many for value in values if value is not None]


def _text(value: Any) -> str:
    value = coerce(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
