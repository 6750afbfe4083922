"""Reads of a journal in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice
from typing import Any, Final, TypeVar

import msgspec
from msgspec.structs import replace

from ironflow_nb.core.events import AFTER_FAILURE
from ironflow_nb.core.identity import Digest, RunId, StepRef, ValueId
from ironflow_nb.core.lane_rules import LaneKey, LanePlace
from ironflow_nb.core.lanes import Demand
from ironflow_nb.core.run_state import RowKey, RunRow, StepRow
from ironflow_nb.core.status import RunStatus
from ironflow_nb.core.wait_rules import WaitKind
from ironflow_nb.errors import JournalCorrupt, ValueUnreadable
from ironflow_nb.journal import sqlite_lanes
from ironflow_nb.journal import sqlite_rows as sql
from ironflow_nb.journal.event_columns import COLUMNS_OF_PIECE, columns_of, columns_of_piece
from ironflow_nb.journal.ports import (
    CachedResult,
    CallKey,
    EventColumns,
    EventRow,
    Lease,
    QueueItem,
    QueueSelect,
    Select,
    Signal,
    SiteTally,
    StepTally,
    StoredDefinition,
)
from ironflow_nb.journal.sqlite_work import ended_waits, find_work, next_due_at, starts
from ironflow_nb.journal.table import json_list, parameters
from ironflow_nb.value_store.value_place import large_values
from ironflow_nb.values.stored_value import ARROW, INLINE_LIMIT, LARGE_FRAME, ROW_LIMIT, StoredValue, verified_content
from ironflow_nb.values.value_files import LargeValues

E = TypeVar("E")

_CHUNK: Final = 500  # SQLite before 3.32 binds at most 999 parameters
_EVENTS_OF_PIECE: Final = 2000  # the texts of more events leave the processor's cache
_SCATTERED: Final = 8  # events that are farther apart are looked up one by one, not scanned
_FEW_RUNS: Final = 1000  # the events of more runs are scanned: most events are then of one of them
FAILED: Final = "status IN ('failed', 'timed_out')"
_N_TRIED_AGAIN: Final = f"sum(CASE WHEN s.n_failed > CASE WHEN s.{FAILED} THEN 1 ELSE 0 END THEN 1 ELSE 0 END)"
_N_LIVED_WITH: Final = "sum(CASE WHEN s.lived_with THEN 1 ELSE 0 END)"
_HAS_STEP_NAME: Final = "({0} = :name OR (NOT :is_full_name AND substr({0}, -1 - length(:name)) = '.' || :name))"
# Each name is looked up as the next greater one in the index, so the time does not grow with the number of runs.
_RUN_NAMES: Final = """
    WITH RECURSIVE known(name) AS (
        SELECT min(name) FROM runs UNION ALL SELECT (SELECT min(name) FROM runs WHERE name > known.name) FROM known
        WHERE known.name IS NOT NULL
    ) SELECT name FROM known WHERE substr(name, -1 - length(:name)) = '.' || :name OR name = :name
"""
# Joins of the steps of a run, and what the first events of steps are sorted by. CROSS JOIN keeps the order, run by run,
# so that LIMIT stops the search.
_SORTED_STEPS: Final = (
    "CROSS JOIN steps s ON s.run_id = r.run_id",
    """CASE s.attempt WHEN 1 THEN s.version ELSE (
        SELECT min(f.version) FROM steps f WHERE (f.run_id, f.name, f."index") = (s.run_id, s.name, s."index")
    ) END""",
)
_STEPS_BY_EVENTS: Final = (
    """CROSS JOIN events e ON e.run_id = r.run_id AND EXISTS (SELECT 1 FROM steps s WHERE s.run_id = r.run_id)
    CROSS JOIN steps f ON f.run_id = e.run_id AND f.version = e.version AND f.attempt = 1
        AND f.name = substr(e.step, 1, length({0}) - 1)
        AND f."index" = CAST(substr(rtrim(e.step, ']'), length({0}) + 1) AS INTEGER)
    CROSS JOIN steps s ON s.run_id = f.run_id AND s.name = f.name AND s."index" = f."index"
    """.format("rtrim(rtrim(e.step, ']'), '0123456789')"),  # up to the bracket of ``name[12]``
    "e.version",
)
_IS_LATEST: Final = """ AND NOT EXISTS (
    SELECT 1 FROM steps n WHERE (n.run_id, n.name, n."index") = (s.run_id, s.name, s."index") AND n.attempt > s.attempt
)"""


class SqliteReader:
    """Reads through one connection.

    Lock: that of the connection; the caller begins the transaction whose moment is read.
    """

    def __init__(self, connection: sqlite3.Connection, files: LargeValues) -> None:
        self._connection = connection
        self._files = files

    def runs(self, select: Select) -> list[RunRow]:
        """See the port."""
        where, given = _run_conditions(select, "runs")
        where += _began_before(select, "runs")
        # A few rows are found fastest in their order, passing over those that don't fit; all rows by an index.
        unindexed = "" if select.limit is None else "+"
        if select.since is not None:
            where += f" AND {unindexed}started_at >= :since"
        if select.kind is not None:
            where += " AND kind = :kind"
        is_by_status = _is_by_status(select)
        if select.name is not None:
            where += self._has_name("+name" if is_by_status else "name", select.name, select, given)
        if select.statuses is not None:
            status = "status" if is_by_status else "+status"
            where += f" AND {_is_one_of(status, select.statuses, 'statuses')}"
        rest = f"WHERE {where} ORDER BY {_row_order(select, 'runs')} DESC LIMIT :limit"
        return _sound(sql.RUNS.find(self._connection, rest, given))

    def _has_name(self, column: str, name: str, select: Select, given: dict[str, Any]) -> str:
        """Return the condition that a run has the name, and add its parameter to `given`."""
        names = [name]
        if not select.is_full_name:
            names = [found for (found,) in self._connection.execute(_RUN_NAMES, {"name": name})]
        given["run_names"] = json_list(names)
        return f" AND {_is_one_of(column, names, 'run_names')}"

    def run_by_key(self, kind: str, name: str, key: str) -> RunRow | None:
        """See the port."""
        return sql.RUNS.first(self._connection, "WHERE kind = ? AND name = ? AND key = ?", (kind, name, key))

    def run_to_join(self, call: CallKey) -> RunRow | None:
        """See the port."""
        where = """
            WHERE kind = :kind AND name = :name AND inputs_digest = :inputs_digest AND ordinal = :ordinal
            AND key IS NULL AND parent_run_id IS NULL AND execution IS NOT :execution
            ORDER BY (SELECT position FROM events e WHERE e.run_id = runs.run_id AND e.version = runs.session_version)
            DESC LIMIT 1
        """
        return sql.RUNS.first(self._connection, where, msgspec.structs.asdict(call))

    def steps(self, select: Select) -> list[StepRow]:
        """See the port."""
        where, given = _run_conditions(select, "r")
        where += _began_before(select, "r")
        if select.since is not None:
            where += " AND s.started_at >= :since"
        if select.run_name is not None:
            where += self._has_name("r.name", select.run_name, select, given)
        if select.name is not None:
            where += f" AND {_HAS_STEP_NAME.format('s.name')}"
        if select.step_statuses is not None:
            where += f" AND {_is_one_of('s.status', select.step_statuses, 'step_statuses')}"
        if select.is_latest:
            where += _IS_LATEST
        # A few rows are found fastest by the events in their order, all rows, or those that fit, by sorting them.
        is_filtered = select.name is not None or select.step_statuses is not None or select.since is not None
        source, first = _SORTED_STEPS if select.limit is None or is_filtered else _STEPS_BY_EVENTS
        rows = self._connection.execute(
            f"""
            SELECT {sql.STEPS.columns("s")} FROM runs r {source} WHERE {where}
            ORDER BY {_row_order(select, "r")} DESC, {first}, s.attempt LIMIT :limit
            """,
            given,
        )
        return _sound(map(sql.STEPS.row, rows))

    def tallies(self, run_ids: Collection[str]) -> dict[RunId, list[StepTally]]:
        """See the port."""
        where, given = _run_conditions(Select(run_ids=run_ids), "steps")
        steps = self.latest("run_id, name, status, duration_s, lived_with", 'run_id, name, "index"', where)
        rows = self._connection.execute(
            f"""
            SELECT run_id, name, status, count(*), sum(duration_s), {_N_TRIED_AGAIN}, {_N_LIVED_WITH}
            FROM ({steps}) s GROUP BY run_id, name, status ORDER BY run_id, name, status
            """,
            given,
        )
        found: dict[RunId, list[StepTally]] = {}
        for run_id, tally in _sound(map(_tally, rows)):
            found.setdefault(run_id, []).append(tally)
        return found

    def sites(
        self, run_id: RunId, *, without: Collection[StepRef] = (), continued_at: int = 0, began_at: int = 0
    ) -> list[SiteTally]:
        """See the port."""
        given = {"run_id": run_id, "without": json_list(without), "at": continued_at, "after_failure": AFTER_FAILURE}
        given["began_at"] = began_at
        steps = self.latest(
            "name, status, duration_s, lived_with, child_run_id, reason, due_at, version, origin_run_id, finished_at",
            'name, "index"',
            "run_id = :run_id AND step NOT IN (SELECT value FROM json_each(:without))",
        )
        rows = self._connection.execute(
            f"""
            SELECT s.name, s.status, count(*), sum(s.duration_s), {_N_TRIED_AGAIN},
                {_N_LIVED_WITH}, ifnull(CASE WHEN json_valid(e.data) THEN json_extract(e.data, '$.site') END, '')
                AS site, s.child_run_id, CASE s.status
                WHEN 'skipped' THEN s.reason WHEN 'waiting' THEN ifnull(CAST(s.due_at AS TEXT), '')
                WHEN 'pending' THEN
                    ifnull(CASE WHEN json_valid(e.data) THEN json_extract(e.data, '$.waits_for') END, '')
                ELSE '' END AS why,
                sum(CASE WHEN NOT s.lived_with AND (s.origin_run_id IS NOT NULL OR (s.version < :began_at AND
                    (s.status <> 'completed' OR s.finished_at <= (
                        SELECT at FROM events WHERE run_id = :run_id AND version = :began_at)))) THEN 1 ELSE 0 END)
            FROM ({steps}) s LEFT JOIN events e ON e.run_id = :run_id AND e.version = s.version
            WHERE NOT (
                s.status = 'skipped' AND s.version < :at
                AND substr(s.reason, -length(:after_failure)) = :after_failure
            )
            GROUP BY s.name, s.status, site, s.child_run_id, why ORDER BY min(s.version)
            """,
            given,
        )
        return [SiteTally(name, sql.step_status(run_id, status), *rest) for name, status, *rest in rows]

    @staticmethod
    def latest(columns: str, key: str, where: str) -> str:
        """Return the query for the latest attempts of these steps, and how many of all their attempts failed.

        SQLite takes the bare columns from the row with the maximum.
        """
        return f"""
            SELECT {columns}, max(attempt), sum(CASE WHEN {FAILED} THEN 1 ELSE 0 END) AS n_failed
            FROM steps WHERE {where} GROUP BY {key}
        """

    def attempts(self, run_id: RunId) -> Iterator[tuple[StepRow, StoredValue | None]]:
        """See the port."""
        found = self._connection.execute(
            f"""
            SELECT {sql.STEPS.columns("s")}, CAST(s.output AS BLOB) FROM steps s
            WHERE s.run_id = ? ORDER BY s.name, s."index", s.attempt
            """,
            (run_id,),
        )
        while piece := [(sql.STEPS.row(row[:-1]), row[-1]) for row in islice(found, _CHUNK)]:
            elsewhere = [row.output_id for row, content in piece if content is None and row.output_id is not None]
            values = self.values(elsewhere, content_limit=ROW_LIMIT)
            for row, content in piece:
                key = row.output_id
                if key is None:
                    yield row, None
                else:
                    yield row, values.get(key) if content is None else sql.stored_in_row(key, "output", content)

    def events(self, select: Select) -> list[EventRow]:
        """See the port."""
        where, given = self._event_conditions(select)
        # Within one run versions are in the order of positions, and have an index.
        column = "version" if _selects_one_run(select) else "position"
        is_forward = select.limit is None or select.after is not None
        found = self._events(f"{where} ORDER BY {column}{'' if is_forward else ' DESC'} LIMIT :limit", given)
        return found if is_forward else found[::-1]

    def _events(self, where: str, given: dict[str, Any]) -> list[EventRow]:
        return list(sql.EVENTS.find(self._connection, f"WHERE {where}", given))

    def event_columns(self, select: Select) -> Iterator[EventColumns]:
        """See the port."""
        where, given = self._event_conditions(select)
        chosen = f"events WHERE {where}"
        if select.limit is not None:
            order = "DESC" if select.after is None else "ASC"
            chosen = f"(SELECT position FROM {chosen} ORDER BY position {order} LIMIT :limit)"
        # Each in a query of its own is a look-up; all three in one query would be a scan.
        bounds = (f"(SELECT {what} FROM {chosen})" for what in ("count(*)", "min(position)", "max(position)"))
        n_events, first, last = self._connection.execute(f"SELECT {', '.join(bounds)}", given).fetchone()
        if not n_events or last - first > n_events * _SCATTERED:
            yield columns_of(self.events(select))
            return
        for start in range(first, last + 1, _EVENTS_OF_PIECE):
            yield self._columns_of_piece(
                where, given | {"start": start, "end": min(start + _EVENTS_OF_PIECE - 1, last)}
            )

    def _event_conditions(self, select: Select) -> tuple[str, dict[str, Any]]:
        where, given = _run_conditions(select, "events")
        if select.after is not None:
            where += " AND position > :after"
        if select.since is not None:
            where += " AND at >= :since"
        if select.name is not None:
            where += " AND type = :name"
        where += "" if select.after_version is None else " AND version > :after_version"
        where += "" if select.until_version is None else " AND version <= :until_version"
        if select.run_name is not None:
            has_name = self._has_name("r.name", select.run_name, select, given)
            query = f"SELECT run_id FROM runs r WHERE 1 {has_name} LIMIT {_FEW_RUNS + 1}"
            few = [run_id for (run_id,) in self._connection.execute(query, given)]
            if len(few) <= _FEW_RUNS:
                given["few"] = json_list(few)
                where += " AND run_id IN (SELECT value FROM json_each(:few))"
            else:
                where += f" AND EXISTS (SELECT 1 FROM runs r WHERE r.run_id = events.run_id {has_name})"
        return where, given

    def _columns_of_piece(self, where: str, given: dict[str, Any]) -> EventColumns:
        where = f"position BETWEEN :start AND :end AND {where}"
        try:
            # NOT INDEXED reads in the order of positions. The texts of a piece must fit into memory.
            row = self._connection.execute(f"SELECT {COLUMNS_OF_PIECE} FROM events NOT INDEXED WHERE {where}", given)
            columns = columns_of_piece(row.fetchone())
        except (sqlite3.DataError, sqlite3.OperationalError):
            columns = None
        return columns or columns_of(self._events(f"{where} ORDER BY position", given))

    def last_position(self) -> int:
        """See the port."""
        found: int = self._connection.execute("SELECT coalesce(max(position), 0) FROM events").fetchone()[0]
        return found

    def head(self, run_id: RunId) -> tuple[int, int] | None:
        """See the port."""
        row: tuple[int, int] | None = self._connection.execute(
            "SELECT version, at FROM events WHERE run_id = ? ORDER BY version DESC LIMIT 1", (run_id,)
        ).fetchone()
        return row

    def values(
        self, ids: Collection[ValueId], *, of: Iterable[RowKey] = (), content_limit: int | None = None
    ) -> dict[ValueId, StoredValue]:
        """See the port."""
        found = self._in_rows(frozenset(ids), list(of), content_limit)
        wanted = [value_id for value_id in ids if value_id not in found]
        for start in range(0, len(wanted), _CHUNK):
            chunk = wanted[start : start + _CHUNK]
            query = f"{sql.SELECT_VALUES} WHERE value_id IN ({', '.join('?' * len(chunk))})"
            for row in self._connection.execute(query, chunk):
                stored = StoredValue(*row)
                found[stored.value_id] = self._with_content(stored, content_limit)
        return found

    def _in_rows(
        self, ids: Collection[ValueId], keys: Collection[RowKey], limit: int | None
    ) -> dict[ValueId, StoredValue]:
        found: dict[ValueId, StoredValue] = {}
        for query, given in sql.row_queries(keys):
            for row in self._connection.execute(query, given):
                for column, value_id, content in zip(sql.ROW_VALUES, row[:2], row[2:], strict=True):
                    if content is not None and value_id in ids:
                        stored = sql.stored_in_row(value_id, column, content)
                        is_above = limit is not None and stored.size > limit
                        found[value_id] = replace(stored, content=None) if is_above else stored
        return found

    def _with_content(self, stored: StoredValue, limit: int | None) -> StoredValue:
        if limit is not None and stored.size > limit:
            return replace(stored, content=None)
        if stored.size < INLINE_LIMIT:
            return verified_content(stored)
        files = large_values(self._connection, self._files)
        try:
            read = _verified(replace(stored, content=files.read(stored.value_id, stored.size)))
        except ValueUnreadable as error:
            return replace(stored, read_error=str(error))
        if read.content is None:
            path = files.path(stored.value_id)
            return replace(read, read_error=f"the value file {path} has other bytes than were written")
        return read

    def value_ids(self, codec: str) -> list[ValueId]:
        """See the port."""
        return [row[0] for row in self._connection.execute('SELECT value_id FROM "values" WHERE codec = ?', (codec,))]

    def definition(self, definition_id: Digest) -> StoredDefinition | None:
        """See the port."""
        return sql.DEFINITIONS.first(self._connection, "WHERE definition_id = ?", (definition_id,))

    def cached(self, identity: Digest, code: Digest) -> CachedResult | None:
        """See the port."""
        return sql.CACHED.first(self._connection, "WHERE identity = ? AND code = ?", (identity, code))

    def work(self, select: QueueSelect) -> list[QueueItem]:
        """See the port."""
        return find_work(self._connection, select)

    def ended_waits(self, now: int, start: int = 0, limit: int = -1) -> list[QueueItem]:
        """See the port."""
        return ended_waits(self._connection, now, start, limit)

    def starts(self, of: Collection[str]) -> list[QueueItem]:
        """See the port."""
        return starts(self._connection, of)

    def next_due_at(self, now: int) -> int:
        """See the port."""
        return next_due_at(self._connection, now)

    def waits_of(self, run_id: RunId) -> list[QueueItem]:
        """See the port."""
        return [item for item in self.work(QueueSelect(run_ids=[run_id])) if item.kind in set(WaitKind)]

    def signals(self, run_ids: Collection[str]) -> list[Signal]:
        """See the port."""
        where = "WHERE taken_version IS NULL AND run_id IN (SELECT value FROM json_each(?)) ORDER BY signal_id"
        return list(sql.SIGNALS.find(self._connection, where, (json_list(run_ids),)))

    def leases(self) -> dict[str, Lease]:
        """See the port."""
        return {lease.owner: lease for lease in sql.LEASES.find(self._connection)}

    def lane_places(self, lanes: Collection[LaneKey] | None = None) -> list[LanePlace]:
        """See the port."""
        return sqlite_lanes.lane_places(self._connection, lanes)

    def lane_rates(self) -> dict[LaneKey, int]:
        """See the port."""
        return sqlite_lanes.lane_rates(self._connection)

    def other_demand(self, demand: Demand) -> LanePlace | None:
        """See the port."""
        return sqlite_lanes.other_demand(self._connection, demand)

    def last_ask(self) -> int:
        """See the port."""
        return sqlite_lanes.last_ask(self._connection)

    def extension(self, kind: Callable[[sqlite3.Connection], E]) -> E:
        """See the port."""
        return kind(self._connection)


def _tally(row: tuple[Any, ...]) -> tuple[RunId, StepTally]:
    run_id, name, status, *counted = row
    return run_id, StepTally(name, sql.step_status(run_id, status), *counted)


def _sound(rows: Iterator[E]) -> list[E]:
    """Return the rows.

    Raises:
        JournalCorrupt: some are damaged. All are looked at, and the error has a message for each damaged run.
    """
    found: list[E] = []
    first: JournalCorrupt | None = None
    damaged: dict[str, str] = {}
    while True:
        try:
            found.extend(rows)  # after an error it goes on with the next row
            break
        except JournalCorrupt as error:
            first = first or error
            damaged.setdefault(error.run_id or "", error.message)
    if first is not None:
        first.damaged = damaged
        raise first
    return found


def _run_conditions(select: Select, table: str) -> tuple[str, dict[str, Any]]:
    """Return the conditions on the run, which all tables share, and the parameters of all conditions."""
    where = ["1"]
    if select.run_ids is not None:
        compared = "=" if _selects_one_run(select) else "IN"
        where.append(f"{table}.run_id {compared} (SELECT value FROM json_each(:run_ids))")
    if select.without:
        where.append(f"{table}.run_id NOT IN (SELECT value FROM json_each(:without))")
    if select.run_prefix is not None:
        # A range uses the index; LIKE uses it only under a matching collation.
        where.append(f"{table}.run_id >= :run_prefix AND {table}.run_id < :run_prefix || char(127)")
    return " AND ".join(where), parameters(select)


def _began_before(select: Select, table: str) -> str:
    """Return the condition that runs began before another one."""
    is_before = f" AND {table}.rowid < (SELECT o.rowid FROM runs o WHERE o.run_id = :older_than)"
    return "" if select.older_than is None else is_before


def _is_by_status(select: Select) -> bool:
    """Return True if the runs are found by the index of statuses. Most runs of a long history are completed."""
    statuses = select.statuses
    if statuses is None or (select.limit is not None and len(statuses) > 1):
        return False
    return select.name is None or RunStatus.COMPLETED not in statuses


def _selects_one_run(select: Select) -> bool:
    return select.run_ids is not None and len(select.run_ids) == 1


def _is_one_of(column: str, values: Collection[str], name: str) -> str:
    """Return the condition that the column has one of the values, which are in the parameter `name` as JSON."""
    compared = "=" if len(values) == 1 else "IN"  # with one value, an index keeps the order of the rows
    return f"{column} {compared} (SELECT value FROM json_each(:{name}))"


def _row_order(select: Select, table: str) -> str:
    """Return the column that orders runs by their beginnings; its plus sign stops SQLite from scanning it for ids."""
    return f"{'' if select.run_ids is None and select.run_prefix is None else '+'}{table}.rowid"


def _verified(stored: StoredValue) -> StoredValue:
    if stored.codec != ARROW or stored.size < LARGE_FRAME:
        return verified_content(stored)
    from ironflow_nb.values.arrow import verified_frame

    return verified_frame(stored)
