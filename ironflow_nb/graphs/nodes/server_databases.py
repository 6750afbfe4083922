"""Statements of SQL for the databases of servers: PostgreSQL, MySQL and all others that SQLAlchemy has a dialect for.

A URL of SQLAlchemy may say in its query which server, file, program or plugin is used. So few keys of a query are
taken, and the server is the one that the URL names, which has to be granted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from ironflow_nb.errors import NodeFailed, NodeTimeout
from ironflow_nb.graphs.grants import Need
from ironflow_nb.graphs.kinds import NodeContext, Options, failure, missing_extra
from ironflow_nb.graphs.language.data import coerce
from ironflow_nb.graphs.language.templates import OPENING
from ironflow_nb.graphs.nodes.sql_rows import fetch_rows

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Connection

TIMEOUT_S: Final = 60.0
_CONNECT_S: Final = 10

SERVER_OPTIONS: Final[Mapping[str, Any]] = {
    "url": {
        "description": "in place of database: a URL of SQLAlchemy, such as postgresql+psycopg://user@host:5432/name; "
        "its driver is a package of its own",
        "type": "string",
        "minLength": 1,
    },
    "password": {
        "description": "of url: the password, as it is; take it from secrets",
        "type": "string",
        "minLength": 1,
    },
}

_PORTS: Final = {
    "postgresql": 5432, "cockroachdb": 26257, "redshift": 5439, "mysql": 3306, "mariadb": 3306, "mssql": 1433,
    "oracle": 1521, "clickhouse": 8123, "clickhousedb": 8123, "trino": 8080,
}  # fmt: skip
_QUERY: Final = frozenset({
    "application_name", "charset", "client_encoding", "connect_timeout", "driver", "Encrypt", "sslmode",
    "service_name", "ssl", "TrustServerCertificate",
})  # fmt: skip
"""Keys in the query of a URL that name no server, no file and no program."""

_PLAIN_VALUE: Final = re.compile(r"[\w .+-]*", re.ASCII)
_SERVER: Final = re.compile(
    r"(?P<dialect>\w+)(?:\+\w+)?://(?:[^/?#@]*@)?(?P<host>[^/?#@:\[\]\s{}]+)(?::(?P<port>\d{1,5}))?(?=[/?#]|$)"
)
_FILE: Final = re.compile(r"sqlite(?:\+pysqlite)?://(?:/(?P<file>[^?#]*))?")
_STREAMED: Final = re.compile(r"\s*(?:SELECT|WITH|VALUES|TABLE)\b", re.IGNORECASE)
"""Statements whose rows the server can keep until they are fetched."""

_PASSING: Final = frozenset({"40001", "40P01", "55P03", "57P01", "57P03"})
"""States of SQL that may pass: deadlocks, conflicts of transactions, a server that restarts."""

_LATE: Final = "57014"


def file_of_url(url: str) -> str | None:
    """Return the file of a URL of SQLite, ``:memory:`` without one; None for any other URL."""
    found = _FILE.fullmatch(url)
    return None if found is None else found["file"] or ":memory:"


def needs_of_server(options: Options) -> Iterator[Need]:
    """Yield what the URL of a definition needs, as far as its text tells."""
    url = options.get("url")
    if not isinstance(url, str):
        return
    file = None if OPENING in url else file_of_url(url)
    if file is not None:
        if file != ":memory:":
            yield Need("files", file)
    elif found := _SERVER.match(url):
        port = found["port"] or _PORTS.get(found["dialect"])
        if port is not None:
            yield Need("servers", f"{found['host'].lower()}:{port}")


def execute_on_server(options: Options, context: NodeContext) -> dict[str, Any]:
    """Do the statement of a node and return its result.

    Raises:
        NodeFailed: the server, its driver or the statement refuses it.
        NotGranted: the server is not granted.
    """
    __tracebackhide__ = True
    try:
        import sqlalchemy
        from sqlalchemy import exc
    except ImportError:
        raise missing_extra(context, "a database of a server", "sql") from None
    url = _checked_url(options, context)
    limit_s = TIMEOUT_S if context.timeout_s is None else context.timeout_s
    try:
        engine = sqlalchemy.create_engine(
            url, poolclass=sqlalchemy.NullPool, hide_parameters=True, connect_args=_connect_args(url, limit_s)
        )
        if url.get_backend_name() == "postgresql" and not options.get("write", False):
            engine = engine.execution_options(postgresql_readonly=True)
        with closing(engine.connect()) as connection:
            return _execute(connection, options, context, limit_s)
    except ModuleNotFoundError as error:
        raise failure(context, f"the driver of {url.drivername} is not installed: pip install {error.name}") from None
    except exc.NoSuchModuleError:
        raise failure(context, f"SQLAlchemy has no dialect {url.drivername}; install its package") from None
    except exc.DBAPIError as error:
        raise _translated(error, context, limit_s) from None
    except exc.SQLAlchemyError as error:
        raise failure(context, f"the statement can't be done: {error}") from None


def _checked_url(options: Options, context: NodeContext) -> URL:
    from sqlalchemy import exc
    from sqlalchemy.engine import make_url

    try:
        url = make_url(options["url"])
    except (exc.ArgumentError, ValueError):  # the text of the error has the password
        raise failure(context, "url is no URL of SQLAlchemy: dialect+driver://user@host:port/database") from None
    refused = sorted(key for key, value in url.query.items() if key not in _QUERY or not _is_plain(value))
    if refused:
        known = ", ".join(sorted(_QUERY))
        raise failure(context, f"url may not have {refused[0]} in its query; it may have {known}, with plain values")
    port = url.port or _PORTS.get(url.get_backend_name())
    if not url.host or port is None:
        what = "its host" if not url.host else "its port"
        raise failure(context, f"the url names no server: {what} is missing; for a file of SQLite there is database")
    context.grants.require(Need("servers", f"{url.host.lower()}:{port}"))
    return url.set(port=port, **({"password": options["password"]} if "password" in options else {}))


def _is_plain(value: Any) -> bool:
    return isinstance(value, str) and _PLAIN_VALUE.fullmatch(value) is not None


def _connect_args(url: URL, limit_s: float) -> dict[str, Any]:
    """Return a time limit for connecting, in the words of the drivers that have one."""
    known = {"psycopg", "psycopg2", "pymysql", "mysqldb", "mariadbconnector"}
    name = url.drivername.partition("+")[2] or {"postgresql": "psycopg2", "mysql": "mysqldb"}.get(url.drivername, "")
    return {"connect_timeout": max(1, min(_CONNECT_S, int(limit_s)))} if name in known else {}


def _execute(connection: Connection, options: Options, context: NodeContext, limit_s: float) -> dict[str, Any]:
    """Do the statement in one transaction, which is kept only if the node may write."""
    import sqlalchemy

    query, given, is_write = options["query"], options.get("parameters", {}), options.get("write", False)
    with connection.begin() as transaction:
        for setting in _time_limits(connection.dialect.name, limit_s):
            connection.exec_driver_sql(setting)
        is_streamed = not is_write and _STREAMED.match(query) is not None
        connection = connection.execution_options(stream_results=is_streamed, max_row_buffer=500)
        if isinstance(given, Mapping):
            result = connection.execute(sqlalchemy.text(query), {key: _parameter(each) for key, each in given.items()})
        else:
            result = connection.exec_driver_sql(query, tuple(map(_parameter, given)))
        with closing(result):
            rows, n_changed = result.returns_rows, max(result.rowcount, 0)
            made = fetch_rows(list(result.keys()), map(_plain_row, result), options, context) if rows else {}
            if not rows or is_write:
                made |= {"n_changed": n_changed}
        if not is_write:
            transaction.rollback()
    return made


def _parameter(value: Any) -> Any:
    """Return a value as drivers take it, which have types that JSON has not."""
    return value if isinstance(value, datetime | date | time | timedelta | Decimal | bytes) else coerce(value)


def _plain_row(row: Any) -> list[Any]:
    return [bytes(value) if isinstance(value, memoryview | bytearray) else value for value in row]


def _time_limits(dialect: str, limit_s: float) -> Iterator[str]:
    """Yield the statements that bound the next one."""
    milliseconds = max(1, round(limit_s * 1000))
    match dialect:
        case "postgresql":
            yield f"SET LOCAL statement_timeout = {milliseconds}"
        case "mysql":
            yield f"SET SESSION max_execution_time = {milliseconds}"
        case "mariadb":
            yield f"SET SESSION max_statement_time = {limit_s:.3f}"
        case _:
            pass


def _translated(error: Any, context: NodeContext, limit_s: float) -> NodeFailed:
    from sqlalchemy import exc

    state = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
    if state == _LATE:
        message = f"{context.node}: the statement took longer than {limit_s:g} s and was taken back"
        return NodeTimeout(message, node=context.node)
    is_passing = (
        error.connection_invalidated or state in _PASSING or (isinstance(error, exc.OperationalError) and state is None)
    )
    return failure(context, f"the database refuses: {error.orig}", is_retryable=is_passing)
