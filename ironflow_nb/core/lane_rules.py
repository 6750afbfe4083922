"""The order of asks in lanes: first come, first served; among starts, those of higher priority first."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, TypeAlias

import msgspec

from ironflow_nb.core.identity import RunId, StepRef
from ironflow_nb.core.lanes import Demand, LaneKind, interval_us

MOST_WAITING: Final = 100
"""The number of asks that wait in one lane and are examined together: the first ones in the order of asking."""

LaneKey: TypeAlias = tuple[str, str]
"""The name of a lane, and a key; an empty one where the lane has none."""


class LanePlace(msgspec.Struct, frozen=True, kw_only=True):
    """What one ask holds or waits for in one lane. Instants are microseconds UTC.

    An ask may need places in several lanes: it takes all of them at once, and waits for all of them.
    """

    ask_id: int
    lane: str
    key: str
    kind: str
    limit: int | None
    rate: str | None
    burst: int
    run_id: RunId
    step: StepRef | None
    owner: str
    priority: int
    asked_at: int
    held_since: int | None = None

    @property
    def lane_key(self) -> LaneKey:
        """The lane and the key."""
        return self.lane, self.key

    @property
    def demand(self) -> Demand:
        """What the ask needs of the lane."""
        return Demand(self.lane, self.key, LaneKind(self.kind), self.limit, self.rate, self.burst)


class NextTurns(NamedTuple):
    """The asks whose turn it is `now`, in order.

    `after_s` has the seconds until each other ask may be next, infinite if it waits for a place.
    """

    now: list[int]
    after_s: dict[int, float]


def turns(places: Iterable[LanePlace], next_at: Mapping[LaneKey, int], now: int) -> NextTurns:
    """Return whose turn it is at `now`, of those that wait among `places`.

    An ask that waits for the rate of a lane keeps its turn there. One that waits for a place in another lane does not
    keep others waiting.
    """
    n_held: Counter[LaneKey] = Counter()
    n_begun: Counter[LaneKey] = Counter()
    waiting: dict[int, list[LanePlace]] = {}
    for place in places:
        if place.held_since is None:
            waiting.setdefault(place.ask_id, []).append(place)
        else:
            n_held[place.lane_key] += 1
    found = NextTurns([], {})
    for ask_id, wanted in sorted(waiting.items(), key=lambda ask: (-ask[1][0].priority, ask[0])):
        if any(place.limit is not None and n_held[place.lane_key] >= place.limit for place in wanted):
            found.after_s[ask_id] = math.inf
            continue
        left_us = {
            place.lane_key: time_until(place.demand, next_at.get(place.lane_key), now, n_begun[place.lane_key] + 1)
            for place in wanted
            if place.rate is not None
        }
        longest_us = max(left_us.values(), default=0)
        if longest_us == 0:
            found.now.append(ask_id)
            n_held.update(place.lane_key for place in wanted)
        else:
            found.after_s[ask_id] = longest_us / 1e6
        n_begun.update(key for key, each_us in left_us.items() if each_us or not longest_us)
    return found


def time_until(demand: Demand, next_at: int | None, now: int, n_th: int = 1) -> int:
    """Return the microseconds until the rate lets the n-th beginning from now take place; `next_at` as in `taken`."""
    if demand.rate is None:
        return 0
    full_at = max(clamped(demand, next_at or now, now), now)
    return max(0, full_at - now + (n_th - demand.burst) * interval_us(demand.rate))


def taken(demand: Demand, next_at: int | None, now: int) -> int:
    """Return when the bucket of the lane is full again after a beginning at `now`: from then on a burst may begin.

    The bucket is kept as this one instant (microseconds UTC). An instant in the past, or None, is a full bucket.
    """
    assert demand.rate is not None
    return max(clamped(demand, next_at or now, now), now) + interval_us(demand.rate)


def clamped(demand: Demand, next_at: int, now: int) -> int:
    """Return `next_at`, but no later than the longest possible wait from now: the clock may have been set back.

    The caller has to keep the result. Otherwise each later look finds the longest wait again, until the old time has
    come.
    """
    assert demand.rate is not None
    return min(next_at, now + demand.burst * interval_us(demand.rate))
