"""The places in lanes that the runs of one engine hold and wait for.

A process takes places for its own asks only, so no place goes to a process that has died. Within a process, an ask that
leaves looks for the others. The background thread looks when another process has committed, and once a second, because
a process that dies commits nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from ironflow_nb.core.identity import RunId, StepRef
from ironflow_nb.core.lane_rules import LaneKey, LanePlace, clamped, taken, turns
from ironflow_nb.core.lanes import OWN_LANE, Demand
from ironflow_nb.errors import DefinitionError
from ironflow_nb.execution.recording.journal_access import JournalAccess
from ironflow_nb.execution.system.process_identity import is_alive
from ironflow_nb.journal.ports import LaneChange, Reader


class Ask:
    """What one attempt or run asks for: places in lanes, all at once. `when_given` is called outside of all locks.

    Not before `due_s` of the clock's seconds can time alone bring its turn.
    """

    def __init__(self, places: Sequence[LanePlace], when_given: Callable[[], None]) -> None:
        self.ask_id = places[0].ask_id
        self.lanes = [place.lane_key for place in places]
        self.numbers = [place.demand.of_any_key for place in places]
        self.when_given = when_given
        self.is_given = False
        self.due_s = math.inf


class _Look(NamedTuple):
    """What a look at lanes has found: which asks of this engine may take places, when others may, and what changes."""

    given: list[int]
    due_s: dict[int, float]
    change: LaneChange


class LaneDesk:
    """Asks for places, and gives them back.

    Lock: that of the journal access.
    """

    def __init__(self, access: JournalAccess) -> None:
        self._access = access
        self._waiting: dict[int, Ask] = {}
        self._wanted: Counter[LaneKey] = Counter()
        self._numbers: Counter[Demand] = Counter()
        self._left: dict[int, Ask] = {}
        self.max_steps: int | None = None
        self.max_runs: int | None = None

    @property
    def is_waited_for(self) -> bool:
        """Return True if an ask of this engine waits."""
        return bool(self._waiting)

    @property
    def is_any_due(self) -> bool:
        """Return True if an ask waits for the rate of a lane, and may be next by now."""
        now_s = self._access.clock.monotonic()
        return any(ask.due_s <= now_s for ask in list(self._waiting.values()))

    @property
    def has_left(self) -> bool:
        """Return True if an ask has left and its rows are still in the journal."""
        return bool(self._left)

    def ask(
        self, demands: Sequence[Demand], run_id: RunId, step: StepRef | None, when_given: Callable[[], None],
        *, priority: int = 0,
    ) -> Ask:  # fmt: skip
        """Ask for a place in each of the lanes: the ask has them on return, if it is its turn.

        Raises:
            DefinitionError: somebody is in one of the lanes with other numbers.
        """
        asked: list[Ask] = []

        def looked(reader: Reader) -> _Look:
            self._refuse_other_numbers(reader, demands, run_id, step)
            now = self._access.clock.now()
            ask_id = max(reader.last_ask() + 1, now)  # no id is used twice: who has left late deletes its own rows only
            places = [
                LanePlace(
                    ask_id=ask_id, lane=each.lane, key=each.key, kind=each.kind.value, limit=each.limit, rate=each.rate,
                    burst=each.burst, run_id=run_id, step=step, owner=self._access.owner, priority=priority,
                    asked_at=now,
                )
                for each in demands
            ]  # fmt: skip
            asked.append(Ask(places, when_given))
            return self._looked(reader, asked[0].lanes, places)

        with self._access.lock:
            given = self._changed(looked, asked)
        self._tell(ask for ask in given if ask is not asked[0])
        return asked[0]

    def leave(self, ask: Ask) -> None:
        """Give back the places of the ask, or ask no more; others of this engine take them at once.

        Lock: none may be held, for others are told.
        """
        self.leave_soon(ask)
        self.look(ask.lanes)

    def leave_soon(self, ask: Ask) -> None:
        """Leave with the next look at lanes, at the latest that of the background thread. A caller may hold locks."""
        with self._access.lock:
            if ask.ask_id in self._waiting:
                self._waits_no_more(ask.ask_id)
            self._left[ask.ask_id] = ask

    def look(self, lanes: Collection[LaneKey] | None = None) -> None:
        """Take the places that waiting asks may have now, in these lanes or in all, and call their `when_given`."""
        with self._access.lock:
            left = {lane for ask in self._left.values() for lane in ask.lanes}
            wanted = self._wanted.keys() & ({*lanes} | left) if lanes is not None else {*self._wanted}
            if not self._left:
                if not wanted:
                    return
                with self._access.current() as reader:  # which keeps nobody from writing
                    found = self._looked(reader, wanted)
                self._note_due(found)
                if not (found.given or found.change.left or any(found.change.full_at.values())):
                    return
            given = self._changed(lambda reader: self._looked(reader, wanted))
        self._tell(given)

    def _changed(self, looked: Callable[[Reader], _Look], asked: Sequence[Ask] = ()) -> list[Ask]:
        """Write what a look in the same transaction changes; return who has places now."""
        looks: list[_Look] = []

        def act(reader: Reader) -> LaneChange:
            looks[:] = [looked(reader)]
            return looks[0].change

        self._access.change_lanes(act)
        for ask in asked:
            self._waiting[ask.ask_id] = ask
            self._wanted.update(ask.lanes)
            self._numbers.update(ask.numbers)
        for ask_id in looks[0].change.left:
            self._left.pop(ask_id, None)
        self._note_due(looks[0])
        given = [self._waits_no_more(ask_id) for ask_id in looks[0].given]
        for ask in given:
            ask.is_given = True
        return given

    def _waits_no_more(self, ask_id: int) -> Ask:
        ask = self._waiting.pop(ask_id)
        for lane in ask.lanes:
            self._wanted[lane] -= 1
            if not self._wanted[lane]:
                del self._wanted[lane]
        self._numbers -= Counter(ask.numbers)
        return ask

    def _note_due(self, look: _Look) -> None:
        for ask_id, due_s in look.due_s.items():
            if ask_id in self._waiting:
                self._waiting[ask_id].due_s = due_s

    def _looked(self, reader: Reader, lanes: Collection[LaneKey], new: Sequence[LanePlace] = ()) -> _Look:
        """Return the changes in these lanes: places of dead owners become free, and the next asks take theirs."""
        clock = self._access.clock
        now, now_s = clock.now(), clock.monotonic()
        found = [place for place in (*reader.lane_places(lanes), *new) if place.ask_id not in self._left]
        gone = self._gone(reader, found)
        places = [place for place in found if place.owner not in gone]
        rates = reader.lane_rates() if any(place.rate for place in places) else {}
        next_turns = turns(places, rates, now)
        asked = {place.ask_id for place in new}
        given = [ask_id for ask_id in next_turns.now if ask_id in self._waiting or ask_id in asked]
        demands = {place.lane_key: place.demand for place in places if place.rate}
        full_at = {
            lane: clamped(demands[lane], at, now) if lane in demands else at for lane, at in rates.items() if at > now
        }
        for place in (place for ask_id in given for place in places if place.ask_id == ask_id and place.rate):
            full_at[place.lane_key] = taken(place.demand, full_at.get(place.lane_key), now)
        put = [replace(place, held_since=now) for place in places if place.ask_id in given]
        put += [place for place in new if place.ask_id not in given]
        left = {*self._left, *(place.ask_id for place in found if place.owner in gone)}
        due_s = {ask_id: now_s + after_s for ask_id, after_s in next_turns.after_s.items()}
        changed = {lane: full_at.get(lane, 0) for lane in {*rates, *full_at} if rates.get(lane) != full_at.get(lane)}
        return _Look(given, due_s, LaneChange(put, left, changed))

    def _gone(self, reader: Reader, places: Iterable[LanePlace]) -> set[str]:
        """Return the owners of the places that are dead."""
        owners = {place.owner for place in places} - {self._access.owner}
        leases = reader.leases() if owners else {}
        return {owner for owner in owners if not is_alive(leases.get(owner), now=self._access.clock.now())}

    def _refuse_other_numbers(
        self, reader: Reader, demands: Sequence[Demand], run_id: RunId, step: StepRef | None
    ) -> None:
        for demand in demands:
            # Nobody comes into a lane with other numbers than one that waits there has; to look reads the whole lane.
            is_known = demand.lane.startswith(OWN_LANE) or demand.of_any_key in self._numbers
            other = None if is_known else reader.other_demand(demand)
            if other is not None and not self._gone(reader, [other]):
                raise DefinitionError(
                    f"lane {demand.lane!r} has {demand.numbers} for {step or 'the flow'} of run {run_id}, and "
                    f"{other.demand.numbers} for {other.step or 'the flow'} of run {other.run_id}, which is in it; a "
                    "lane has the same numbers for all: pass the same iron.Lane everywhere, or take another name"
                )

    def _tell(self, given: Iterable[Ask]) -> None:
        for ask in given:
            try:
                ask.when_given()
            except Exception as error:  # noqa: BLE001 -- as that no thread can be started; it is not that of the caller
                self._access.background_errors.note("beginning what waited in a lane", error)
