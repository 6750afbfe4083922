"""The auth of a graph: once for all its nodes, for exact hosts, and never in the journal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.errors import NodeFailed, SecretMissing
from ironflow_nb.graphs.graph import Graph
from tests.graphs.hidden import contents, forms_of
from tests.graphs.mistakes import said
from tests.graphs.servers import Server, redirecting, replying, serving

TOKEN = "tok-9f3c-darjeeling"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made


@pytest.fixture
def other() -> Iterator[Server]:
    with serving() as made:
        yield made


@pytest.fixture(autouse=True)
def journal(tmp_path: Path) -> Iterator[Path]:
    with iron.open(tmp_path / "kept" / "j.db"):
        yield tmp_path / "kept" / "j.db"


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", TOKEN)


def graph_for(server: Server, *nodes: Any, auth: Any = None, hosts: Any = (), name: str = "asks") -> Graph:
    return Graph.from_dict(
        {
            "graph": name,
            "allow": {"http": [server.host, *hosts], "env": ["MY_TOKEN"]},
            "secrets": {"token": {"env": "MY_TOKEN"}},
            "auth": {"shop": {"host": server.host, **(auth or {"bearer": "{{ secrets.token }}"})}},
            "nodes": list(nodes),
        }
    )


def sent(server: Server) -> list[str | None]:
    return [seen.headers.get("authorization") for seen in server.seen]


def test_every_request_to_the_host_has_it_and_the_journal_does_not(server: Server, journal: Path) -> None:
    server.answers("/echo", replying(200, {"heard": TOKEN}))
    nodes = [
        {"id": "a", "http": server.url("/a")},
        {"id": "b", "http": {"url": "{{ input.url }}", "method": "POST", "json": {}}},
        {"id": "c", "loop": [1, 2], "do": [{"id": "d", "http": server.url("/{{ item }}")}]},
        {"id": "e", "http": server.url("/echo")},
    ]
    run = graph_for(server, *nodes).start(url=server.url("/b"))
    assert run.result()["body"] == {"heard": "***"}
    assert sent(server) == [f"Bearer {TOKEN}"] * 5
    found = b"".join(contents(journal))
    assert not [form for form in forms_of(TOKEN) if form in found]
    assert b"secrets.token" in found


@pytest.mark.parametrize(
    ("credential", "header", "value"),
    [
        ({"basic": {"user": "ada", "password": "{{ secrets.token }}"}}, "authorization", "Basic "),
        ({"header": {"name": "X-Key", "value": "k {{ secrets.token }}"}}, "x-key", f"k {TOKEN}"),
    ],
)
def test_other_forms_of_credentials(server: Server, credential: Any, header: str, value: str) -> None:
    graph_for(server, {"id": "a", "http": server.url()}, auth=credential)()
    assert server.last.headers[header].startswith(value)


def test_another_host_does_not_get_it_nor_one_that_it_redirects_to(server: Server, other: Server) -> None:
    url = server.answers("/away", redirecting(other.url("/x")))
    nodes = [{"id": "a", "http": other.url(f"/?{server.host}")}, {"id": "b", "http": url}]
    graph_for(server, *nodes, hosts=[other.host])()
    assert sent(server) == [f"Bearer {TOKEN}"]
    assert sent(other) == [None, None]


def test_what_a_node_has_itself_counts(server: Server) -> None:
    own = {"host": server.host, "basic": {"user": "ada", "password": "{{ secrets.token }}"}}
    nodes = [
        {"id": "a", "http": {"url": server.url(), "headers": {"Authorization": "Other x"}}},
        {"id": "b", "http": {"url": server.url(), "auth": own}},
        {"id": "c", "http": {"url": server.url(), "auth": False}},
    ]
    graph_for(server, *nodes)()
    first, second, third = sent(server)
    assert first == "Other x"
    assert second is not None
    assert second.startswith("Basic ")
    assert third is None


def test_another_credential_makes_no_completed_node_run_again(server: Server) -> None:
    broken = replying(400, {"no": 1}), replying(200, {"yes": 1})
    nodes = [{"id": "a", "http": server.url("/a")}, {"id": "b", "http": server.answers("/b", *broken)}]
    with pytest.raises(NodeFailed):
        graph_for(server, *nodes)()
    graph_for(server, *nodes, auth={"header": {"name": "X-Key", "value": "{{ secrets.token }}"}})
    [run_id] = iron.runs()["run_id"]
    assert iron.resume(run_id).result()["body"] == {"yes": 1}
    assert [seen.target for seen in server.seen] == ["/a", "/b", "/b"]
    assert server.last.headers["x-key"] == TOKEN


def test_a_secret_that_is_not_there_is_an_error_of_the_node_that_needs_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MY_TOKEN")
    with pytest.raises(SecretMissing, match="MY_TOKEN"):
        graph_for(server, {"id": "a", "http": server.url()})()
    assert server.seen == []


def test_the_text_of_a_graph_has_it_once() -> None:
    text = """
graph: asks
allow: {http: [api.example.org], env: [T]}
secrets: {token: {env: T}}
auth:
  shop: {host: api.example.org, bearer: "{{ secrets.token }}"}
nodes:
  - {id: a, http: "https://api.example.org/a"}
"""
    assert said(text) == []
    graph = Graph.from_yaml(text)
    assert Graph.from_yaml(graph.to_yaml()).data == graph.data
    built = iron.Graph("built", secrets={"token": {"env": "T"}}, auth=graph.data["auth"])
    assert built.node("a", http="https://api.example.org/a").validate().data["auth"] == graph.data["auth"]


WRONG = [
    ("shop: {host: api.example.org, bearer: abc}", "a credential does not stand in a graph"),
    ("shop: {host: api.example.org, basic: {user: a, password: b}}", "a credential does not stand in a graph"),
    ('shop: {host: "{{input.h}}", bearer: "{{ secrets.token }}"}', "an expression can't stand here"),
    ('shop: {host: "*.example.org", bearer: "{{ secrets.token }}"}', "host"),
    ('shop: {host: evil.test, bearer: "{{ secrets.token }}"}', "is not granted"),
    ('shop: {host: api.example.org, bearer: "{{ secrets.tokn }}"}', "tokn"),
    ('shop: {host: api.example.org, bearer: "{{ input.a }} {{ secrets.token }}"}', "input"),
    ("shop: {host: api.example.org}", "bearer, basic or header"),
    (
        "a: {host: api.example.org, bearer: abc}\n  b: {host: API.example.org, bearer: abc}",
        "a is for API.example.org, too",
    ),
]


@pytest.mark.parametrize(("auth", "expected"), WRONG, ids=[expected for _, expected in WRONG])
def test_a_credential_that_is_wrong_is_told_before_anything_runs(auth: str, expected: str) -> None:
    text = (
        "graph: asks\nallow: {http: [api.example.org], env: [T]}\nsecrets: {token: {env: T}}\n"
        f"auth:\n  {auth}\nnodes:\n  - {{id: a, log: x}}\n"
    )
    found = said(text)
    assert any(expected in line for line in found), found
