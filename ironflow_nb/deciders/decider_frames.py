"""DataFrames of a decider: instances, events of an instance, commands, dead letters."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ironflow_nb.core.identity import RunId
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.deciders.commands import WorkKind
from ironflow_nb.deciders.decider_definition import AnyDecider
from ironflow_nb.deciders.due_work import dead_work
from ironflow_nb.deciders.instances import state_at, unreadable_event
from ironflow_nb.deciders.store import deciders_of
from ironflow_nb.errors import EventUnreadable
from ironflow_nb.execution import Engine, logger
from ironflow_nb.history.lookup import row_limit
from ironflow_nb.history.tables import INSTANT, TEXT, frame_of_records
from ironflow_nb.journal.ports import QueueItem, QueueSelect, Reader, Select

if TYPE_CHECKING:
    import pandas as pd

UNREADABLE: Final = "unreadable"
INSTANCES: Final = {
    "instance": TEXT, "status": TEXT, "is_completed": "bool", "n_events": "int64", "started_at": INSTANT,
    "updated_at": INSTANT, "completed_at": INSTANT, "n_pending": "int64", "n_dead": "int64", "run_id": TEXT,
}  # fmt: skip
HISTORY: Final = {"version": "int64", "at": INSTANT, "event": TEXT, "data": "object", "status": TEXT}
COMMANDS: Final = {
    "instance": TEXT, "at": INSTANT, "command": TEXT, "data": "object", "outcome": TEXT, "reason": "object",
    "n_events": "int64", "version": "int64", "status_before": TEXT, "status_after": TEXT, "effects": "object",
    "timers": "object", "source": TEXT, "key": TEXT,
}  # fmt: skip
DEAD_LETTERS: Final = {
    "instance": TEXT, "kind": TEXT, "name": TEXT, "data": "object", "attempts": "int64", "error": TEXT,
    "created_at": INSTANT, "dead_at": INSTANT, "key": TEXT, "run_id": TEXT,
}  # fmt: skip


def instances(engine: Engine, decider: AnyDecider) -> pd.DataFrame:
    """Return the instances; see `Decider.instances`."""
    work: defaultdict[RunId, list[QueueItem]] = defaultdict(list)
    with engine.reading() as reader:
        rows = reader.runs(Select(kind=decider.kind, name=decider.name, is_full_name=True))
        for item in reader.work(QueueSelect(of=[(decider.kind, decider.name)])):
            if item.kind != WorkKind.UNIQUE:
                work[item.run_id].append(item)
        records = [_instance_record(decider, reader, row, work[row.run_id]) for row in rows]
    return frame_of_records(INSTANCES, sorted(records, key=lambda each: each["updated_at"], reverse=True))


def _instance_record(decider: AnyDecider, reader: Reader, row: RunRow, work: list[QueueItem]) -> dict[str, Any]:
    return {
        "instance": row.key, "status": _status(decider, reader, row), "is_completed": row.ended_at is not None,
        "n_events": deciders_of(reader).n_events(row.run_id),
        "started_at": row.started_at, "updated_at": row.updated_at, "completed_at": row.ended_at,
        "n_pending": sum(each.dead_at is None for each in work),
        "n_dead": sum(each.dead_at is not None for each in work), "run_id": row.run_id,
    }  # fmt: skip


def _status(decider: AnyDecider, reader: Reader, row: RunRow) -> str:
    """Return the status of the instance. An instance that can't be folded does not hide the others."""
    try:
        return decider.status_of(state_at(decider, reader, row.run_id, row.key or ""))
    except Exception as error:  # noqa: BLE001 -- an unreadable event, or any error of the user's functions
        logger().warning("the status of %s %s is unknown: %s", decider.name, row.key, error)
        return UNREADABLE


def history(engine: Engine, decider: AnyDecider, row: RunRow) -> pd.DataFrame:
    """Return the events of an instance; see `Decider.history`."""
    prefix, state = f"{decider.name}.", decider.initial
    records: list[dict[str, Any]] = []
    with engine.reading() as reader:
        events = deciders_of(reader).events_after(row.run_id, 0)
    for version, at, kind, data in events:
        if kind.startswith(prefix):
            name = kind[len(prefix) :]
            try:
                event = decider.event_codec.decode(name, data)
            except EventUnreadable as error:
                raise unreadable_event(decider.name, row.key or "", len(records) + 1, version, error) from error
            state = decider.evolve_with(state, event)
            records.append({
                "version": version, "at": at, "event": name,
                "data": msgspec.json.decode(data), "status": decider.status_of(state),
            })  # fmt: skip
    return frame_of_records(HISTORY, records)


def observations(engine: Engine, decider: AnyDecider, instance: str | None) -> pd.DataFrame:
    """Return commands with their outcomes; see `Decider.observations`."""
    with engine.reading() as reader:
        found = deciders_of(reader).observations(decider.name, instance)
    return frame_of_records(
        COMMANDS,
        [
            {
                "instance": each.instance, "at": each.at, "command": each.command,
                "data": msgspec.json.decode(each.data), "outcome": each.outcome,
                "reason": None if each.reason is None else msgspec.json.decode(each.reason),
                "n_events": each.n_events, "version": each.version, "status_before": each.status_before,
                "status_after": each.status_after, "effects": msgspec.json.decode(each.effects),
                "timers": msgspec.json.decode(each.timers), "source": each.source, "key": each.command_key,
            }
            for each in found
        ],
    )  # fmt: skip


def dead_letters(engine: Engine, decider: AnyDecider, instance: str | None, limit: int | None) -> pd.DataFrame:
    """Return the dead letters; see `Decider.dead_letters`."""
    with engine.reading() as reader:
        dead = dead_work(reader, decider, instance=instance)
        newest = sorted(dead, key=lambda each: each[0].dead_at or 0, reverse=True)[: row_limit(limit)]
        ids = [value_id for work, _ in newest for value_id in (work.payload_id, work.error_id) if value_id is not None]
        values = reader.values(ids)
    records = []
    for work, its_instance in newest:
        payload = values.get(work.payload_id) if work.payload_id is not None else None
        error = values.get(work.error_id) if work.error_id is not None else None
        fields = {} if payload is None or payload.content is None else msgspec.json.decode(payload.content)
        records.append({
            "instance": its_instance, "kind": work.kind, "name": fields.get("type"),
            "data": fields.get("data"), "attempts": work.attempts, "error": None if error is None else error.preview,
            "created_at": work.created_at, "dead_at": work.dead_at, "key": work.key, "run_id": work.run_id,
        })  # fmt: skip
    return frame_of_records(DEAD_LETTERS, records)
