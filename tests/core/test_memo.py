"""Which recorded step answers a call, and which number a new one gets."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironflow_nb.core.identity import BranchId, StepRef, step_ref
from ironflow_nb.core.recorded_steps import RecordedSteps
from ironflow_nb.core.run_state import StepRow
from ironflow_nb.core.status import StepStatus
from tests.core.made import digest, step_row

ROOT, LEFT, RIGHT, INNER = BranchId(""), BranchId("/left.0"), BranchId("/right.0"), BranchId("/left.0/inner.0")
LINES = {ROOT: {ROOT, LEFT, RIGHT, INNER}, LEFT: {ROOT, LEFT, INNER}, INNER: {ROOT, LEFT, INNER}, RIGHT: {ROOT, RIGHT}}
PAGE = digest("page")
OTHER_CODE = digest("other code")

BRANCHES = st.sampled_from(sorted(LINES))
IDENTITIES = st.sampled_from(["page", "picture"])
PLACES = st.tuples(IDENTITIES, BRANCHES, st.integers(0, 2))


def recorded(index: int, branch: BranchId = ROOT, nth: int = 0, identity: str = "page") -> StepRow:
    return step_row("fetch", index, identity=digest(identity), branch=branch, nth=nth)


def answer(memo: RecordedSteps, branch: BranchId, nth: int = 0, identity: str = "page") -> StepRef | None:
    """Return the step that answers the call."""
    record = memo.find(digest(identity), branch, nth)
    return None if record is None else record.latest.step


def test_an_empty_memory_answers_nothing() -> None:
    memo = RecordedSteps()
    assert len(memo) == 0
    assert memo.find(PAGE, ROOT, 0) is None
    assert memo.latest(StepRef("fetch[0]")) is None
    assert memo.unused_steps() == ()
    assert memo.work_at_stake("fetch", PAGE) == (0, 0.0)


def test_another_identity_answers_nothing() -> None:
    assert answer(RecordedSteps([recorded(0)]), ROOT, identity="picture") is None


def test_each_branch_is_answered_by_its_own_record_whichever_asks_first() -> None:
    rows = [recorded(0, ROOT), recorded(1, LEFT), recorded(2, RIGHT), recorded(3, INNER)]
    for order in ([RIGHT, INNER, ROOT, LEFT], [LEFT, ROOT, INNER, RIGHT]):
        memo = RecordedSteps(rows)
        answers = {branch: answer(memo, branch) for branch in order}
        assert answers == {ROOT: "fetch[0]", LEFT: "fetch[1]", RIGHT: "fetch[2]", INNER: "fetch[3]"}


def test_equal_calls_of_a_branch_are_answered_in_the_order_they_had() -> None:
    memo = RecordedSteps([recorded(index, LEFT, nth) for index, nth in ((0, 1), (1, 0), (2, 2))])
    assert [answer(memo, LEFT, nth) for nth in range(4)] == ["fetch[1]", "fetch[0]", "fetch[2]", None]


@pytest.mark.parametrize("recorded_in", LINES)
@pytest.mark.parametrize("asked_from", LINES)
@pytest.mark.parametrize("nth", [0, 3])
def test_what_was_recorded_once_answers_its_line_and_never_a_sibling(
    recorded_in: BranchId, asked_from: BranchId, nth: int
) -> None:
    found = answer(RecordedSteps([recorded(0, recorded_in)]), asked_from, nth)
    is_own_place = asked_from == recorded_in and nth == 0
    is_of_the_line = asked_from != recorded_in and asked_from in LINES[recorded_in]
    assert found == ("fetch[0]" if is_own_place or is_of_the_line else None)


def test_what_was_recorded_twice_answers_no_other_branch() -> None:
    for second in (recorded(1, INNER), recorded(1, LEFT, 1), recorded(1, RIGHT)):
        assert answer(RecordedSteps([recorded(0, LEFT), second]), ROOT) is None


def test_a_record_answers_one_call_only() -> None:
    memo = RecordedSteps([recorded(0, LEFT)])
    assert [answer(memo, branch) for branch in (ROOT, LEFT, INNER)] == ["fetch[0]", None, None]
    memo = RecordedSteps([recorded(0, LEFT)])
    assert [answer(memo, LEFT), answer(memo, LEFT)] == ["fetch[0]", None]


def test_two_gathered_branches_with_equal_calls_do_not_swap_when_one_of_them_was_not_recorded() -> None:
    memo = RecordedSteps([recorded(0, LEFT)])
    assert answer(memo, RIGHT) is None
    assert answer(memo, LEFT) == "fetch[0]"


@given(st.lists(PLACES, unique=True, max_size=6), st.lists(PLACES, max_size=8))
def test_calls_are_answered_by_place_then_by_the_only_relative_and_each_record_once(
    places: list[tuple[str, BranchId, int]], calls: list[tuple[str, BranchId, int]]
) -> None:
    memo = RecordedSteps([recorded(index, branch, nth, name) for index, (name, branch, nth) in enumerate(places)])
    unasked = dict(enumerate(places))
    for name, branch, nth in calls:
        expected = next((index for index, place in unasked.items() if place == (name, branch, nth)), None)
        alike = [index for index, place in enumerate(places) if place[0] == name]
        if expected is None and len(alike) == 1 and alike[0] in unasked:
            other = places[alike[0]][1]
            expected = alike[0] if other != branch and other in LINES[branch] else None
        assert answer(memo, branch, nth, name) == (None if expected is None else step_ref("fetch", expected))
        unasked.pop(-1 if expected is None else expected, None)
    assert memo.unused_steps() == tuple(step_ref("fetch", index) for index in unasked)


@given(st.lists(st.tuples(IDENTITIES, BRANCHES), max_size=20))
def test_calls_are_counted_for_each_identity_and_branch(calls: list[tuple[str, BranchId]]) -> None:
    memo = RecordedSteps([recorded(0)])
    counts: dict[tuple[str, BranchId], int] = defaultdict(int)
    for name, branch in calls:
        assert memo.count_call(digest(name), branch) == counts[name, branch]
        counts[name, branch] += 1


def test_a_step_that_was_left_out_begins_as_its_next_attempt_in_the_branch_that_left_it_out() -> None:
    skipped = step_row("fetch", 0, identity=digest("skipped"), branch=LEFT, status=StepStatus.SKIPPED)
    memo = RecordedSteps([skipped, recorded(1, RIGHT)])
    assert (len(memo), memo.latest(StepRef("fetch[0]")), memo.unused_steps()) == (1, None, ("fetch[1]",))
    assert memo.new_ref("fetch", RIGHT) == ("fetch[2]", 2, 1)
    assert memo.new_ref("fetch", LEFT) == ("fetch[0]", 0, 2)
    assert memo.new_ref("fetch", LEFT) == ("fetch[3]", 3, 1)


def test_a_step_that_has_begun_since_it_was_left_out_is_known_by_its_call() -> None:
    skipped = step_row("fetch", 0, identity=digest("skipped"), branch=LEFT, status=StepStatus.SKIPPED)
    memo = RecordedSteps([skipped, step_row("fetch", 0, attempt=2, identity=PAGE, branch=LEFT)])
    assert answer(memo, LEFT) == "fetch[0]"
    assert memo.new_ref("fetch", LEFT) == ("fetch[1]", 1, 1)


def test_what_is_left_out_is_new_once_and_not_where_something_is_recorded() -> None:
    skipped = step_row("fetch", 0, identity=digest("skipped"), branch=LEFT, status=StepStatus.SKIPPED)
    memo = RecordedSteps([skipped, recorded(1, RIGHT)])
    why = skipped.reason
    assert [memo.skip("fetch", branch, why) for branch in (LEFT, RIGHT, ROOT, ROOT)] == [False, False, True, False]


def test_what_is_left_out_for_another_reason_than_before_is_noted_as_another_attempt() -> None:
    skipped = step_row("fetch", 0, identity=digest("skipped"), branch=LEFT, status=StepStatus.SKIPPED)
    memo = RecordedSteps([skipped])
    assert memo.skip("fetch", LEFT, "when is false")
    assert memo.new_ref("fetch", LEFT) == ("fetch[0]", 0, 2)
    assert not memo.skip("fetch", LEFT, "when is false")


@given(st.sets(st.integers(0, 8)), st.integers(0, 8))
def test_new_steps_fill_the_gaps_of_the_indices_and_then_go_on(taken: set[int], n_new: int) -> None:
    memo = RecordedSteps([recorded(index, nth=index) for index in sorted(taken)] + [step_row("parse", 0)])
    free = [index for index in range(20) if index not in taken][:n_new]
    assert [memo.new_ref("fetch", LEFT) for _ in range(n_new)] == [(f"fetch[{index}]", index, 1) for index in free]
    assert memo.take_index("parse") == 1
    assert memo.take_index("write") == 0


def test_the_attempts_of_a_step_are_one_record_and_the_newest_speaks_for_it() -> None:
    rows = [step_row(attempt=1, status=StepStatus.FAILED), step_row(attempt=2, code=OTHER_CODE), step_row("parse")]
    memo = RecordedSteps(rows)
    assert len(memo) == 2
    assert memo.latest(StepRef("fetch[0]")) == rows[1]
    found = memo.find(rows[0].identity, ROOT, 0)
    assert found is not None
    assert found.attempts == rows[:2]
    assert found.latest == rows[1]


def test_of_completed_attempts_the_newest_of_that_code_answers() -> None:
    code = digest("code")
    rows = [
        step_row(attempt=1, duration_s=1.0),
        step_row(attempt=2, duration_s=2.0),
        step_row(attempt=3, code=OTHER_CODE),
        step_row(attempt=4, status=StepStatus.FAILED),
        step_row(attempt=5, status=StepStatus.RUNNING, code=digest("third code")),
    ]
    record = RecordedSteps(rows).find(rows[0].identity, ROOT, 0)
    assert record is not None
    assert record.completed(code) == rows[1]
    assert record.completed(OTHER_CODE) == rows[2]
    assert record.completed(digest("third code")) is None
    assert record.completed_with_any_code() == rows[2]


def test_at_stake_is_what_steps_of_that_name_have_completed_with_other_code_only() -> None:
    rows = [
        step_row("fetch", 0, duration_s=5.0, code=OTHER_CODE),
        step_row("fetch", 1, attempt=1, duration_s=7.0, code=OTHER_CODE),
        step_row("fetch", 1, attempt=2, duration_s=11.0, code=digest("third code")),
        step_row("fetch", 2, attempt=1, duration_s=13.0),
        step_row("fetch", 2, attempt=2, duration_s=17.0, code=OTHER_CODE),
        step_row("fetch", 3, status=StepStatus.FAILED, duration_s=19.0, code=OTHER_CODE),
        step_row("fetch", 4, duration_s=None, code=OTHER_CODE),
        step_row("parse", 0, duration_s=23.0, code=OTHER_CODE),
    ]
    assert RecordedSteps(rows).work_at_stake("fetch", digest("code")) == (3, 5.0 + 11.0)


def test_only_what_no_call_asked_for_is_told_in_the_order_of_the_record() -> None:
    memo = RecordedSteps([recorded(index, nth=index) for index in (2, 0, 1)])
    memo.find(PAGE, ROOT, 0)
    assert memo.unused_steps() == ("fetch[2]", "fetch[1]")
