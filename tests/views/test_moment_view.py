"""The views of a slider: events in words, the marks of a long history, and the sequence of changes as text."""

from __future__ import annotations

import pytest

from ironflow_nb.views.moment_view import (
    MOST_LINES,
    MOST_MARKS,
    ChangeView,
    change_words,
    is_failure,
    marks_of,
    sequence_text,
)


def changes(n: int, failures: frozenset[int] = frozenset()) -> list[ChangeView]:
    return [
        ChangeView(version=version, at=version * 1_000_000, words=f"w{version}", is_failure=version in failures)
        for version in range(1, n + 1)
    ]


@pytest.mark.parametrize(
    ("kind", "step", "attempt", "words"),
    [
        ("RunStarted", None, None, "run started"),
        ("StepCompleted", "fetch[3]", 1, "fetch[3]: step completed"),
        ("StepFailed", "fetch[3]", 2, "fetch[3]: step failed, attempt 2"),
        ("order.ItemAdded", None, None, "ItemAdded"),
    ],
)
def test_an_event_is_told_in_words(kind: str, step: str | None, attempt: int | None, words: str) -> None:
    assert change_words(kind, step, attempt) == words


@pytest.mark.parametrize("kind", ["StepFailed", "RunFailed", "RunInterrupted", "RunCancelled", "order.PaymentFailed"])
def test_what_went_wrong_is_a_failure(kind: str) -> None:
    assert is_failure(kind)


@pytest.mark.parametrize("kind", ["StepCompleted", "TimerCancelled", "RunCancelRequested", "RunPaused"])
def test_what_was_meant_so_is_no_failure(kind: str) -> None:
    assert not is_failure(kind)


def test_a_short_history_keeps_all_marks_and_a_long_one_its_failures() -> None:
    assert len(marks_of(changes(MOST_MARKS))) == MOST_MARKS
    long = marks_of(changes(MOST_MARKS * 3, frozenset({MOST_MARKS * 3, 500})))
    assert len(long) == MOST_MARKS
    assert [each.version for each in long if each.is_failure] == [500, MOST_MARKS * 3]
    assert [each.version for each in long] == sorted(each.version for each in long)


def test_the_text_has_every_change_with_the_time_since_the_first() -> None:
    lines = sequence_text("run a", changes(3)).splitlines()
    assert lines[0].startswith("run a: 3 changes since ")
    assert [line.split() for line in lines[1:]] == [
        ["1", "+0", "ms", "w1"], ["2", "+1.0", "s", "w2"], ["3", "+2.0", "s", "w3"],
    ]  # fmt: skip


def test_a_long_text_has_the_beginning_and_the_end() -> None:
    lines = sequence_text("run a", changes(10_000)).splitlines()
    assert len(lines) == MOST_LINES + 2
    assert lines[1].endswith("w1")
    assert lines[-1].endswith("w10000")
    assert f"{10_000 - MOST_LINES:,} changes between" in lines[1 + MOST_LINES // 2]


def test_a_history_without_changes_has_a_text() -> None:
    assert sequence_text("run a", []) == "run a: 0 changes"
