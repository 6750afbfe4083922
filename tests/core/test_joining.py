"""Whether a call takes a run on, watches it, or begins another one."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironflow_nb.core.join import Attach, Begin, Caller, Continue, Joining, join, keyed
from ironflow_nb.core.status import RunStatus
from tests.core.made import RUN, run_row

WEEK_S = 7 * 86400.0
NOW = 10**15
WORKED_ON = [RunStatus.PENDING, RunStatus.RUNNING, RunStatus.WAITING, RunStatus.CANCELLING]
STOPPED = [RunStatus.PAUSED, RunStatus.INTERRUPTED, RunStatus.FAILED]
CLOSED = [RunStatus.COMPLETED, RunStatus.CANCELLED]
UNFINISHED = WORKED_ON + STOPPED


def caller(**fields: Any) -> Caller:
    """Return a call made now, by default in the notebook of nobody."""
    given_fields: dict[str, Any] = {
        "now": NOW,
        "last_active_at": NOW,
        "continue_within_s": WEEK_S,
        "notebook": None,
        "other_notebook_exists": False,
    }
    return Caller(**(given_fields | fields))


@pytest.mark.parametrize("is_alive", [True, False])
def test_without_an_equal_call_before_a_run_begins_and_nothing_is_said(is_alive: bool) -> None:
    assert join(None, caller(), owner_is_alive=is_alive) == Begin()
    assert keyed(None, owner_is_alive=is_alive) == Begin()


@pytest.mark.parametrize("status", WORKED_ON)
def test_a_run_that_somebody_works_on_is_watched(status: RunStatus) -> None:
    run = run_row(status)
    assert join(run, caller(), owner_is_alive=True) == Attach(run)


@pytest.mark.parametrize("status", WORKED_ON)
def test_a_run_whose_owner_is_dead_is_continued(status: RunStatus) -> None:
    run = run_row(status)
    assert join(run, caller(), owner_is_alive=False) == Continue(run)


@pytest.mark.parametrize("is_alive", [True, False])
@pytest.mark.parametrize("status", STOPPED)
def test_a_run_that_stopped_before_its_end_is_continued(status: RunStatus, is_alive: bool) -> None:
    run = run_row(status)
    assert join(run, caller(), owner_is_alive=is_alive) == Continue(run)


@pytest.mark.parametrize("is_alive", [True, False])
@pytest.mark.parametrize("status", CLOSED)
def test_after_a_closed_run_another_begins_and_nothing_is_said(status: RunStatus, is_alive: bool) -> None:
    old = caller(last_active_at=0, notebook="here.ipynb", other_notebook_exists=True)
    closed = run_row(status, notebook="there.ipynb")
    after = closed if status is RunStatus.COMPLETED else None
    for call in (caller(), old):
        assert join(closed, call, owner_is_alive=is_alive) == Begin(after=after)


@given(st.sampled_from(UNFINISHED), st.booleans(), st.integers(0, 10**7), st.integers(1, 10**14))
def test_a_run_is_joined_up_to_the_last_microsecond_of_continue_within(
    status: RunStatus, is_alive: bool, within_s: int, late: int
) -> None:
    run = run_row(status)
    last = NOW - within_s * 1_000_000
    in_time = join(run, caller(last_active_at=last, continue_within_s=within_s), owner_is_alive=is_alive)
    assert isinstance(in_time, Attach if status in WORKED_ON and is_alive else Continue)
    too_late = join(run, caller(last_active_at=last - late, continue_within_s=within_s), owner_is_alive=is_alive)
    if status is RunStatus.WAITING:  # it is not abandoned, however long it waits
        assert too_late == in_time
    else:
        assert too_late == Begin(because=f"run {RUN} is older than continue_within")


def test_the_age_of_a_run_counts_from_when_it_was_last_active_and_not_from_its_beginning() -> None:
    run = run_row(RunStatus.FAILED, started_at=0, updated_at=0)
    assert join(run, caller(last_active_at=NOW - 1), owner_is_alive=False) == Continue(run)


def test_within_for_ever_no_run_is_too_old() -> None:
    run = run_row(RunStatus.FAILED)
    assert join(run, caller(last_active_at=0, continue_within_s=math.inf), owner_is_alive=False) == Continue(run)


@pytest.mark.parametrize(
    ("recorded", "calling", "exists", "is_forbidden"),
    [
        ("there.ipynb", "here.ipynb", True, True),
        ("there.ipynb", "here.ipynb", False, False),
        ("here.ipynb", "here.ipynb", True, False),
        (None, "here.ipynb", True, False),
        ("there.ipynb", None, True, False),
        (None, None, True, False),
    ],
)
@pytest.mark.parametrize("is_alive", [True, False])
@pytest.mark.parametrize("status", UNFINISHED)
def test_only_another_known_notebook_that_still_exists_forbids_joining(
    recorded: str | None, calling: str | None, exists: bool, is_forbidden: bool, status: RunStatus, is_alive: bool
) -> None:
    run = run_row(status, notebook=recorded)
    call = caller(notebook=calling, other_notebook_exists=exists)
    expected: Joining = Attach(run) if status in WORKED_ON and is_alive else Continue(run)
    if is_forbidden:
        expected = Begin(because=f"run {RUN} belongs to there.ipynb")
    assert join(run, call, owner_is_alive=is_alive) == expected


@pytest.mark.parametrize("is_alive", [True, False])
@pytest.mark.parametrize("status", CLOSED)
def test_a_key_names_a_closed_run_for_ever(status: RunStatus, is_alive: bool) -> None:
    run = run_row(status, key="invoice 7")
    assert keyed(run, owner_is_alive=is_alive) == Attach(run)


@pytest.mark.parametrize("status", WORKED_ON)
def test_a_key_names_a_run_that_is_worked_on_and_takes_it_from_a_dead_owner(status: RunStatus) -> None:
    run = run_row(status, key="invoice 7")
    assert keyed(run, owner_is_alive=True) == Attach(run)
    assert keyed(run, owner_is_alive=False) == Continue(run)


@pytest.mark.parametrize("is_alive", [True, False])
@pytest.mark.parametrize("status", STOPPED)
def test_a_key_names_a_run_that_stopped_and_continues_it(status: RunStatus, is_alive: bool) -> None:
    run = run_row(status, key="invoice 7")
    assert keyed(run, owner_is_alive=is_alive) == Continue(run)
