"""The rows that only deciders keep in the journal: commands, states, projections; and reads of their events.

The rows are additions to a run's commit, so they are written in the transaction of its events. The tables are made with
all other tables of a journal, in `ironflow_nb.journal.schema`.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Collection
from typing import Any, Final

import msgspec

from ironflow_nb.core.identity import Digest, RunId
from ironflow_nb.core.status import RunKind
from ironflow_nb.errors import JournalConflict
from ironflow_nb.journal.ports import Addition, Reader
from ironflow_nb.journal.table import Table, insert, parameters
from ironflow_nb.values.stored_value import StoredValue, verified_content

_PUT_STATE: Final = insert("snapshots", ["run_id", "version", "code", "data"], ["run_id"])
_PUT_PROGRESS: Final = insert("projections", ["name", "position", "code", "updated_at", "error"], ["name"])
_PUT_PROJECTION_STATE: Final = insert(
    "projection_states", ["name", "generation", "codec", "data", "size", "type", "preview", "digest", "mac"], ["name"]
)
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
    WHERE e.position > :after AND instr(e.type, '.') > 0 AND r.kind = '{RunKind.DECIDER}'
"""
_EVENTS_AFTER: Final = """
    SELECT version, at, type, data FROM events WHERE run_id = ? AND version > ? AND version <= ? AND at <= ?
    ORDER BY version
"""
NO_LIMIT: Final = 2**63 - 1  # the greatest integer of SQLite
_BEFORE: Final = "SELECT count(*) FROM events WHERE run_id = ? AND version < ? AND instr(type, '.') > 0"
_BETWEEN: Final = """
    SELECT version FROM events WHERE run_id = ? AND version BETWEEN ? AND ? AND instr(type, '.') > 0 ORDER BY version
"""
_OF_DECIDERS: Final = " AND substr(e.type, 1, instr(e.type, '.') - 1) IN (SELECT value FROM json_each(:deciders))"
_OF_CLASSES: Final = " AND substr(e.type, instr(e.type, '.') + 1) IN (SELECT value FROM json_each(:classes))"


EventRecord = tuple[int, int, str, str]
"""Version, instant (microseconds UTC), type and data of a stored event."""


class Observation(Addition, frozen=True, kw_only=True):
    """A command that was sent to a decider, and its outcome. `at` is microseconds UTC.

    `source` is the sender (``user``, an effect, a timer), `version` the version of the instance afterwards. `data` and
    `reason` are JSON text, `effects` and `timers` are JSON lists of names.
    """

    name: str
    instance: str
    run_id: RunId | None
    at: int
    command: str
    data: str
    digest: Digest
    command_key: str | None
    source: str
    execution: str | None
    outcome: str
    reason: str | None
    n_events: int
    version: int
    status_before: str | None
    status_after: str | None
    effects: str
    timers: str

    def write(self, connection: sqlite3.Connection, run_id: RunId) -> None:
        """See `Addition`.

        Raises:
            JournalConflict: a command of that key was decided already.
        """
        try:
            connection.execute(OBSERVATIONS.put, OBSERVATIONS.values(self))
        except sqlite3.IntegrityError as error:
            raise JournalConflict("a command of that key was decided already", run_id=run_id) from error


OBSERVATIONS: Final = Table("observations", Observation)


class StoredState(Addition, frozen=True):
    """The state of a run after its event of that version, as JSON text, made by an `evolve` of that code.

    It replaces the stored state of the run.
    """

    version: int
    code: Digest
    data: str

    def write(self, connection: sqlite3.Connection, run_id: RunId) -> None:
        """See `Addition`."""
        connection.execute(_PUT_STATE, (run_id, self.version, self.code, self.data))


class SkippedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event that a projection could not fold and skipped, at the instant `at` (microseconds UTC)."""

    name: str
    position: int
    decider: str
    instance: str
    sequence: int
    event: str
    error: str
    at: int


_SKIPS: Final = Table("projection_skips", SkippedEvent)


class ProjectionProgress(Addition, frozen=True, kw_only=True):
    """The position of a projection: every event up to it is in the state, or skipped. A projection is of no run.

    `generation` counts the beginnings of the projection, `code` is the digest of its fold. To be written it carries the
    events skipped since, the place `before` that it goes on from, and the state if that has changed. In a new
    generation it always has.
    """

    name: str
    generation: int
    position: int
    code: Digest
    updated_at: int
    error: str | None = None
    state: StoredValue | None = None
    skipped: tuple[SkippedEvent, ...] = ()
    before: tuple[int, int] | None = None

    @property
    def place(self) -> tuple[int, int]:
        """Generation and position. A place only grows."""
        return self.generation, self.position

    def refuse_overtaken(self, found: tuple[int, int] | None) -> None:
        """Raise an error unless the projection was `found` where this one goes on from.

        Raises:
            JournalConflict: it was found elsewhere, or would go back; `name` names the projection.
        """
        if found != self.before or (found is not None and self.place < found):
            raise JournalConflict(
                f"another engine has folded projection {self.name} meanwhile: it is at {found} and not at "
                f"{self.before}; read it again",
                name=self.name,
            )

    def write(self, connection: sqlite3.Connection, run_id: RunId) -> None:
        """See `Addition`.

        Raises:
            JournalConflict: another engine has folded the projection meanwhile.
        """
        execute = connection.execute
        found = execute(_PLACE, (self.name,)).fetchone()
        self.refuse_overtaken(found)
        execute(_PUT_PROGRESS, (self.name, self.position, self.code, self.updated_at, self.error))
        if found is None or found[0] != self.generation:
            execute("DELETE FROM projection_skips WHERE name = ?", (self.name,))
        if self.state is not None:
            self._write_state(connection, self.state)
        for skipped in self.skipped:
            execute(_SKIPS.put, _SKIPS.values(skipped))

    def _write_state(self, connection: sqlite3.Connection, state: StoredValue) -> None:
        content = None if state.content is None else bytes(state.content)
        described = state.size, state.type_name, state.preview, state.digest, state.mac
        connection.execute(_PUT_PROJECTION_STATE, (self.name, self.generation, state.codec, content, *described))
        connection.execute("UPDATE projections SET state_id = ? WHERE name = ?", (state.value_id, self.name))


class DomainSelect(msgspec.Struct, frozen=True, kw_only=True):
    """A selection of the events of deciders: after a position, of these deciders, of classes of these names."""

    after: int = 0
    deciders: Collection[str] | None = None
    classes: Collection[str] | None = None
    limit: int | None = None


class DomainRow(msgspec.Struct, frozen=True, kw_only=True):
    """An event of a decider. `sequence` numbers the events of its instance from 1; `at` is microseconds UTC."""

    position: int
    run_id: RunId
    instance: str
    sequence: int
    at: int
    type: str
    data: str


class DeciderReader:
    """Reads of the rows of deciders, through the connection of a reader of the journal."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def events_after(
        self, run_id: RunId, version: int, *, until: int = NO_LIMIT, at: int = NO_LIMIT
    ) -> list[EventRecord]:
        """Return the events of a run after that version, up to the version `until` and the instant `at`, in order."""
        return self._connection.execute(_EVENTS_AFTER, (run_id, version, until, at)).fetchall()

    def n_events(self, run_id: RunId, *, before: int = NO_LIMIT) -> int:
        """Count the decider's own events of a run, before that version."""
        n_events: int = self._connection.execute(_BEFORE, (run_id, before)).fetchone()[0]
        return n_events

    def state(self, run_id: RunId) -> StoredState | None:
        """Return the stored state of a run, or None."""
        query = "SELECT version, code, data FROM snapshots WHERE run_id = ?"
        row = self._connection.execute(query, (run_id,)).fetchone()
        return None if row is None else StoredState(*row)

    def observations(self, name: str | None = None, instance: str | None = None) -> list[Observation]:
        """Return commands, oldest first."""
        given = {"name": name, "instance": instance}
        wanted = [f"{column} = :{column}" for column, each in given.items() if each is not None]
        where = f"{'WHERE' if wanted else ''} {' AND '.join(wanted)} ORDER BY observation_id"
        return list(OBSERVATIONS.find(self._connection, where, given))

    def observation_of(self, name: str, instance: str, command_key: str) -> Observation | None:
        """Return the command of that key, or None."""
        where = "WHERE name = ? AND instance = ? AND command_key = ?"
        return OBSERVATIONS.first(self._connection, where, (name, instance, command_key))

    def accepted_before(self, observation: Observation) -> Observation | None:
        """Return the newest equal command to the same instance that another execution sent and that was accepted."""
        where = """
            WHERE name = ? AND instance = ? AND digest = ? AND outcome = 'accepted' AND execution <> ?
            ORDER BY observation_id DESC LIMIT 1
        """
        given = (observation.name, observation.instance, observation.digest, observation.execution or "")
        return OBSERVATIONS.first(self._connection, where, given)

    def domain_events(self, select: DomainSelect) -> list[DomainRow]:
        """Return events of deciders by position. `limit` keeps the first."""
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
        """Number the events of deciders within each of these runs, from 1. The versions are in order."""
        numbers: dict[RunId, dict[int, int]] = {}
        for run_id, found in versions.items():
            # Version 1 is `RunStarted`. Most instances are short.
            before = self.n_events(run_id, before=found[0]) if found[0] > 2 else 0
            between = self._connection.execute(_BETWEEN, (run_id, found[0], found[-1]))
            numbers[run_id] = {version: number for number, (version,) in enumerate(between, before + 1)}
        return numbers

    def n_domain_events(self, select: DomainSelect) -> int:
        """Count the events of deciders; the limit does not apply."""
        where, given = _of_domain(select)
        n_events: int = self._connection.execute(f"SELECT count(*) {where}", given).fetchone()[0]
        return n_events

    def projection(self, name: str) -> ProjectionProgress | None:
        """Return the projection without its state, or None."""
        row = self._connection.execute(f"{_KNOWN} WHERE name = ?", (name,)).fetchone()
        return None if row is None else _projected(row)

    def projections(self) -> list[ProjectionProgress]:
        """Return all projections without their states, by name."""
        return [_projected(row) for row in self._connection.execute(f"{_KNOWN} ORDER BY name")]

    def projection_state(self, name: str) -> StoredValue | None:
        """Return the state of the projection, or None. Damaged content is None."""
        query = """
            SELECT p.state_id, s.codec, s.data, s.size, s.type, s.preview, s.digest, s.mac
            FROM projections p JOIN projection_states s USING (name) WHERE name = ?
        """
        row = self._connection.execute(query, (name,)).fetchone()
        return None if row is None else verified_content(StoredValue(*row))

    def skipped(self, name: str) -> list[SkippedEvent]:
        """Return the events that the projection has skipped in this generation, by position."""
        return list(_SKIPS.find(self._connection, "WHERE name = ? ORDER BY position", (name,)))


def deciders_of(reader: Reader) -> DeciderReader:
    """Return the reads of the rows of deciders, at the moment of the reader."""
    return reader.extension(DeciderReader)


def _projected(row: tuple[Any, ...]) -> ProjectionProgress:
    name, generation, position, code, updated_at, error = row
    return ProjectionProgress(
        name=name, generation=generation, position=position, code=code, updated_at=updated_at, error=error
    )


def _of_domain(select: DomainSelect) -> tuple[str, dict[str, Any]]:
    """Return the tables and conditions of the selection, and the parameters."""
    where = _DOMAIN
    if select.deciders is not None:
        where += _OF_DECIDERS
    if select.classes is not None:
        where += _OF_CLASSES
    return where, parameters(select)
