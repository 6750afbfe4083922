"""The file of an exported run: a database of SQLite with the tables of a journal and the rows of one run.

It has everything that the run consists of: its children, the origin of a fork, definitions, values with the content of
value files, waits, signals, logs. A manifest has a digest of all rows, by which damage is found.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import msgspec

from ironflow_nb.core.identity import RunId, ValueId
from ironflow_nb.core.wait_rules import WaitKind
from ironflow_nb.errors import JournalError, ValueUnreadable
from ironflow_nb.execution import DETACHED, Engine, logger, person, signature_id
from ironflow_nb.journal.ports import Reader, Select
from ironflow_nb.journal.schema import SCHEMA_VERSION
from ironflow_nb.journal.sqlite_file import connect, create_tables, look_at
from ironflow_nb.journal.sqlite_journal import translated
from ironflow_nb.journal.sqlite_rows import ROW_VALUES, plain_as_text
from ironflow_nb.journal.table import json_list
from ironflow_nb.retention.run_outlines import DELETABLE, Outlines
from ironflow_nb.retention.run_rows import RunOutline
from ironflow_nb.retention.unused_values import ValueReferences, files_of, ids_in
from ironflow_nb.values.private_files import whole_file
from ironflow_nb.values.stored_value import INLINE_LIMIT

APPLICATION_ID: Final = 0x49524558  # "IREX"
FORMAT: Final = 1
_LISTED: Final = "run_id IN (SELECT value FROM json_each(?))"
_IS_QUEUED: Final = f"kind IN ({', '.join(repr(str(kind)) for kind in [*WaitKind, DETACHED])})"
TABLES: Final[Mapping[str, str]] = {
    "runs": f"{_LISTED} ORDER BY rowid",
    "events": f"{_LISTED} ORDER BY position",
    "steps": f'{_LISTED} ORDER BY run_id, name, "index", attempt',
    "work": f"{_LISTED} AND {_IS_QUEUED} ORDER BY work_id",
    "signals": f"{_LISTED} AND taken_version IS NULL ORDER BY signal_id",
    "signal_ids": f"{_LISTED} ORDER BY run_id, caller_id",
    "logs": f'{_LISTED} ORDER BY run_id, name, "index", attempt, number',
    "metrics": f'{_LISTED} ORDER BY run_id, name, "index", attempt, branch, metric, nth',
    "progress": f'{_LISTED} ORDER BY run_id, name, "index", attempt',
}
"""The tables with rows of runs, and which of them are exported, in which order."""
_ALL: Final = {table: rest.replace(_LISTED, "1") for table, rest in TABLES.items()} | {
    "definitions": "1 ORDER BY definition_id",
    "values": "1 ORDER BY value_id",
}
GENERATED: Final = frozenset({"step"})
"""Columns of the steps that the store makes itself."""
ROW_ID: Final = frozenset({"rowid"})
"""The number of a row, which is a column in PostgreSQL."""
_MANIFEST: Final = "CREATE TABLE manifest (name TEXT PRIMARY KEY, value)"


class Rows(msgspec.Struct, frozen=True):
    """Rows of one table, with the names of their columns."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]

    def column(self, name: str) -> list[Any]:
        """Return the values in that column."""
        n = self.columns.index(name)
        return [row[n] for row in self.rows]


def selected(connection: sqlite3.Connection, table: str, rest: str, given: Sequence[Any] = ()) -> Rows:
    """Return rows of a table, without generated columns; plain JSON in them is text, whatever store they come from."""
    found = connection.execute(f'SELECT * FROM "{table}" WHERE {rest}', given)
    names = [column[0] for column in found.description]
    is_generated = ROW_ID | GENERATED if table == "steps" else ROW_ID
    written = [n for n, name in enumerate(names) if name not in is_generated]
    texts = {n for n in written if names[n] in ROW_VALUES}
    rows = [tuple(plain_as_text(row[n]) if n in texts else row[n] for n in written) for row in found]
    return Rows(tuple(names[n] for n in written), rows)


def all_rows(connection: sqlite3.Connection) -> dict[str, Rows]:
    """Return all rows of an exported run by table, as far as its schema has the tables."""
    known = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return {table: selected(connection, table, rest) for table, rest in _ALL.items() if table in known}


def digest_of_rows(tables: Mapping[str, Rows]) -> bytes:
    """Return the digest of all rows."""
    state = blake2b(digest_size=20)
    for name in sorted(tables):
        state.update(msgspec.msgpack.encode((name, tables[name].columns, len(tables[name].rows))))
        for row in tables[name].rows:
            state.update(msgspec.msgpack.encode(row))
    return state.digest()


def export_run(engine: Engine, run_id: RunId, target: Path) -> None:
    """Write the run, as it is at this moment, into a new file.

    Raises:
        JournalError: there is something at the path, or the file can't be written.
        ValueError: it is a child, or no run of a flow or graph.
    """
    if look_at(target) is not None:
        raise JournalError(f"{target} is there already, and an export replaces nothing; give another path", path=target)
    tables = rows_of_run(engine, run_id)
    with translated(target):
        try:
            with whole_file(target) as temporary:
                _write(temporary, run_id, tables, exported_at=engine.clock.now())
        except OSError as error:
            raise JournalError(f"the run can't be exported to {target}: {error}", path=target) from error


def rows_of_run(engine: Engine, run_id: RunId) -> dict[str, Rows]:
    """Return all rows that the run consists of at this moment, by table.

    Raises:
        ValueError: it is a child, or no run of a flow or graph.
    """
    engine.flush()
    with engine.journal.reading() as reader:
        outlines = Outlines(reader)
        _refuse(outlines.runs[run_id])
        return _tables(engine, reader, _wanted(outlines, run_id))


def rows_of_runs(
    engine: Engine, run_ids: Iterable[RunId], there: Collection[RunId]
) -> Iterator[tuple[RunId, dict[str, Rows]]]:
    """Yield each run with the rows that it consists of, all of one moment; runs that are `there` are left out.

    So are those that an earlier one has brought along. Children go with their parents.

    Raises:
        ValueError: it is no run of a flow or graph.
    """
    engine.flush()
    done = {*there}
    with engine.journal.reading() as reader:
        outlines = Outlines(reader)
        for run_id in run_ids:
            if outlines.runs[run_id].parent_run_id is None and run_id not in done:
                _refuse(outlines.runs[run_id])
                new = [each for each in _wanted(outlines, run_id) if each not in done]
                yield run_id, _tables(engine, reader, new)
                done.update(new)


def _refuse(run: RunOutline) -> None:
    if run.kind not in DELETABLE:
        raise ValueError(f"run {run.run_id} is of {run.kind} {run.name}; what is exported are runs of flows and graphs")
    if run.parent_run_id is not None:
        raise ValueError(
            f"run {run.run_id} is a child of run {run.parent_run_id} and goes where that goes; export that one"
        )


def _wanted(outlines: Outlines, run_id: RunId) -> list[RunId]:
    """Return the run, the runs below it, and the origins of those that are forks."""
    found: dict[RunId, None] = {}
    to_do = [run_id]
    for each in to_do:  # which grows
        for member in outlines.family(outlines.runs[each]).members:
            origin = member.origin_run_id
            if member.run_id not in found and member.is_fork and origin in outlines.runs:
                to_do.append(origin)
            found[member.run_id] = None
    return list(found)


def _tables(engine: Engine, reader: Reader, run_ids: Collection[RunId]) -> dict[str, Rows]:
    connection: sqlite3.Connection = reader.extension(lambda each: each)
    given = (json_list(run_ids),)
    tables = {table: selected(connection, table, rest, given) for table, rest in TABLES.items()}
    codes = {*tables["runs"].column("definition_id"), *tables["steps"].column("code")}
    codes |= {each for data in tables["events"].column("data") for each in ids_in(data)}
    definitions = selected(connection, "definitions", "1 ORDER BY definition_id")
    kept = [row for row in definitions.rows if row[definitions.columns.index("definition_id")] in codes]
    tables["definitions"] = Rows(definitions.columns, kept)
    signed = {signature_id(row) for row in reader.runs(Select(run_ids=run_ids))}
    signed |= {signature_id(each) for row in kept if (each := reader.definition(row[0])) is not None}
    ids = _referenced(ValueReferences(connection), tables) | signed
    tables["values"] = _values(engine, connection, ids)
    return tables


def _referenced(references: ValueReferences, tables: Mapping[str, Rows]) -> set[ValueId]:
    """Return all values that the rows refer to, themselves or by the records of calls."""
    found: set[ValueId] = set()
    cells = (cell for each in tables.values() for row in each.rows for cell in row if isinstance(cell, bytes | str))
    new = {each for cell in cells for each in ids_in(cell)}
    while new:
        found |= new
        new = {each for content in references.of_records(new) for each in ids_in(content)} - found
    return found


def _values(engine: Engine, connection: sqlite3.Connection, ids: Iterable[ValueId]) -> Rows:
    """Return the values that exist, with the contents of their files."""
    columns: tuple[str, ...] = ()
    rows: list[tuple[Any, ...]] = []
    for each in sorted(ids):
        found = selected(connection, "values", "value_id = ?", (each,))
        columns = found.columns
        for row in found.rows:
            size, data = columns.index("size"), columns.index("data")
            if row[size] >= INLINE_LIMIT:
                row = (*row[:data], _content(engine, each, row[size]), *row[data + 1 :])  # noqa: PLW2901
            rows.append(row)
    return Rows(columns or selected(connection, "values", "0").columns, rows)


def _content(engine: Engine, value_id: ValueId, size: int) -> bytes | None:
    try:
        return files_of(engine).read(value_id, size)
    except ValueUnreadable as error:
        logger().warning("the export lacks a value, as the journal does: %s", error)
        return None


def _write(path: Path, run_id: RunId, tables: Mapping[str, Rows], *, exported_at: int) -> None:
    with closing(connect(path, "mode=rw")) as connection:
        create_tables(connection)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        for table, each in tables.items():
            insert_rows(connection, table, each)
        connection.execute(_MANIFEST)
        digest = digest_of_rows(all_rows(connection))
        manifest = {"format": FORMAT, "schema": SCHEMA_VERSION, "run_id": run_id, "digest": digest}
        manifest |= {"exported_at": exported_at, "exported_by": person()}
        connection.executemany("INSERT INTO manifest VALUES (?, ?)", manifest.items())
        connection.execute("COMMIT")


def insert_rows(connection: sqlite3.Connection, table: str, each: Rows, *, is_new: bool = True) -> None:
    """Write the rows; those whose key is taken are an error, or are left out unless they are all new."""
    names = ", ".join(f'"{name}"' for name in each.columns)
    marks = ", ".join("?" * len(each.columns))
    act = "INSERT" if is_new else "INSERT OR IGNORE"
    connection.executemany(f'{act} INTO "{table}" ({names}) VALUES ({marks})', each.rows)
