"""Reading the file of an exported run into a journal: all of it in one commit, or nothing.

Runs keep their ids, and their events get new positions. Signatures come along as they are: what another user began is
shown here and executes nothing, until it is trusted.
"""

from __future__ import annotations

import sqlite3
import stat
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec

from ironflow_nb.core.events import RunDeleted, RunStarted
from ironflow_nb.core.identity import Digest, RunId, ValueId
from ironflow_nb.errors import JournalConflict, JournalCorrupt, JournalError, JournalTooNew, NotAJournal
from ironflow_nb.execution import Engine
from ironflow_nb.journal import schema
from ironflow_nb.journal.ports import Addition, Durability, RunCommit
from ironflow_nb.journal.sqlite_file import connect, look_at
from ironflow_nb.journal.table import json_list
from ironflow_nb.retention.exported_run import (
    APPLICATION_ID,
    FORMAT,
    TABLES,
    Rows,
    all_rows,
    digest_of_rows,
    insert_rows,
)
from ironflow_nb.retention.run_outlines import DELETABLE
from ironflow_nb.values.private_files import refuse_used
from ironflow_nb.values.stored_value import INLINE_LIMIT, StoredValue, value_id

_RENUMBERED: Final = {"events": "position", "work": "work_id", "signals": "signal_id"}


class ExportedRun(msgspec.Struct, frozen=True):
    """The rows of an exported run by table, and its id."""

    run_id: RunId
    tables: Mapping[str, Rows]


class ImportedRows(Addition, frozen=True):
    """The rows of an exported run in the journal of this one; of an idle one without what is due."""

    exported: ExportedRun
    path: str
    is_idle: bool = False

    def write(self, connection: sqlite3.Connection, run_id: RunId) -> None:
        """See `Addition`.

        Raises:
            JournalConflict: one of the runs, or a run of the same key, is there, or was deleted here.
        """
        tables = self.exported.tables
        self._refuse_known(connection, tables["runs"].column("run_id"))
        last = connection.execute("SELECT ifnull(max(position), 0) FROM events").fetchone()[0]
        moved = _moved(tables, last)
        if self.is_idle:
            moved.pop("work", None)
        try:
            for table, rows in moved.items():
                insert_rows(connection, table, rows, is_new=table not in {"values", "definitions"})
        except sqlite3.IntegrityError as error:
            raise JournalConflict(
                f"the run of {self.path} can't be imported: a run with the same key is there already ({error}); "
                "nothing was changed. Import it into another journal: with iron.open(path): iron.import_(...)",
                run_id=self.exported.run_id,
            ) from error

    def _refuse_known(self, connection: sqlite3.Connection, run_ids: list[str]) -> None:
        known = connection.execute(
            """
            SELECT run_id, 'is there already' FROM runs WHERE run_id IN (SELECT value FROM json_each(:ids))
            UNION ALL
            SELECT run_id, 'was deleted here' FROM events
            WHERE run_id IN (SELECT value FROM json_each(:ids)) AND type = :deleted
            """,
            {"ids": json_list(run_ids), "deleted": RunDeleted.__name__},
        ).fetchone()
        if known is not None:
            raise JournalConflict(
                f"run {known[0]} of {self.path} {known[1]}, and an import changes no run; nothing was changed. Import "
                "it into another journal: with iron.open(path): iron.import_(...)",
                run_id=known[0],
            )


def import_run(engine: Engine, path: Path, *, is_idle: bool = False) -> RunId:
    """Add the exported run to the journal; return its id. An idle one does not go on by itself, whatever it waited for.

    Raises:
        NotAJournal: the file is no export.
        JournalTooNew: it was written by a newer version.
        JournalCorrupt: it is damaged, cut, or not what was exported.
        JournalConflict: a run of it is in the journal already, or was deleted there.
    """
    return add_exported(engine, read_export(path), str(path), is_idle=is_idle)


def add_exported(engine: Engine, exported: ExportedRun, source: str, *, is_idle: bool = False) -> RunId:
    """Add the rows to the journal, which come from what messages call the source; see `import_run`."""
    values = exported.tables["values"]
    with engine.reading() as reader:
        there = reader.values([ValueId(each) for each in values.column("value_id")], content_limit=0)
    large = tuple(each for each in _stored(values) if each.size >= INLINE_LIMIT and each.value_id not in there)
    rows = ImportedRows(exported, source, is_idle)
    commit = RunCommit(run_id=RunId(""), events=(), values=large, additions=(rows,), n_bytes=sum(values.column("size")))
    engine.access.append([commit], Durability.POWER)
    return exported.run_id


def read_export(path: Path) -> ExportedRun:
    """Return the contents of the file after all checks; see `import_run`."""
    found = look_at(path)
    if found is None or stat.S_ISDIR(found.st_mode):
        raise JournalError(f"there is no file {path}{'' if found is None else '; it is a folder'}", path=path)
    refuse_used(path)
    try:
        with closing(connect(path, "mode=ro&immutable=1")) as connection:
            connection.execute("PRAGMA trusted_schema=OFF")
            _refuse_others(connection, path)
            return _read(connection, path)
    except (sqlite3.Error, ValueError, TypeError, KeyError) as error:
        if isinstance(error, JournalError):
            raise
        if isinstance(error, sqlite3.DatabaseError) and error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
            raise NotAJournal(f"{path} is no exported run: {error}", path=path) from error
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, why: str) -> JournalCorrupt:
    return JournalCorrupt(f"the exported run {path} is damaged: {why}; export it again, nothing was changed", path=path)


def _refuse_others(connection: sqlite3.Connection, path: Path) -> None:
    application, version, n_pages, page_size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("application_id", "user_version", "page_count", "page_size")
    )
    if application == schema.APPLICATION_ID:
        raise NotAJournal(f"{path} is a journal and no exported run; open it: iron.open({str(path)!r})", path=path)
    if application != APPLICATION_ID:
        raise NotAJournal(f"{path} is a database of something else, and no exported run", path=path)
    if version > schema.SCHEMA_VERSION:
        raise JournalTooNew(
            f"the run {path} was exported with schema {version}, and this version of ironflow_nb knows "
            f"{schema.SCHEMA_VERSION}; upgrade ironflow-nb to import it",
            path=path,
            schema=version,
        )
    found = look_at(path)
    if found is None or found.st_size != n_pages * page_size:
        raise _damaged(path, "it was cut")
    trouble = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if trouble != "ok":
        raise _damaged(path, trouble)


def _read(connection: sqlite3.Connection, path: Path) -> ExportedRun:
    manifest: dict[str, Any] = dict(connection.execute("SELECT name, value FROM manifest"))
    if manifest["format"] > FORMAT:
        raise JournalTooNew(
            f"the run {path} was exported in format {manifest['format']}, and this version of ironflow_nb knows "
            f"{FORMAT}; upgrade ironflow-nb to import it",
            path=path,
            schema=manifest["schema"],
        )
    tables = all_rows(connection)
    if digest_of_rows(tables) != manifest["digest"]:
        raise _damaged(path, "its rows are not those that were exported")
    _refuse_strange(tables, manifest["run_id"], path)
    for each in _stored(tables["values"]):
        if each.content is not None and value_id(each.codec, bytes(each.content)) != each.value_id:
            raise _damaged(path, f"a value has other bytes than its id says ({each.type_name})")
    return ExportedRun(RunId(manifest["run_id"]), tables)


def _refuse_strange(tables: Mapping[str, Rows], run_id: str, path: Path) -> None:
    """Refuse rows that no export has: they may come from an attacker who wants to change the rest of the journal."""
    runs = tables["runs"]
    run_ids = set(runs.column("run_id"))
    parents = set(runs.column("parent_run_id")) - {None}
    forks = zip(runs.column("origin_run_id"), runs.column("origin_position"), strict=True)
    origins = {origin for origin, position in forks if position is not None}
    of_rows = {each for table in TABLES.keys() & tables.keys() for each in tables[table].column("run_id")}
    if not of_rows | parents | origins | {run_id} <= run_ids:
        raise _damaged(path, "it refers to runs that it does not have")
    if not set(runs.column("kind")) <= DELETABLE or any("." in each for each in tables["events"].column("type")):
        raise _damaged(path, "it has runs that are not of flows and graphs")


def _stored(values: Rows) -> Iterator[StoredValue]:
    """Yield the values of the rows."""
    for row in values.rows:
        each = dict(zip(values.columns, row, strict=True))
        digest = None if each["digest"] is None else Digest(each["digest"])
        yield StoredValue(
            ValueId(each["value_id"]), each["codec"], each["data"], each["size"], each["type"], each["preview"],
            digest, each["mac"],
        )  # fmt: skip


def _moved(tables: Mapping[str, Rows], last: int) -> dict[str, Rows]:
    """Return the rows as they are written: new numbers, large content left to its file, no owner."""
    positions = tables["events"].column("position")
    new = {position: last + n for n, position in enumerate(positions, 1)}

    def forked_at(position: int | None) -> int | None:
        """Return the new position of the newest event at or before that one."""
        n = 0 if position is None else bisect_right(positions, position)
        return None if position is None else new[positions[n - 1]] if n else last

    changes: dict[str, dict[str, Any]] = {
        "runs": {"origin_position": forked_at},
        "events": {"position": new.get},
        "values": {"data": lambda data: data if data is None or len(data) < INLINE_LIMIT else None},
    }
    moved = {table: _changed(rows, changes.get(table, {})) for table, rows in tables.items()}
    for table in ("work", "signals"):
        if table in moved:
            moved[table] = _without(moved[table], _RENUMBERED[table])
    moved["events"] = _with_origins(moved["events"], forked_at)
    return moved


def _changed(rows: Rows, changes: Mapping[str, Any]) -> Rows:
    numbers = {rows.columns.index(name): change for name, change in changes.items() if name in rows.columns}
    if not numbers:
        return rows
    return Rows(
        rows.columns,
        [tuple(numbers[n](each) if n in numbers else each for n, each in enumerate(row)) for row in rows.rows],
    )


def _without(rows: Rows, column: str) -> Rows:
    """Return the rows without a column, which SQLite numbers anew."""
    n = rows.columns.index(column)
    return Rows((*rows.columns[:n], *rows.columns[n + 1 :]), [(*row[:n], *row[n + 1 :]) for row in rows.rows])


def _with_origins(events: Rows, forked_at: Any) -> Rows:
    """Return the events; the beginning of a fork says at which of the new positions it left its origin."""
    kind, data = events.columns.index("type"), events.columns.index("data")

    def moved(row: tuple[Any, ...]) -> tuple[Any, ...]:
        if row[kind] != RunStarted.__name__ or '"origin_position"' not in row[data]:
            return row
        fields = msgspec.json.decode(row[data])
        fields["origin_position"] = forked_at(fields["origin_position"])
        return (*row[:data], msgspec.json.encode(fields, order="sorted").decode(), *row[data + 1 :])

    return Rows(events.columns, [moved(row) for row in events.rows])
