"""The lanes of the journal: the asks that hold or await places in them, and their rates."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from typing import Final

from ironflow_nb.core.lane_rules import MOST_WAITING, LaneKey, LanePlace
from ironflow_nb.core.lanes import Demand
from ironflow_nb.journal.ports import LaneChange
from ironflow_nb.journal.table import Table, insert, json_list

LANE_PLACES: Final = Table("lane_places", LanePlace, ["ask_id", "lane"])
_PUT_RATE: Final = insert("lane_rates", ["lane", "key", "full_at"], ["lane", "key"])
_END_RATE: Final = "DELETE FROM lane_rates WHERE lane = ? AND key = ?"
_IN_LANE: Final = "WHERE lane = ? AND key = ? AND held_since IS"


def lane_places(connection: sqlite3.Connection, lanes: Collection[LaneKey] | None) -> list[LanePlace]:
    """See the port."""
    if lanes is None:
        return list(LANE_PLACES.find(connection, "ORDER BY ask_id, lane"))
    first = f"SELECT ask_id FROM lane_places {_IN_LANE} NULL ORDER BY priority DESC, ask_id LIMIT {MOST_WAITING}"
    ids = {ask_id for lane in lanes for (ask_id,) in connection.execute(first, lane)}
    of_asks = "WHERE ask_id IN (SELECT CAST(value AS BIGINT) FROM json_each(?))"
    waiting = list(LANE_PLACES.find(connection, of_asks, (json_list(ids),)))
    concerned = {*lanes, *(place.lane_key for place in waiting)}
    held = [place for lane in concerned for place in LANE_PLACES.find(connection, f"{_IN_LANE} NOT NULL", lane)]
    return sorted([*waiting, *held], key=lambda place: (place.ask_id, place.lane))


def other_demand(connection: sqlite3.Connection, demand: Demand) -> LanePlace | None:
    """See the port."""
    numbers = '(kind IS NOT ? OR "limit" IS NOT ? OR rate IS NOT ? OR burst IS NOT ?)'
    given = (demand.lane, demand.kind.value, demand.limit, demand.rate, demand.burst)
    return LANE_PLACES.first(connection, f"WHERE lane = ? AND {numbers}", given)


def lane_rates(connection: sqlite3.Connection) -> dict[LaneKey, int]:
    """See the port."""
    return {(lane, key): full_at for lane, key, full_at in connection.execute("SELECT * FROM lane_rates")}


def last_ask(connection: sqlite3.Connection) -> int:
    """See the port."""
    return int(connection.execute("SELECT ifnull(max(ask_id), 0) FROM lane_places").fetchone()[0])


def change_lanes(connection: sqlite3.Connection, change: LaneChange) -> None:
    """Write the change. Lock: in a transaction."""
    connection.executemany("DELETE FROM lane_places WHERE ask_id = ?", [(ask_id,) for ask_id in change.left])
    connection.executemany(LANE_PLACES.put, map(LANE_PLACES.values, change.put))
    for (lane, key), full_at in change.full_at.items():
        connection.execute(*(_PUT_RATE, (lane, key, full_at)) if full_at else (_END_RATE, (lane, key)))
