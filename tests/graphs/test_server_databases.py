"""The kind sql with URLs of SQLAlchemy: a real PostgreSQL server, and what a URL may not say."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.errors import NodeFailed, NodeTimeout, NotGranted
from ironflow_nb.graphs.compiler.schema_check import problems
from ironflow_nb.graphs.nodes.sql import SQL
from tests.conftest import IN_CI
from tests.graphs.asking import perform
from tests.graphs.database_servers import PASSWORD, USER, postgresql
from tests.graphs.hidden import contents, forms_of
from tests.graphs.playing import graph_of


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    if not IN_CI:
        pytest.importorskip("psycopg", reason="the driver of PostgreSQL: pip install 'psycopg[binary]'")
    with postgresql() as host:
        yield host


def sql(server: str, query: str, parameters: Any = None, *, timeout_s: float | None = 20.0, **options: Any) -> Any:
    given = {"url": f"postgresql+psycopg://{USER}@{server}/postgres", "password": PASSWORD, "query": query, **options}
    bound = {} if parameters is None else {"parameters": parameters}
    return perform(SQL, {**given, **bound}, allow={"servers": [server]}, timeout_s=timeout_s)


@pytest.fixture
def items(server: str) -> str:
    sql(server, "DROP TABLE IF EXISTS items", write=True)
    sql(
        server, "CREATE TABLE items(id serial PRIMARY KEY, name text UNIQUE, price numeric, at timestamptz)", write=True
    )
    sql(server, "INSERT INTO items(name, price) VALUES ('tea', 2.5), ('cup', 8), ('pot', NULL)", write=True)
    return server


def test_rows_with_their_types(items: str) -> None:
    at = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)
    sql(items, "UPDATE items SET at = :at WHERE id = 1", {"at": at}, write=True)
    found = sql(items, "SELECT name, price, at FROM items WHERE id < :most ORDER BY id", {"most": 3})
    assert found == {
        "rows": [{"name": "tea", "price": Decimal("2.5"), "at": at}, {"name": "cup", "price": Decimal(8), "at": None}],
        "columns": ["name", "price", "at"], "n_rows": 2, "is_truncated": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    "value", ["ü'; DROP TABLE items; --", 7, 1.5, True, None, b"\x00\xff", date(2026, 1, 2), [1, 2]]
)
def test_a_parameter_is_a_value_and_nothing_else(items: str, value: Any) -> None:
    given = "CAST(:it AS int[])" if isinstance(value, list) else ":it"
    assert sql(items, f"SELECT {given} AS it", {"it": value})["rows"] == [{"it": value}]
    assert sql(items, "SELECT %s::text AS it", [str(value)])["rows"] == [{"it": str(value)}]
    assert sql(items, "SELECT count(*) AS n FROM items")["rows"] == [{"n": 3}]


def test_writing_gives_how_much_was_changed_and_what_is_returned(items: str) -> None:
    assert sql(items, "UPDATE items SET price = 1", write=True) == {"n_changed": 3}
    found = sql(items, "DELETE FROM items WHERE id < 3 RETURNING name", write=True)
    assert [row["name"] for row in found["rows"]] == ["tea", "cup"]
    assert found["n_changed"] == 2


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM items", "DELETE FROM items RETURNING id", "DROP TABLE items",
        "WITH a AS (DELETE FROM items RETURNING id) SELECT * FROM a", "SELECT nextval('items_id_seq')",
    ],
)  # fmt: skip
def test_a_node_that_only_reads_changes_nothing(items: str, query: str) -> None:
    with pytest.raises(NodeFailed, match=r"read-only|data-modifying") as caught:
        sql(items, query)
    assert caught.value.is_retryable is False
    assert sql(items, "SELECT count(*) AS n FROM items")["rows"] == [{"n": 3}]


def test_a_failed_statement_is_taken_back_and_its_parameters_are_not_told(items: str) -> None:
    with pytest.raises(NodeFailed, match="duplicate key") as caught:
        sql(items, "INSERT INTO items(name) SELECT unnest(ARRAY['a', 'tea'])", write=True)
    assert caught.value.is_retryable is False
    with pytest.raises(NodeFailed) as caught:
        sql(items, "SELECT CAST(:word AS int)", {"word": "darjeeling"})
    assert "[SQL" not in str(caught.value)
    assert sql(items, "SELECT count(*) AS n FROM items")["rows"] == [{"n": 3}]


def test_a_statement_ends_with_the_time_of_its_node(server: str) -> None:
    with pytest.raises(NodeTimeout, match=r"took longer than 0\.2 s and was taken back"):
        sql(server, "SELECT pg_sleep(30)", timeout_s=0.2)


def test_more_rows_than_wanted_are_an_error_or_left_out(server: str) -> None:
    query = "SELECT a FROM generate_series(1, 10000) AS a, generate_series(1, 10000) AS b"
    with pytest.raises(NodeFailed, match="more than 10 rows"):
        sql(server, query, max_rows=10)
    found = sql(server, query, max_rows=10, truncate=True)
    assert (found["n_rows"], found["is_truncated"]) == (10, True)
    assert len(found["rows"]) == 10


def test_other_statements_that_read(server: str) -> None:
    assert sql(server, "SHOW server_encoding")["rows"] == [{"server_encoding": "UTF8"}]
    assert sql(server, "EXPLAIN SELECT 1")["n_rows"] == 1


def test_a_wrong_password_is_told_without_the_right_or_the_wrong_one(server: str) -> None:
    with pytest.raises(NodeFailed, match="password authentication failed") as caught:
        sql(server, "SELECT 1", password="wrong-word")
    assert "wrong-word" not in str(caught.value)


def test_the_server_has_to_be_granted_with_its_port(server: str) -> None:
    given = {"url": f"postgresql+psycopg://{USER}@{server}/postgres", "password": PASSWORD, "query": "SELECT 1"}
    for granted in ([], ["127.0.0.1:5432"], [server.replace("127.0.0.1", "localhost")]):
        with pytest.raises(NotGranted, match="servers"):
            perform(SQL, given, allow={"servers": granted})
    found = graph_of({"id": "a", "sql": given}, allow={}).findings()
    assert [f"servers: [{server}]" in each.message for each in found] == [True]
    default = {"url": "postgresql://a@DB.test/x", "query": "SELECT 1"}
    assert graph_of({"id": "a", "sql": default}, allow={"servers": ["db.test:5432"]}).findings() == []


HOSTILE = [
    "postgresql+psycopg://ada@{host}/postgres?host=evil.test", "postgresql+psycopg://ada@{host}/postgres?service=x",
    "postgresql+psycopg://ada@{host}/postgres?hostaddr=10.0.0.1", "postgresql+psycopg://ada@{host}/postgres?plugin=os",
    "postgresql+psycopg://ada@{host}/postgres?sslcert=/etc/passwd", "postgresql+psycopg:///postgres",
    "postgresql+psycopg://ada@{host}/postgres?options=-c%20x", "duckdb:///a.db", "sqlite+aiosqlite:///a.db", "no url",
    "mysql+pymysql://ada@{host}/x?unix_socket=/tmp/x", "mysql+pymysql://ada@{host}/x?read_default_file=/etc/passwd",
    "mssql+pyodbc://ada@{host}/x?odbc_connect=Server%3Devil", "mssql+pyodbc://ada@{host}/x?driver=%2Ftmp%2Fevil.so",
    "postgresql+psycopg://ada:{word}@/postgres", "nothing://ada@{host}/x", "mysql+nothing://ada@{host}/x",
]  # fmt: skip


@pytest.mark.parametrize("url", HOSTILE)
def test_a_url_that_leads_elsewhere_is_refused(url: str) -> None:
    written = url.format(host="127.0.0.1:9", word="darjeeling")
    with pytest.raises((NodeFailed, NotGranted)) as caught:
        perform(SQL, {"url": written, "query": "SELECT 1"}, allow={"servers": ["127.0.0.1:9"]})
    assert "darjeeling" not in str(caught.value)
    assert not isinstance(caught.value, NodeFailed) or caught.value.is_retryable is False


def test_a_url_of_sqlite_is_its_file(tmp_path: Path) -> None:
    allow = {"files": ["shop.db"]}
    perform(SQL, {"url": "sqlite:///shop.db", "query": "CREATE TABLE t(a)", "write": True}, allow=allow)
    assert perform(SQL, {"database": "shop.db", "query": "SELECT count(*) AS n FROM t"})["rows"] == [{"n": 0}]
    assert perform(SQL, {"url": "sqlite://", "query": "SELECT 1 AS a"}, allow={})["rows"] == [{"a": 1}]
    assert perform(SQL, {"url": f"sqlite:///{tmp_path}/shop.db", "query": "SELECT 1 AS a"})["n_rows"] == 1
    with pytest.raises(NotGranted):
        perform(SQL, {"url": "sqlite:///other.db", "query": "SELECT 1"}, allow=allow)
    with pytest.raises(NodeFailed, match="ATTACH"):
        perform(SQL, {"url": "sqlite://", "query": "ATTACH 'shop.db' AS x"}, allow=allow)


def test_the_password_is_in_no_journal(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_WORD", PASSWORD)
    url = f"postgresql+psycopg://{USER}:{{{{ secrets.word }}}}@{server}/postgres"
    plain = {"url": f"postgresql+psycopg://{USER}@{server}/postgres", "password": "{{ secrets.word }}"}
    nodes = [
        {"id": "a", "sql": {"url": url, "query": "SELECT 1 AS a"}},
        {"id": "b", "sql": {**plain, "query": "SELECT 2 AS b"}},
    ]
    with iron.open(tmp_path / "kept" / "j.db"):
        result = graph_of(
            *nodes, secrets={"word": {"env": "DB_WORD"}}, allow={"servers": [server], "env": ["DB_WORD"]}
        )()
    assert result["rows"] == [{"b": 2}]
    found = b"".join(contents(tmp_path / "kept" / "j.db"))
    assert not [form for form in forms_of(PASSWORD) if form in found]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"query": "x"}, "it needs one of database, url"),
        ({"query": "x", "url": "a", "database": "b"}, "only one of them"),
        ({"query": "x", "database": "b", "password": "c"}, "password belongs to url only"),
        ({"query": "SELECT '{{ a }}'", "url": "x://y"}, "no expression may stand in it"),
    ],
)
def test_options_that_do_not_fit_are_told(options: Any, expected: str) -> None:
    found = [text for _, text in problems(SQL.schema, options, allows_expressions=True)]
    assert any(expected in text for text in found), found
