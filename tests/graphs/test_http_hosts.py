"""The kind http and whom it trusts with what: credentials, redirections, cookies and secrets, each on its own host."""

from __future__ import annotations

import json
import logging
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironflow_nb.errors import NodeFailed, NotGranted
from ironflow_nb.graphs.grants import Grants
from ironflow_nb.graphs.nodes.http import HTTP
from ironflow_nb.graphs.secrets import Secrets
from tests.graphs.asking import perform
from tests.graphs.servers import Server, redirecting, replying, serving

CREDENTIALS = ("authorization", "cookie", "x-api-key", "proxy-authorization")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made


@pytest.fixture
def other() -> Iterator[Server]:
    with serving() as made:
        yield made


def ask(url: str, *, allow: Any = None, secret: str = "", **options: Any) -> Any:
    return perform(HTTP, {"url": url, **options}, allow=allow, secret=secret)


def bearer(host: str) -> dict[str, Any]:
    return {"host": host, "bearer": "t0ken"}


# -- auth --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("credential", "name", "value"),
    [
        ({"bearer": "t0ken"}, "authorization", "Bearer t0ken"),
        ({"basic": {"user": "me", "password": "a:ü"}}, "authorization", "Basic bWU6YTrDvA=="),
        ({"header": {"name": "X-Api-Key", "value": "k3y"}}, "x-api-key", "k3y"),
    ],
)
def test_a_credential_goes_to_its_host(server: Server, credential: dict[str, Any], name: str, value: str) -> None:
    ask(server.url(), auth={"host": server.host, **credential})
    assert server.last.headers[name] == value


def test_userinfo_of_the_url_is_a_credential_for_that_host(server: Server) -> None:
    ask(f"http://me:a%3Ab@{server.host}/")
    assert server.last.headers["authorization"] == f"Basic {b64encode(b'me:a:b').decode()}"
    assert "me" not in server.last.target + server.last.headers["host"]


def test_a_url_that_only_contains_the_host_of_the_credential_does_not_get_it(server: Server, other: Server) -> None:
    for url in (
        other.url(f"/?x={server.host}"),
        other.url(f"/{server.host}/"),
        other.url(f"/?http://{server.host}/"),
        f"http://{server.host}@{other.host}/",
        f"http://{server.host.replace(':', '%3A')}:x@{other.host}/",
        other.url(f"/#{server.host}"),
    ):
        ask(url, auth={"host": server.host, "header": {"name": "X-Api-Key", "value": "k3y"}})
    assert server.seen == []
    assert len(other.seen) == 6
    assert not any("x-api-key" in seen.headers for seen in other.seen)


def test_a_host_that_ends_or_begins_like_that_of_the_credential_does_not_get_it(server: Server) -> None:
    port = server.host.partition(":")[2]
    for host in (f"0.0.1:{port}", f"1:{port}", f"27.0.0.1:{port}", "127.0.0.1", f"127.0.0.1:{port}0"[:15], "localhost"):
        if host != server.host:
            ask(server.url(), auth=bearer(host))
            assert "authorization" not in server.last.headers


def test_a_request_that_goes_without_its_credential_says_so(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "ironflow_nb.graph"):
        ask(server.url(), auth=bearer("api.example.org"))
    assert f"auth is for api.example.org, and the request goes to {server.host}" in caplog.text
    assert "t0ken" not in caplog.text


@given(st.text(st.sampled_from("a.tesx@:/?#\\%1[] \t"), max_size=16))
def test_no_url_but_those_of_its_host_gets_a_credential(rest: str) -> None:
    import httpx

    from ironflow_nb.graphs.grants import matches_host, origin_of

    url = f"http://{rest}a.test{rest}"
    origin = origin_of(url)
    if origin is not None and matches_host("a.test", origin):
        assert httpx.URL(url.replace("\t", "%09")).host == "a.test"


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"Authorization": "Bearer x"}, "auth": {"bearer": "y"}},
        {"headers": {"x-api-key": "x"}, "auth": {"header": {"name": "X-Api-Key", "value": "y"}}},
    ],
)
def test_a_credential_that_is_given_twice_is_a_mistake(server: Server, options: dict[str, Any]) -> None:
    options["auth"]["host"] = server.host
    with pytest.raises(NodeFailed, match="given twice"):
        ask(server.url(), **options)
    with pytest.raises(NodeFailed, match="given twice"):
        ask(f"http://me:x@{server.host}/", auth=bearer(server.host))


@pytest.mark.parametrize(
    ("credential", "what"),
    [
        ({"bearer": "hunter2\r\nX-A: b"}, "new line"),
        ({"bearer": "hunter2\n"}, "ends with a blank, or has a new line"),
        ({"header": {"name": "X-A\r\n", "value": "hunter2"}}, "can't be the name of a header"),
        ({"header": {"name": "Host", "value": "hunter2"}}, "follows from the url"),
        ({"basic": {"user": "a:b", "password": "hunter2"}}, "has a colon"),
    ],
)
def test_a_credential_that_can_t_be_sent_is_said_without_showing_it(
    server: Server, credential: dict[str, Any], what: str
) -> None:
    with pytest.raises(NodeFailed, match=what) as caught:
        ask(server.url(), auth={"host": server.host, **credential})
    assert "hunter2" not in str(caught.value)
    assert caught.value.is_retryable is False
    assert server.seen == []


# -- redirections ------------------------------------------------------------------------------------------------


def test_redirections_are_followed_to_the_answer(server: Server) -> None:
    server.answers("/a/b", redirecting("../c?x=1#y", 301))
    server.answers("/c", redirecting("d", 307))
    assert ask(server.url("/a/b"))["body"] == {"ok": True}
    assert [seen.target for seen in server.seen] == ["/a/b", "/c?x=1", "/d"]


def test_ten_redirections_are_followed_and_not_eleven(server: Server) -> None:
    for number in range(11):
        server.answers(f"/{number}", redirecting(f"/{number + 1}"))
    assert ask(server.url("/1"))["body"] == {"ok": True}
    with pytest.raises(NodeFailed, match="redirected more than 10 times") as caught:
        ask(server.url("/0"))
    assert caught.value.is_retryable is False


@pytest.mark.parametrize(
    ("status", "method", "then"),
    [
        (301, "POST", "GET"), (302, "POST", "GET"), (303, "POST", "GET"), (307, "POST", "POST"), (308, "POST", "POST"),
        (301, "PUT", "PUT"), (302, "DELETE", "DELETE"), (303, "PUT", "GET"), (303, "HEAD", "HEAD"), (302, "GET", "GET"),
    ],
)  # fmt: skip
def test_a_redirection_keeps_the_method_and_body_or_makes_it_a_get_without_one(
    server: Server, status: int, method: str, then: str
) -> None:
    url = server.answers("/r", redirecting("/to", status))
    body = {} if method in {"GET", "HEAD"} else {"json": {"a": 1}}
    ask(url, method=method, **body)
    assert server.last.method == then
    assert server.last.body == (b'{"a":1}' if body and then == method else b"")
    assert ("content-type" in server.last.headers) == bool(server.last.body)


def test_a_redirection_to_a_host_that_is_not_granted_is_not_followed(server: Server, other: Server) -> None:
    url = server.answers("/r", redirecting(other.url("/?token=s3cret")))
    with pytest.raises(
        NotGranted, match=f"redirects to http://{other.host}/.token=[.]{{3}}: http .* is not granted"
    ) as caught:
        ask(url, allow={"http": [server.host]})
    assert "s3cret" not in str(caught.value) + repr(caught.value.ids)
    assert other.seen == []


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://a.test/", "http://[bad", "javascript:alert(1)", "http://a b/"]
)
def test_a_redirection_to_what_is_no_http_url_is_not_followed(server: Server, location: str) -> None:
    url = server.answers("/r", redirecting(location))
    with pytest.raises(NodeFailed, match="what it redirects to") as caught:
        ask(url)
    assert caught.value.is_retryable is False


def test_a_redirection_to_another_host_takes_no_credential_along(server: Server, other: Server) -> None:
    url = server.answers("/r", redirecting(other.url("/")))
    headers = {"Cookie": "s=1", "X-Api-Key": "k3y", "Proxy-Authorization": "x", "Accept": "text/plain"}
    for auth in (bearer(server.host), {"host": server.host, "header": {"name": "X-Token", "value": "t0ken"}}):
        ask(url, headers=headers, auth=auth)
        ask(f"http://me:x@{server.host}/r", headers=headers)
    assert server.seen[0].headers["authorization"] == "Bearer t0ken"
    assert len(other.seen) == 4
    for seen in other.seen:
        assert not {*CREDENTIALS, "x-token"} & seen.headers.keys()
        assert seen.headers["accept"] == "text/plain"


def test_another_port_is_another_host(server: Server, other: Server) -> None:
    url = server.answers("/r", redirecting(other.url("/")))
    ask(url, auth=bearer(server.host))
    assert server.host.partition(":")[0] == other.host.partition(":")[0]
    assert "authorization" not in other.last.headers


BODIES: dict[str, dict[str, Any]] = {
    "json": {"json": {"a": ["s3cret/wörd"]}},
    "form": {"form": {"token": "s3cret/wörd"}},
    "text": {"body": "is s3cret/wörd."},
    "bytes": {"body": "s3cret/wörd".encode("utf-16")},
    "base64": {"body": b64encode("me:s3cret/wörd".encode()).decode()},
}


@pytest.mark.parametrize(
    ("status", "method"), [(307, "POST"), (308, "PUT"), (301, "PUT"), (302, "DELETE"), (303, "GET")]
)
@pytest.mark.parametrize("body", BODIES)
def test_a_redirection_to_another_server_takes_no_body_with_a_secret_along(
    server: Server, other: Server, status: int, method: str, body: str
) -> None:
    url = server.answers("/r", redirecting(other.url("/"), status))
    with pytest.raises(NotGranted, match=f"answered {status} and redirects to .*its body has a secret in it"):
        ask(url, method=method, secret="s3cret/wörd", **BODIES[body])
    assert len(server.seen) == 1
    assert other.seen == []


def test_a_redirection_takes_a_body_without_a_secret_or_to_its_own_server_along(server: Server, other: Server) -> None:
    server.answers("/r", redirecting(server.url("/to"), 307))
    ask(server.url("/r"), method="POST", secret="s3cret", json=["s3cret"])
    assert (server.last.target, server.last.body) == ("/to", b'["s3cret"]')
    server.answers("/r", redirecting(other.url("/"), 308))
    ask(server.url("/r"), method="POST", secret="s3cret", json=["public"])
    assert other.last.body == b'["public"]'


@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_post_that_becomes_a_get_takes_no_secret_along(server: Server, other: Server, status: int) -> None:
    headers = {"User-Agent": "me s3cret", "Accept": "text/plain", "Accept-Language": "S3CRET"}
    ask(
        server.answers("/r", redirecting(other.url("/"), status)),
        method="POST",
        secret="s3cret",
        body="s3cret",
        headers=headers,
    )
    assert (other.last.method, other.last.body, other.last.headers["accept"]) == ("GET", b"", "text/plain")
    assert "s3cret" not in str(other.last.headers).lower()


def test_a_redirection_on_the_same_host_keeps_the_credential(server: Server) -> None:
    ask(server.answers("/r", redirecting("/to")), auth=bearer(server.host), headers={"X-Api-Key": "k3y"})
    assert server.last.target == "/to"
    assert (server.last.headers["authorization"], server.last.headers["x-api-key"]) == ("Bearer t0ken", "k3y")


def test_a_foreign_host_that_redirects_back_makes_no_request_with_the_credential(server: Server, other: Server) -> None:
    url = server.answers("/r", redirecting(other.url("/back")))
    other.answers("/back", redirecting(server.url("/delete?everything")))
    ask(url, auth=bearer(server.host))
    ask(other.url("/back"), auth=bearer(server.host))
    assert [seen.headers.get("authorization") for seen in server.seen] == ["Bearer t0ken", None, None]


def test_a_redirection_with_userinfo_makes_no_credential(server: Server) -> None:
    ask(server.answers("/r", redirecting(f"http://you:x@{server.host}/to")))
    assert "authorization" not in server.last.headers


def test_cookies_that_a_redirection_sets_come_back_to_its_host_and_to_no_other(server: Server, other: Server) -> None:
    server.answers("/login", redirecting("/home", Set_Cookie="session=1; Path=/"))
    server.answers("/home", redirecting(other.url("/")))
    other.answers("/", redirecting(server.url("/end")))
    ask(server.url("/login"))
    assert [seen.headers.get("cookie") for seen in server.seen] == [None, "session=1", None]
    assert other.last.headers.get("cookie") is None


def test_no_cookie_outlives_its_node(server: Server) -> None:
    server.answers("/login", replying(200, {}, Set_Cookie="session=1; Path=/"))
    ask(server.url("/login"))
    ask(server.url("/home"))
    assert "cookie" not in server.last.headers


# -- secrets -----------------------------------------------------------------------------------------------------


def secrets_of(*texts: str) -> Secrets:
    secrets = Secrets({}, Grants.of(None))
    for text in texts:
        secrets.add(text)
    return secrets


@pytest.mark.parametrize("user", ["", "m", "me", "you", "a longer name"])
def test_a_server_that_echoes_basic_authorization_does_not_give_the_password_to_the_journal(
    server: Server, user: str
) -> None:
    def echo(handler: Any) -> None:
        handler.reply(401, json.dumps(dict(handler.headers)).encode(), {"content-type": "application/json"})

    with pytest.raises(NodeFailed) as caught:
        ask(
            server.answers("/echo", echo),
            auth={"host": server.host, "basic": {"user": user, "password": "correct horse"}},
        )
    error: Any = caught.value
    sent = server.last.headers["authorization"].removeprefix("Basic ")
    assert sent in repr(error.output)
    clean = secrets_of("correct horse").forms.redacted_data
    for left in (sent, "correct", "horse"):
        assert left not in repr(clean(error.output)) + repr(clean(error.ids))


@pytest.mark.slow
@given(st.binary(max_size=7), st.text(min_size=6, max_size=20), st.binary(max_size=7))
def test_a_secret_within_something_in_base64_is_found(before: bytes, secret: str, after: bytes) -> None:
    try:
        whole = b64encode(before + secret.encode() + after).decode()
    except UnicodeEncodeError:
        return
    assert "***" in secrets_of(secret).redacted(whole)
