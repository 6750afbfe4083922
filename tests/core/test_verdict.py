"""What is done with a call whose identity was recorded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ironflow_nb.core.recorded_steps import RecordedStep
from ironflow_nb.core.replay_decision import (
    OnChange,
    Perform,
    PolicyDecides,
    Replay,
    Reuse,
    Verdict,
    judge,
    settle_change,
)
from ironflow_nb.core.run_state import StepRow
from ironflow_nb.core.status import FAILURES, StepStatus
from tests.core.made import digest, step_row

NOW, BEFORE, LONG_AGO = digest("code"), digest("code before"), digest("code long ago")
CODES = [NOW, BEFORE, LONG_AGO]
STOPPED_SHORT = sorted(
    set(StepStatus) - FAILURES - {StepStatus.COMPLETED, StepStatus.RETRYING, StepStatus.COMPENSATED, StepStatus.PENDING}
)

ATTEMPTS = st.lists(
    st.tuples(st.sampled_from(StepStatus), st.sampled_from(CODES), st.booleans()), min_size=1, max_size=5
)


def attempt(number: int, status: StepStatus, code: bytes = NOW, *, lived_with: bool = False) -> StepRow:
    return step_row(attempt=number, status=status, code=code, lived_with=lived_with)


def verdict(*rows: StepRow) -> Verdict:
    """Return the verdict on a call of the code of now."""
    return judge(RecordedStep(list(rows)), NOW)


def test_what_was_never_recorded_is_new() -> None:
    assert judge(None, NOW) == Perform("new")


def test_a_completed_attempt_of_that_code_answers() -> None:
    done = attempt(1, StepStatus.COMPLETED)
    assert verdict(done) == Reuse(done)


def test_a_completed_attempt_of_other_code_is_for_the_policy() -> None:
    done = attempt(1, StepStatus.COMPLETED, BEFORE)
    assert verdict(done) == PolicyDecides(done)


def test_an_edit_that_was_undone_finds_the_output_of_the_old_code() -> None:
    old, edited = attempt(1, StepStatus.COMPLETED, NOW), attempt(2, StepStatus.COMPLETED, BEFORE)
    assert verdict(old, edited) == Reuse(old)


@pytest.mark.parametrize("status", sorted(set(StepStatus) - {StepStatus.COMPLETED}))
def test_an_edit_that_never_came_to_an_end_does_not_lose_the_old_output(status: StepStatus) -> None:
    old = attempt(1, StepStatus.COMPLETED, NOW)
    assert verdict(old, attempt(2, status, BEFORE, lived_with=True)) == Reuse(old)


def test_of_two_outputs_of_that_code_the_newest_answers() -> None:
    first, second = attempt(1, StepStatus.COMPLETED), attempt(2, StepStatus.COMPLETED)
    assert verdict(first, second) == Reuse(second)


@pytest.mark.parametrize("status", sorted(FAILURES))
def test_a_failure_that_the_flow_lived_with_is_replayed(status: StepStatus) -> None:
    failed = attempt(1, status, lived_with=True)
    assert verdict(failed) == Replay(failed)
    before = attempt(1, StepStatus.COMPLETED, BEFORE)
    failed = attempt(2, status, lived_with=True)
    assert verdict(before, failed) == Replay(failed)


@pytest.mark.parametrize("status", sorted(FAILURES))
def test_a_failure_that_ended_the_run_is_tried_again(status: StepStatus) -> None:
    assert verdict(attempt(1, status)) == Perform("failed before")
    earlier = attempt(1, status, lived_with=True)
    assert verdict(earlier, attempt(2, status)) == Perform("failed before")


def test_a_failure_of_other_code_is_tried_again_though_the_flow_lived_with_it() -> None:
    assert verdict(attempt(1, StepStatus.FAILED, BEFORE, lived_with=True)) == Perform("failed before")


def test_a_step_that_was_to_be_retried_is_tried_again() -> None:
    assert verdict(attempt(1, StepStatus.RETRYING)) == Perform("retry")
    assert verdict(attempt(1, StepStatus.RETRYING, lived_with=True)) == Perform("retry")


def test_a_step_that_was_undone_is_performed_again() -> None:
    assert verdict(attempt(1, StepStatus.COMPENSATED)) == Perform("compensated")


def test_a_step_that_had_to_wait_and_never_began_is_performed_for_the_reason_it_had() -> None:
    assert verdict(attempt(1, StepStatus.PENDING)) == Perform("new")
    retried = replace(attempt(2, StepStatus.PENDING), reason="retry")
    assert verdict(attempt(1, StepStatus.FAILED), retried) == Perform("retry")


@pytest.mark.parametrize("status", STOPPED_SHORT)
def test_a_step_that_stopped_short_is_performed_again(status: StepStatus) -> None:
    assert verdict(attempt(1, status)) == Perform("interrupted")


@pytest.mark.parametrize("latest", sorted(set(StepStatus) - {StepStatus.COMPLETED}))
def test_what_must_be_redone_but_was_completed_with_other_code_is_for_the_policy(latest: StepStatus) -> None:
    first, second = attempt(1, StepStatus.COMPLETED, LONG_AGO), attempt(2, StepStatus.COMPLETED, BEFORE)
    assert verdict(first, second, attempt(3, latest)) == PolicyDecides(second)


@given(ATTEMPTS)
def test_every_record_has_the_verdict_of_its_newest_output_then_of_its_newest_attempt(
    history: list[tuple[StepStatus, bytes, bool]],
) -> None:
    rows = [attempt(n, status, code, lived_with=lived) for n, (status, code, lived) in enumerate(history, start=1)]
    done = [row for row in rows if row.status is StepStatus.COMPLETED]
    done_now = [row for row in done if row.code == NOW]
    latest = rows[-1]
    expected: Verdict
    if done_now:
        expected = Reuse(done_now[-1])
    elif (latest.status in FAILURES, latest.code, latest.lived_with) == (True, NOW, True):
        expected = Replay(latest)
    elif done:
        expected = PolicyDecides(done[-1])
    else:
        reasons = {**dict.fromkeys(FAILURES, "failed before"), StepStatus.RETRYING: "retry", StepStatus.PENDING: "new"}
        reasons[StepStatus.COMPENSATED] = "compensated"
        expected = Perform(reasons.get(latest.status, "interrupted"))
    assert verdict(*rows) == expected


@given(st.floats(0, 1e6))
def test_keep_reuses_refresh_redoes_and_strict_stops_whatever_is_at_stake(at_stake_s: float) -> None:
    row = attempt(1, StepStatus.COMPLETED, BEFORE)
    assert settle_change(OnChange.KEEP, row, at_stake_s) == Reuse(row)
    assert settle_change(OnChange.REFRESH, row, at_stake_s) == Perform("code changed")
    assert settle_change(OnChange.STRICT, row, at_stake_s) is None


@pytest.mark.parametrize("at_stake_s", [0.0, 59.999])
def test_guard_redoes_what_took_less_than_a_minute(at_stake_s: float) -> None:
    row = attempt(1, StepStatus.COMPLETED, BEFORE)
    assert settle_change(OnChange.GUARD, row, at_stake_s) == Perform("code changed")


@pytest.mark.parametrize("at_stake_s", [60.0, 86400.0])
def test_guard_stops_before_a_minute_of_work_and_more(at_stake_s: float) -> None:
    row = attempt(1, StepStatus.COMPLETED, BEFORE)
    assert settle_change(OnChange.GUARD, row, at_stake_s) is None


def test_the_policies_are_four_words() -> None:
    assert {str(policy) for policy in OnChange} == {"guard", "refresh", "keep", "strict"}
