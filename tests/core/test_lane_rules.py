"""Lanes: their numbers and keys, whose turn it is, and rates."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ironflow_nb.core.identity import RunId
from ironflow_nb.core.lane_rules import LanePlace, taken, time_until, turns
from ironflow_nb.core.lanes import Demand, Lane, LaneKind, a_lane, interval_us
from ironflow_nb.errors import DefinitionError

SECOND = 1_000_000
RUN = RunId("0123456789ab")


def place(ask_id: int, lane: str = "api", **more: Any) -> LanePlace:
    usual: dict[str, Any] = {
        "key": "", "kind": "steps", "limit": 1, "rate": None, "burst": 1, "run_id": RUN, "step": None, "owner": "me",
        "priority": 0, "asked_at": 0,
    }  # fmt: skip
    return LanePlace(**usual | {"ask_id": ask_id, "lane": lane} | more)


@pytest.mark.parametrize(
    ("rate", "every_us"),
    [
        ("60/min", SECOND),
        ("5/s", 200_000),
        ("100/10s", 100_000),
        ("1/day", 86_400 * SECOND),
        ("7/s", 142_858),
        (" 2 / h ", 1800 * SECOND),
    ],
)
def test_a_rate_is_a_number_for_a_time_and_is_never_rounded_up(rate: str, every_us: int) -> None:
    assert interval_us(rate) == every_us


@pytest.mark.parametrize("rate", ["", "60", "60/", "0/s", "5/0s", "-1/s", "1.5/s", "60/fortnight", 60, "5/s/s"])
def test_what_is_no_rate_is_refused_with_an_example(rate: Any) -> None:
    with pytest.raises(ValueError, match="60/min"):
        Lane("api", rate=rate)


@pytest.mark.parametrize("number", [0, -1, 1.5, True, "2"])
def test_a_limit_is_a_whole_number_from_one(number: Any) -> None:
    with pytest.raises(ValueError, match="limit of lane 'api' is a whole number from 1"):
        Lane("api", limit=number)
    with pytest.raises(ValueError, match="burst of lane 'api' is a whole number from 1"):
        Lane("api", rate="1/s", burst=number)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"burst": 3}, "without a rate"),
        ({"key": "user.["}, "no JMESPath text"),
        ({"key": ""}, "key is a text"),
        ({"key": 7}, "function or a JMESPath text"),
    ],
)
def test_what_says_nothing_in_a_lane_is_refused(options: Any, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        Lane("api", **options)


@pytest.mark.parametrize("name", ["", "a\nb", "ironflow:runs"])
def test_a_lane_has_a_name_of_one_line_that_is_not_the_packages(name: str) -> None:
    with pytest.raises(ValueError, match=r"name|package"):
        Lane(name)


def test_a_name_alone_is_a_lane_for_one_at_a_time_and_a_rate_alone_has_no_limit() -> None:
    assert a_lane("gpu") == Lane("gpu", limit=1)
    assert Lane("api", rate="5/s").limit is None
    assert a_lane(None) is None
    with pytest.raises(ValueError, match=r"lane is a name or iron\.Lane"):
        a_lane(3)


def test_a_key_is_found_in_the_arguments_by_a_function_or_by_jmespath() -> None:
    arguments = {"user": {"id": 7}, "url": "x"}
    by_function = Lane("api", key=lambda user, url: user["id"])
    assert by_function.key_of(arguments, lambda function: function(**arguments), "fetch[0]") == "7"
    assert Lane("api", key="user.id").key_of(arguments, lambda _: None, "fetch[0]") == "7"
    assert Lane("api").key_of(arguments, lambda _: None, "fetch[0]") == ""


@pytest.mark.parametrize("key", ["user.name", "user", lambda **_: None, lambda **_: [1], lambda **_: 1 / 0, "nope.x"])
def test_a_key_that_is_null_or_no_text_or_raises_names_the_lane_and_the_step(key: Any) -> None:
    lane, arguments = Lane("api", key=key), {"user": {"id": 7}}
    with pytest.raises(DefinitionError, match=r"key of lane 'api' .* for fetch\[0\]"):
        lane.key_of(arguments, lambda function: function(**arguments), "fetch[0]")


# -- whose turn it is ------------------------------------------------------------------------------------------------


def test_those_who_asked_first_are_first_and_a_higher_priority_is_before_them() -> None:
    asked = [place(1), place(2), place(3, priority=1)]
    assert turns(asked, {}, 0).now == [3]
    assert turns([replace(each, limit=2) for each in asked], {}, 0).now == [3, 1]


def test_one_that_waits_for_another_lane_keeps_nobody_waiting() -> None:
    gpu = place(1, "gpu", held_since=0)
    both = [place(2, "gpu"), place(2, "all", limit=1)]
    assert turns([gpu, *both, place(3, "all", limit=1)], {}, 0).now == [3]


def test_one_that_waits_for_its_rate_keeps_its_turn_and_says_for_how_long() -> None:
    rate: dict[str, Any] = {"limit": None, "rate": "1/s"}
    found = turns([place(1, **rate), place(2, **rate)], {("api", ""): 500_000}, 0)
    assert found.now == []
    assert found.after_s == {1: 0.5, 2: 1.5}
    assert turns([place(1)], {}, 0).after_s == {}
    assert turns([place(1, held_since=0), place(2)], {}, 0).after_s == {2: math.inf}


ASKS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "ab"]),  # the lanes that it needs
        st.integers(0, 2),  # its priority
        st.integers(0, 4),  # at which step of the model it leaves again
    ),
    max_size=25,
)


@given(ASKS, st.integers(1, 3), st.integers(1, 3))
def test_no_limit_is_exceeded_nothing_is_lost_and_equals_go_in_the_order_of_asking(
    asks: list[tuple[str, int, int]], limit_a: int, limit_b: int
) -> None:
    limits = {"a": limit_a, "b": limit_b}
    places = [
        place(n, lane, limit=limits[lane], priority=priority)
        for n, (lanes, priority, _) in enumerate(asks)
        for lane in lanes
    ]
    begun: list[int] = []
    for moment in range(10 * len(asks) + 10):
        now = turns(places, {}, moment).now
        places = [replace(each, held_since=moment) if each.ask_id in now else each for each in places]
        begun += now
        for lane, limit in limits.items():
            assert sum(each.lane == lane and each.held_since is not None for each in places) <= limit
        assert turns(places, {}, moment).now == []  # nobody who could go is left behind
        places = [each for each in places if each.held_since is None or moment - each.held_since < asks[each.ask_id][2]]
    assert sorted(begun) == list(range(len(asks)))
    for lanes in ("a", "b", "ab"):
        for priority in range(3):
            alike = [n for n in begun if asks[n][:2] == (lanes, priority)]
            assert alike == sorted(alike)


RATES = st.tuples(st.integers(1, 9), st.sampled_from(["s", "2s", "min"]), st.integers(1, 4))


@given(RATES, st.lists(st.integers(0, 3 * SECOND), max_size=60))
def test_in_no_window_more_begin_than_the_burst_and_what_the_rate_allows(
    rate: tuple[int, str, int], pauses: list[int]
) -> None:
    demand = Demand("api", "", LaneKind.STEPS, None, f"{rate[0]}/{rate[1]}", rate[2])
    every_us, full_at, now = interval_us(demand.rate or ""), None, 0
    begun: list[int] = []
    for pause in pauses:
        now += pause
        now += time_until(demand, full_at, now)
        assert time_until(demand, full_at, now) == 0
        full_at = taken(demand, full_at, now)
        begun.append(now)
    for n, first in enumerate(begun):
        for m, last in enumerate(begun[n:], start=1):
            assert m <= demand.burst + (last - first) // every_us


@given(RATES, st.integers(-(10**12), 10**12))
def test_a_clock_that_was_set_back_prolongs_no_wait_beyond_the_longest_one(
    rate: tuple[int, str, int], moved: int
) -> None:
    demand = Demand("api", "", LaneKind.STEPS, None, f"{rate[0]}/{rate[1]}", rate[2])
    full_at = taken(demand, None, 10**15)
    assert time_until(demand, full_at, 10**15 + moved) <= interval_us(demand.rate or "")
