"""The kind sql: statements for real databases, their limits, and what they may not do."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironflow_nb.errors import NodeFailed, NodeTimeout, NotGranted
from ironflow_nb.execution.system.system import SystemClock
from ironflow_nb.graphs.compiler import schema_check
from ironflow_nb.graphs.grants import Grants, Need
from ironflow_nb.graphs.nodes.sql import SQL
from ironflow_nb.graphs.runtime.node_environment import WorkContext
from ironflow_nb.graphs.secrets import Secrets

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) AS n FROM n"


def perform(
    query: str,
    parameters: Any = None,
    *,
    database: str = "shop.db",
    allow: Mapping[str, Any] | None = None,
    timeout_s: float | None = 20,
    **options: Any,
) -> dict[str, Any]:
    grants = Grants.of(allow)
    context = WorkContext(
        node="it", grants=grants, clock=SystemClock(), secrets=Secrets({}, grants), timeout_s=timeout_s
    )
    bound = {} if parameters is None else {"parameters": parameters}
    result: dict[str, Any] = SQL.perform({"database": database, "query": query, **bound, **options}, context)
    return result


def written(**options: Any) -> list[str]:
    return [message for _, message in schema_check.problems(SQL.schema, options, allows_expressions=True)]


def rows(query: str) -> list[Any]:
    connection = sqlite3.connect("shop.db")
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


@pytest.fixture
def shop() -> None:
    perform("CREATE TABLE items(id INTEGER PRIMARY KEY, name TEXT UNIQUE, price REAL)", write=True)
    perform("INSERT INTO items(name, price) VALUES ('tea', 2.5), ('cup', 8), ('pot', NULL)", write=True)


# -- what it gives -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("shop")
def test_reading_gives_rows_as_objects() -> None:
    result = perform("SELECT name, price FROM items WHERE id < :most ORDER BY id", {"most": 3})
    assert result == {
        "rows": [{"name": "tea", "price": 2.5}, {"name": "cup", "price": 8.0}],
        "columns": ["name", "price"],
        "n_rows": 2,
        "is_truncated": False,
    }


@pytest.mark.usefixtures("shop")
def test_reading_nothing_gives_no_rows_but_the_columns() -> None:
    result = perform("SELECT name FROM items WHERE id = ?", [99])
    assert (result["rows"], result["columns"], result["n_rows"]) == ([], ["name"], 0)


@pytest.mark.usefixtures("shop")
def test_writing_gives_how_much_was_changed() -> None:
    added = perform("INSERT INTO items(name) VALUES (?)", ["jar"], write=True)
    assert added == {"n_changed": 1, "last_row_id": 4}
    assert perform("UPDATE items SET price = 1", write=True)["n_changed"] == 4
    assert perform("DELETE FROM items WHERE id > 1", write=True)["n_changed"] == 3
    assert perform("CREATE TABLE other(a)", write=True)["n_changed"] == 0
    assert rows("SELECT id, price FROM items") == [(1, 1.0)]


@pytest.mark.usefixtures("shop")
def test_what_is_changed_can_be_returned() -> None:
    result = perform("DELETE FROM items WHERE id < 3 RETURNING name", write=True)
    assert [row["name"] for row in result["rows"]] == ["tea", "cup"]
    assert result["n_changed"] == 2
    assert rows("SELECT count(*) FROM items") == [(1,)]


def test_a_database_in_memory_needs_no_grant_and_ends_with_the_node() -> None:
    assert perform("SELECT 1 + 1 AS two", database=":memory:", allow={})["rows"] == [{"two": 2}]
    perform("CREATE TABLE t(a)", database=":memory:", allow={}, write=True)
    with pytest.raises(NodeFailed, match="no such table"):
        perform("SELECT * FROM t", database=":memory:", allow={})
    assert not Path(":memory:").exists()


# -- parameters --------------------------------------------------------------------------------------------------


@given(
    st.one_of(
        st.none(), st.text(st.characters(exclude_categories=["Cs"])), st.binary(), st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
    )
)  # fmt: skip
def test_every_parameter_comes_back_as_it_was(value: object) -> None:
    for query, parameters in (("SELECT ? AS it", [value]), ("SELECT :it AS it", {"it": value})):
        (row,) = perform(query, parameters, database=":memory:")["rows"]
        assert row["it"] == value
        assert type(row["it"]) is type(value)


@pytest.mark.usefixtures("shop")
def test_a_parameter_is_never_sql() -> None:
    hostile = "x'); DROP TABLE items; --"
    perform("INSERT INTO items(name) VALUES (:name)", {"name": hostile}, write=True)
    assert rows("SELECT name FROM items WHERE id = 4") == [(hostile,)]


def test_times_are_bound_as_sqlite_writes_them() -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    (row,) = perform("SELECT ? AS at, ? AS day, datetime(?) AS same", [at, date(2026, 1, 2), at], database=":memory:")[
        "rows"
    ]
    assert row == {"at": "2026-01-02 03:04:05+00:00", "day": "2026-01-02", "same": "2026-01-02 03:04:05"}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (2**63, "parameter number 1 is beyond the whole numbers of SQLite"),
        (float("nan"), "is nan"),
        (float("inf"), "is inf"),
        ([1], "give its JSON"),
        ({"a": 1}, "give its JSON"),
        (1j, "is a complex, which SQLite can't store"),
    ],
)
def test_a_parameter_that_sqlite_has_no_form_for_is_told(value: object, said: str) -> None:
    with pytest.raises(NodeFailed, match=said) as caught:
        perform("SELECT ?", [value], database=":memory:")
    assert not caught.value.is_retryable


def test_a_parameter_without_a_text_is_told() -> None:
    with pytest.raises(NodeFailed, match="surrogates not allowed"):
        perform("SELECT ?", ["\ud800"], database=":memory:")


@pytest.mark.parametrize(("query", "parameters"), [("SELECT :a", {"b": 1}), ("SELECT ?, ?", [1]), ("SELECT ?", None)])
def test_a_parameter_that_is_missing_is_told(query: str, parameters: object) -> None:
    with pytest.raises(NodeFailed, match="binding"):
        perform(query, parameters, database=":memory:")


# -- limits ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("shop")
def test_more_rows_than_the_most_fail_unless_they_may_be_left_out() -> None:
    query = "SELECT id FROM items ORDER BY id"
    assert perform(query, max_rows=3)["n_rows"] == 3
    with pytest.raises(NodeFailed, match="gives more than 2 rows; add a LIMIT, raise max_rows, or say truncate: true"):
        perform(query, max_rows=2)
    cut = perform(query, max_rows=2, truncate=True)
    assert ([row["id"] for row in cut["rows"]], cut["n_rows"], cut["is_truncated"]) == ([1, 2], 2, True)


@pytest.mark.usefixtures("shop")
def test_a_change_that_returns_too_many_rows_is_taken_back() -> None:
    with pytest.raises(NodeFailed, match="more than 1 rows"):
        perform("DELETE FROM items RETURNING id", write=True, max_rows=1)
    assert rows("SELECT count(*) FROM items") == [(3,)]


def test_rows_that_are_too_large_together_fail() -> None:
    many = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 20) SELECT zeroblob(9000000) AS b FROM n"
    )
    with pytest.raises(NodeFailed, match="more than 100,000,000 bytes"):
        perform(many, database=":memory:")
    with pytest.raises(NodeFailed, match="too big"):
        perform("SELECT zeroblob(200000000) AS b", database=":memory:")


def test_a_statement_that_takes_too_long_is_stopped() -> None:
    with pytest.raises(NodeTimeout, match=r"it: the statement took longer than 0.3 s and was taken back"):
        perform(ENDLESS, database=":memory:", timeout_s=0.3)


@pytest.mark.usefixtures("shop")
def test_a_change_that_takes_too_long_is_taken_back() -> None:
    with pytest.raises(NodeTimeout):
        perform(
            "INSERT INTO items(name) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
            write=True,
            timeout_s=0.3,
        )
    assert rows("SELECT count(*) FROM items") == [(3,)]


def test_an_interrupt_stops_the_statement() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            perform(ENDLESS, database=":memory:", timeout_s=15)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@pytest.mark.usefixtures("shop")
def test_a_database_that_somebody_else_writes_to_can_be_tried_again() -> None:
    rival = sqlite3.connect("shop.db", isolation_level=None)
    rival.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(NodeFailed, match="database is locked") as caught:
            perform("DELETE FROM items", write=True, timeout_s=0.2)
    finally:
        rival.close()
    assert caught.value.is_retryable


# -- what it may not ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    "query", ["DELETE FROM items", "CREATE TABLE t(a)", "DROP TABLE items", "INSERT INTO items(name) VALUES ('x')"]
)
def test_a_change_needs_write(query: str) -> None:
    with pytest.raises(NodeFailed, match=r"the statement changes 'shop.db', which needs write: true") as caught:
        perform(query)
    assert not caught.value.is_retryable
    assert rows("SELECT count(*) FROM items") == [(3,)]


def test_a_change_in_memory_needs_write_too() -> None:
    with pytest.raises(NodeFailed, match="needs write: true"):
        perform("CREATE TABLE t(a)", database=":memory:")


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("ATTACH 'other.db' AS other", "opens another database"),
        ("VACUUM INTO 'other.db'", "VACUUM"),
        ("DETACH main", "closes a database"),
        ("SELECT load_extension('./evil')", "load_extension|not authorized"),
        ("SELECT fts3_tokenizer('x', x'00')", "fts3_tokenizer"),
        ("PRAGMA writable_schema=ON", "PRAGMA writable_schema"),
        ("PRAGMA temp_store_directory='/'", "PRAGMA temp_store_directory"),
        ("PRAGMA query_only=OFF", "PRAGMA query_only"),
        ("PRAGMA journal_mode=DELETE", "PRAGMA journal_mode"),
        ("COMMIT", "one transaction by itself"),
        ("ROLLBACK", "one transaction by itself"),
        ("SAVEPOINT x", "one transaction by itself"),
        ("SELECT 1; SELECT 2", "one statement at a time"),
        ("DELETE FROM items; DROP TABLE items", "one statement at a time"),
    ],
)
@pytest.mark.parametrize("write", [True, False])
def test_a_statement_stays_in_its_database(query: str, said: str, write: bool) -> None:
    with pytest.raises(NodeFailed, match=said):
        perform(query, write=write)
    assert not Path("other.db").exists()
    assert rows("SELECT count(*) FROM items") == [(3,)]


@pytest.mark.usefixtures("shop")
def test_pragmas_that_only_read_are_allowed() -> None:
    assert [row["name"] for row in perform("PRAGMA table_info(items)")["rows"]] == ["id", "name", "price"]


def test_tables_with_indexes_of_their_own_can_be_read() -> None:
    perform("CREATE VIRTUAL TABLE notes USING fts5(text)", write=True)
    perform("INSERT INTO notes VALUES ('one two')", write=True)
    assert perform("SELECT text FROM notes WHERE notes MATCH ?", ["two"])["n_rows"] == 1
    perform("CREATE VIRTUAL TABLE boxes USING rtree(id, low, high)", write=True)
    perform("INSERT INTO boxes VALUES (1, 2, 3)", write=True)
    assert perform("SELECT id FROM boxes WHERE low < 5")["n_rows"] == 1


def test_a_database_must_be_granted(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    perform("CREATE TABLE t(a)", write=True)
    (tmp_path / "in" / "link.db").symlink_to(tmp_path / "shop.db")
    allow = {"files": ["in"]}
    for outside in ("shop.db", "in/../shop.db", "in/link.db", str(tmp_path / "shop.db"), "file:shop.db"):
        with pytest.raises(NotGranted):
            perform("SELECT 1", database=outside, allow=allow)
    perform("CREATE TABLE t(a)", database="in/mine.db", allow=allow, write=True)
    assert (tmp_path / "in" / "mine.db").exists()


@pytest.mark.parametrize("name", ["a?mode=rwc.db", "a#b.db", "a%20b.db", "file:x.db", "ä b.db"])
def test_a_name_of_a_file_is_never_an_option_of_sqlite(name: str, tmp_path: Path) -> None:
    perform("CREATE TABLE t(a)", database=name, write=True)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert perform("SELECT * FROM t", database=name)["n_rows"] == 0


def test_a_database_that_becomes_a_link_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    perform("CREATE TABLE t(a)", write=True)
    perform("CREATE TABLE secret(a)", database="other.db", write=True)
    connect = sqlite3.connect

    def swap_then_connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        (tmp_path / "shop.db").unlink()
        (tmp_path / "shop.db").symlink_to(tmp_path / "other.db")
        return connect(*arguments, **options)

    monkeypatch.setattr(sqlite3, "connect", swap_then_connect)
    with pytest.raises(NodeFailed, match="became a link"):
        perform("SELECT * FROM secret")


# -- failures ----------------------------------------------------------------------------------------------------


def test_a_database_that_is_not_there_is_told_and_not_made() -> None:
    with pytest.raises(NodeFailed, match=r"there is no database 'none.db'; a statement with write: true") as caught:
        perform("SELECT 1", database="none.db")
    assert caught.value.is_retryable
    assert not Path("none.db").exists()
    with pytest.raises(NodeFailed, match="its folder is not there"):
        perform("CREATE TABLE t(a)", database="no/where.db", write=True)


def test_what_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database " * 100)
    with pytest.raises(NodeFailed, match="not a database") as caught:
        perform("SELECT * FROM t", database="text.db")
    assert not caught.value.is_retryable
    with pytest.raises(NodeFailed, match="is no file"):
        perform("SELECT 1", database=str(tmp_path))


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELEC 1", 'near "SELEC": syntax error'),
        ("SELECT * FROM absent", "no such table: absent"),
        ("INSERT INTO items(name) VALUES ('tea')", "UNIQUE constraint failed: items.name"),
        ("SELECT 1\0", "null character"),
    ],
)
def test_what_sqlite_says_is_told(query: str, said: str) -> None:
    with pytest.raises(NodeFailed, match=said) as caught:
        perform(query, write=True)
    assert not caught.value.is_retryable


def test_two_columns_of_one_name_are_told_instead_of_losing_one() -> None:
    with pytest.raises(NodeFailed, match="several columns are called a; give each a name"):
        perform("SELECT 1 AS a, 2 AS a", database=":memory:")


# -- as it is written --------------------------------------------------------------------------------------------


def test_an_expression_in_the_query_is_found_as_it_is_written() -> None:
    (message,) = written(database="a.db", query="SELECT * FROM t WHERE a = '{{ input.a }}'")
    assert "values are parameters" in message
    assert written(database="{{ input.file }}", query="SELECT :a", parameters={"a": "{{ input.a }}"}) == []
    assert written(database="a.db", query="SELECT :a", parameters="{{ input }}") == []


@pytest.mark.parametrize(
    "options",
    [
        {"query": "SELECT 1"}, {"database": "a.db"}, {"database": "", "query": "SELECT 1"},
        {"database": "a.db", "query": ""}, {"database": "a.db", "query": "SELECT 1", "max_rows": 0},
        {"database": "a.db", "query": "SELECT 1", "script": True},
    ],
)  # fmt: skip
def test_what_can_not_be_meant_is_found(options: dict[str, Any]) -> None:
    assert written(**options)


def test_needs_are_what_is_written() -> None:
    assert list(SQL.needs({"database": "a.db", "query": "x"})) == [Need("files", "a.db")]
    assert list(SQL.needs({"database": ":memory:", "query": "x"})) == []
    assert list(SQL.needs({"database": "{{ input.file }}", "query": "x"})) == []


# -- functions that SQLite does not stop ---------------------------------------------------------------------------

HEX = "hex(zeroblob(4900000))"
LONG = [
    f"SELECT length(replace({HEX}, substr({HEX}, 1, 5000000) || '1', 'b')) AS n",
    f"SELECT instr({HEX}, substr({HEX}, 1, 5000000) || '1') AS n",
    f"SELECT length(trim({HEX}, '123456789' || hex(randomblob(3000000)))) AS n",
    f"SELECT {HEX} LIKE '%0%0%0%0%0%0%0%0%0%0%1' AS n",
    f"SELECT {HEX} GLOB '*0*0*0*0*0*0*0*0*0*0*1' AS n",
]


@pytest.mark.parametrize("query", LONG, ids=["replace", "instr", "trim", "like", "glob"])
def test_a_function_on_long_texts_is_done_in_time(query: str) -> None:
    assert perform(query, database=":memory:", timeout_s=60)["n_rows"] == 1


REFUSED_FUNCTIONS = [
    (f"SELECT replace({HEX}, '0', {HEX}) AS n", "replace\\(\\) makes a text of more than 10,000,000 characters"),
    ("SELECT randomblob(1000000000) AS n", "too big"),
    (f"SELECT 'a' LIKE substr({HEX}, 1, 5000) AS n", "pattern too complex"),
    (f"SELECT {HEX} || {HEX} AS n", "too big"),
]


@pytest.mark.parametrize(("query", "said"), REFUSED_FUNCTIONS, ids=range(len(REFUSED_FUNCTIONS)))
def test_a_function_that_makes_too_much_is_refused(query: str, said: str) -> None:
    with pytest.raises(NodeFailed, match=said):
        perform(query, database=":memory:")


def test_a_format_gives_no_more_than_a_value_may_have() -> None:
    (row,) = perform("SELECT length(printf('%100000000d', 1)) AS n", database=":memory:")["rows"]
    assert (row["n"] or 0) <= 10_000_000


@pytest.mark.slow
def test_functions_in_an_endless_query_do_not_keep_it_from_being_stopped() -> None:
    endless = ENDLESS.replace("count(*)", "sum(length(randomblob(9000000)))")
    with pytest.raises(NodeTimeout, match=r"took longer than 0\.2 s"):
        perform(endless, database=":memory:", timeout_s=0.2)


def test_a_database_in_memory_does_not_grow_without_end() -> None:
    query = (
        "CREATE TABLE t AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
        "SELECT zeroblob(9000000) AS b FROM n"
    )
    with pytest.raises(NodeFailed, match="full"):
        perform(query, database=":memory:", write=True, timeout_s=120)


TEXTS = st.one_of(
    st.none(),
    st.text("ab0.é", max_size=6),
    st.integers(-9, 99),
    st.sampled_from([b"", b"a", b"0.5"]),
    st.sampled_from([0.5, 1.0, -2.25, 1e20]),
)


@given(TEXTS, TEXTS, TEXTS)
def test_the_functions_give_what_those_of_sqlite_give(one: object, two: object, three: object) -> None:
    query = "replace(:a, :b, :c) AS r, instr(:a, :b) AS i, trim(:a, :b) AS t, ltrim(:a, :b) AS l, rtrim(:a, :b) AS x"
    parameters = {"a": one, "b": two, "c": three}
    own = sqlite3.connect(":memory:")
    try:
        expected = own.execute(f"SELECT {query}", parameters).fetchone()
    finally:
        own.close()
    (row,) = perform(f"SELECT {query}", parameters, database=":memory:")["rows"]
    assert tuple(row.values()) == expected


def test_views_and_indexes_with_such_functions_work(tmp_path: Path) -> None:
    own = sqlite3.connect(tmp_path / "views.db")
    own.execute("CREATE TABLE t (a)")
    own.execute("CREATE INDEX i ON t (replace(a, '-', ''))")
    own.execute("CREATE VIEW v AS SELECT replace(a, '-', '') AS plain, trim(a, 'x') AS bare FROM t")
    own.execute("INSERT INTO t VALUES ('a-b'), ('xcx')")
    own.commit()
    own.close()
    found = perform("SELECT * FROM v ORDER BY plain", database=str(tmp_path / "views.db"))
    assert found["rows"] == [{"plain": "ab", "bare": "a-b"}, {"plain": "xcx", "bare": "c"}]
    indexed = perform("SELECT a FROM t WHERE replace(a, '-', '') = 'ab'", database=str(tmp_path / "views.db"))
    assert indexed["rows"] == [{"a": "a-b"}]
