"""The instants of a rule, on the days on which clocks change as well; what is fired of them, against a small model."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ironflow_nb.core.schedule_rules import CatchUp, ScheduleRule, due_instants, instant_of, schedule_rule, zone
from tests.conftest import FULL_PROOF

US = 1_000_000
HOUR = 3600 * US


def local(text: str, tz: str, fold: int = 0) -> int:
    return instant_of(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(tz), fold=fold))


def cron(expression: str, tz: str = "UTC", **options: Any) -> ScheduleRule:
    given = {"every_s": None, "at": None, "catch_up": "latest", "grace_s": None} | options
    return schedule_rule(expression, tz=tz, **given)


def listed(rule: ScheduleRule, after: int, n: int) -> list[str]:
    """Return the first instants after that one, in the zone of the rule."""
    found = []
    for _ in range(n):
        following = rule.following(0, after)
        assert following is not None
        assert following > after
        after = following
        found.append(datetime.fromtimestamp(after / US, UTC).astimezone(zone(rule.tz)).isoformat(timespec="minutes"))
    return found


def test_a_daily_time_that_a_change_of_the_clocks_skips_is_fired_right_after_it() -> None:
    rule = cron("30 2 * * *", "Europe/Berlin")
    assert listed(rule, local("2026-03-28 00:00", "Europe/Berlin"), 3) == [
        "2026-03-28T02:30+01:00", "2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00",
    ]  # fmt: skip


def test_a_daily_time_that_comes_twice_is_fired_once_wherever_one_looks_from() -> None:
    rule = cron("30 2 * * *", "Europe/Berlin")
    expected = ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]
    assert listed(rule, local("2026-10-25 00:00", "Europe/Berlin"), 2) == expected
    for minute in range(0, 180, 5):  # from the first 02:30 on
        after = local("2026-10-25 02:30", "Europe/Berlin") + minute * 60 * US
        assert listed(rule, after, 1) == expected[1:]


@pytest.mark.parametrize(
    ("expression", "spring", "autumn"),
    [("30 * * * *", 23, 25), ("*/20 * * * *", 3 * 23, 3 * 25), ("* * * * *", 60 * 23, 60 * 25), ("0 */6 * * *", 4, 4)],
)
def test_what_goes_by_the_time_that_passes_is_fired_in_every_hour_of_both_days(
    expression: str, spring: int, autumn: int
) -> None:
    rule = cron(expression, "Europe/Berlin")
    for day, n_expected in (("2026-03-29", spring), ("2026-10-25", autumn)):
        after, n_found = local(f"{day} 00:00", "Europe/Berlin") - 1, 0
        end = local(f"{day} 23:59", "Europe/Berlin") + 60 * US
        while (following := rule.following(0, after)) is not None and following < end:
            after, n_found = following, n_found + 1
        assert n_found == n_expected, day


@pytest.mark.parametrize("tz", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Havana"])
@given(hour=st.integers(0, 23), minute=st.integers(0, 59))
@settings(max_examples=20, deadline=None)
def test_a_daily_time_is_fired_once_a_day_all_the_year_in_every_zone(tz: str, hour: int, minute: int) -> None:
    rule, after = cron(f"{minute} {hour} * * *", tz), local("2026-01-01 00:00", tz) - 1
    days = set()
    for _ in range(365):
        following = rule.following(0, after)
        assert following is not None
        after = following
        days.add(datetime.fromtimestamp(after / US, UTC).astimezone(ZoneInfo(tz)).date())
    assert len(days) == 365


def test_six_fields_have_the_seconds_first() -> None:
    rule = cron("*/20 * * * * *")
    assert [rule.following(0, each * US) for each in (0, 20, 59)] == [20 * US, 40 * US, 60 * US]


RULES = st.one_of(
    st.builds(lambda minutes: ScheduleRule(every=minutes * 60 * US), st.integers(1, 300)),
    st.sampled_from(["0 * * * *", "*/15 * * * *", "30 2 * * *", "0 0 * * 1"]).map(
        lambda text: ScheduleRule(cron=text, tz="Europe/Berlin")
    ),
    st.builds(lambda hours: ScheduleRule(at=BEGIN + hours * HOUR), st.integers(0, 200)),
)
BEGIN = local("2026-03-27 12:00", "Europe/Berlin")
JUMPS = st.lists(st.integers(-5 * 60, 60 * 60).map(lambda minutes: minutes * 60 * US), min_size=1, max_size=12)


@given(
    rule=RULES, catch_up=st.sampled_from(CatchUp), grace_s=st.none() | st.sampled_from([0.0, 60.0, 7200.0]), jumps=JUMPS
)
@settings(max_examples=150 if FULL_PROOF else 40)
def test_whatever_the_clock_does_each_instant_is_fired_once_or_missed(
    rule: ScheduleRule, catch_up: CatchUp, grace_s: float | None, jumps: list[int]
) -> None:
    rule = ScheduleRule(cron=rule.cron, tz=rule.tz, every=rule.every, at=rule.at, catch_up=catch_up, grace_s=grace_s)
    next_at, now, latest = rule.first(BEGIN), BEGIN, BEGIN
    allowed = float("inf") if rule.allowed_s is None else rule.allowed_s * US
    fired: list[int] = []
    n_missed, model_fired, model_missed = 0, [], 0
    pending = _instants(rule, BEGIN, BEGIN + sum(map(abs, jumps)))
    for jump in jumps:
        now += jump
        latest = max(latest, now)
        passed = [each for each in pending if each <= now]
        pending = pending[len(passed) :]
        timely = [each for each in passed if each >= now - allowed]
        chosen = timely if catch_up is CatchUp.ALL else [each for each in timely if each == passed[-1]]
        model_fired += chosen
        model_missed += len(passed) - len(chosen)
        while next_at is not None and next_at <= now:
            found = due_instants(rule, BEGIN, next_at, now)
            fired += [] if found.fired_at is None else [found.fired_at]
            n_missed += found.n_missed
            next_at = found.next_at
    assert fired == model_fired
    assert n_missed == model_missed
    assert next_at == (pending[0] if pending else rule.following(BEGIN, max([latest, *fired])))


def _instants(rule: ScheduleRule, begin: int, end: int) -> list[int]:
    found, each = [], rule.first(begin)
    while each is not None and each <= end:
        found.append(each)
        each = rule.following(begin, each)
    return found


def test_a_minute_schedule_that_was_off_for_years_finds_its_newest_instant_at_once() -> None:
    rule, begin = cron("* * * * *"), BEGIN
    now = BEGIN + 3 * 365 * 24 * HOUR + 17 * US
    found = due_instants(rule, begin, BEGIN + 60 * US, now)
    assert found.fired_at == now - now % (60 * US)
    assert found.next_at == found.fired_at + 60 * US


@given(every=st.integers(1, 10**6), offset=st.integers(0, 10**9))
@settings(max_examples=50, deadline=None)
def test_the_instants_of_an_interval_count_from_its_beginning(every: int, offset: int) -> None:
    assume(every * 1000 < 10**15)
    rule = ScheduleRule(every=every * 1000)
    following = rule.following(BEGIN, BEGIN + offset)
    assert following is not None
    assert (following - BEGIN) % (every * 1000) == 0
    assert 0 < following - (BEGIN + offset) <= every * 1000


def test_durations_are_written_as_everywhere() -> None:
    rules = [
        schedule_rule(None, every_s=each, at=None, tz=None, catch_up="all", grace_s="1h")
        for each in (90, 90.0, "1min 30s", timedelta(seconds=90))
    ]
    assert rules == [ScheduleRule(every=90 * US, catch_up=CatchUp.ALL, grace_s=3600.0)] * 4
    assert str(rules[0]) == "every 1 min 30 s"
