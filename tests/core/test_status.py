"""What is recorded of a run and its steps, and what they really do."""

from __future__ import annotations

import pytest

from ironflow_nb.core.status import CLOSED, ENDED, OWNED, RunStatus, StepStatus, derived_run_status, derived_step_status

WORKED_ON = {RunStatus.PENDING, RunStatus.RUNNING, RunStatus.WAITING, RunStatus.CANCELLING, RunStatus.COMPENSATING}
AT_REST = {RunStatus.PAUSED, RunStatus.INTERRUPTED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.COMPLETED}
UNDER_WAY = {StepStatus.PENDING, StepStatus.RUNNING, StepStatus.RETRYING, StepStatus.WAITING}


def test_every_status_of_a_run_is_either_worked_on_or_at_rest() -> None:
    assert set(RunStatus) == WORKED_ON | AT_REST
    assert OWNED == WORKED_ON
    assert ENDED == AT_REST


def test_only_a_completed_and_a_cancelled_run_are_closed() -> None:
    assert {RunStatus.COMPLETED, RunStatus.CANCELLED} == CLOSED


@pytest.mark.parametrize("status", RunStatus)
def test_with_a_live_owner_a_run_is_what_is_recorded(status: RunStatus) -> None:
    assert derived_run_status(status, owner_is_alive=True) is status


def test_what_waits_goes_on_waiting_without_its_owner() -> None:
    assert derived_run_status(RunStatus.WAITING, owner_is_alive=False) is RunStatus.WAITING


@pytest.mark.parametrize("status", sorted(WORKED_ON - {RunStatus.WAITING}))
def test_what_a_dead_owner_worked_on_is_interrupted(status: RunStatus) -> None:
    assert derived_run_status(status, owner_is_alive=False) is RunStatus.INTERRUPTED


@pytest.mark.parametrize("status", sorted(AT_REST))
def test_a_run_at_rest_needs_no_owner(status: RunStatus) -> None:
    assert derived_run_status(status, owner_is_alive=False) is status


@pytest.mark.parametrize("run", RunStatus)
@pytest.mark.parametrize("step", StepStatus)
def test_a_step_under_way_is_interrupted_exactly_if_nobody_works_on_its_run(step: StepStatus, run: RunStatus) -> None:
    is_at_rest = run in AT_REST | {RunStatus.PENDING}
    expected = StepStatus.INTERRUPTED if step in UNDER_WAY and is_at_rest else step
    if step is StepStatus.UNKNOWN and not is_at_rest:  # its end may still come
        expected = StepStatus.RUNNING
    assert derived_step_status(step, run) is expected


@pytest.mark.parametrize("kind", [RunStatus, StepStatus])
def test_a_status_is_its_own_name_in_small_letters(kind: type[RunStatus] | type[StepStatus]) -> None:
    assert [str(status) for status in kind] == [status.name.lower() for status in kind]
