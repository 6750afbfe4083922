"""Queries in SQL over the journal, which only read."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ironflow_nb.core.option_values import a_text
from ironflow_nb.core.plain_text import plain
from ironflow_nb.errors import JournalError, JournalReadOnly
from ironflow_nb.execution import REGISTRY, Engine
from ironflow_nb.journal.schema import ISO_INSTANT, VIEWS, statements

if TYPE_CHECKING:
    import pandas as pd

_IN_THE_FILE: Final = ("run_history", "step_history", "event_history")
"""The views that other programs see, too."""
# Views of this connection only; what lies in a row as text is plain JSON.
_MORE_VIEWS: Final = {
    "output_history": """
        SELECT s.run_id, r.name AS flow, s.step, s.name, s."index", s.attempt,
            CASE WHEN typeof(s.output) = 'text' THEN s.output WHEN v.codec = 'json' THEN CAST(v.data AS TEXT) END
            AS output, lower(hex(s.output_id)) AS output_id
        FROM steps s JOIN runs r ON r.run_id = s.run_id LEFT JOIN "values" v ON v.value_id = s.output_id
        WHERE s.output_id IS NOT NULL ORDER BY s.run_id, s.version""",
    "value_history": """
        SELECT lower(hex(value_id)) AS value_id, codec, type, size, preview, data IS NULL AS is_in_file FROM "values"
        WHERE codec NOT LIKE 'signed %'""",
    "log_history": f"""
        SELECT run_id, name, "index", attempt, {ISO_INSTANT.format("at")} AS at, stream, level, text FROM logs
        ORDER BY run_id, logs.at, number""",
    "metric_history": f"""
        SELECT run_id, name, "index", attempt, metric, nth, {ISO_INSTANT.format("at")} AS at, value FROM metrics
        ORDER BY run_id, metrics.at""",
}
_READS: Final = {
    sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE,
}  # fmt: skip
_READING_PRAGMAS: Final = {"table_info", "table_xinfo", "table_list", "index_list", "index_info"}
_STEPS_BETWEEN_LOOKS: Final = 100_000


def sql(query: str, params: Sequence[Any] | Mapping[str, Any] = (), *, engine: Engine | None = None) -> pd.DataFrame:
    """Return the rows that a query in the SQL of the journal's store selects, with its columns; it can only read.

    Stable views, which other programs that open the file see, too: ``run_history``, ``step_history``,
    ``event_history``. More of them here: ``output_history`` (outputs that are JSON, as text), ``value_history``,
    ``log_history``, ``metric_history``. Instants are ISO texts in UTC, ids of values hex. docs/sql.md has all columns.
    Tables can be read, too, and change with the schema.

    Args:
        query: one statement; put values into `params`, for ``?`` or ``:name``.
        params: the values.
        engine: the journal to read; by default the current one.

    Raises:
        ValueError: it would write, or is no query that the store can execute; the message says why.
    """
    import pandas as pd

    engine = engine or REGISTRY.engine()
    a_text("query", query)
    with engine.reading() as reader:
        names, rows = reader.extension(partial(_rows, query=query, params=params))
    return pd.DataFrame(rows, columns=names)


def _rows(
    connection: Any, *, query: str, params: Sequence[Any] | Mapping[str, Any]
) -> tuple[list[str], list[tuple[Any, ...]]]:
    if isinstance(connection, sqlite3.Connection):
        return _selected(connection, query, params)
    try:  # a server, which has all of the views, and whose transaction only reads
        found = connection.execute(query, params)
        return [column[0] for column in found.description or ()], found.fetchall()
    except JournalReadOnly as error:
        raise _refusal(query, sqlite3.Error("not authorized")) from error
    except JournalError as error:
        raise _refusal(query, error) from error


def _selected(
    connection: sqlite3.Connection, query: str, params: Sequence[Any] | Mapping[str, Any]
) -> tuple[list[str], list[tuple[Any, ...]]]:
    connection.execute("PRAGMA query_only=OFF")  # of temporary views, which the file does not get
    for view in statements(VIEWS):  # a journal that does not exist yet has none of its own
        connection.execute(view.replace("CREATE VIEW", "CREATE TEMP VIEW"))
    for name, view in _MORE_VIEWS.items():
        connection.execute(f"CREATE TEMP VIEW {name} AS {view}")
    connection.execute("PRAGMA query_only=ON")
    connection.set_authorizer(_authorized)
    connection.set_progress_handler(lambda: 0, _STEPS_BETWEEN_LOOKS)  # in which an interrupt is heard
    try:
        found = connection.execute(query, params)
        return [column[0] for column in found.description or ()], found.fetchall()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            raise KeyboardInterrupt from error
        raise _refusal(query, error) from error
    except (sqlite3.Error, sqlite3.Warning, OverflowError, UnicodeEncodeError) as error:
        raise _refusal(query, error) from error
    finally:
        connection.set_progress_handler(None, 0)
        connection.set_authorizer(None)


def _authorized(action: int, name: str | None, argument: str | None, *_where: str | None) -> int:
    reads = action in _READS or (action == sqlite3.SQLITE_PRAGMA and name in _READING_PRAGMAS)
    return sqlite3.SQLITE_OK if reads and argument != "load_extension" else sqlite3.SQLITE_DENY


def _refusal(query: str, error: Exception) -> ValueError:
    why = plain(str(error))
    shown = query if len(query) <= 80 else f"{query[:77]}..."
    if "not authorized" in why or "prohibited" in why:
        return ValueError(f"{shown!r} does more than read, and iron.sql only reads; write SELECT ...")
    return ValueError(f"{shown!r}: {why}; the views are {', '.join([*_IN_THE_FILE, *_MORE_VIEWS])}")
