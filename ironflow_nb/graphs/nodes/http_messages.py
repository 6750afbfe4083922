"""The messages of the kind ``http``: requests, made of options or of a redirection, and the bodies of responses."""

from __future__ import annotations

import json
import re
import zlib
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias
from urllib.parse import urlencode

import msgspec

from ironflow_nb.errors import NotGranted
from ironflow_nb.graphs.grants import Need, UrlOrigin, matches_host, origin_of
from ironflow_nb.graphs.kinds import NodeContext, Options, failure
from ironflow_nb.graphs.language.data import coerce, write_json

if TYPE_CHECKING:
    import httpx

_HARMLESS_HEADERS: Final = frozenset({"accept", "accept-language", "accept-encoding", "content-type", "user-agent"})
"""The headers that another host gets too after a redirection. Any other header may hold a credential."""

_RESERVED_HEADERS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection"})
"""Headers that users may not set: they could name another host or another length than was checked."""

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_INVALID_VALUE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]|^[ \t]|[ \t]$")
_MAX_PATH: Final = 200


class HttpRequest(msgspec.Struct, frozen=True):
    """One request; the names of headers are in lower case."""

    method: str
    url: httpx.URL
    origin: UrlOrigin
    headers: Mapping[str, str]
    content: bytes | None = None

    def __str__(self) -> str:
        return f"{self.method} {display_url(self.url)}"


def display_url(url: httpx.URL) -> str:
    """Return the URL for messages: without user, password and the values of the query."""
    path, _, query = url.raw_path.decode("ascii", "replace").partition("?")
    if len(path) > _MAX_PATH:
        path = f"{path[:_MAX_PATH]}..."
    names = [name if is_pair else "" for name, is_pair, _ in (part.partition("=") for part in query.split("&"))]
    asked = "?" + "&".join(f"{name}=..." if name else "..." for name in names) if query else ""
    return f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}{path}{asked}"


def request_from_options(options: Options, context: NodeContext) -> HttpRequest:
    """Return the request that the options make.

    Raises:
        NodeFailed: they make no valid request.
        NotGranted: the host is not granted.
    """
    url, origin = _parse_url(options["url"], context, "the url")
    context.grants.require(Need("http", f"{origin.scheme}://{origin.host}:{origin.port}"))
    headers = dict(_checked_headers(options.get("headers") or {}, context))
    if url.userinfo:
        _add_credential(headers, "authorization", _basic(url.username, url.password), context)
    if "auth" in options:
        _add_auth(headers, options["auth"] or {}, origin, context)
    else:
        _add_auth_of_graph(headers, origin, context)
    content, content_type = _encode_body(options, context)
    if content_type:
        headers.setdefault("content-type", content_type)
    query = _extended_query(url, options.get("params") or {})
    return HttpRequest(options.get("method", "GET"), url.copy_with(userinfo=b"", query=query), origin, headers, content)


def redirected_request(asked: HttpRequest, status: int, location: str, context: NodeContext) -> HttpRequest:
    """Return the request that follows a redirection. Headers that may hold a credential stay on their host.

    Raises:
        NodeFailed: the location is no URL.
        NotGranted: the host is not granted, or the body for it has a secret.
    """
    url, origin = _parse_url(location, context, f"{asked} answered {status}: what it redirects to", base=asked.url)
    refusal = context.grants.refusal(Need("http", f"{origin.scheme}://{origin.host}:{origin.port}"))
    if refusal is not None:
        raise NotGranted(f"{asked} redirects to {display_url(url)}: {refusal}", grant="http", what=str(origin))
    headers, content, method = dict(asked.headers), asked.content, asked.method
    if (status == 303 and method not in {"GET", "HEAD"}) or (status in {301, 302} and method == "POST"):
        headers.pop("content-type", None)
        method, content = "GET", None
    if not _is_same_server(asked.origin, origin):
        headers = {
            name: value
            for name, value in headers.items()
            if name in _HARMLESS_HEADERS and not context.has_secret(value)
        }
        if content is not None and context.has_secret(content):
            raise NotGranted(
                f"{asked} answered {status} and redirects to {display_url(url)}: its body has a secret in it, which "
                f"goes to {asked.origin} and nowhere else; if {origin} is to have it, write that url in the node",
                grant="http",
                what=str(origin),
            )
    return HttpRequest(method, url.copy_with(userinfo=b"", fragment=None), origin, headers, content)


def _is_same_server(one: UrlOrigin, other: UrlOrigin) -> bool:
    """Return True if the other origin may get the same headers: it is the same, or the same with TLS."""
    return one == other or (one.host == other.host and one[::2] == ("http", 80) and other[::2] == ("https", 443))


# -- parts -------------------------------------------------------------------------------------------------------


def _parse_url(
    text: str, context: NodeContext, what: str, *, base: httpx.URL | None = None
) -> tuple[httpx.URL, UrlOrigin]:
    import httpx

    try:
        url = httpx.URL(text) if base is None else base.join(text)
        _ = url.host  # raises for ASCII that decodes to no host name
    except (httpx.InvalidURL, UnicodeError) as error:
        raise failure(context, f"{what} can't be read: {error}") from None
    # If the two readings of the URL differ, the host that is checked is not the host that gets the request.
    understood = origin_of(f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}/")
    if understood is None or (base is None and understood != origin_of(text)):
        raise failure(context, f"{what} is no plain http or https URL; it is to begin like https://example.org/")
    return url, understood


def _checked_headers(given: Mapping[str, Any], context: NodeContext) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for written, value in given.items():
        name = written.lower()
        if not _HEADER_NAME.fullmatch(written):
            raise failure(context, f"{written!r} can't be the name of a header; letters, digits and hyphens can")
        if name in _RESERVED_HEADERS:
            raise failure(context, f"the header {written} follows from the url and the body; leave it out")
        if name in seen:
            raise failure(context, f"the header {written} is there twice; leave one out")
        seen.add(name)
        yield name, _header_value(written, value, context)


def _header_value(name: str, value: Any, context: NodeContext) -> str:
    text = _form_text(value)
    if _INVALID_VALUE.search(text):
        raise failure(
            context, f"the header {name} begins or ends with a blank, or has a new line or control character in it"
        )
    return text


def _add_auth(headers: dict[str, str], auth: Mapping[str, Any], origin: UrlOrigin, context: NodeContext) -> None:
    """Add the credential if it is for this host."""
    if not auth:
        return
    if not matches_host(auth["host"], origin):
        context.log(f"auth is for {auth['host']}, and the request goes to {origin}: it goes without", "warning")
        return
    _add_credential(headers, *_credential(auth, context), context)


def _add_auth_of_graph(headers: dict[str, str], origin: UrlOrigin, context: NodeContext) -> None:
    """Add the credential that the graph has for the host, unless the node has one of its own."""
    auth = context.auth(origin)
    if auth is not None:
        name, value = _credential(auth, context)
        headers.setdefault(name, value)


def _credential(auth: Mapping[str, Any], context: NodeContext) -> tuple[str, str]:
    """Return the name and the value of the header that an ``auth`` makes."""
    match auth:
        case {"bearer": token}:
            name, value = "authorization", f"Bearer {token}"
        case {"basic": {"user": user, "password": password}}:
            if ":" in user:
                raise failure(context, "the user of auth: basic has a colon in it, which HTTP can't send")
            name, value = "authorization", _basic(user, password)
        case _:
            name, value = auth["header"]["name"], auth["header"]["value"]
    ((name, value),) = _checked_headers({name: value}, context)
    return name, value


def _add_credential(headers: dict[str, str], name: str, value: str, context: NodeContext) -> None:
    if name in headers:
        raise failure(context, f"{name} is given twice: by headers, auth or the url; leave one out")
    headers[name] = value


def _basic(user: str, password: str) -> str:
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def _encode_body(options: Options, context: NodeContext) -> tuple[bytes | None, str | None]:
    """Return the body, and its content type unless a header gives another."""
    __tracebackhide__ = True
    if sum(name in options for name in ("body", "form", "json")) > 1:
        raise failure(context, "body, form and json exclude one another; give one of them")
    if "json" in options:
        return _encode_json(options["json"], context), "application/json"
    if "form" in options:
        return urlencode(_form_fields(options["form"])).encode(), "application/x-www-form-urlencoded"
    body = options.get("body")
    if body is None:
        return None, None
    if isinstance(body, str):
        return body.encode(), "text/plain; charset=utf-8"
    if isinstance(body, bytes | bytearray):
        return bytes(body), "application/octet-stream"
    raise failure(context, f"body is a text or bytes, not a {type(body).__name__}; for data write json")


def _encode_json(value: Any, context: NodeContext) -> bytes:
    try:
        return write_json(value, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        # The text of the error names a type, and no value: "Out of range float values are not JSON compliant".
        reason = str(error).partition(": ")[0] if isinstance(error, TypeError) else type(error).__name__
        raise failure(context, f"json can't be written as JSON: {reason}") from None


def _extended_query(url: httpx.URL, params: Mapping[str, Any]) -> bytes | None:
    """Return the query of the URL with the parameters added. The query of the URL itself stays as it was written."""
    more = urlencode(_form_fields(params))
    query = url.query.decode("ascii")
    return "&".join(part for part in (query, more) if part).encode() or None


def _form_fields(fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return pairs of name and text. A list gives one pair an item; null gives none."""
    many = ((name, value if isinstance(value, list | tuple) else [value]) for name, value in fields.items())
    return [(name, _form_text(value)) for name, values in many for value in values if value is not None]


def _form_text(value: Any) -> str:
    value = coerce(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


# -- bodies of responses -----------------------------------------------------------------------------------------

BodyFormat: TypeAlias = Literal["auto", "json", "text", "bytes", "json_or_text"]

_TEXT_TYPES: Final = frozenset({
    "application/xml", "application/javascript", "application/ecmascript", "application/x-www-form-urlencoded",
    "application/x-ndjson", "application/ndjson", "application/jsonl", "application/yaml", "application/x-yaml",
    "application/toml", "application/graphql", "application/sql", "image/svg+xml",
})  # fmt: skip
_CHARSET: Final = re.compile(r"charset\s*=\s*[\"']?([^\s;\"']+)", re.IGNORECASE)
_CHUNK: Final = 256 * 1024

# The encodings that requests accept. The default of httpx depends on the installed packages.
_ZLIB_WINDOWS: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15}


class BodyTooLarge(Exception):
    """The body is larger than allowed."""


class BodyUnreadable(Exception):
    """The body does not have the form that its headers say. The message has nothing of its content."""


def read_body(chunks: Iterable[bytes], encoding: str, max_bytes: int) -> bytes:
    """Return the body, decompressed. At most one chunk beyond `max_bytes` is read or decompressed.

    Raises:
        BodyTooLarge: it has more than `max_bytes`.
        BodyUnreadable: it is damaged, or compressed by another method than gzip or deflate.
    """
    content = bytearray()
    for piece in _decompressed(_limited(chunks, max_bytes), encoding.strip().lower()):
        content += piece
        if len(content) > max_bytes:
            raise BodyTooLarge
    return bytes(content)


def _limited(chunks: Iterable[bytes], max_bytes: int) -> Iterator[bytes]:
    n_read = 0
    for chunk in chunks:
        n_read += len(chunk)
        if n_read > max_bytes:
            raise BodyTooLarge
        yield chunk


def _decompressed(chunks: Iterable[bytes], encoding: str) -> Iterable[bytes]:
    if encoding in {"", "identity"}:
        return chunks
    if encoding not in _ZLIB_WINDOWS:
        raise BodyUnreadable("it is packed otherwise than by gzip or deflate, which were asked for")
    return _inflate(chunks, _ZLIB_WINDOWS[encoding])


def _inflate(chunks: Iterable[bytes], window: int) -> Iterator[bytes]:
    """Decompress in pieces of a bounded size, because a small chunk may hold gigabytes."""
    inflater, is_begun = zlib.decompressobj(window), False
    for chunk in chunks:
        packed = chunk
        if not is_begun and window == 15 and chunk and not _is_zlib(chunk):
            inflater = zlib.decompressobj(-15)  # some servers send raw deflate
        is_begun = is_begun or bool(chunk)
        while packed:
            if inflater.eof and not (window == 31 and packed.startswith(b"\x1f")):
                return  # padding follows
            if inflater.eof:
                inflater = zlib.decompressobj(window)  # several archives may follow one another
            try:
                yield inflater.decompress(packed, _CHUNK)
            except zlib.error:
                raise BodyUnreadable("it is damaged: it can't be unpacked") from None
            packed = inflater.unconsumed_tail or inflater.unused_data
    yield inflater.flush()
    if is_begun and not inflater.eof:
        raise BodyUnreadable("it breaks off in the middle")


def _is_zlib(chunk: bytes) -> bool:
    return chunk[0] & 0x0F == 8 and (len(chunk) < 2 or int.from_bytes(chunk[:2]) % 31 == 0)


def parse_body(content: bytes, content_type: str, parse: BodyFormat) -> Any:
    """Return the body as data, text or bytes. An empty body is "" as text, b"" as bytes, and else None.

    Raises:
        BodyUnreadable: JSON is expected, and it is not JSON.
    """
    kind = body_format(content_type, parse)
    if kind == "text":
        return decode_text(content, content_type)
    if not content:
        return b"" if parse == "bytes" else None
    if kind == "json_or_text":
        with suppress(BodyUnreadable):
            return _decode_json(content, content_type)
        return decode_text(content, content_type)
    return content if kind == "bytes" else _decode_json(content, content_type)


def body_format(content_type: str, parse: BodyFormat) -> BodyFormat:
    """Return the format of a body: as asked for, or by its content type if that is "auto"."""
    if parse != "auto":
        return parse
    media = content_type.partition(";")[0].strip().lower()
    if media in {"application/json", "text/json"} or media.endswith("+json"):
        return "json"
    is_text = media.startswith("text/") or media in _TEXT_TYPES or media.endswith("+xml")
    return "text" if is_text else "bytes"


def decode_text(content: bytes, content_type: str) -> str:
    """Decode the text by the charset of its content type, else as UTF-8, else as Latin-1."""
    charset_found = _CHARSET.search(content_type)
    for charset in ([charset_found[1]] if charset_found else []) + ["utf-8"]:
        try:
            return content.decode(charset).removeprefix("\ufeff")
        except (LookupError, ValueError):
            continue
    return content.decode("latin-1")


def _decode_json(content: bytes, content_type: str) -> Any:
    try:
        has_charset = _CHARSET.search(content_type) is not None
        text = decode_text(content, content_type) if has_charset else content.decode(json.detect_encoding(content))
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise BodyUnreadable(f"it is {describe_body(content)}, which is no JSON at {where}") from None
    except UnicodeDecodeError:
        raise BodyUnreadable(f"it is {describe_body(content)}, and not in UTF-8") from None
    except (ValueError, RecursionError):
        # A number of thousands of digits, NaN, or lists that are nested thousands deep.
        raise BodyUnreadable(f"it is {describe_body(content)}, and holds a number or depth that JSON can't") from None


def _refuse_constant(_name: str) -> None:
    raise ValueError


def describe_body(content: bytes) -> str:
    """Describe the size and form of the content, without any of the content itself."""
    size = f"{len(content):,} bytes"
    begins = content[:256].lstrip()
    if not begins:
        return f"{size} of nothing but blanks" if content else "empty"
    if begins.startswith(b"<"):
        return f"{size} that begin like HTML or XML"
    if begins[:1] in b'{["':
        return f"{size} that begin like JSON"
    try:
        begins.decode()
    except UnicodeDecodeError as error:
        if error.start < len(begins) - 4:
            return f"{size} of binary data"
    return f"{size} of other text"
