"""The kind ``sql``: one statement for a database, within a time limit and with bounds on its result.

`server_databases` does those of servers. Here are those of SQLite.

SQLite checks its time limit between instructions, and a function is one instruction: ``instr`` on two texts of
megabytes runs for hours, and nothing stops it. So functions with quadratic time are replaced by linear ones in Python.
"""

from __future__ import annotations

import math
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final, TypeAlias

from ironflow_nb.errors import IronflowError, NodeFailed, NodeTimeout
from ironflow_nb.graphs.grants import Need
from ironflow_nb.graphs.kinds import Kind, NodeContext, Options, failure, options_schema
from ironflow_nb.graphs.language.data import coerce
from ironflow_nb.graphs.language.templates import OPENING
from ironflow_nb.graphs.nodes.server_databases import SERVER_OPTIONS, execute_on_server, file_of_url, needs_of_server
from ironflow_nb.graphs.nodes.sql_rows import MAX_ROWS, fetch_rows
from ironflow_nb.journal.schema import APPLICATION_ID
from ironflow_nb.values.private_files import ENDINGS, refuse_used

MEMORY: Final = ":memory:"
TIMEOUT_S: Final = 60.0
_BUSY_S: Final = 30.0
_MOST_IN_VALUE: Final = 10_000_000
"""The size of one value or row. A function can't be stopped, so this bounds how late a stop takes effect."""

_MOST_IN_PATTERN: Final = 1_000
_MOST_PAGES: Final = 250_000
"""The size of a database in memory, which is a gigabyte."""

_CHECK_EVERY: Final = 1_000
"""Instructions of SQLite between two checks of the time: well below a millisecond, unless they are functions."""

_RETRYABLE: Final = frozenset({
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
})  # fmt: skip

_READING_PRAGMAS: Final = frozenset({
    "application_id", "collation_list", "compile_options", "data_version", "encoding", "foreign_key_check",
    "foreign_key_list", "freelist_count", "function_list", "index_info", "index_list", "index_xinfo",
    "integrity_check", "page_count", "page_size", "quick_check", "schema_version", "table_info", "table_list",
    "table_xinfo", "user_version",
})  # fmt: skip

_DENIED: Final = {
    sqlite3.SQLITE_ATTACH: "it opens another database (ATTACH, VACUUM); a node has the one that it names",
    sqlite3.SQLITE_DETACH: "it closes a database; a node has the one that it names",
    sqlite3.SQLITE_TRANSACTION: "a node is one transaction by itself; leave out BEGIN, COMMIT and ROLLBACK",
    sqlite3.SQLITE_SAVEPOINT: "a node is one transaction by itself; leave out SAVEPOINT and RELEASE",
}

_SCHEMA: Final = options_schema(
    {
        "database": {
            "description": "a granted file of SQLite, or :memory: for an empty database that ends with the node",
            "type": "string",
            "minLength": 1,
        },
        **SERVER_OPTIONS,
        "query": {
            "description": "one statement of SQL; no expression may stand in it: values are parameters, :name or ?",
            "type": "string",
            "minLength": 1,
            "not": {"type": "string", "pattern": r"\{\{"},
        },
        "parameters": {"description": "the values of :name, a mapping, or of ?, a list", "type": ["object", "array"]},
        "write": {
            "description": "whether the statement may change the database, and make the file; by default false",
            "type": "boolean",
        },
        "max_rows": {
            "description": f"how many rows there may be; by default {MAX_ROWS:,}",
            "type": "integer",
            "minimum": 1,
            "maximum": 1_000_000,
        },
        "truncate": {
            "description": "whether more rows than max_rows are left out instead of failing; by default false",
            "type": "boolean",
        },
    },
    required=["query"],
    oneOf=[{"required": ["database"]}, {"required": ["url"]}],
    allOf=[
        {"description": "password belongs to url only", "not": {"required": ["password"], "not": {"required": ["url"]}}}
    ],
)


def _needs(options: Options) -> Iterator[Need]:
    yield from needs_of_server(options)
    database = options.get("database")
    if isinstance(database, str) and database != MEMORY and OPENING not in database:
        yield Need("files", database)


def _perform(options: Options, context: NodeContext) -> dict[str, Any]:
    __tracebackhide__ = True
    if "url" in options:
        file = file_of_url(options["url"])
        if file is None:
            return execute_on_server(options, context)
        options = {**options, "database": file}
    parameters = _bind_parameters(options.get("parameters", ()), context)
    guard = _StatementGuard(context)
    try:
        with closing(_open(options, context, guard)) as connection:
            return _execute(connection, options, parameters, guard)
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError, OSError) as error:
        if isinstance(error, IronflowError):
            raise
        raise guard.translated(error, options) from error


def _execute(
    connection: sqlite3.Connection, options: Options, parameters: Any, guard: _StatementGuard
) -> dict[str, Any]:
    is_write = options.get("write", False)
    if is_write:
        connection.execute("BEGIN IMMEDIATE")
    try:
        guard.watch(connection)
        with closing(connection.execute(options["query"], parameters)) as cursor:
            columns = [column[0] for column in cursor.description or ()]
            result = fetch_rows(columns, cursor, options, guard.context) if columns else {}
            if not result or cursor.rowcount >= 0:
                result |= {"n_changed": max(cursor.rowcount, 0), "last_row_id": cursor.lastrowid}
    except BaseException:
        guard.stop_watching(connection)
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    guard.stop_watching(connection)
    if connection.in_transaction:
        connection.execute("COMMIT")
    return result


# -- opening -----------------------------------------------------------------------------------------------------


def _open(options: Options, context: NodeContext, guard: _StatementGuard) -> sqlite3.Connection:
    written, is_write = options["database"], options.get("write", False)
    name, place = MEMORY, None
    if written != MEMORY:
        place = context.grants.path(written)
        refuse_used(place)
        _require_file(place, written, context, is_write=is_write)
        name = f"{place.as_uri()}?mode={'rwc' if is_write else 'ro'}"
    busy_s = min(context.timeout_s or TIMEOUT_S, _BUSY_S)
    connection = sqlite3.connect(name, uri=place is not None, timeout=busy_s, isolation_level=None)
    try:
        if place is not None:
            _require_same_file(connection, place, written, context)
            _refuse_journal(connection, written, context)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_IN_VALUE)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, _MOST_IN_PATTERN)
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        if place is None:
            connection.execute(f"PRAGMA max_page_count={_MOST_PAGES}")
        # Views may call the functions that replace SQLite's. The authorizer denies them what leads out of the database.
        connection.execute("PRAGMA trusted_schema=ON")
        _install_functions(connection, _MOST_IN_VALUE, guard.refuse)
        if not is_write:
            connection.execute("PRAGMA query_only=ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _require_file(place: Path, written: str, context: NodeContext, *, is_write: bool) -> None:
    for ending in ENDINGS[1:]:
        if place.name.endswith(ending) and place.with_name(place.name.removesuffix(ending)).exists():
            raise failure(context, f"{written!r} is a part of the database {written.removesuffix(ending)!r}")
    if place.exists():
        if not place.is_file():
            raise failure(context, f"the database {written!r} is no file")
    elif not is_write:
        message = f"there is no database {written!r}; a statement with write: true would make it"
        raise failure(context, message, is_retryable=True)
    elif not place.parent.is_dir():
        raise failure(context, f"the database {written!r} can't be made: its folder is not there")


def _require_same_file(connection: sqlite3.Connection, place: Path, written: str, context: NodeContext) -> None:
    """Check that SQLite has opened the granted file. It follows links, and one may have been put there in between."""
    opened = connection.execute("PRAGMA database_list").fetchone()[2]
    if os.name != "nt" and Path(opened) != place:
        raise failure(context, f"the database {written!r} became a link to something else while it was opened")


def _refuse_journal(connection: sqlite3.Connection, written: str, context: NodeContext) -> None:
    """Refuse a journal of any process: a graph may neither change history nor read that of other runs."""
    if connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID:
        raise failure(context, f"the database {written!r} is a journal of runs, which no node may open")


# -- functions ---------------------------------------------------------------------------------------------------

Value: TypeAlias = str | bytes | int | float | None

Refuse: TypeAlias = Callable[[str], None]
"""Called with the reason why a function refuses its arguments."""


def _install_functions(connection: sqlite3.Connection, most_bytes: int, refuse: Refuse) -> None:
    """Replace the quadratic functions of SQLite: replace, instr, trim, ltrim, rtrim."""

    def replace(text: Value, old: Value, new: Value) -> Value:
        if text is None or old is None:
            return None
        inside, sought = _as_sqlite_text(text), _as_sqlite_text(old)
        if not sought:
            return inside if isinstance(text, bytes) else text
        if new is None:
            return None
        put = _as_sqlite_text(new)
        if len(inside) + inside.count(sought) * (len(put) - len(sought)) > most_bytes:
            refuse(f"replace() makes a text of more than {most_bytes:,} characters")
            raise OverflowError
        return inside.replace(sought, put)

    connection.create_function("replace", 3, replace, deterministic=True)
    connection.create_function("instr", 2, _instr, deterministic=True)
    for name, strip in (("trim", str.strip), ("ltrim", str.lstrip), ("rtrim", str.rstrip)):
        connection.create_function(name, 2, _linear_trim(strip), deterministic=True)


def _instr(text: Value, part: Value) -> int | None:
    if text is None or part is None:
        return None
    if isinstance(text, bytes) and isinstance(part, bytes):
        return text.find(part) + 1
    return _as_sqlite_text(text).find(_as_sqlite_text(part)) + 1


def _linear_trim(strip: Callable[..., str]) -> Callable[[Value, Value], str | None]:
    def trim(text: Value, characters: Value) -> str | None:
        if text is None or characters is None:
            return None
        return strip(_as_sqlite_text(text), "".join(set(_as_sqlite_text(characters))))

    return trim


def _as_sqlite_text(value: Any) -> str:
    """Return the value as text, as SQLite converts it."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, float):
        text = f"{value:.15g}"
        digits, exponent, power = text.partition("e")
        return (digits if "." in digits or not digits.lstrip("-").isdigit() else f"{digits}.0") + exponent + power
    return str(value)


# -- values ------------------------------------------------------------------------------------------------------


def _bind_parameters(parameters: Any, context: NodeContext) -> Any:
    """Return the parameters as values of SQLite."""
    if isinstance(parameters, Mapping):
        return {name: _sqlite_value(value, f":{name}", context) for name, value in parameters.items()}
    return [_sqlite_value(value, f"number {number}", context) for number, value in enumerate(parameters, 1)]


def _sqlite_value(value: Any, name: str, context: NodeContext) -> Any:
    match value:
        case None | str() | bytes() | bool():
            return value
        case int() if -(2**63) <= value < 2**63:
            return value
        case int():
            raise failure(context, f"parameter {name} is beyond the whole numbers of SQLite, which have 64 bits")
        case float() if math.isfinite(value):
            return value
        case float():
            raise failure(context, f"parameter {name} is {value}, which would be stored as something else")
        case datetime():
            return value.isoformat(" ")
        case date():
            return value.isoformat()
        case list() | tuple() | Mapping():
            message = f"parameter {name} is a {type(value).__name__}; give its JSON, to_string(...), and use json_each"
            raise failure(context, message)
        case _ if (plain := coerce(value)) is not value:
            return _sqlite_value(plain, name, context)
        case _:
            raise failure(context, f"parameter {name} is a {type(value).__name__}, which SQLite can't store")


# -- watching ----------------------------------------------------------------------------------------------------


class _StatementGuard:
    """Watches one statement: its time, and what it may do. Afterwards it translates the error of the statement."""

    def __init__(self, context: NodeContext) -> None:
        self.context = context
        self._limit_s = context.timeout_s or TIMEOUT_S
        self._until_s = context.monotonic() + self._limit_s
        self._denied: str | None = None
        self._is_late = False
        self._interrupt: BaseException | None = None

    def watch(self, connection: sqlite3.Connection) -> None:
        """Begin to watch the statements of the connection."""
        connection.set_progress_handler(self._check_time, _CHECK_EVERY)
        connection.set_authorizer(self._authorize)

    def stop_watching(self, connection: sqlite3.Connection) -> None:
        """Stop watching, and raise an interrupt that came in the meantime."""
        connection.set_authorizer(None)
        connection.set_progress_handler(None, 0)
        if self._interrupt is not None:
            raise self._interrupt

    def refuse(self, why: str) -> None:
        """Keep the reason why the statement is refused."""
        self._denied = why

    def failed(self, message: str) -> NodeFailed:
        """Return the error of a fault that another attempt would meet again."""
        return failure(self.context, message)

    def translated(self, error: Exception, options: Options) -> NodeFailed:
        """Translate an error of SQLite into one of the node.

        Raises:
            KeyboardInterrupt: the statement was interrupted by a signal.
        """
        if self._is_late:
            message = f"the statement took longer than {self._limit_s:g} s and was taken back"
            return NodeTimeout(f"{self.context.node}: {message}", node=self.context.node)
        if self._denied is not None:
            return self.failed(f"the statement is not allowed: {self._denied}")
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_INTERRUPT:  # SQLite swallows a signal on entry to `_check_time`
            raise KeyboardInterrupt from error
        if code == sqlite3.SQLITE_READONLY and not options.get("write", False):
            return self.failed(f"the statement changes {options['database']!r}, which needs write: true")
        message = f"SQLite could not do this with {options['database']!r}: {error}"
        return failure(self.context, message, is_retryable=code in _RETRYABLE)

    def _check_time(self) -> int:
        # SQLite would swallow an exception from here.
        try:
            self._is_late = self.context.monotonic() > self._until_s
        except BaseException as error:  # noqa: BLE001
            self._interrupt = error
        return int(self._is_late or self._interrupt is not None)

    def _authorize(self, action: int, name: str | None, detail: str | None, *_: str | None) -> int:
        if action in _DENIED:
            self._denied = _DENIED[action]
        elif action == sqlite3.SQLITE_FUNCTION and (detail or "").lower() in {"load_extension", "fts3_tokenizer"}:
            self._denied = f"{detail} loads code into the process"
        elif action == sqlite3.SQLITE_PRAGMA and (name or "").lower() not in _READING_PRAGMAS:
            self._denied = f"PRAGMA {name} is not one of those that only read: {', '.join(sorted(_READING_PRAGMAS))}"
        else:
            return sqlite3.SQLITE_OK
        return sqlite3.SQLITE_DENY


SQL: Final = Kind(
    name="sql",
    description="Does one statement of SQL with a database, only reading unless write: true. Gives rows,"
    " columns, n_rows and is_truncated, or, of one that changes something, n_changed and last_row_id.",
    schema=_SCHEMA,
    perform=_perform,
    needs=_needs,
    is_outside=True,
)
