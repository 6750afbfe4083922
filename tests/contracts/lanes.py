"""What every journal has to keep of lanes: who holds a place, who waits, and when a rate is full again."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from ironflow_nb.core.identity import StepRef
from ironflow_nb.core.lane_rules import MOST_WAITING, LaneKey, LanePlace
from ironflow_nb.core.lanes import Demand, LaneKind
from ironflow_nb.journal.ports import Journal, LaneChange
from tests.contracts.histories import A, lease


def place(ask_id: int, lane: str = "api", **more: Any) -> LanePlace:
    usual: dict[str, Any] = {
        "key": "", "kind": "steps", "limit": 1, "rate": None, "burst": 1, "run_id": A, "step": StepRef("fetch[0]"),
        "owner": "me", "priority": 0, "asked_at": 5,
    }  # fmt: skip
    return LanePlace(**usual | {"ask_id": ask_id, "lane": lane} | more)


def change(journal: Journal, *put: LanePlace, left: tuple[int, ...] = (), **full_at: int) -> None:
    rates = {(lane, ""): at for lane, at in full_at.items()}
    journal.change_lanes(lambda _: LaneChange(put, left, rates), lease=lease("me"))


def found(journal: Journal, *lanes: LaneKey) -> list[tuple[int, str]]:
    with journal.current() as reader:
        return [(each.ask_id, each.lane) for each in reader.lane_places(lanes or None)]


class LaneContract:
    """Inherited by the tests of an adapter, which give the fixtures `journal` and `other_handle` of one store."""

    def test_places_come_back_in_the_order_of_asking_until_they_are_left(
        self, journal: Journal, other_handle: Journal
    ) -> None:
        rich = place(7, key="ann", kind="runs", limit=None, rate="5/s", burst=3, step=None, priority=-2, held_since=9)
        change(journal, place(8), rich, place(3, "gpu"), place(3))
        assert found(other_handle) == [(3, "api"), (3, "gpu"), (7, "api"), (8, "api")]
        with other_handle.reading() as reader:
            assert reader.lane_places([("api", "ann")]) == [rich]
            assert reader.last_ask() == 8
            assert reader.leases().keys() == {"me"}
        change(other_handle, replace(place(8), held_since=10), left=(3,))
        assert found(journal) == [(7, "api"), (8, "api")]
        with journal.current() as reader:
            assert reader.lane_places([("api", "")])[0].held_since == 10

    def test_of_a_lane_come_those_who_hold_it_and_all_that_the_first_of_those_who_wait_need(
        self, journal: Journal
    ) -> None:
        change(
            journal, place(1, "gpu", held_since=5), place(2, "api"), place(2, "gpu"), place(3, "gpu"), place(4, "net")
        )
        assert found(journal, ("api", "")) == [(1, "gpu"), (2, "api"), (2, "gpu")]
        assert found(journal, ("net", "")) == [(4, "net")]
        assert found(journal, ("api", "other key")) == []

    def test_of_many_who_wait_the_first_come_by_priority(self, journal: Journal) -> None:
        change(journal, *(place(n) for n in range(1, MOST_WAITING + 10)), place(500, priority=1))
        with journal.current() as reader:
            waiting = reader.lane_places([("api", "")])
        assert [each.ask_id for each in waiting] == [*range(1, MOST_WAITING), 500]

    def test_the_bucket_of_a_rate_is_kept_until_it_is_full(self, journal: Journal, other_handle: Journal) -> None:
        change(journal, api=70, gpu=80)
        change(journal, api=90, gpu=0)
        with other_handle.reading() as reader:
            assert reader.lane_rates() == {("api", ""): 90}

    @pytest.mark.parametrize("other", [{"limit": 2}, {"rate": "5/s"}, {"kind": "runs"}])
    def test_who_is_in_a_lane_with_other_numbers_is_found(self, journal: Journal, other: dict[str, Any]) -> None:
        change(journal, place(1, key="ann"), place(2, "gpu", limit=9))
        with journal.current() as reader:
            assert reader.other_demand(Demand("api", "bob", LaneKind.STEPS, 1)) is None
        change(journal, place(3, key="ann", **other))
        with journal.current() as reader:
            assert reader.other_demand(Demand("api", "bob", LaneKind.STEPS, 1)) == place(3, key="ann", **other)

    def test_the_places_of_an_owner_end_with_its_lease(self, journal: Journal, other_handle: Journal) -> None:
        change(journal, place(1, held_since=5), place(2, owner="you"))
        other_handle.release("me")
        assert found(journal) == [(2, "api")]

    def test_an_error_of_who_asks_takes_everything_back(self, journal: Journal) -> None:
        change(journal, place(1))
        with pytest.raises(KeyError):
            journal.change_lanes(lambda _: {}[1])
        assert found(journal) == [(1, "api")]
