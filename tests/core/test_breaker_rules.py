"""The rules of circuit breakers, against a model that plays them step by step."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironflow_nb.core.breaker_rules import BreakerRule, BreakerState, BreakerStatus, a_breaker, asked_with

DEEDS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 9)),
        st.tuples(st.just("fail"), st.integers(0, 9)),
        st.tuples(st.just("succeed"), st.integers(0, 9)),
        st.tuples(st.just("drop"), st.integers(0, 9)),
        st.tuples(st.just("pass time"), st.integers(0, 12)),
    ),
    max_size=60,
)


@given(DEEDS, st.integers(1, 4))
def test_no_more_than_one_probe_is_at_work_and_only_it_decides(deeds: list[tuple[str, int]], failures: int) -> None:
    rule = BreakerRule("api", failures=failures, open_s=10)
    state, now = asked_with(None, rule, "me", 0), 0
    n_failed, opened_at, probe = 0, None, None  # the model
    inside: set[str] = set()
    for deed, number in deeds:
        attempt = f"a{number}"
        if deed == "pass time":
            now += number * 1_000_000
        elif deed == "ask" and attempt not in inside:
            is_open = opened_at is not None and now < opened_at + 10_000_000
            assert state.status(now) is (
                BreakerStatus.CLOSED
                if opened_at is None
                else BreakerStatus.OPEN
                if is_open
                else BreakerStatus.HALF_OPEN
            )
            if opened_at is None:
                inside.add(attempt)
            elif not is_open and probe is None:
                assert state.probe is None
                state, probe = state.probed(attempt, now), attempt
                inside.add(attempt)
        elif deed == "fail" and attempt in inside:
            inside.discard(attempt)
            state = state.failed(attempt, now)
            if opened_at is None:
                n_failed += 1
                opened_at = now if n_failed >= failures else None
            elif probe == attempt:
                opened_at, probe, n_failed = now, None, n_failed + 1
        elif deed == "succeed" and attempt in inside:
            inside.discard(attempt)
            state = state.succeeded(attempt, now)
            if opened_at is None or probe == attempt:
                n_failed, opened_at, probe = 0, None, None
        elif deed == "drop" and attempt in inside:
            inside.discard(attempt)
            state = state.dropped(attempt)
            probe = None if probe == attempt else probe
        assert (state.n_failed, state.opened_at, state.probe) == (n_failed, opened_at, probe)


def test_a_clock_that_was_set_back_prolongs_it_by_no_more_than_its_time() -> None:
    state = BreakerState(name="api", failures=1, open_s=60, owner="me", opened_at=10**15)
    assert state.left_s(0) == 60
    assert state.left_s(10**15 + 59_000_000) == pytest.approx(1)
    assert state.status(10**15 + 60_000_000) is BreakerStatus.HALF_OPEN


def test_an_open_breaker_that_is_closed_by_hand_has_forgotten_everything() -> None:
    state = BreakerState(name="api", failures=1, open_s=60, owner="me", opened_at=5, n_failed=3, probe="a")
    closed = state.closed(9)
    assert (closed.n_failed, closed.opened_at, closed.probe, closed.changed_at) == (0, None, None, 9)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"failures": 0}, "whole number from 1"), ({"failures": True}, "whole number from 1"),
        ({"failures": 2.5}, "whole number from 1"), ({"open_s": 0}, "more than 0 seconds"),
        ({"open_s": -1}, "zero or more"), ({"open_s": nan}, "zero or more"), ({"open_s": inf}, "has an end"),
        ({"open_s": "soon"}, "is no duration"), ({"open_s": True}, "a duration is"), ({"name": ""}, "name is a text"),
        ({"name": "a\nb"}, "control character"),
    ],
)  # fmt: skip
def test_numbers_that_can_not_be_are_refused(given: dict[str, Any], match: str) -> None:
    with pytest.raises((ValueError, TypeError), match=match):
        BreakerRule(**{"name": "api"} | given)


def test_a_breaker_is_given_by_its_name_or_as_itself() -> None:
    rule = BreakerRule("api", open_s="1m")
    assert rule.open_s == 60.0
    assert a_breaker(rule) is rule
    assert a_breaker("api") == BreakerRule("api")
    assert a_breaker(None) is None
    with pytest.raises(ValueError, match=r"breaker is a name or iron.Breaker"):
        a_breaker(3)
