"""What is still to do, what deciders were sent, and the states that are kept of them, in the journal file."""

from __future__ import annotations

import sqlite3
from typing import Any, Final

import msgspec

from ironflow_nb.core.ids import RunId
from ironflow_nb.errors import JournalConflict
from ironflow_nb.journal import sqlite_rows as sql
from ironflow_nb.journal.ports import Entry, Observation, StoredState, Work, WorkSelect

_WORK: Final = Work.__struct_fields__
_OBSERVATION: Final = Observation.__struct_fields__
WORK_COLUMNS: Final = sql.columns(_WORK, "w.")
OBSERVATION_COLUMNS: Final = sql.columns(_OBSERVATION)
_PUT_WORK: Final = sql.insert("work", _WORK[:-1], ("run_id", "kind", "key"), update=_WORK[3:-1])
_DONE: Final = "DELETE FROM work WHERE run_id = ? AND kind = ? AND key = ?"
_OBSERVE: Final = sql.insert("observations", _OBSERVATION, ())
_PUT_STATE: Final = sql.insert(
    "snapshots", ("run_id", "version", "code", "data"), ("run_id",), update=("version", "code", "data")
)


def write(connection: sqlite3.Connection, entry: Entry) -> None:
    """Write what the entry says of work, observations and state."""
    execute = connection.execute
    for kind, key in entry.done_work:
        execute(_DONE, (entry.run_id, kind, key))
    for work in entry.put_work:
        execute(_PUT_WORK, msgspec.structs.astuple(work)[:-1])
    for observation in entry.observations:
        try:
            execute(_OBSERVE, msgspec.structs.astuple(observation))
        except sqlite3.IntegrityError as error:
            raise JournalConflict("a command of that key was decided already", run_id=entry.run_id) from error
    if entry.state is not None:
        execute(_PUT_STATE, (entry.run_id, *msgspec.structs.astuple(entry.state)))


def work(connection: sqlite3.Connection, select: WorkSelect) -> list[Work]:
    """Return work, by when it is due."""
    where = ["1"]
    given: dict[str, Any] = {
        "at": select.claimable_at,
        "limit": -1 if select.limit is None else select.limit,
        "kind": select.kind,
        "key": select.key,
        "effects": _as_json(select.effects),
        "runs": _as_json(select.run_ids),
        "alive": _as_json(select.alive),
        "without": _as_json(select.without),
        "names": None if select.of is None else _as_json(f"{kind}\x1f{name}" for kind, name in select.of),
    }
    if select.run_ids is not None:
        where.append("w.run_id IN (SELECT value FROM json_each(:runs))")
    if select.of is not None:
        where.append("r.kind || char(31) || r.name IN (SELECT value FROM json_each(:names))")
    if select.kind is not None:
        where.append("w.kind = :kind")
    if select.key is not None:
        where.append("w.key = :key")
    if select.effects is not None:
        where.append(
            "(w.kind != 'effect' OR substr(w.key, 1, instr(w.key, '/') - 1) IN (SELECT value FROM json_each(:effects)))"
        )
    if select.without:
        where.append("w.work_id NOT IN (SELECT value FROM json_each(:without))")
    if select.is_dead is not None:
        where.append(f"w.dead_at IS {'NOT ' if select.is_dead else ''}NULL")
    if select.claimable_at is not None:
        where.append("w.dead_at IS NULL AND w.due_at <= :at")
        where.append(
            "(w.owner IS NULL OR w.leased_until <= :at OR w.owner NOT IN (SELECT value FROM json_each(:alive)))"
        )
    query = f"""
        SELECT {WORK_COLUMNS} FROM work w JOIN runs r ON r.run_id = w.run_id
        WHERE {" AND ".join(where)} ORDER BY w.due_at, w.work_id LIMIT :limit
    """  # noqa: S608 -- made of constants
    return [Work(**dict(zip(_WORK, row, strict=True))) for row in connection.execute(query, given)]


def observations(connection: sqlite3.Connection, name: str | None, instance: str | None) -> list[Observation]:
    """Return what deciders were sent, oldest first."""
    query = f"""
        SELECT {OBSERVATION_COLUMNS} FROM observations
        WHERE (:name IS NULL OR name = :name) AND (:instance IS NULL OR instance = :instance) ORDER BY observation_id
    """  # noqa: S608
    return [_observation(row) for row in connection.execute(query, {"name": name, "instance": instance})]


def observation_of(connection: sqlite3.Connection, name: str, instance: str, command_key: str) -> Observation | None:
    """Return what came of the command of that key."""
    query = f"""
        SELECT {OBSERVATION_COLUMNS} FROM observations WHERE name = ? AND instance = ? AND command_key = ?
    """  # noqa: S608
    row = connection.execute(query, (name, instance, command_key)).fetchone()
    return None if row is None else _observation(row)


def accepted_before(connection: sqlite3.Connection, observation: Observation) -> Observation | None:
    """Return the newest equal command that was accepted in another execution."""
    query = f"""
        SELECT {OBSERVATION_COLUMNS} FROM observations
        WHERE name = ? AND instance = ? AND digest = ? AND outcome = 'accepted' AND execution <> ?
        ORDER BY observation_id DESC LIMIT 1
    """  # noqa: S608
    given = (observation.name, observation.instance, observation.digest, observation.execution or "")
    row = connection.execute(query, given).fetchone()
    return None if row is None else _observation(row)


def _observation(row: tuple[Any, ...]) -> Observation:
    return Observation(**dict(zip(_OBSERVATION, row, strict=True)))


def state(connection: sqlite3.Connection, run_id: RunId) -> StoredState | None:
    """Return the state that is kept of the run."""
    row = connection.execute("SELECT version, code, data FROM snapshots WHERE run_id = ?", (run_id,)).fetchone()
    return None if row is None else StoredState(*row)


def facts_after(connection: sqlite3.Connection, run_id: RunId, version: int) -> list[tuple[int, int, str, str]]:
    """Return version, instant, type and data of the events of a run after that version."""
    query = "SELECT version, at, type, data FROM events WHERE run_id = ? AND version > ? ORDER BY version"
    return connection.execute(query, (run_id, version)).fetchall()


def _as_json(texts: Any) -> str | None:
    return None if texts is None else msgspec.json.encode(list(texts)).decode()
