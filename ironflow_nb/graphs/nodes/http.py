"""The kind ``http``: one request with its redirections, and the response as data.

The environment changes nothing: no proxy and no password of ``.netrc`` is taken from it. A credential of ``auth`` goes
to the one host that it names. Another host that a request is redirected to gets no header that could hold one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from ironflow_nb.errors import NodeFailed, NodeTimeout
from ironflow_nb.graphs.grants import Need
from ironflow_nb.graphs.host_auth import NODE_AUTH
from ironflow_nb.graphs.kinds import RETRY_KEYS, Kind, NodeContext, Options, failure, options_schema
from ironflow_nb.graphs.language.templates import OPENING
from ironflow_nb.graphs.nodes.http_messages import (
    BodyTooLarge,
    BodyUnreadable,
    HttpRequest,
    body_format,
    decode_text,
    parse_body,
    read_body,
    redirected_request,
    request_from_options,
)
from ironflow_nb.telemetry.spans import IS_TRACED, trace_headers

if TYPE_CHECKING:
    import httpx

    from ironflow_nb.graphs.nodes.http_transport import HttpTransport

MAX_BYTES: Final = 50_000_000
MAX_REDIRECTS: Final = 10
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")

_SCALARS: Final = ["string", "number", "boolean"]
_FIELDS: Final = {
    "type": "object",
    "additionalProperties": {"type": [*_SCALARS, "null", "array"], "items": {"type": [*_SCALARS, "null"]}},
}
_EXCLUDING: Final = (("body", "form"), ("body", "json"), ("form", "json"))

SCHEMA: Final = options_schema(
    {
        "url": {
            "description": "the address: an http or https URL of a granted host",
            "type": "string",
            "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://",
        },
        "method": {"description": "the method; by default GET", "enum": list(METHODS)},
        "params": {"description": "more for the query: a list is given item by item, null is left out", **_FIELDS},
        "headers": {
            "description": "headers; the first host gets all of them, one that it redirects to only harmless ones",
            "type": "object",
            "additionalProperties": {"type": _SCALARS},
        },
        "json": {"description": "data that are sent as JSON"},
        "body": {
            "description": "a text or bytes that are sent as they are; for data there is json",
            "not": {"type": ["object", "array", "number", "boolean", "null"]},
        },
        "form": {"description": "fields that are sent as a form: a list item by item, null is left out", **_FIELDS},
        "auth": NODE_AUTH,
        "parse": {
            "description": "what the body becomes: json, text, bytes, json_or_text, which is JSON if it can be read as "
            "such, or auto, which goes by the content type",
            "enum": ["auto", "json", "text", "bytes", "json_or_text"],
        },
        "fail_on_status": {
            "description": "whether the node fails on a status other than 2xx; by default true",
            "type": "boolean",
        },
        "follow_redirects": {
            "description": f"whether redirections are followed, {MAX_REDIRECTS} at most and to granted hosts; by "
            "default true",
            "type": "boolean",
        },
        "max_bytes": {
            "description": f"the largest body that is taken; by default {MAX_BYTES:,} bytes",
            "type": "integer",
            "minimum": 0,
            "maximum": 2_000_000_000,
        },
    },
    required=["url"],
    allOf=[
        {"not": {"required": [*pair]}, "description": f"{pair[0]} and {pair[1]} exclude one another"}
        for pair in _EXCLUDING
    ],
)


TIMEOUT_S: Final = 30.0
LONGEST_RETRY_AFTER_S: Final = 60.0

RETRIED_STATUS: Final = (408, 425, 429, 500, 502, 503, 504)

_ERROR_BODY: Final = 8_000
_ERROR_TEXT: Final = 4_000
"""The most bytes and characters of a body that an error carries. A larger error would not be recorded."""

_ERROR_READ: Final = 1_000_000

_WRITTEN_HOST: Final = re.compile(r"(https?://[^/?#\\{}\s]+)[/?#]", re.IGNORECASE)


def _needs(options: Options) -> Iterable[Need]:
    url = options.get("url")
    if not isinstance(url, str):
        return
    if OPENING not in url:
        yield Need("http", url)
    elif found := _WRITTEN_HOST.match(url):
        yield Need("http", found[1])


def exchange(options: Options, context: NodeContext, *, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """Do what an http node with these options does; `timeout_s` is for a node that has no limit itself.

    Raises:
        NodeFailed: there is no response, or it is refused.
        NotGranted: the host is not granted, or one to which it redirects.
    """
    __tracebackhide__ = True
    limit_s = timeout_s if context.timeout_s is None else context.timeout_s
    try:
        request = request_from_options(options, context)
        from ironflow_nb.graphs.nodes.http_transport import HttpTransport

        with HttpTransport(limit_s, context.monotonic) as transport:
            return _Exchange(transport, options, context, request, limit_s).perform()
    except UnicodeEncodeError:
        raise failure(context, "the request has half of a character in it (a lone surrogate); leave it out") from None


class _Exchange:
    """One request with its redirections, up to the response."""

    def __init__(
        self, transport: HttpTransport, options: Options, context: NodeContext, request: HttpRequest, timeout_s: float
    ) -> None:
        self._transport = transport
        self._options = options
        self._context = context
        self._first_request = request
        self._request = request
        self._timeout_s = timeout_s

    def perform(self) -> dict[str, Any]:
        """Send the request and return the output of the node: status_code, headers, body.

        Raises:
            NodeFailed: there is no response, or it is refused.
            NotGranted: a redirection leads to a host that is not granted.
        """
        __tracebackhide__ = True
        import httpcore

        try:
            return self._output(self._follow_redirects())
        except httpcore.TimeoutException as error:
            raise self._timeout_error(was_sent=not isinstance(error, httpcore.ConnectTimeout)) from None
        except httpcore.LocalProtocolError:
            # The text of the error may repeat a header.
            raise failure(self._context, f"{self._request}: it is not a valid HTTP request") from None
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise self._connection_error(error, was_sent=not isinstance(error, httpcore.ConnectError)) from None

    def _follow_redirects(self) -> httpx.Response:
        __tracebackhide__ = True
        for _ in range(MAX_REDIRECTS + 1):
            request = self._request
            headers = {**trace_headers(), **request.headers} if IS_TRACED else request.headers
            response = self._transport.send(request.method, request.url, headers, request.content)
            if not (self._options.get("follow_redirects", True) and response.has_redirect_location):
                return response
            response.close()
            self._request = redirected_request(
                request, response.status_code, response.headers["location"], self._context
            )
            if self._request.origin != request.origin:
                self._transport.forget_cookies()
        raise failure(self._context, f"{self._first_request} was redirected more than {MAX_REDIRECTS} times")

    def _output(self, response: httpx.Response) -> dict[str, Any]:
        __tracebackhide__ = True
        is_refused = not response.is_success and self._options.get("fail_on_status", True)
        try:
            body = self._error_body(response) if is_refused else self._parsed_body(response)
        finally:
            response.close()
        output = {"status_code": response.status_code, "headers": dict(response.headers.items()), "body": body}
        if is_refused:
            message = f"{self._describe_response(response)}; fail_on_status: false would take that as the result"
            raise self._status_error(message, response, output=output)
        if self._context.retry and self._is_status_retried(response):  # 202 as well, if on_status has it
            error = self._status_error(self._describe_response(response), response)
            error.fallback = output
            raise error
        return output

    # -- bodies --------------------------------------------------------------------------------------------------

    def _parsed_body(self, response: httpx.Response) -> Any:
        __tracebackhide__ = True
        limit, parse = self._options.get("max_bytes", MAX_BYTES), self._options.get("parse", "auto")
        try:
            content = self._read_content(response, limit)
        except BodyTooLarge:
            raise self._body_error(f"with more than {limit:,} bytes; raise max_bytes to take them", response) from None
        except BodyUnreadable as error:
            raise self._body_error(f"with a body that can't be read: {error}", response) from None
        content_type = response.headers.get("content-type", "")
        try:
            return parse_body(content, content_type, parse)
        except BodyUnreadable as error:
            what = f"content type {content_type}" if parse == "auto" else "a body that parse: json is to read"
            raise self._body_error(f"with {what}, but {error}; parse: text takes any text", response) from None

    def _error_body(self, response: httpx.Response) -> Any:
        """Return the body for the error, or the beginning of its text or bytes; None if it can't be read.

        The error is about the status, so another fault of the response is not raised.
        """
        import httpcore

        broken = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)
        try:
            content = self._read_content(response, min(self._options.get("max_bytes", MAX_BYTES), _ERROR_READ))
        except (BodyTooLarge, BodyUnreadable, *broken):
            return None
        content_type, parse = response.headers.get("content-type", ""), self._options.get("parse", "auto")
        if len(content) <= _ERROR_BODY:
            with suppress(BodyUnreadable):
                return parse_body(content, content_type, parse)
        if body_format(content_type, parse) == "bytes":
            return content[:_ERROR_BODY]
        return decode_text(content, content_type)[:_ERROR_TEXT]

    def _read_content(self, response: httpx.Response, max_bytes: int) -> bytes:
        __tracebackhide__ = True
        has_body = self._request.method != "HEAD" and response.status_code not in {204, 304}
        length = response.headers.get("content-length", "") if has_body else ""
        if length.isascii() and length.isdigit() and int(length[:20]) > max_bytes:
            raise BodyTooLarge
        return read_body(response.iter_raw(), response.headers.get("content-encoding", ""), max_bytes)

    # -- failures ------------------------------------------------------------------------------------------------

    def _describe_response(self, response: httpx.Response) -> str:
        try:
            phrase = HTTPStatus(response.status_code).phrase
        except ValueError:
            phrase = ""
        return f"{self._request} answered {response.status_code} {phrase}".rstrip()

    def _body_error(self, why: str, response: httpx.Response) -> NodeFailed:
        return failure(self._context, f"{self._describe_response(response)} {why}", status_code=response.status_code)

    def _status_error(self, message: str, response: httpx.Response, **more: Any) -> NodeFailed:
        is_retryable = self._is_status_retried(response)
        error = failure(self._context, message, is_retryable=is_retryable, status_code=response.status_code, **more)
        error.retry_after_s = retry_after_s(response.headers.get("retry-after", ""), self._context)
        return error

    def _is_status_retried(self, response: httpx.Response) -> bool:
        return is_status_retried(self._context.retry, self._first_request.method, response.status_code)

    def _timeout_error(self, *, was_sent: bool) -> NodeFailed:
        message = f"{self._context.node}: {self._request} took longer than {self._timeout_s:g} s; raise timeout_s"
        return NodeTimeout(message, node=self._context.node, is_retryable=self._is_safe_to_retry(was_sent=was_sent))

    def _connection_error(self, error: Exception, *, was_sent: bool) -> NodeFailed:
        from ssl import SSLCertVerificationError

        what = "broke off" if was_sent else "could not connect"
        is_untrusted = any(isinstance(each, SSLCertVerificationError) for each in (*error.args, error.__cause__))
        is_retryable = not is_untrusted and self._is_safe_to_retry(was_sent=was_sent)
        return failure(self._context, f"{self._request} {what}: {error}", is_retryable=is_retryable)

    def _is_safe_to_retry(self, *, was_sent: bool) -> bool:
        """Return True if another attempt does no harm: nothing was sent, or the first request may be sent twice."""
        is_unsent = not was_sent and self._request is self._first_request
        return is_unsent or is_repeatable(self._context.retry, self._first_request.method)


def is_status_retried(retry: Mapping[str, Any], method: str, status: int) -> bool:
    """Return True if a response with that status is retried."""
    return status in retry.get("on_status", RETRIED_STATUS) and is_repeatable(retry, method)


def is_repeatable(retry: Mapping[str, Any], method: str) -> bool:
    """Return True if the request may be sent again, although the first one may have had its effect.

    A ``retry`` without ``on_methods`` means every method, as ``retry`` retries every other kind of node.
    """
    methods = retry.get("on_methods")
    return methods is None or method in {str(each).upper() for each in methods}


def retry_after_s(header: str, context: NodeContext) -> float | None:
    """Return the seconds of a ``Retry-After`` header, at most a minute; None if it has no number and no date."""
    text = header.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), LONGEST_RETRY_AFTER_S)
    try:
        until = parsedate_to_datetime(text)
        seconds = (until - context.now()).total_seconds()
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_S)


HTTP: Final = Kind(
    name="http",
    description="Asks a server over HTTP and gives {status_code, headers, body}.",
    schema=SCHEMA,
    perform=exchange,
    shorthand="url",
    needs=_needs,
    is_outside=True,
    retry_keys=RETRY_KEYS,
)
