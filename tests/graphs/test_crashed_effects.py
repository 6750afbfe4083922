"""Death before and after every commit of graphs whose nodes leave something outside."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from ironflow_nb.graphs.graph import Graph
from ironflow_nb.testing.crash_everywhere import crash_everywhere
from tests.graphs.playing import graph_of
from tests.graphs.servers import Server, replying, serving
from tests.graphs.test_message_nodes import MAIL, Post, post  # noqa: F401 -- a fixture

pytestmark = pytest.mark.crash
MOMENTS = ["after", "before"]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made


def deaths(graph: Graph, **given: Any) -> list[str]:
    """Return at which moments of a commit the run died, which after each of its deaths ended as an undisturbed one."""
    return sorted(set(crash_everywhere(graph, {}, **given)["moment"]))


def test_a_cached_value_is_whole_after_any_death() -> None:
    nodes = [
        {"id": "before", "cache_get": "k"},
        {"id": "a", "cache_set": {"key": "k", "value": {"n": [1, 2]}}},
        {"id": "b", "cache_get": "k"},
    ]
    assert deaths(graph_of(*nodes, name="cached", output="{{ [before.is_hit, b.value, b.is_hit] }}")) == MOMENTS


def test_a_workbook_is_whole_after_any_death(tmp_path: Path) -> None:
    rows = [{"a": 1}, {"a": 2}]
    nodes = [
        {"id": "w", "xlsx": {"write": "out/a.xlsx", "rows": rows}},
        {"id": "r", "xlsx": {"read": "out/a.xlsx", "sheet": "Sheet1"}},
    ]
    assert deaths(graph_of(*nodes, name="book")) == MOMENTS
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.xlsx"]
    assert openpyxl.load_workbook(tmp_path / "out" / "a.xlsx").active["A3"].value == 2


def test_a_statement_by_url_is_done_whole_and_again_only_where_it_may_not_have_been(tmp_path: Path) -> None:
    def fresh() -> None:
        (tmp_path / "shop.db").unlink(missing_ok=True)
        with closing(sqlite3.connect(tmp_path / "shop.db")) as connection, connection:
            connection.execute("CREATE TABLE paid(id INTEGER PRIMARY KEY)")

    def sql(query: str, **more: Any) -> dict[str, Any]:
        return {"sql": {"url": f"sqlite:///{tmp_path}/shop.db", "query": query, **more}}

    nodes = [
        {"id": "pay", **sql("INSERT OR IGNORE INTO paid VALUES (:id)", parameters={"id": 7}, write=True)},
        {"id": "n", **sql("SELECT count(*) AS n FROM paid")},
    ]
    fresh()
    assert deaths(graph_of(*nodes, name="paid", output="{{ n.rows[0].n }}"), before_each=fresh) == MOMENTS


def test_a_mail_that_is_sent_again_is_the_same_mail(post: Post) -> None:  # noqa: F811
    n_rounds = [0]

    def next_round() -> None:
        n_rounds[0] += 1
        ids = [str(message["Message-ID"]) for _, _, message in post.taken]
        assert len(set(ids)) <= 1
        post.taken.clear()

    # The first commit of a run has its id, which the mail has.
    nodes = [{"id": "first", "log": "begun"}, {"id": "a", "email": {"server": post.server, **MAIL}}]
    assert deaths(graph_of(*nodes, name="mailed", output="{{ a.accepted }}"), before_each=next_round) == MOMENTS
    assert n_rounds[0] > 2
    assert post.taken


def test_a_model_is_asked_once_for_each_recorded_answer(server: Server) -> None:
    choice = {"finish_reason": "stop", "message": {"role": "assistant", "content": "Tea."}}
    server.answers("/v1/chat/completions", replying(200, {"model": "m", "choices": [choice]}))
    ask = {"model": "m", "prompt": "?", "base_url": server.url("/v1")}
    nodes = [{"id": "a", "llm": ask}, {"id": "b", "llm": {**ask, "prompt": "{{ a.text }}"}}]
    assert deaths(graph_of(*nodes, name="asked", output="{{ [a.text, b.text] }}")) == MOMENTS
