"""The kind http: what it sends, and what it makes of answers; against a real server."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from ironflow_nb.errors import NodeFailed, NodeTimeout, NotGranted
from ironflow_nb.graphs.compiler import schema_check
from ironflow_nb.graphs.grants import Need
from ironflow_nb.graphs.nodes.http import HTTP
from tests.graphs.asking import perform
from tests.graphs.servers import Handler, Server, replying, serving, talking


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made


def ask(url: str, *, allow: Any = None, retry: Any = None, timeout_s: float | None = 20.0, **options: Any) -> Any:
    return perform(HTTP, {"url": url, **options}, allow=allow, retry=retry, timeout_s=timeout_s)


def failing(url: str, **options: Any) -> NodeFailed:
    with pytest.raises(NodeFailed) as caught:
        ask(url, **options)
    return caught.value


# -- what is sent ------------------------------------------------------------------------------------------------


def test_an_answer_is_its_status_its_headers_in_lower_case_and_its_body(server: Server) -> None:
    answer = ask(server.answers("/a", replying(201, {"n": 1}, X_Thing="T")))
    assert answer["status_code"] == 201
    assert answer["body"] == {"n": 1}
    assert answer["headers"]["x-thing"] == "T"
    assert answer["headers"]["content-type"] == "application/json"
    assert server.last.method == "GET"
    assert server.last.headers["user-agent"].startswith("ironflow-nb/")


def test_the_url_alone_is_enough() -> None:
    assert HTTP.options_of("http://a.test/") == {"url": "http://a.test/"}


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_every_method_is_sent(server: Server, method: str) -> None:
    assert ask(server.url(), method=method)["body"] == {"ok": True}
    assert server.last.method == method


def test_head_has_no_body_whatever_its_headers_say(server: Server) -> None:
    def huge(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", "900000000")
        handler.end_headers()

    assert ask(server.answers("/huge", huge), method="HEAD")["body"] is None


def test_params_are_added_to_the_query_that_the_url_has_already(server: Server) -> None:
    ask(server.url("/p?x=%20a+b&x=2"), params={"q": "a&b=c", "many": [1, 2], "yes": True, "none": None, "umlaut": "ü"})
    assert server.last.target == "/p?x=%20a+b&x=2&q=a%26b%3Dc&many=1&many=2&yes=true&umlaut=%C3%BC"


def test_json_is_sent_as_it_is_null_included(server: Server) -> None:
    ask(server.url(), method="POST", json={"ü": [1, None, 2**70]})
    assert json.loads(server.last.body) == {"ü": [1, None, 2**70]}
    assert server.last.headers["content-type"] == "application/json"
    ask(server.url(), method="POST", json=None)
    assert server.last.body == b"null"


def test_a_content_type_of_ones_own_stays(server: Server) -> None:
    ask(server.url(), method="POST", json={}, headers={"Content-Type": "application/vnd.api+json"})
    assert server.last.headers["content-type"] == "application/vnd.api+json"


def test_a_body_is_a_text_or_bytes(server: Server) -> None:
    ask(server.url(), method="PUT", body="grüße")
    assert (server.last.body, server.last.headers["content-type"]) == ("grüße".encode(), "text/plain; charset=utf-8")
    ask(server.url(), method="PUT", body=b"\0\xff")
    assert (server.last.body, server.last.headers["content-type"]) == (b"\0\xff", "application/octet-stream")


def test_a_form_is_sent_as_a_form(server: Server) -> None:
    ask(server.url(), method="POST", form={"a": "x y", "b": [1, 2], "c": None, "d": False})
    assert server.last.body == b"a=x+y&b=1&b=2&d=false"
    assert server.last.headers["content-type"] == "application/x-www-form-urlencoded"


def test_headers_are_sent_with_texts_numbers_and_booleans(server: Server) -> None:
    ask(server.url(), headers={"X-A": "a", "X-N": 3, "X-B": True, "X-U": "ü"})
    seen = server.last.headers
    assert (seen["x-a"], seen["x-n"], seen["x-b"]) == ("a", "3", "true")
    assert seen["x-u"].encode("latin-1").decode() == "ü"


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"headers": {"X-A": "a\r\nX-B: evil"}}, "X-A begins or ends with a blank, or has a new line"),
        ({"headers": {"X-A": "a\nb"}}, "new line"),
        ({"headers": {"X-A": "hunter2 "}}, "ends with a blank"),
        ({"headers": {"X-A\r\nX-B": "a"}}, "can't be the name of a header"),
        ({"headers": {"": "a"}}, "can't be the name of a header"),
        ({"headers": {"Host": "other.test"}}, "follows from the url"),
        ({"headers": {"content-length": 1}}, "follows from the url"),
        ({"headers": {"X-A": "1", "x-a": "2"}}, "there twice"),
        ({"json": {"a": float("nan")}}, "can't be written as JSON"),
        ({"json": {"a": b"bytes"}}, "a bytes has no JSON form"),
    ],
)
def test_what_can_t_be_sent_is_said_and_nothing_is_sent(server: Server, options: Any, what: str) -> None:
    error = failing(server.url(), method="POST", **options)
    assert what in str(error)
    assert "hunter2" not in str(error)
    assert error.is_retryable is False
    assert server.seen == []


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"url": "ftp://a.test/"},
        {"url": "http://a.test/", "method": "GTE"},
        {"url": "http://a.test/", "json": 1, "body": "a"},
        {"url": "http://a.test/", "form": {}, "body": "a"},
        {"url": "http://a.test/", "body": {"a": 1}},
        {"url": "http://a.test/", "headers": {"a": None}},
        {"url": "http://a.test/", "headers": {"a": ["b"]}},
        {"url": "http://a.test/", "timeout": 3},
        {"url": "http://a.test/", "max_bytes": -1},
        {"url": "http://a.test/", "parse": "xml"},
        {"url": "http://a.test/", "fail_on_status": "no"},
        {"url": "http://a.test/", "auth": {"bearer": "t"}},
        {"url": "http://a.test/", "auth": {"host": "a.test"}},
        {"url": "http://a.test/", "auth": {"host": "*.a.test", "bearer": "t"}},
        {"url": "http://a.test/", "auth": {"host": "http://a.test", "bearer": "t"}},
        {"url": "http://a.test/", "auth": {"host": "a.test", "bearer": "t", "header": {"name": "a", "value": "b"}}},
        {"url": "http://a.test/", "auth": {"host": "a.test", "basic": {"user": "u"}}},
    ],
)
def test_options_that_mean_nothing_are_found_before_anything_runs(options: dict[str, Any]) -> None:
    assert list(schema_check.problems(HTTP.schema, options, allows_expressions=True))


@pytest.mark.parametrize(
    "url",
    ["http://", "http:///x", "http://a b/", "http://me:hunter2@/", "http://a.test:0x50/", "http://ex%61mple.org/"],
)
def test_a_url_that_can_t_be_read_is_said_without_repeating_it(url: str) -> None:
    error = failing(url)
    assert "the url" in str(error)
    assert "hunter2" not in str(error)
    assert error.is_retryable is False


# -- grants ------------------------------------------------------------------------------------------------------


def test_a_host_that_is_not_granted_is_not_asked(server: Server) -> None:
    with pytest.raises(NotGranted, match="is not granted"):
        ask(server.url(), allow={"http": ["127.0.0.1"]})  # another port
    with pytest.raises(NotGranted):
        ask(f"http://good.test:1@{server.host}/", allow={"http": ["good.test:1", "good.test"]})
    assert server.seen == []
    assert ask(server.url(), allow={"http": [server.host]})["status_code"] == 200


@pytest.mark.parametrize(
    ("url", "known"),
    [
        ("https://a.test/x", "https://a.test/x"),
        ("https://a.test/{{ input.id }}", "https://a.test"),
        ("https://a.test:81?x={{ input.id }}", "https://a.test:81"),
        ("https://a.test{{ input.id }}", None),
        ("https://a.test:{{ port }}/", None),
        ("https://{{ host }}/a.test/", None),
        ("{{ url }}", None),
    ],
)
def test_what_will_be_asked_for_is_known_as_far_as_the_host_is_written(url: str, known: str | None) -> None:
    assert list(HTTP.needs({"url": url})) == ([] if known is None else [Need("http", known)])


# -- what becomes of the body ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["application/json", "application/problem+json; charset=utf-8", "TEXT/JSON"])
def test_json_is_parsed_by_its_content_type(server: Server, kind: str) -> None:
    url = server.answers(
        "/j",
        replying(200, b'\xef\xbb\xbf{"big": 123456789012345678901234567890, "\xc3\xbc": [null]}', content_type=kind),
    )
    assert ask(url)["body"] == {"big": 123456789012345678901234567890, "ü": [None]}


@pytest.mark.parametrize(
    ("content", "kind", "body"),
    [
        ("grüße".encode(), "text/plain", "grüße"),
        ("grüße".encode("latin-1"), "text/html; charset=iso-8859-1", "grüße"),
        ("grüße".encode("latin-1"), "text/plain", "grüße"),
        ("grüße".encode(), 'text/csv; charset="no-such"', "grüße"),
        (b"<a/>", "application/atom+xml", "<a/>"),
        (b"{}", "text/plain", "{}"),
        (b"", "text/plain", ""),
        (b"", "application/json", None),
        (b"", "image/png", None),
        (b"\x89PNG", "image/png", b"\x89PNG"),
        (b"{}", "application/octet-stream", b"{}"),
    ],
)
def test_other_bodies_are_text_or_bytes_by_their_content_type(
    server: Server, content: bytes, kind: str, body: Any
) -> None:
    assert ask(server.answers("/b", replying(200, content, content_type=kind)))["body"] == body


def test_a_body_without_a_content_type_is_bytes(server: Server) -> None:
    assert ask(server.answers("/b", replying(200, b"{}")))["body"] == b"{}"


@pytest.mark.parametrize(
    ("parse", "body"), [("json", {"a": 1}), ("text", '{"a": 1}'), ("bytes", b'{"a": 1}'), ("json_or_text", {"a": 1})]
)
def test_parse_says_what_the_body_becomes_whatever_its_type(server: Server, parse: str, body: Any) -> None:
    assert ask(server.answers("/b", replying(200, b'{"a": 1}', content_type="image/png")), parse=parse)["body"] == body


@pytest.mark.parametrize(("sent", "body"), [(b"so it is", "so it is"), (b'{"a": ', '{"a": '), (b"", None), (b"7", 7)])
def test_an_answer_that_may_be_json_or_a_text_is_what_it_can_be_read_as(server: Server, sent: bytes, body: Any) -> None:
    url = server.answers("/b", replying(200, sent, content_type="text/plain"))
    assert ask(url, parse="json_or_text")["body"] == body


@pytest.mark.parametrize(
    ("content", "looks"),
    [
        (b"<html>hunter2</html>", "begin like HTML"),
        (b'{"a": hunter2', "begin like JSON, which is no JSON at line 1, column 7"),
        (b"hunter2", "7 bytes of other text"),
        (b"\x00\xff\xfe hunter2", "binary"),
        (b"   ", "nothing but blanks"),
        (b'{"a": NaN}', "that JSON can't"),
        (b"[" * 100_000, "that JSON can't"),
        (b'"\xff"', "not in UTF-8"),
    ],
)
def test_json_that_is_none_fails_by_its_shape_and_for_good(server: Server, content: bytes, looks: str) -> None:
    error = failing(server.answers("/j", replying(200, content, content_type="application/json")))
    assert looks in str(error)
    assert "answered 200 OK with content type application/json" in str(error)
    assert "hunter2" not in str(error)
    assert error.is_retryable is False
    assert error.ids["status_code"] == 200


def test_headers_that_are_there_several_times_are_joined(server: Server) -> None:
    def twice(handler: Handler) -> None:
        handler.send_response(200)
        for value in ("a", "b"):
            handler.send_header("X-Many", value)
        handler.send_header("content-length", "0")
        handler.end_headers()

    assert ask(server.answers("/t", twice))["headers"]["x-many"] == "a, b"


@pytest.mark.parametrize(
    ("packing", "packed"),
    [
        ("gzip", gzip.compress(b"many words " * 1000)),
        ("gzip", gzip.compress(b"many words " * 400) + gzip.compress(b"many words " * 600)),
        ("gzip", gzip.compress(b"many words " * 1000) + b"\0" * 20),
        ("deflate", zlib.compress(b"many words " * 1000)),
        ("deflate", zlib.compress(b"many words " * 1000, wbits=-15)),
    ],
    ids=["gzip", "parts", "padded", "deflate", "bare"],  # what gzip makes has the time in it
)
def test_a_packed_body_is_unpacked(server: Server, packing: str, packed: bytes) -> None:
    url = server.answers("/z", replying(200, packed, content_type="text/plain", content_encoding=packing))
    assert ask(url)["body"] == "many words " * 1000


@pytest.mark.parametrize(
    ("packing", "packed", "why"),
    [
        ("gzip", b"no archive", "damaged"),
        ("gzip", gzip.compress(b"word" * 1000)[:-9], "breaks off"),
        ("br", b"x", "packed otherwise"),
        ("gzip, gzip", b"x", "packed otherwise"),
    ],
    ids=["no archive", "broken off", "unknown", "twice"],  # what gzip makes has the time in it
)
def test_a_packed_body_that_is_damaged_is_no_result(server: Server, packing: str, packed: bytes, why: str) -> None:
    assert why in str(failing(server.answers("/z", replying(200, packed, content_encoding=packing))))


# -- sizes and time ----------------------------------------------------------------------------------------------


def test_a_body_that_says_it_is_too_large_is_refused_unread() -> None:
    sent = []

    def talk(connection: socket.socket) -> None:
        connection.recv(10_000)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 500000000\r\n\r\n")
        for _ in range(8_000):
            connection.sendall(bytes(65_536))
            sent.append(65_536)

    with talking(talk) as host:
        error = failing(f"http://{host}/")
        assert "answered 200 OK with more than 50,000,000 bytes; raise max_bytes" in str(error)
        assert error.is_retryable is False
    assert sum(sent) < 20_000_000


def test_a_body_without_a_length_is_refused_as_soon_as_it_is_too_large() -> None:
    sent = []

    def talk(connection: socket.socket) -> None:
        connection.recv(10_000)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(8_000):
            connection.sendall(bytes(65_536))
            sent.append(65_536)

    with talking(talk) as host:
        assert "more than 1,000,000 bytes" in str(failing(f"http://{host}/", max_bytes=1_000_000))
    assert sum(sent) < 20_000_000


def test_a_small_body_that_unpacks_to_a_huge_one_is_refused_before_it_fills_the_memory(server: Server) -> None:
    import tracemalloc

    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(bytes(1_000_000)) for _ in range(300)) + packer.flush()
    url = server.answers("/z", replying(200, bomb, content_encoding="gzip"))
    tracemalloc.start()
    assert "more than 1,000,000 bytes" in str(failing(url, max_bytes=1_000_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000


def test_a_body_of_just_the_size_is_taken(server: Server) -> None:
    assert ask(server.answers("/s", replying(200, b"12345")), max_bytes=5)["body"] == b"12345"


@pytest.mark.parametrize("begin", [b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-Slow: "])
def test_an_answer_that_drips_in_ends_at_the_timeout(begin: bytes) -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(10_000)
        connection.sendall(begin)
        for _ in range(200):
            connection.sendall(b"x")
            time.sleep(0.05)

    with talking(talk) as host:
        began = time.monotonic()
        with pytest.raises(NodeTimeout, match=r"took longer than 0\.5 s; raise timeout_s"):
            ask(f"http://{host}/", timeout_s=0.5)
        assert 0.4 < time.monotonic() - began < 9


def test_redirections_and_their_answers_share_one_timeout(server: Server) -> None:
    def slow(handler: Handler) -> None:
        time.sleep(0.15)
        handler.reply(302, b"", {"location": "/slow"})

    server.answers("/slow", slow)
    began = time.monotonic()
    with pytest.raises(NodeTimeout):
        ask(server.url("/slow"), timeout_s=0.5)
    assert time.monotonic() - began < 10


def test_a_server_that_reads_nothing_does_not_hold_a_large_upload_beyond_the_timeout() -> None:
    is_over = threading.Event()
    with talking(lambda _: is_over.wait(30)) as host:
        began = time.monotonic()
        with pytest.raises(NodeTimeout):
            ask(f"http://{host}/", method="POST", body=bytes(30_000_000), timeout_s=0.5)
        assert time.monotonic() - began < 20
        is_over.set()
