"""The places in lanes in plain Python."""

from __future__ import annotations

from collections.abc import Collection

from ironflow_nb.core.lane_rules import MOST_WAITING, LaneKey, LanePlace
from ironflow_nb.core.lanes import Demand
from ironflow_nb.journal.ports import LaneChange


class MemoryLanes:
    """The lanes of a journal in memory."""

    def __init__(self) -> None:
        self._places: dict[tuple[int, str], LanePlace] = {}
        self.full_at: dict[LaneKey, int] = {}

    def copy(self) -> MemoryLanes:
        """Return a copy."""
        other = MemoryLanes()
        other._places, other.full_at = dict(self._places), dict(self.full_at)
        return other

    def write(self, change: LaneChange) -> None:
        """Write the change."""
        for place in self._all():
            if place.ask_id in change.left:
                del self._places[place.ask_id, place.lane]
        self._places |= {(place.ask_id, place.lane): place for place in change.put}
        full_at = self.full_at | dict(change.full_at)
        self.full_at = {lane: at for lane, at in full_at.items() if at}

    def release(self, owners: Collection[str]) -> None:
        """Delete the places of the owners."""
        self.write(LaneChange(left={place.ask_id for place in self._all() if place.owner in owners}))

    def _all(self) -> list[LanePlace]:
        return sorted(self._places.values(), key=lambda place: (place.ask_id, place.lane))

    def places(self, lanes: Collection[LaneKey] | None) -> list[LanePlace]:
        """See the port."""
        if lanes is None:
            return self._all()
        asks: set[int] = set()
        for lane in lanes:
            waiting = [place for place in self._all() if place.lane_key == lane and place.held_since is None]
            asks |= {place.ask_id for place in sorted(waiting, key=lambda place: -place.priority)[:MOST_WAITING]}
        concerned = {*lanes, *(place.lane_key for place in self._all() if place.ask_id in asks)}
        return [
            place
            for place in self._all()
            if place.ask_id in asks or (place.held_since is not None and place.lane_key in concerned)
        ]

    def other_demand(self, demand: Demand) -> LanePlace | None:
        """See the port."""
        of_lane = [place for place in self._all() if place.lane == demand.lane]
        return next((place for place in of_lane if place.demand.numbers != demand.numbers), None)

    def last_ask(self) -> int:
        """See the port."""
        return max((ask_id for ask_id, _ in self._places), default=0)
