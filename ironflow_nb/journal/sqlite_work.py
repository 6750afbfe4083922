"""The work queue of the journal: which items can be claimed, and in which order."""

from __future__ import annotations

import sqlite3
from typing import Any

from ironflow_nb.journal.ports import QueueItem, QueueSelect
from ironflow_nb.journal.sqlite_rows import WORK
from ironflow_nb.journal.table import json_list


def find_work(connection: sqlite3.Connection, select: QueueSelect) -> list[QueueItem]:
    """Return the selected items in the order in which they are due."""
    where = ["1"]
    given: dict[str, Any] = {
        "at": select.claimable_at,
        "limit": -1 if select.limit is None else select.limit,
        "kind": select.kind,
        "key": select.key,
        "effects": json_list(select.effects),
        "runs": json_list(select.run_ids),
        "alive": json_list(select.alive),
        "without": json_list(select.without),
        "names": None if select.of is None else json_list(f"{kind}\x1f{name}" for kind, name in select.of),
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
        SELECT {WORK.columns("w")} FROM work w JOIN runs r ON r.run_id = w.run_id
        WHERE {" AND ".join(where)} ORDER BY w.due_at, w.work_id LIMIT :limit
    """
    return list(map(WORK.row, connection.execute(query, given)))
