"""Durations: read as people write them, told as people say them."""

from __future__ import annotations

import math
import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironflow_nb.core.durations import seconds, spoken

SECONDS_OF = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}
SPOKEN_UNITS = {"ms": 0.001, "s": 1, "min": 60, "h": 3600, "d": 86400}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (0, 0.0),
        (90, 90.0),
        (0.25, 0.25),
        (timedelta(days=1, milliseconds=500), 86400.5),
        ("500ms", 0.5),
        ("30s", 30.0),
        ("5m", 300.0),
        ("5min", 300.0),
        ("2h 30m", 9000.0),
        ("2h30m", 9000.0),
        ("1.5h", 5400.0),
        ("7d", 604800.0),
        ("1w", 604800.0),
        ("  10 S ", 10.0),
    ],
)
def test_a_duration_is_seconds_a_timedelta_or_text(written: float | timedelta | str, expected: float) -> None:
    assert seconds(written) == pytest.approx(expected)


@given(st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from(sorted(SECONDS_OF))), min_size=1, max_size=5))
def test_the_parts_of_a_text_add_up(parts: list[tuple[int, str]]) -> None:
    expected = pytest.approx(sum(number * SECONDS_OF[unit] for number, unit in parts))
    assert seconds(" ".join(f"{number}{unit}" for number, unit in parts)) == expected
    assert seconds("".join(f"{number} {unit}" for number, unit in parts)) == expected


def test_for_ever_is_a_duration() -> None:
    assert seconds(math.inf) == math.inf


@pytest.mark.parametrize(
    "text", ["", " ", "7", "d", "7x", "7days", "-7d", ".5s", "1.s", "1.2.3s", "1e3s", "5m 30", "x5m"]
)
def test_text_that_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(text)) + '.*"2h 30m"'):
        seconds(text)


@pytest.mark.parametrize("number", [-1, -0.001, -math.inf, math.nan, timedelta(seconds=-1)])
def test_what_is_negative_or_no_number_is_refused(number: float | timedelta) -> None:
    with pytest.raises(ValueError, match="zero or more seconds"):
        seconds(number)


@pytest.mark.parametrize("thing", [True, False, None, b"7d", [7], 7j])
def test_what_is_of_another_type_is_refused(thing: object) -> None:
    with pytest.raises(TypeError, match="a duration is seconds"):
        seconds(thing)  # type: ignore[arg-type]


def test_a_whole_number_too_large_for_seconds_is_refused() -> None:
    with pytest.raises(ValueError, match="a duration"):
        seconds(10**400)


@pytest.mark.parametrize(
    ("duration_s", "expected"),
    [
        (0, "0 ms"),
        (0.48, "480 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (3.21, "3.2 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min"),
        (60, "1 min"),
        (250, "4 min 10 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h"),
        (3600 + 59, "1 h"),
        (7500, "2 h 5 min"),
        (86399.6, "1 d"),
        (3 * 86400, "3 d"),
        (3 * 86400 + 7200, "3 d 2 h"),
        (math.inf, "for ever"),
    ],
)
def test_a_duration_is_told_in_at_most_two_units(duration_s: float, expected: str) -> None:
    assert spoken(duration_s) == expected


@given(st.floats(0, 1e8))
def test_what_is_told_is_the_duration_but_for_less_than_the_smaller_unit(duration_s: float) -> None:
    parts = re.findall(r"([\d.]+) (ms|s|min|h|d)(?: |$)", spoken(duration_s))
    assert " ".join(f"{number} {unit}" for number, unit in parts) == spoken(duration_s)
    told = sum(float(number) * SPOKEN_UNITS[unit] for number, unit in parts)
    coarse = {"ms": 0.00051, "s": 0.051, "min": 1, "h": 60.5, "d": 3600.5}[parts[0][1]]
    assert abs(told - duration_s) <= coarse
    assert all(float(number) < {"ms": 1000, "s": 60, "min": 60, "h": 24, "d": math.inf}[unit] for number, unit in parts)
