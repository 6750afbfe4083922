"""The kinds email and slack: a real mail server on this machine, and a server that speaks as Slack does."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

import ironflow_nb as iron
from ironflow_nb.errors import NodeFailed, NotGranted
from ironflow_nb.graphs.compiler.schema_check import problems
from ironflow_nb.graphs.nodes.messages import EMAIL, SLACK
from tests.graphs.asking import perform
from tests.graphs.playing import graph_of
from tests.graphs.servers import Server, replying, serving, talking


@dataclass
class Post:
    """What the mail server has taken, and what it refuses."""

    taken: list[tuple[str, list[str], EmailMessage]] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    answer: str = "250 taken"
    logins: list[LoginPassword] = field(default_factory=list)
    server: str = ""

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.taken.append((envelope.mail_from, list(envelope.rcpt_tos), message))
        return self.answer

    def login(self, server: Any, session: Any, envelope: Any, mechanism: str, data: LoginPassword) -> AuthResult:
        self.logins.append(data)
        return AuthResult(success=data.password == b"tea-and-cups", handled=False)


@pytest.fixture
def post() -> Iterator[Post]:
    made = Post()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(
        made,
        hostname="127.0.0.1",
        port=port,
        authenticator=made.login,
        auth_require_tls=False,
        auth_exclude_mechanism=["LOGIN"],
    )
    controller.start()
    made.server = f"127.0.0.1:{port}"
    yield made
    controller.stop()


MAIL = {
    "tls": "none",
    "from": "Ada <ada@example.org>",
    "to": "bob@example.org",
    "subject": "Tea",
    "text": "It is ready.",
}


def send(post: Post, *, timeout_s: float | None = 20.0, **options: Any) -> Any:
    allow = {"servers": [post.server], "files": ["data"]}
    return perform(EMAIL, {"server": post.server, **MAIL, **options}, allow=allow, timeout_s=timeout_s)


def failing(post: Post, **options: Any) -> NodeFailed:
    with pytest.raises(NodeFailed) as caught:
        send(post, **options)
    return caught.value


# -- email -------------------------------------------------------------------------------------------------------


def test_a_mail_arrives_as_it_was_written(post: Post) -> None:
    people = {"to": ["bob@example.org", "Cem <cem@example.org>"], "cc": "dan@example.org", "bcc": ["eve@example.org"]}
    sent = send(post, **people, reply_to="team@example.org", subject="Tee für dich", html="<b>It is ready.</b>")
    ((sender, recipients, message),) = post.taken
    assert sender == "ada@example.org"
    assert recipients == ["bob@example.org", "cem@example.org", "dan@example.org", "eve@example.org"]
    assert sent["accepted"] == recipients
    assert sent["refused"] == {}
    assert message["From"] == "Ada <ada@example.org>"
    assert message["To"] == "bob@example.org, Cem <cem@example.org>"
    assert (message["Cc"], message["Reply-To"], message["Subject"]) == (
        "dan@example.org",
        "team@example.org",
        "Tee für dich",
    )
    assert message["Bcc"] is None
    assert message["Message-ID"] == sent["message_id"]
    assert [part.get_content().strip() for part in message.iter_parts()] == ["It is ready.", "<b>It is ready.</b>"]


def test_granted_files_and_contents_are_attached(post: Post, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text("a,b\n")
    given = [
        "data/a.csv",
        {"name": "b.bin", "content": b"\x00\xff"},
        {"name": "c.json", "content": "{}", "type": "application/json"},
    ]
    send(post, attachments=given)
    parts = list(post.taken[0][2].iter_attachments())
    assert [(part.get_filename(), part.get_content_type()) for part in parts] == [
        ("a.csv", "text/csv"), ("b.bin", "application/octet-stream"), ("c.json", "application/json")
    ]  # fmt: skip
    assert parts[1].get_content() == b"\x00\xff"
    with pytest.raises(NotGranted):
        send(post, attachments=["/etc/passwd"])


def test_who_logs_in(post: Post) -> None:
    send(post, user="ada", password="tea-and-cups")
    assert [(each.login, each.password) for each in post.logins] == [(b"ada", b"tea-and-cups")]
    error = failing(post, user="ada", password="wrong word")
    assert "535" in str(error)
    assert error.is_retryable is False
    assert "wrong word" not in str(error)


def test_a_recipient_that_is_refused_is_told_and_the_others_get_it(post: Post) -> None:
    post.refused["cem@example.org"] = "550 unknown"
    sent = send(post, to=["bob@example.org", "cem@example.org"])
    assert sent["accepted"] == ["bob@example.org"]
    assert sent["refused"] == {"cem@example.org": "550 unknown"}
    error = failing(post, to="cem@example.org")
    assert "refuses all recipients: 550 unknown" in str(error)
    assert error.is_retryable is False
    post.refused["cem@example.org"] = "451 later"
    assert failing(post, to="cem@example.org").is_retryable is True


@pytest.mark.parametrize(("answer", "is_retryable"), [("451 later", True), ("552 too much", False)])
def test_a_refused_message_is_tried_again_if_it_may_pass(post: Post, answer: str, is_retryable: bool) -> None:
    post.answer = answer
    error = failing(post)
    assert answer in str(error)
    assert error.is_retryable is is_retryable


def test_a_server_without_encryption_is_refused_unless_it_is_asked_for(post: Post) -> None:
    error = failing(post, tls="starttls")
    assert "tls: none sends without encryption" in str(error)
    assert post.taken == []


def test_a_server_that_is_not_there_may_come(post: Post) -> None:
    with talking(lambda connection: connection.close()) as host:
        with pytest.raises(NodeFailed) as caught:
            perform(EMAIL, {"server": host, **MAIL})
        assert caught.value.is_retryable is True
    with talking(lambda connection: connection.recv(1000)) as host, pytest.raises(NodeFailed, match="took longer"):
        perform(EMAIL, {"server": host, **MAIL}, timeout_s=0.3)


def test_a_message_that_may_have_been_taken_is_not_sent_again() -> None:
    def talk(connection: Any) -> None:
        connection.sendall(b"220 hello\r\n")
        heard, is_data = b"", False
        while chunk := connection.recv(1 << 16):
            heard += chunk
            if is_data and heard.endswith(b"\r\n.\r\n"):
                return  # all of it has arrived, and there is no answer
            if not is_data and heard.endswith(b"\r\n"):
                is_data = heard.lower().startswith(b"data")
                connection.sendall(b"354 go on\r\n" if is_data else b"250 yes\r\n")
                heard = b""

    with talking(talk) as host, pytest.raises(NodeFailed, match="it may have taken the message") as caught:
        perform(EMAIL, {"server": host, **MAIL})
    assert caught.value.is_retryable is False


@pytest.mark.parametrize(
    "options",
    [
        {"subject": "a\r\nBcc: eve@evil.test"}, {"to": "bob@example.org\r\nBcc: eve@evil.test"}, {"to": "nobody"},
        {"from": "ada@example.org\nX: y"}, {"headers": {"X-A": "a\nb"}}, {"headers": {"Subject": "twice"}}, {"to": []},
        {"to": "bob@example.org>, <eve@evil.test"}, {"attachments": [{"name": "a", "content": 7}]},
    ],
    ids=str,
)  # fmt: skip
def test_a_message_that_would_be_another_is_not_sent(post: Post, options: Any) -> None:
    if list(problems(EMAIL.schema, {"server": post.server, **MAIL, **options}, allows_expressions=False)):
        return  # refused before
    assert failing(post, **options).is_retryable is False
    assert post.taken == []


def test_the_server_has_to_be_granted_with_its_port(post: Post) -> None:
    other = post.server.replace("127.0.0.1", "localhost")
    for granted in ([other], ["127.0.0.1:25"], []):
        with pytest.raises(NotGranted, match="servers"):
            perform(EMAIL, {"server": post.server, **MAIL}, allow={"servers": granted})
    found = graph_of({"id": "a", "email": {"server": post.server, **MAIL}}, allow={}).findings()
    assert f"to grant it: allow: {{servers: [{post.server}]}}" in found[0].message


def test_all_attempts_of_a_node_send_a_message_of_one_id(post: Post, tmp_path: Path) -> None:
    post.answer = "451 later"
    node = {"id": "a", "email": {"server": post.server, **MAIL}, "retry": {"attempts": 3, "delay_s": 0}}
    other = {**node, "id": "b"}
    with iron.open(tmp_path / "j.db"):
        with pytest.raises(NodeFailed):
            graph_of(node, other)()
        post.answer = "250 taken"
        iron.resume(iron.runs()["run_id"][0]).result()
    ids = [str(message["Message-ID"]) for _, _, message in post.taken]
    assert len(ids) == 5
    assert len(set(ids[:4])) == 1
    assert ids[4] != ids[0]


def test_the_password_is_in_no_journal(post: Post, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.graphs.hidden import contents, forms_of

    monkeypatch.setenv("MAIL_WORD", "tea-and-cups")
    options = {"server": post.server, **MAIL, "user": "ada", "password": "{{ secrets.word }}"}
    with iron.open(tmp_path / "kept" / "j.db"):
        graph_of({"id": "a", "email": options}, secrets={"word": {"env": "MAIL_WORD"}})()
    assert post.logins[0].password == b"tea-and-cups"
    found = b"".join(contents(tmp_path / "kept" / "j.db"))
    assert not [form for form in forms_of("tea-and-cups") if form in found]


def test_a_certificate_that_nobody_trusts_is_refused(post: Post) -> None:
    assert isinstance(ssl.create_default_context(), ssl.SSLContext)
    with pytest.raises(NodeFailed):
        send(post, tls="tls")


# -- slack -------------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made


def post_to(server: Server, **options: Any) -> Any:
    return perform(SLACK, options, allow={"http": [server.host]}, retry={"attempts": 2})


def test_a_webhook_gets_the_message(server: Server) -> None:
    url = server.answers("/services/T/B/x", replying(200, "ok"))
    more = {"blocks": [{"type": "divider"}], "payload": {"unfurl_links": False}}
    assert post_to(server, webhook_url=url, text="Tea", **more) == {"channel": None, "ts": None}
    assert json.loads(server.last.body) == {"text": "Tea", "blocks": [{"type": "divider"}], "unfurl_links": False}


def test_the_token_of_an_app_posts_to_a_channel(server: Server) -> None:
    server.answers("/api/chat.postMessage", replying(200, {"ok": True, "channel": "C1", "ts": "17.5"}))
    given = {"base_url": server.url("/api"), "token": "xoxb-tea", "channel": "C1", "text": "Tea", "thread_ts": "16.1"}
    assert post_to(server, **given) == {"channel": "C1", "ts": "17.5"}
    assert server.last.headers["authorization"] == "Bearer xoxb-tea"
    assert json.loads(server.last.body) == {"channel": "C1", "text": "Tea", "thread_ts": "16.1"}


@pytest.mark.parametrize(("error", "is_retryable"), [("not_in_channel", False), ("ratelimited", True)])
def test_what_slack_refuses_is_told(server: Server, error: str, is_retryable: bool) -> None:
    server.answers("/api/chat.postMessage", replying(200, {"ok": False, "error": error}))
    with pytest.raises(NodeFailed, match=f"Slack refuses: {error}") as caught:
        post_to(server, base_url=server.url("/api"), token="xoxb-tea", channel="C1", text="Tea")
    assert caught.value.is_retryable is is_retryable


def test_too_many_messages_wait_as_long_as_slack_says(server: Server) -> None:
    url = server.answers("/hook", replying(429, "slow down", retry_after="9"))
    with pytest.raises(NodeFailed) as caught:
        post_to(server, webhook_url=url, text="Tea")
    assert (caught.value.is_retryable, caught.value.retry_after_s) == (True, 9)


def test_a_message_without_words_or_channel_is_told(server: Server) -> None:
    with pytest.raises(NodeFailed, match="nothing to say"):
        post_to(server, webhook_url=server.url())
    with pytest.raises(NodeFailed, match="needs channel"):
        post_to(server, token="xoxb-tea", text="Tea")
    assert server.seen == []
    found = [text for _, text in problems(SLACK.schema, {"text": "x"}, allows_expressions=True)]
    assert any("webhook_url, token" in text for text in found)
