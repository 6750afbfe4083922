"""Moments of a history: which version or instant a user's words name, and which are refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from ironflow_nb.core.moments import Span, located
from ironflow_nb.errors import VersionNotFound

BEGAN = datetime(2026, 3, 1, 10, 30).astimezone()  # local, as the words are
SPAN = Span(
    what="run abc",
    newest=7,
    began_at=round(BEGAN.timestamp() * 1e6),
    until=round((BEGAN + timedelta(minutes=30)).timestamp() * 1e6),
    is_over=True,
    ids={"run_id": "abc"},
)


def microseconds(hour: int, minute: int, day: int = 1) -> int:
    return round(datetime(2026, 3, day, hour, minute).astimezone().timestamp() * 1e6)


@pytest.mark.parametrize(("at", "version"), [(1, 1), (7, 7), (-1, 7), (-3, 5), (-7, 1)])
def test_a_version_counts_from_one_and_a_negative_one_from_the_newest(at: int, version: int) -> None:
    assert located(at, SPAN) == (version, None)


@pytest.mark.parametrize("at", [0, 8, 99, -8, 2**70])
def test_a_version_beyond_either_end_is_refused(at: int) -> None:
    with pytest.raises(VersionNotFound, match=f"run abc has no version {at}; its newest is 7") as caught:
        located(at, SPAN)
    assert caught.value.ids == {"run_id": "abc", "version": at, "newest": 7}


@pytest.mark.parametrize(
    "at",
    [
        "10:42", "10:42:00", "2026-03-01T10:42", "2026-03-01 10:42", datetime(2026, 3, 1, 10, 42),
        datetime(2026, 3, 1, 10, 42).astimezone(), datetime(2026, 3, 1, 10, 42).astimezone(UTC),
    ],
)  # fmt: skip
def test_an_instant_is_a_datetime_iso_text_or_a_time_of_day(at: str | datetime) -> None:
    assert located(at, SPAN) == (None, microseconds(10, 42))


def test_a_time_of_day_is_the_latest_one_that_the_history_has() -> None:
    two_days = replace(SPAN, until=microseconds(9, 0, day=3))
    assert located("08:00", two_days) == (None, microseconds(8, 0, day=3))
    assert located("10:42", two_days) == (None, microseconds(10, 42, day=2))


@pytest.mark.parametrize("at", ["10:29", "11:01", "2026-03-02T10:42", datetime(2020, 1, 1), datetime(2030, 1, 1)])
def test_an_instant_before_the_beginning_or_after_the_end_is_refused_with_both(at: str | datetime) -> None:
    with pytest.raises(
        VersionNotFound, match=r"no moment of run abc: it began .*10:30.* and ended .*11:00.*version is 7"
    ):
        located(at, SPAN)
    with pytest.raises(VersionNotFound, match="goes on; now it is"):
        located(at, replace(SPAN, is_over=False))


@pytest.mark.parametrize("at", [True, 1.5, object(), [1]])
def test_what_names_no_moment_is_refused(at: object) -> None:
    with pytest.raises(TypeError, match=r"at must be a version \(an int\), an instant .* or \"10:42\""):
        located(at, SPAN)


@pytest.mark.parametrize("at", ["yesterday", "25:00", "", "2026-13-01"])
def test_a_text_that_is_no_moment_is_refused_with_examples(at: str) -> None:
    with pytest.raises(ValueError, match=r"is no moment; write for example .*10:42"):
        located(at, SPAN)
