"""Projections in the journal file."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Collection
from typing import Any, Final

import msgspec

from ironflow_nb.core.ids import RunId
from ironflow_nb.journal import sqlite_rows as sql
from ironflow_nb.journal.read_models import DECIDER, DomainRow, DomainSelect, Projected, Skipped, refuse_overtaken
from ironflow_nb.values.stored import StoredValue

_SKIPPED: Final = Skipped.__struct_fields__
_PROGRESS: Final = ("name", "position", "code", "updated_at", "error")
_STATE: Final = ("name", "generation", "codec", "data", "size", "type", "preview", "digest", "mac")
_PUT_PROGRESS: Final = sql.insert("projections", _PROGRESS, ("name",), update=_PROGRESS[1:])
_PUT_STATE: Final = sql.insert("projection_states", _STATE, ("name",), update=_STATE[1:])
_SKIP: Final = sql.insert("projection_skips", ("name", *_SKIPPED), ())
_PLACE: Final = (
    "SELECT s.generation, p.position FROM projections p JOIN projection_states s USING (name) WHERE name = ?"
)
_KNOWN: Final = """
    SELECT name, s.generation, p.position, p.code, p.updated_at, p.error
    FROM projections p JOIN projection_states s USING (name)
"""
# CROSS JOIN keeps the order: events by position, and of each of a decider its run.
_DOMAIN: Final = f"""
    FROM events e CROSS JOIN runs r ON r.run_id = e.run_id
    WHERE e.position > :after AND instr(e.type, '.') > 0 AND r.kind = '{DECIDER}'
"""
_BEFORE: Final = "SELECT count(*) FROM events WHERE run_id = ? AND version < ? AND instr(type, '.') > 0"
_BETWEEN: Final = """
    SELECT version FROM events WHERE run_id = ? AND version BETWEEN ? AND ? AND instr(type, '.') > 0 ORDER BY version
"""
_OF_DECIDERS: Final = " AND substr(e.type, 1, instr(e.type, '.') - 1) IN (SELECT value FROM json_each(:deciders))"
_OF_CLASSES: Final = " AND substr(e.type, instr(e.type, '.') + 1) IN (SELECT value FROM json_each(:classes))"


def write(connection: sqlite3.Connection, projected: Projected) -> None:
    """Write how far a projection has come, if it is still where it went on from."""
    execute, name = connection.execute, projected.name
    found = execute(_PLACE, (name,)).fetchone()
    refuse_overtaken(projected, found)
    execute(_PUT_PROGRESS, (name, projected.position, projected.code, projected.updated_at, projected.error))
    if found is None or found[0] != projected.generation:
        execute("DELETE FROM projection_skips WHERE name = ?", (name,))
    if projected.state is not None:
        _write_state(connection, projected, projected.state)
    for skipped in projected.skipped:
        execute(_SKIP, (name, *msgspec.structs.astuple(skipped)))


def _write_state(connection: sqlite3.Connection, projected: Projected, state: StoredValue) -> None:
    content = None if state.content is None else bytes(state.content)
    described = state.size, state.type_name, state.preview, state.digest, state.mac
    connection.execute(_PUT_STATE, (projected.name, projected.generation, state.codec, content, *described))
    connection.execute("UPDATE projections SET state_id = ? WHERE name = ?", (state.value_id, projected.name))


class SqliteProjections:
    """Reads for projections through one connection."""

    _connection: sqlite3.Connection

    def last_position(self) -> int:
        """See the port."""
        found: int = self._connection.execute("SELECT coalesce(max(position), 0) FROM events").fetchone()[0]
        return found

    def domain_events(self, select: DomainSelect) -> list[DomainRow]:
        """See the port."""
        where, given = _of_domain(select)
        query = f"SELECT e.position, e.run_id, coalesce(r.key, ''), e.version, e.at, e.type, e.data {where}"
        rows = self._connection.execute(f"{query} ORDER BY e.position LIMIT :limit", given).fetchall()
        versions: dict[RunId, list[int]] = defaultdict(list)
        for row in rows:
            versions[row[1]].append(row[3])
        sequences = self._sequences(versions)
        return [
            DomainRow(
                position=position, run_id=run_id, instance=instance, sequence=sequences[run_id][version], at=at,
                type=kind, data=data,
            )
            for position, run_id, instance, version, at, kind, data in rows
        ]  # fmt: skip

    def _sequences(self, versions: dict[RunId, list[int]]) -> dict[RunId, dict[int, int]]:
        """Number the deciders' own events of these runs within each, from 1; the versions are in order."""
        numbers: dict[RunId, dict[int, int]] = {}
        for run_id, found in versions.items():
            # The first version is that of the run itself, and most instances are short.
            before = self._connection.execute(_BEFORE, (run_id, found[0])).fetchone()[0] if found[0] > 2 else 0
            between = self._connection.execute(_BETWEEN, (run_id, found[0], found[-1]))
            numbers[run_id] = {version: number for number, (version,) in enumerate(between, before + 1)}
        return numbers

    def n_domain_events(self, select: DomainSelect) -> int:
        """See the port."""
        where, given = _of_domain(select)
        n_events: int = self._connection.execute(f"SELECT count(*) {where}", given).fetchone()[0]
        return n_events

    def projection(self, name: str) -> Projected | None:
        """See the port."""
        row = self._connection.execute(f"{_KNOWN} WHERE name = ?", (name,)).fetchone()
        return None if row is None else _projected(row)

    def projections(self) -> list[Projected]:
        """See the port."""
        return [_projected(row) for row in self._connection.execute(f"{_KNOWN} ORDER BY name")]

    def projection_state(self, name: str) -> StoredValue | None:
        """See the port."""
        query = """
            SELECT p.state_id, s.codec, s.data, s.size, s.type, s.preview, s.digest, s.mac
            FROM projections p JOIN projection_states s USING (name) WHERE name = ?
        """
        row = self._connection.execute(query, (name,)).fetchone()
        return None if row is None else sql.sound(sql.value_row(row))

    def skipped(self, name: str) -> list[Skipped]:
        """See the port."""
        query = f"SELECT {sql.columns(_SKIPPED)} FROM projection_skips WHERE name = ? ORDER BY position"  # noqa: S608
        return [Skipped(**dict(zip(_SKIPPED, row, strict=True))) for row in self._connection.execute(query, (name,))]


def _projected(row: tuple[Any, ...]) -> Projected:
    name, generation, position, code, updated_at, error = row
    return Projected(name=name, generation=generation, position=position, code=code, updated_at=updated_at, error=error)


def _of_domain(select: DomainSelect) -> tuple[str, dict[str, Any]]:
    """Return where the events are found, and the parameters."""
    where = _DOMAIN
    if select.deciders is not None:
        where += _OF_DECIDERS
    if select.classes is not None:
        where += _OF_CLASSES
    limit = -1 if select.limit is None else select.limit
    names = {"deciders": _as_json(select.deciders), "classes": _as_json(select.classes)}
    return where, {"after": select.after, "limit": limit, **names}


def _as_json(names: Collection[str] | None) -> str | None:
    return None if names is None else msgspec.json.encode(sorted(names)).decode()
