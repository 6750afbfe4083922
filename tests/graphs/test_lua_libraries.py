"""Nodes of Lua flows whose work a library does: HTML, documents, mail, models, cached values."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.graphs.lua_files import flow_of, node_of, refusals
from tests.graphs.servers import Server, replying, serving

pytest.importorskip("lupa", reason="Lua is an extra")
pytestmark = [pytest.mark.usefixtures("lab"), pytest.mark.parametrize("lab", ["sqlite"], indirect=True)]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def test_markdown_html_and_xml(tmp_path: Path) -> None:
    graph = flow_of(
        tmp_path,
        'flow:step("page", nodes.markdown_to_html({ input = "# Tea of ${ctx.who}", output_key = "page" }))',
        'flow:step("back", nodes.html_to_markdown({ source_key = "page", output_key = "back" })):depends_on("page")',
        'flow:step("safe", nodes.html_sanitize({ input = "<b>a</b><script>x</script>", output_key = "safe" }))',
        'flow:step("text", nodes.extract_html({ source_key = "page", output_key = "text" })):depends_on("page")',
        'flow:step("xml", nodes.xml_stringify({ source_key = "order", root_tag = "order" }))',
        'flow:step("data", nodes.xml_parse({ source_key = "xml", output_key = "data" })):depends_on("xml")',
    )
    found = graph(who="Ada", order={"tea": "green", "n": 3})
    assert "<h1>Tea of Ada</h1>" in found["page"]
    assert found["back"].strip() == "# Tea of Ada"
    assert found["text"].strip() == "Tea of Ada"
    assert found["safe"] == "<b>a</b>"
    assert found["data"] == {"order": {"tea": "green", "n": "3"}}


def test_cached_values_outlive_a_run(tmp_path: Path) -> None:
    graph = flow_of(
        tmp_path,
        'flow:step("look", nodes.cache_get({ key = "tea ${ctx.who}" }))',
        'flow:step_if("ctx.cache_hit == false", "keep", nodes.cache_set({ key = "tea ${ctx.who}", value = { n = 1 },',
        '  ttl = 60 })):depends_on("look")',
    )
    first, second = graph(who="Ada"), graph.options(fresh=True)(who="Ada")
    assert (first["cache_hit"], first["cached_value"], first["cache_stored"]) == (False, None, True)
    assert (second["cache_hit"], second["cached_value"]) == (True, {"n": 1})
    assert "cache_stored" not in second


def test_subtitles_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "talk.srt").write_text(
        "1\n00:00:01,000 --> 00:00:02,500\nHello\n\n2\n00:00:03,000 --> 00:00:04,000\nTea?\n"
    )
    found = flow_of(tmp_path, f'flow:step("a", nodes.extract_srt({{ path = "{tmp_path}/talk.srt" }}))')()
    assert found["transcript"] == "Hello\nTea?"
    assert len(found["cues"]) == 2


def test_a_model_is_asked_with_the_key_of_its_variable(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-the-model")
    message = {"role": "assistant", "content": "Green."}
    answer = {"model": "m-1", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": {}}
    server.answers("/v1/chat/completions", replying(200, answer))
    graph = flow_of(
        tmp_path,
        f'flow:step("ask", nodes.llm({{ model = "m", base_url = "{server.url("/v1")}", output_key = "ai",',
        '  prompt = "Which ${ctx.what}?", system_prompt = "Be short.", temperature = 0 }))',
        'flow:step("told", nodes.log({ message = "${ctx.ai_text} (${ctx.ai_model})" })):depends_on("ask")',
    )
    assert graph(what="tea")["log_message"] == "Green. (m-1)"
    asked = json.loads(server.last.body)
    assert [each["content"] for each in asked["messages"]] == ["Be short.", "Which tea?"]
    assert server.last.headers["authorization"] == "Bearer key-of-the-model"
    assert "key-of-the-model" not in graph.to_yaml()


def test_mail_and_slack_take_their_secrets_from_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMTP_PASSWORD", "first-flush-of-mail")
    graph = flow_of(
        tmp_path,
        'flow:step("mail", nodes.send_email({ provider = "smtp", smtp_server = "mail.test", smtp_username = "ada",',
        '  smtp_password = env("SMTP_PASSWORD"), from = "a@b.test", to = "${ctx.to}", subject = "Tea", text = "x" }))',
        'flow:step("slack", nodes.slack_notification({ text = "${ctx.email_success}" })):depends_on("mail")',
    )
    assert graph.findings() == []
    mail = node_of(graph, "mail")["email"]
    assert (mail["server"], mail["to"]) == ("mail.test:587", "{{ input.to }}")
    assert mail["password"] == "{{ secrets.smtp_password }}"
    assert node_of(graph, "slack")["slack"]["webhook_url"] == "{{ secrets.slack_webhook }}"
    assert graph.data["allow"]["servers"] == ["mail.test:587"]
    assert "first-flush" not in graph.to_yaml()
    assert (
        "a mail goes by a mail server here" in refusals(tmp_path, 'flow:step("a", nodes.send_email({ to = "x" }))')[0]
    )
