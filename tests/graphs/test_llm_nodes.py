"""The kinds llm and embed, against a server on this machine that speaks as the API of OpenAI does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.errors import NodeFailed, NodeTimeout, NotGranted
from ironflow_nb.graphs.compiler.schema_check import problems
from ironflow_nb.graphs.graph import Graph
from ironflow_nb.graphs.nodes.language_models import EMBED, LLM
from tests.graphs.asking import perform
from tests.graphs.hidden import contents, forms_of
from tests.graphs.servers import Server, replying, serving, talking

CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
KEY = "sk-darjeeling-4711"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made


def message(content: Any, **more: Any) -> dict[str, Any]:
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content, **more}}
    return {"id": "c-1", "object": "chat.completion", "model": "small-2026", "choices": [choice], "usage": usage}


def ask(server: Server, *, retry: Any = None, timeout_s: float | None = 20.0, **options: Any) -> Any:
    given = {"model": "small", "base_url": server.url("/v1"), "api_key": KEY, **options}
    return perform(LLM, given, allow={"http": [server.host]}, retry=retry, timeout_s=timeout_s, secret=KEY)


def test_a_prompt_is_asked_and_the_text_is_given(server: Server) -> None:
    server.answers(CHAT, replying(200, message("Tea.")))
    assert ask(server, prompt="What?", system="Be brief.", temperature=0, max_tokens=9) == {
        "text": "Tea.",
        "tool_calls": [],
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": "Tea."},
        "model": "small-2026",
        "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
    }
    assert json.loads(server.last.body) == {
        "model": "small",
        "temperature": 0,
        "max_tokens": 9,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What?"}],
    }
    assert server.last.headers["authorization"] == f"Bearer {KEY}"


def test_a_conversation_goes_on_with_images_and_fields_of_the_server(server: Server) -> None:
    server.answers(CHAT, replying(200, message([{"type": "text", "text": "A "}, {"type": "text", "text": "cup."}])))
    before = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    prompt = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
    ]
    assert ask(server, messages=before, prompt=prompt, extra={"top_k": 3}, headers={"X-Team": "a"})["text"] == "A cup."
    body = json.loads(server.last.body)
    assert body["messages"] == [*before, {"role": "user", "content": prompt}]
    assert body["top_k"] == 3
    assert server.last.headers["x-team"] == "a"


def test_calls_of_tools_are_given_with_their_arguments(server: Server) -> None:
    calls = [
        {"id": "1", "type": "function", "function": {"name": "price", "arguments": '{"name": "tea"}'}},
        {"id": "2", "type": "function", "function": {"name": "price", "arguments": "{no json"}},
        {"id": "3", "type": "function", "function": {"name": "stock", "arguments": ""}},
    ]
    server.answers(CHAT, replying(200, message(None, tool_calls=calls)))
    parameters = {"type": "object", "properties": {"name": {"type": "string"}}}
    answer = ask(server, prompt="?", tools=[{"name": "price", "parameters": parameters}], tool_choice="auto")
    assert answer["text"] == ""
    assert answer["tool_calls"] == [
        {"id": "1", "name": "price", "arguments": {"name": "tea"}},
        {"id": "2", "name": "price", "arguments": None},
        {"id": "3", "name": "stock", "arguments": {}},
    ]
    assert answer["message"]["tool_calls"] == calls
    assert json.loads(server.last.body)["tools"] == [
        {"type": "function", "function": {"name": "price", "parameters": parameters}}
    ]


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


def test_an_answer_with_a_schema_is_data_and_one_that_does_not_fit_can_be_tried_again(server: Server) -> None:
    fenced = '```json\n{"n": 3}\n```\n'
    server.answers(CHAT, *(replying(200, message(text)) for text in (fenced, '{"n": 3}', '{"n": "3"}', "three")))
    assert [ask(server, prompt="?", schema=SCHEMA)["data"] for _ in range(2)] == [{"n": 3}, {"n": 3}]
    assert json.loads(server.last.body)["response_format"]["json_schema"]["schema"] == SCHEMA
    for expected in ("does not fit the schema", "5 characters that are no JSON"):
        with pytest.raises(NodeFailed, match=expected) as caught:
            ask(server, prompt="?", schema=SCHEMA)
        assert caught.value.is_retryable is True
        assert isinstance(caught.value.output, dict)


def test_a_schema_that_is_none_is_told_before_anything_is_asked(server: Server) -> None:
    with pytest.raises(NodeFailed, match="no JSON schema"):
        ask(server, prompt="?", schema={"type": "nothing"})
    with pytest.raises(NodeFailed, match="nothing to say to the model"):
        ask(server, system="x")
    assert server.seen == []


def test_the_message_of_the_server_is_told_and_what_passes_is_retryable(server: Server) -> None:
    error = {"error": {"message": "no credit left", "type": "insufficient_quota"}}
    for status, is_retryable in ((401, False), (400, False), (429, True), (500, True), (503, True)):
        server.answers(CHAT, replying(status, error, retry_after="7"))
        with pytest.raises(NodeFailed, match=rf"answered {status} .*: no credit left") as caught:
            ask(server, prompt="?", retry={"attempts": 2})
        assert (caught.value.is_retryable, caught.value.status_code) == (is_retryable, status)
        assert caught.value.retry_after_s == 7
        assert "fail_on_status" not in str(caught.value)
        assert KEY not in str(caught.value)


@pytest.mark.parametrize("answer", [{}, [], "x", {"choices": []}, {"choices": [{"message": None}]}, {"choices": "x"}])
def test_an_answer_of_another_kind_of_server_is_an_error(server: Server, answer: Any) -> None:
    server.answers(CHAT, replying(200, json.dumps(answer).encode(), content_type="application/json"))
    with pytest.raises(NodeFailed):
        ask(server, prompt="?")


def test_a_server_that_says_nothing_is_too_late(server: Server) -> None:
    with (
        talking(lambda connection: all(iter(lambda: connection.recv(1 << 20), b""))) as host,  # until the client leaves
        pytest.raises(NodeTimeout),
    ):
        perform(LLM, {"model": "m", "prompt": "?", "base_url": f"http://{host}"}, timeout_s=0.3)


def test_the_host_has_to_be_granted_also_that_of_openai(server: Server) -> None:
    with pytest.raises(NotGranted):
        perform(LLM, {"model": "m", "prompt": "?", "base_url": server.url("/v1")}, allow={"http": ["api.openai.com"]})
    assert server.seen == []
    nodes = [{"id": "a", "llm": {"model": "m", "prompt": "?"}}]
    for allow, n_findings in (({}, 1), ({"http": ["api.openai.com"]}, 0)):
        assert len(Graph.from_dict({"graph": "g", "allow": allow, "nodes": nodes}).findings()) == n_findings


def test_a_graph_asks_again_after_a_refusal_and_the_journal_has_no_key(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_KEY", KEY)
    server.answers(CHAT, replying(429, {"error": {"message": f"{KEY} is too fast"}}), replying(200, message("Tea.")))
    node = {"id": "a", "llm": {"model": "m", "base_url": server.url("/v1"), "prompt": "{{ input.q }}"}}
    graph = Graph.from_dict({
        "graph": "g", "allow": {"http": [server.host], "env": ["LLM_KEY"]}, "secrets": {"key": {"env": "LLM_KEY"}},
        "auth": {"llm": {"host": server.host, "bearer": "{{ secrets.key }}"}},
        "nodes": [node | {"retry": {"attempts": 3, "delay_s": 0}}],
    })  # fmt: skip
    with iron.open(tmp_path / "kept" / "j.db"):
        assert graph(q="What?")["text"] == "Tea."
    assert [seen.headers["authorization"] for seen in server.seen] == [f"Bearer {KEY}"] * 2
    found = b"".join(contents(tmp_path / "kept" / "j.db"))
    assert not [form for form in forms_of(KEY) if form in found]


def test_texts_are_embedded_in_their_order(server: Server) -> None:
    rows = [{"index": 1, "embedding": [0.5, 1]}, {"index": 0, "embedding": [1, 0]}]
    server.answers(EMBEDDINGS, replying(200, {"data": rows, "model": "e-1", "usage": {"total_tokens": 4}}))
    given = {"model": "e", "input": ["a", "b"], "dimensions": 2, "base_url": server.url("/v1/")}
    assert perform(EMBED, given) == {"embeddings": [[1, 0], [0.5, 1]], "model": "e-1", "usage": {"total_tokens": 4}}
    assert json.loads(server.last.body) == {"model": "e", "input": ["a", "b"], "dimensions": 2}
    with pytest.raises(NodeFailed, match="gave 2 embeddings for 1 texts"):
        perform(EMBED, given | {"input": "a"})
    server.answers(EMBEDDINGS, replying(200, {"data": [{"no": 1}]}))
    with pytest.raises(NodeFailed, match=r"no data\[\]\.embedding"):
        perform(EMBED, given)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"prompt": "x"}, "model is missing"),
        ({"model": "m", "promt": "x"}, "did you mean prompt"),
        ({"model": "m", "prompt": "x", "base_url": "api.openai.com"}, "pattern"),
        ({"model": "m", "prompt": "x", "temperature": "hot"}, "must be a number"),
    ],
)
def test_options_that_do_not_fit_are_told(options: Any, expected: str) -> None:
    found = [text for _, text in problems(LLM.schema, options, allows_expressions=True)]
    assert any(expected in text for text in found), found
