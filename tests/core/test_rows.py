"""The row of a run and the row of an attempt, fact by fact."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from ironflow_nb.core import events
from ironflow_nb.core.event_kinds import NoteEvent, RunChange, StepChange
from ironflow_nb.core.events import RecordedEvent, RunEvent
from ironflow_nb.core.identity import RunId, StepRef
from ironflow_nb.core.run_state import RunRow, StepRow, evolve_run, evolve_step
from ironflow_nb.core.status import RunStatus, StepStatus
from ironflow_nb.errors import JournalCorrupt
from tests.core.every_event import ERROR, KINDS, OUTPUT, SAMPLES
from tests.core.made import RUN, digest, run_row, run_started, step_row, step_started, value

AT = 5_000_000
STEP = StepRef("fetch[0]")
OPEN_RUN = run_row(owner="me", updated_at=1)
OPEN_STEP = step_row(status=StepStatus.RUNNING, duration_s=None)
BEGINNINGS = {"StepQueued", "StepStarted", "WaitStarted", "StepReused", "StepSkipped", "OutputInjected"}

STATUS_AFTER = {
    "RunQueued": RunStatus.PENDING,
    "RunWaiting": RunStatus.WAITING,
    "RunDetached": RunStatus.PENDING,
    "RunCancelRequested": RunStatus.CANCELLING,
    "RunInterrupted": RunStatus.INTERRUPTED,
    "RunPaused": RunStatus.PAUSED,
    "RunCancelled": RunStatus.CANCELLED,
    "RunFailed": RunStatus.FAILED,
    "RunCompleted": RunStatus.COMPLETED,
}
AT_REST = {RunStatus.INTERRUPTED, RunStatus.PAUSED, RunStatus.CANCELLED, RunStatus.FAILED, RunStatus.COMPLETED}


def run_after(row: RunRow | None, event: RunEvent, version: int = 9) -> RunRow:
    return evolve_run(RUN, row, RecordedEvent(version, AT, event))


def step_after(row: StepRow | None, event: RunEvent, version: int = 9) -> StepRow | None:
    return evolve_step(RUN, row, RecordedEvent(version, AT, event, STEP, 1))


@pytest.mark.parametrize("name", KINDS)
def test_every_event_is_taken_by_the_run_and_by_the_attempt(name: str) -> None:
    event = SAMPLES[name]
    run = run_after(None if name == "RunStarted" else OPEN_RUN, event)
    assert run.run_id == RUN
    row = step_after(None if name in BEGINNINGS else OPEN_STEP, event) if name != "InjectionUndone" else OPEN_STEP
    assert row is not None
    assert (row.run_id, row.step, row.attempt) == (RUN, STEP, 1)


@pytest.mark.parametrize("name", KINDS)
def test_an_event_changes_exactly_the_row_of_what_it_is_about(name: str) -> None:
    event = SAMPLES[name]
    assert [isinstance(event, kind) for kind in (RunChange, StepChange, NoteEvent)].count(True) == 1
    if name != "RunStarted":
        assert (run_after(OPEN_RUN, event) != OPEN_RUN) is isinstance(event, RunChange)
    if name in BEGINNINGS:
        assert step_after(None, event) is not None
    elif name == "InjectionUndone":
        assert step_after(replace(OPEN_STEP, reason="injected"), event) is None
    else:
        assert (step_after(OPEN_STEP, event) != OPEN_STEP) is isinstance(event, StepChange)
    if not isinstance(event, StepChange):
        assert step_after(None, event) is None


def test_a_run_begins_with_everything_that_names_it_and_its_call() -> None:
    named: dict[str, Any] = {
        "execution": "cell 3",
        "ordinal": 2,
        "key": "invoice 7",
        "notebook": "report.ipynb",
        "parent_run_id": RunId("ba9876543210"),
        "parent_step": StepRef("child[0]"),
        "origin_run_id": RunId("zzzzzzzzzzzz"),
        "origin_position": 41,
    }
    assert run_after(None, run_started(inputs=value("inputs"), **named), 1) == run_row(
        RunStatus.RUNNING,
        started_at=AT,
        updated_at=AT,
        owner="me",
        inputs_id=value("inputs"),
        n_sessions=1,
        session_version=1,
        **named,
    )


@pytest.mark.parametrize("name", sorted(STATUS_AFTER))
def test_the_status_of_a_run_is_what_its_last_change_says(name: str) -> None:
    status = STATUS_AFTER[name]
    ending: dict[str, Any] = {"owner": None, "ended_at": AT} if status in AT_REST else {}
    ending |= {"owner": None} if name == "RunDetached" else {}
    ending |= {"RunFailed": {"error_id": value("error")}, "RunCompleted": {"output_id": value("output")}}.get(name, {})
    assert run_after(OPEN_RUN, SAMPLES[name]) == replace(OPEN_RUN, status=status, updated_at=AT, **ending)


@pytest.mark.parametrize("status", sorted(AT_REST | {RunStatus.RUNNING, RunStatus.WAITING, RunStatus.CANCELLING}))
def test_a_continued_run_belongs_to_its_new_owner_and_has_not_ended(status: RunStatus) -> None:
    before = run_row(
        status, error_id=value("error"), ended_at=3, execution="cell 1", ordinal=4, notebook="a.ipynb", n_sessions=2
    )
    assert run_after(before, SAMPLES["RunContinued"]) == replace(
        before,
        status=RunStatus.RUNNING,
        owner="you",
        definition_id=digest("edited"),
        durability="process",
        error_id=None,
        ended_at=None,
        updated_at=AT,
        n_sessions=3,
        session_version=9,
    )


def test_a_run_continued_by_a_call_takes_the_place_of_that_call() -> None:
    before = run_row(RunStatus.FAILED, execution="cell 1", ordinal=4, notebook="a.ipynb")
    after = run_after(before, replace(SAMPLES["RunContinued"], execution="cell 2", ordinal=0, notebook="b.ipynb"))
    assert (after.execution, after.ordinal, after.notebook) == ("cell 2", 0, "b.ipynb")


def test_what_was_reused_is_counted_for_the_latest_continuation_only() -> None:
    ended = run_after(OPEN_RUN, SAMPLES["SessionEnded"])
    assert ended == replace(OPEN_RUN, n_reused=4, updated_at=AT)
    assert run_after(ended, SAMPLES["RunContinued"]).n_reused == 0


@pytest.mark.parametrize("name", ["SignalReceived", "WaitEnded"])
@pytest.mark.parametrize("status", RunStatus)
def test_what_ends_a_wait_wakes_a_waiting_run_and_no_other(status: RunStatus, name: str) -> None:
    before = run_row(status, owner="me")
    expected = RunStatus.RUNNING if status is RunStatus.WAITING else status
    assert run_after(before, SAMPLES[name]).status is expected


def test_a_parked_run_waits_without_an_owner() -> None:
    parked = events.RunWaiting(waiting_for="its time", is_parked=True)
    assert run_after(OPEN_RUN, parked) == replace(OPEN_RUN, status=RunStatus.WAITING, owner=None, updated_at=AT)


def test_a_wait_is_a_step_that_waits_until_it_ends() -> None:
    began = step_after(None, SAMPLES["WaitStarted"])
    assert began is not None
    assert (began.status, began.due_at, began.name) == (StepStatus.WAITING, 9_000_000, "iron.wait_for")
    ended = step_after(began, SAMPLES["WaitEnded"])
    assert ended == replace(began, status=StepStatus.COMPLETED, output_id=OUTPUT, finished_at=AT, duration_s=1.5)
    cancelled = step_after(began, events.WaitEnded(outcome="cancelled", duration_s=1.5))
    assert cancelled is not None
    assert cancelled.status is StepStatus.CANCELLED


def test_a_timeout_is_lived_with_from_the_start_so_that_a_replay_meets_it_too() -> None:
    ended = step_after(OPEN_STEP, events.WaitEnded(outcome="timeout", duration_s=1.5, error=ERROR))
    assert ended is not None
    assert (ended.status, ended.error_id, ended.lived_with) == (StepStatus.TIMED_OUT, ERROR, True)


def test_an_attempt_begins_with_everything_that_names_it_and_its_call() -> None:
    begun = step_started(
        branch="/left.0",
        nth=2,
        inputs=value("inputs"),
        reason="code changed",
        child_run_id=RunId("ba9876543210"),
        lived_with=(StepRef("parse[0]"),),
    )
    assert step_after(None, begun) == step_row(
        status=StepStatus.RUNNING,
        version=9,
        started_at=AT,
        duration_s=None,
        branch="/left.0",
        nth=2,
        inputs_id=value("inputs"),
        reason="code changed",
        child_run_id=RunId("ba9876543210"),
    )


def test_a_step_answered_by_another_run_is_completed_at_once() -> None:
    assert step_after(None, replace(SAMPLES["StepReused"], branch="/left.0", nth=1)) == step_row(
        version=9,
        started_at=AT,
        finished_at=AT,
        duration_s=0.0,
        reason="reused",
        branch="/left.0",
        nth=1,
        output_id=value("output"),
        origin_run_id=RunId("ba9876543210"),
    )


def test_a_step_that_was_left_out_is_skipped_for_that_reason_and_begins_with_its_next_attempt() -> None:
    skipped = step_after(None, replace(SAMPLES["StepSkipped"], branch="/left.0"))
    assert skipped is not None
    assert (skipped.status, skipped.reason, skipped.branch) == (StepStatus.SKIPPED, "when is false", "/left.0")
    assert (skipped.finished_at, skipped.duration_s, skipped.code) == (AT, None, b"")
    with pytest.raises(JournalCorrupt):
        step_after(skipped, SAMPLES["StepStarted"])


def test_an_attempt_ends_with_its_output_or_its_error() -> None:
    assert step_after(OPEN_STEP, events.StepCompleted(output=OUTPUT, duration_s=2.5)) == replace(
        OPEN_STEP, status=StepStatus.COMPLETED, output_id=value("output"), duration_s=2.5, finished_at=AT
    )
    assert step_after(OPEN_STEP, events.StepFailed(error=ERROR, duration_s=2.5)) == replace(
        OPEN_STEP, status=StepStatus.FAILED, error_id=value("error"), duration_s=2.5, finished_at=AT
    )


def test_a_failed_attempt_waits_for_the_next_and_keeps_its_error() -> None:
    failed = step_row(status=StepStatus.FAILED, error_id=value("error"), finished_at=3)
    after = step_after(failed, events.StepRetryScheduled(due_at=77))
    assert after == replace(failed, status=StepStatus.RETRYING, due_at=77)


def test_an_injected_output_is_an_attempt_of_its_own_that_has_no_code() -> None:
    given = step_after(None, SAMPLES["OutputInjected"])
    assert given is not None
    assert (given.status, given.output_id, given.code) == (StepStatus.COMPLETED, value("by hand"), b"")
    assert step_after(given, SAMPLES["InjectionUndone"]) is None
    with pytest.raises(JournalCorrupt, match="which is no injection"):
        step_after(step_row(), SAMPLES["InjectionUndone"])


@pytest.mark.parametrize("name", sorted(set(KINDS) - {"RunStarted"}))
def test_a_run_that_begins_otherwise_is_corrupt(name: str) -> None:
    with pytest.raises(JournalCorrupt, match=f"run {RUN} begins with {name} and not with RunStarted"):
        run_after(None, SAMPLES[name])


@pytest.mark.parametrize("status", RunStatus)
def test_a_run_that_begins_twice_is_corrupt(status: RunStatus) -> None:
    with pytest.raises(JournalCorrupt, match=f"run {RUN} has a second RunStarted") as caught:
        run_after(run_row(status), run_started())
    assert caught.value.run_id == RUN  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(BEGINNINGS))
@pytest.mark.parametrize(("step", "attempt"), [(None, None), (STEP, None), (None, 1)])
def test_an_attempt_of_nothing_is_corrupt(name: str, step: StepRef | None, attempt: int | None) -> None:
    with pytest.raises(JournalCorrupt, match=f"run {RUN}: {name} of .* no attempt"):
        evolve_step(RUN, None, RecordedEvent(2, AT, SAMPLES[name], step, attempt))


@pytest.mark.parametrize("name", sorted(BEGINNINGS))
@pytest.mark.parametrize("status", StepStatus)
def test_an_attempt_that_begins_twice_is_corrupt(name: str, status: StepStatus) -> None:
    if (name, status) == ("StepStarted", StepStatus.PENDING):
        return  # it had to wait before it began
    with pytest.raises(JournalCorrupt, match=f"run {RUN}: {name} of fetch.0. attempt 1 twice"):
        step_after(step_row(status=status), SAMPLES[name])


def test_an_attempt_that_had_to_wait_begins_as_any_other() -> None:
    queued = step_after(None, SAMPLES["StepQueued"], 8)
    assert queued is not None
    assert queued.status is StepStatus.PENDING
    assert step_after(queued, SAMPLES["StepStarted"]) == step_after(None, SAMPLES["StepStarted"])


def test_a_run_that_had_to_wait_is_pending_until_it_is_admitted() -> None:
    queued = run_after(OPEN_RUN, SAMPLES["RunQueued"])
    assert queued == replace(OPEN_RUN, status=RunStatus.PENDING, updated_at=AT)
    assert run_after(queued, SAMPLES["RunAdmitted"]).status is RunStatus.RUNNING


@pytest.mark.parametrize("name", ["StepCompleted", "StepFailed", "StepRetryScheduled", "InjectionUndone"])
def test_an_attempt_that_goes_on_without_having_begun_is_corrupt(name: str) -> None:
    with pytest.raises(JournalCorrupt, match=f"run {RUN}: {name} of fetch.0. attempt 1 without its beginning"):
        step_after(None, SAMPLES[name])


@pytest.mark.parametrize("name", ["StepCompleted", "StepFailed"])
@pytest.mark.parametrize(
    "status", sorted(set(StepStatus) - {StepStatus.RUNNING, StepStatus.UNKNOWN, StepStatus.WAITING})
)
def test_an_attempt_that_ends_twice_is_corrupt(name: str, status: StepStatus) -> None:
    with pytest.raises(JournalCorrupt, match=f"{name} of fetch.0. attempt 1, which is {status} already"):
        step_after(step_row(status=status), SAMPLES[name])


def test_of_an_attempt_that_runs_once_nobody_knows_what_came_of_it_until_it_ends() -> None:
    begun = step_after(None, step_started(once=True))
    assert begun is not None
    assert begun.status is StepStatus.UNKNOWN
    ended = step_after(begun, SAMPLES["StepCompleted"])
    assert ended is not None
    assert ended.status is StepStatus.COMPLETED
