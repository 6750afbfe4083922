"""The kind http when it fails: which failures are tried again, after how long, and what they carry and hide."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.errors import NodeFailed, NodeTimeout
from ironflow_nb.graphs.nodes.http import HTTP, LONGEST_RETRY_AFTER_S
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from ironflow_nb.values.failures import recorded_error, store_failure
from ironflow_nb.values.signed_pickles import Signer
from tests.conftest import Lab
from tests.graphs.asking import perform
from tests.graphs.playing import graph_of
from tests.graphs.servers import Server, redirecting, replying, serving, talking

EVERY_METHOD = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made


def ask(url: str, *, retry: Any = None, timeout_s: float | None = 20.0, **options: Any) -> Any:
    return perform(HTTP, {"url": url, **options}, retry=retry, timeout_s=timeout_s)


def failing(url: str, **options: Any) -> NodeFailed:
    with pytest.raises(NodeFailed) as caught:
        ask(url, **options)
    return caught.value


# -- statuses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [300, 304, 400, 401, 404, 418, 499, 500, 599])
def test_a_status_that_is_no_success_fails_the_node_by_default(server: Server, status: int) -> None:
    error = failing(server.answers("/s", replying(status)))
    assert f"GET {server.url('/s')} answered {status}" in str(error)
    assert error.ids["status_code"] == status


def test_with_fail_on_status_false_every_answer_is_a_result(server: Server) -> None:
    answer = ask(server.answers("/s", replying(404, {"why": "gone"})), fail_on_status=False)
    assert (answer["status_code"], answer["body"]) == (404, {"why": "gone"})


def test_a_redirection_that_is_not_followed_is_no_success(server: Server) -> None:
    url = server.answers("/r", redirecting("http://[bad"))
    assert failing(url, follow_redirects=False).ids["status_code"] == 302
    answer = ask(url, follow_redirects=False, fail_on_status=False)
    assert (answer["status_code"], answer["headers"]["location"]) == (302, "http://[bad")


def test_a_failure_carries_the_answer_for_whoever_handles_it(server: Server) -> None:
    error: Any = failing(server.answers("/s", replying(422, {"why": ["a"]}, X_Id="7")))
    assert error.output["status_code"] == 422
    assert error.output["body"] == {"why": ["a"]}
    assert error.output["headers"]["x-id"] == "7"


@pytest.mark.parametrize(
    ("content", "kind", "kept"),
    [
        (json.dumps(["ü" * 9_000]).encode(), "application/json", '["\\u00fc'),
        (("ü" * 9_000).encode(), "text/plain", "üü"),
        (b"\xff" * 9_000, "image/png", b"\xff"),
        (b"x" * 2_000_000, "text/plain", None),
        (b"{broken", "application/json", "{broken"),
    ],
)
def test_a_failure_with_a_large_body_carries_its_beginning_and_can_be_recorded(
    server: Server, content: bytes, kind: str, kept: Any
) -> None:
    error: Any = failing(server.answers("/s", replying(500, content, content_type=kind)))
    assert error.is_retryable is True
    body = error.output["body"]
    assert body is None if kept is None else body.startswith(kept)
    again: Any = recorded_error(store_failure(error), Signer(os.urandom), where="here")
    assert again.output == error.output
    assert again.is_retryable is True


def test_a_failure_whose_body_breaks_off_is_still_that_failure() -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(10_000)
        connection.sendall(b"HTTP/1.1 503 Busy\r\ncontent-length: 1000\r\n\r\nbut")

    with talking(talk) as host:
        error: Any = failing(f"http://{host}/")
    assert error.ids["status_code"] == 503
    assert error.output["body"] is None


# -- which are tried again ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", EVERY_METHOD)
@pytest.mark.parametrize("status", [400, 404, 408, 425, 429, 500, 501, 502, 503, 504])
def test_by_default_what_may_pass_is_tried_again_whatever_the_method_is(
    server: Server, method: str, status: int
) -> None:
    error = failing(server.answers("/s", replying(status)), method=method)
    assert error.is_retryable is (status in {408, 425, 429, 500, 502, 503, 504})


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_a_list_of_statuses_counts_for_every_method(server: Server, method: str) -> None:
    server.answers("/s", replying(503), replying(500))
    retry = {"attempts": 3, "on_status": [429, 503]}
    assert failing(server.url("/s"), method=method, retry=retry).is_retryable is True
    assert failing(server.url("/s"), method=method, retry=retry).is_retryable is False


def test_a_list_of_methods_counts_with_the_default_statuses_or_those_listed(server: Server) -> None:
    url = server.answers("/s", replying(503))
    assert failing(url, method="POST", retry={"on_methods": ["post"]}).is_retryable is True
    assert failing(url, method="GET", retry={"on_methods": ["POST"]}).is_retryable is False
    assert failing(url, method="POST", retry={"on_methods": ["POST"], "on_status": [500]}).is_retryable is False
    assert failing(url, method="POST", retry={"on_methods": ["GET"], "on_status": [503]}).is_retryable is False


def test_a_post_that_was_redirected_to_a_get_is_still_a_post_to_the_retry(server: Server) -> None:
    url = server.answers("/p", redirecting("/busy", 303))
    server.answers("/busy", replying(503))
    assert failing(url, method="POST", retry={"on_methods": ["GET"]}).is_retryable is False
    assert server.last.method == "GET"


def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_where_nobody_listens_nothing_was_sent_and_every_method_is_tried_again(method: str) -> None:
    error = failing(f"http://127.0.0.1:{closed_port()}/", method=method)
    assert "could not connect" in str(error)
    assert error.is_retryable is True


def test_a_host_without_an_address_can_t_be_connected_to() -> None:
    error = failing("http://no-such-host.invalid/", method="POST")
    assert "could not connect" in str(error)
    assert error.is_retryable is True


def test_a_connection_that_fails_after_a_redirection_is_no_proof_that_nothing_was_sent(server: Server) -> None:
    url = server.answers("/p", redirecting(f"http://127.0.0.1:{closed_port()}/", 307))
    retry = {"on_methods": ["GET"]}
    assert failing(url, method="POST", retry=retry).is_retryable is False
    assert failing(url, method="GET", retry=retry).is_retryable is True


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_what_broke_off_after_it_was_sent_is_tried_again_unless_other_methods_are_listed(method: str) -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(10_000)

    with talking(talk) as host:
        error = failing(f"http://{host}/", method=method, retry={"on_status": [503]})
        assert "broke off" in str(error)
        assert error.is_retryable is True
        assert failing(f"http://{host}/", method=method, retry={"on_methods": ["X"]}).is_retryable is False


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_timeout_is_tried_again_unless_other_methods_are_listed(server: Server, method: str) -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(10_000)
        connection.recv(10_000)

    with talking(talk) as host:
        error = failing(f"http://{host}/", method=method, timeout_s=0.2, retry={"on_methods": ["GET"]})
    assert isinstance(error, NodeTimeout)
    assert error.is_retryable is (method == "GET")


def test_a_body_that_breaks_off_is_no_result() -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(10_000)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1000\r\n\r\nhalf")

    with talking(talk) as host:
        assert "broke off" in str(failing(f"http://{host}/"))


def test_what_answers_is_no_http_server() -> None:
    with talking(lambda connection: connection.sendall(b"SSH-2.0-hunter2\r\n")) as host:
        assert "broke off" in str(failing(f"http://{host}/"))


def test_a_server_whose_certificate_nobody_vouches_for_is_not_asked_again(tmp_path: Path) -> None:
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem"]
    made += ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    try:
        subprocess.run(made, cwd=tmp_path, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no openssl to make a certificate with")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")

    def talk(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(10_000)
            secured.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    from ironflow_nb.graphs.nodes import http_transport

    with talking(talk) as host:
        error = failing(f"https://{host}/")
        assert "certificate" in str(error).lower()
        assert error.is_retryable is False
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
            http_transport.trusted_certificates.cache_clear()
            assert ask(f"https://{host}/")["body"] == b"ok"
        http_transport.trusted_certificates.cache_clear()


# -- Retry-After -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("7", 7.0),
        (" 0 ", 0.0),
        ("3600", 60.0),
        ("9" * 40, 60.0),
        ("-5", None),
        ("soon", None),
        ("1.5", None),
        ("", None),
    ],
)
def test_the_server_says_how_long_to_wait_and_a_minute_is_the_most(
    server: Server, said: str, seconds: float | None
) -> None:
    assert failing(server.answers("/s", replying(503, Retry_After=said))).retry_after_s == seconds


@pytest.mark.parametrize(("in_s", "least", "most"), [(20, 15.0, 20.0), (900, 60.0, 60.0), (-900, 0.0, 0.0)])
def test_the_server_may_say_until_when_to_wait(server: Server, in_s: int, least: float, most: float) -> None:
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=in_s), usegmt=True)
    seconds = failing(server.answers("/s", replying(429, Retry_After=until))).retry_after_s
    assert seconds is not None
    assert least <= seconds <= most <= LONGEST_RETRY_AFTER_S


def test_who_does_not_say_how_long_is_asked_by_the_retry_of_the_node(server: Server) -> None:
    assert failing(server.answers("/s", replying(503))).retry_after_s is None


# -- what errors say, and what the environment changes -----------------------------------------------------------


def test_an_error_shows_neither_userinfo_nor_what_stands_in_the_query(server: Server) -> None:
    server.answers("/p", replying(500))
    error = failing(
        f"http://me:hunter2@{server.host}/p?token=s3cret&plain&=x#part",
        params={"key": "k3y"},
        headers={"X-Key": "h3ader"},
    )
    assert f"GET http://{server.host}/p?token=...&...&...&key=... answered 500" in str(error)
    for hidden in ("hunter2", "s3cret", "plain", "k3y", "h3ader", "part"):
        assert hidden not in str(error)


def test_no_proxy_and_no_password_is_taken_from_the_environment(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password hunter2\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    assert ask(server.url())["status_code"] == 200
    assert "authorization" not in server.last.headers
    assert os.environ["http_proxy"]


# -- large bodies ------------------------------------------------------------------------------------------------


def test_a_large_body_lies_in_a_file_beside_the_journal_and_is_not_asked_for_again(
    server: Server, lab: Lab, tmp_path: Path
) -> None:
    content = os.urandom(2_000_000)
    url = server.answers("/big", replying(200, content, content_type="application/octet-stream"))

    @iron.step
    def download(url: str) -> Any:
        return ask(url)

    @iron.flow
    def flow_with_a_download(url: str) -> int:
        return len(download(url)["body"])

    assert flow_with_a_download(url) == 2_000_000
    if isinstance(lab.engine.journal, SqliteJournal):
        large = [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size > 2_000_000]
        assert large
        assert not any(path.name.startswith("journal.db") and path.parent == tmp_path for path in large)


# -- in a run ----------------------------------------------------------------------------------------------------


def asked_in_a_run(url: str, **node: Any) -> Any:
    return graph_of({"id": "h", "http": {"url": url, **node.pop("http", {})}, **node})()


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
@pytest.mark.parametrize("retry", [{"attempts": 3}, {"on_status": [503]}, {"on_methods": ["PATCH", "POST", "GET"]}])
@pytest.mark.usefixtures("lab")
def test_retry_tries_again_whatever_the_method_is(server: Server, method: str, retry: dict[str, Any]) -> None:
    url = server.answers("/s", replying(503), replying(503), replying(201, {"id": 7}))
    answer = asked_in_a_run(url, http={"method": method, "json": {"a": 1}}, retry={"delay_s": 0.01, **retry})
    assert answer["body"] == {"id": 7}
    assert [each.method for each in server.seen] == [method] * 3


@pytest.mark.usefixtures("lab")
def test_with_fail_on_status_false_what_may_pass_is_tried_again_and_the_last_answer_is_the_result(
    server: Server,
) -> None:
    options = {"fail_on_status": False, "method": "POST", "json": {}}
    large = {"said": "x" * 20_000}
    url = server.answers("/busy", replying(503), replying(429), replying(503, large))
    answer = asked_in_a_run(url, http=options, retry={"attempts": 3, "delay_s": 0.01})
    assert (answer["status_code"], answer["body"]) == (503, large)
    assert len(server.seen) == 3
    url = server.answers("/better", replying(503), replying(200, {"ok": True}))
    assert asked_in_a_run(url, http=options, retry={"delay_s": 0.01})["body"] == {"ok": True}
    url = server.answers("/gone", replying(404, {"no": 1}))
    assert asked_in_a_run(url, http=options, retry={"delay_s": 0.01})["status_code"] == 404
    url = server.answers("/listed", replying(404), replying(200, {"yes": 1}))
    assert asked_in_a_run(url, http=options, retry={"delay_s": 0.01, "on_status": [404]})["body"] == {"yes": 1}
    url = server.answers("/pending", replying(202), replying(202), replying(200, {"done": 1}))
    assert asked_in_a_run(url, http={}, retry={"delay_s": 0.01, "on_status": [202]})["body"] == {"done": 1}
    url = server.answers("/still", replying(202, {"n": 2}))
    still = asked_in_a_run(url, http={}, retry={"attempts": 2, "delay_s": 0.01, "on_status": [202]})
    assert (still["status_code"], still["body"]) == (202, {"n": 2})
    url = server.answers("/once", replying(503, {"a": 1}))
    n_before = len(server.seen)
    assert asked_in_a_run(url, http=options)["status_code"] == 503
    assert len(server.seen) == n_before + 1


@pytest.mark.usefixtures("lab")
def test_an_answer_that_was_tried_again_is_the_recorded_result_and_its_attempts_are_seen(server: Server) -> None:
    url = server.answers("/busy", replying(503), replying(503, {"n": 2}))
    graph = graph_of(
        {"id": "h", "http": {"url": url, "fail_on_status": False}, "retry": {"attempts": 2, "delay_s": 0.01}}
    )
    graph()
    run = graph.last
    assert run.value("g.h")["body"] == {"n": 2}
    assert list(run.attempts()["status"]) == ["failed", "completed"]


@pytest.mark.parametrize("host", ["xn--x.example.org", "xn--.example.org"])
def test_a_host_whose_ascii_letters_stand_for_no_name_fails_the_node(host: str) -> None:
    assert "the url can't be read" in str(failing(f"http://{host}/"))
