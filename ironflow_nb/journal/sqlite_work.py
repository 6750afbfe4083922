"""The work queue of the journal: which items can be claimed, and in which order."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from ironflow_nb.core.wait_rules import NEVER, StartKind, WaitKind
from ironflow_nb.journal.ports import QueueItem, QueueSelect
from ironflow_nb.journal.sqlite_rows import WORK
from ironflow_nb.journal.table import json_list, parameters


def find_work(connection: sqlite3.Connection, select: QueueSelect) -> list[QueueItem]:
    """Return the selected items in the order in which they are due."""
    where = ["1"]
    names = None if select.of is None else json_list(f"{kind} {name}" for kind, name in select.of)
    given = parameters(select) | {"names": names}
    if select.run_ids is not None:
        where.append("w.run_id IN (SELECT value FROM json_each(:run_ids))")
    if select.of is not None:
        where.append("ifnull(r.kind || ' ' || r.name, w.key) IN (SELECT value FROM json_each(:names))")
    if select.kind is not None:
        where.append("w.kind = :kind")
    if select.key is not None:
        where.append("w.key = :key")
    if select.effects is not None:
        where.append(
            "(w.kind != 'effect' OR substr(w.key, 1, instr(w.key, '/') - 1) IN (SELECT value FROM json_each(:effects)))"
        )
    if select.without:
        where.append("w.work_id NOT IN (SELECT CAST(value AS BIGINT) FROM json_each(:without))")
    if select.created_after is not None:
        where.append("w.created_at > :created_after")
    if select.is_dead is not None:
        where.append(f"w.dead_at IS {'NOT ' if select.is_dead else ''}NULL")
    if select.claimable_at is not None:
        is_abandoned = "w.leased_until <= :claimable_at OR w.owner NOT IN (SELECT value FROM json_each(:alive))"
        where.append(f"w.dead_at IS NULL AND w.due_at <= :claimable_at AND (w.owner IS NULL OR {is_abandoned})")
    query = f"""
        SELECT {WORK.columns("w")} FROM work w LEFT JOIN runs r ON r.run_id = w.run_id
        WHERE {" AND ".join(where)} ORDER BY w.due_at, w.work_id LIMIT :limit
    """
    return list(map(WORK.row, connection.execute(query, given)))


# The plus sign keeps SQLite from the index of kinds, of which there are few: what is due first is found by its instant.
_IS_WAIT = f"+w.kind IN ({', '.join(repr(kind.value) for kind in WaitKind)})"
_IS_START = f"w.kind IN ({', '.join(repr(kind.value) for kind in StartKind)})"


def ended_waits(connection: sqlite3.Connection, now: int, start: int, limit: int) -> list[QueueItem]:
    """Return the waits that are due, or for which a signal is there. CROSS JOIN begins with the signals."""
    query = f"""
        SELECT * FROM (SELECT {WORK.columns("w")} FROM work w WHERE {_IS_WAIT} AND w.dead_at IS NULL
            AND w.due_at <= :now ORDER BY w.due_at, w.work_id LIMIT :limit OFFSET :start) due UNION
        SELECT {WORK.columns("w")} FROM signals s CROSS JOIN work w ON w.run_id = s.run_id AND {_IS_WAIT}
            AND instr(w.key, ':') > 0 AND substr(w.key, instr(w.key, ':') + 1) = s.name
        WHERE s.taken_version IS NULL AND :start = 0
    """
    found = map(WORK.row, connection.execute(query, {"now": now, "start": start, "limit": limit}))
    return sorted(found, key=lambda item: (item.due_at, item.work_id))


def starts(connection: sqlite3.Connection, of: Collection[str]) -> list[QueueItem]:
    """Return what starts runs of these definitions, in the order in which it is due."""
    query = f"""
        SELECT {WORK.columns("w")} FROM work w
        WHERE {_IS_START} AND w.dead_at IS NULL AND w.key IN (SELECT value FROM json_each(?))
        ORDER BY w.due_at, w.work_id LIMIT 1000
    """
    return list(map(WORK.row, connection.execute(query, (json_list(of),))))


def next_due_at(connection: sqlite3.Connection, now: int) -> int:
    """Return the instant after `now` at which the next wait, or start of a run, is due."""
    query = f"""
        SELECT w.due_at FROM work w WHERE ({_IS_WAIT} OR +{_IS_START}) AND w.dead_at IS NULL AND w.due_at > ?
        ORDER BY 1 LIMIT 1
    """
    found = connection.execute(query, (now,)).fetchone()
    return NEVER if found is None else int(found[0])
