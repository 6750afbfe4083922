"""The frame of lanes: the steps and runs that have places in them, and those that wait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ironflow_nb.core.lane_rules import LaneKey, LanePlace
from ironflow_nb.execution import REGISTRY, Engine
from ironflow_nb.history.tables import COUNT, TEXT, frame_of_records
from ironflow_nb.journal.ports import Reader

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS: Final = {
    "lane": TEXT, "key": TEXT, "kind": TEXT, "limit": COUNT, "rate": TEXT, "burst": COUNT, "held": COUNT,
    "waiting": COUNT, "waited_s": "float64", "holders": TEXT, "next": TEXT,
}  # fmt: skip


def lanes(*, engine: Engine | None = None) -> pd.DataFrame:
    """Return the lanes that somebody is in or waits for, one row for each key, by lane and key.

    Columns: lane (those of `max_runs` and `max_steps` begin with ``ironflow:``), key (empty for a lane without keys),
    kind (``steps`` or ``runs``), limit, rate, burst, held (how many are at work in it), waiting (how many wait),
    waited_s (for how long the first of them has), holders, next (who is at work, and who waits, in the order of their
    turns: the id of the run, and the step; at most ten each).

    Args:
        engine: the journal to read; by default the current one.
    """
    engine = engine or REGISTRY.engine()
    found: dict[LaneKey, list[LanePlace]] = {}
    with engine.reading() as reader:
        for place in living_places(engine, reader, reader.lane_places()):
            found.setdefault(place.lane_key, []).append(place)
    now = engine.clock.now()
    return frame_of_records(_COLUMNS, [_row(found[lane], now) for lane in sorted(found)])


def living_places(engine: Engine, reader: Reader, places: Sequence[LanePlace]) -> list[LanePlace]:
    """Return the places whose owners are alive: those of the dead are free."""
    is_alive = {owner: engine.access.is_owner_alive(reader, owner) for owner in {place.owner for place in places}}
    return [place for place in places if is_alive[place.owner]]


def _row(places: Sequence[LanePlace], now: int) -> dict[str, object]:
    held = [place for place in places if place.held_since is not None]
    waiting = sorted((place for place in places if place.held_since is None), key=lambda place: -place.priority)
    latest = places[-1]
    return {
        "lane": latest.lane,
        "key": latest.key,
        "kind": latest.kind,
        "limit": latest.limit,
        "rate": latest.rate,
        "burst": latest.burst,
        "held": len(held),
        "waiting": len(waiting),
        "waited_s": max(now - waiting[0].asked_at, 0) / 1e6 if waiting else None,
        "holders": _who(held),
        "next": _who(waiting),
    }


def _who(places: Sequence[LanePlace]) -> str:
    return ", ".join(f"{place.run_id} {place.step}" if place.step else place.run_id for place in places[:10])
