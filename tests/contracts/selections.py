"""What every journal has to answer to the questions about its runs, steps and events."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from ironflow_nb.core.events import (
    AFTER_FAILURE,
    RunCompleted,
    RunContinued,
    RunFailed,
    RunInterrupted,
    StepRetryScheduled,
    StepSkipped,
)
from ironflow_nb.core.identity import RunId, step_ref
from ironflow_nb.core.status import RunStatus, StepStatus
from ironflow_nb.journal.event_columns import columns_of
from ironflow_nb.journal.ports import CallKey, Durability, Journal, RunCommit, Select, SiteTally, StepTally
from tests.contracts.histories import STRANGER, A, Author, B, C, D, digest, one_run, value, whole

FAST = Durability.PROCESS
OUTPUT = value(b"out").value_id


def a_small_world() -> list[RunCommit]:
    """Return three runs of different kinds, names, statuses and times; A and B began at the same time."""
    author = Author()
    author.start(A, name="pages.report", at=100)
    author.begin_step(A, "pages.fetch", 10, at=110)
    author.begin_step(A, "pages.fetch", 2, at=120)
    author.begin_step(A, "fit", 0, at=130)
    author.fail_step(A, "pages.fetch", 10, duration_s=0.25)
    author.note(A, StepRetryScheduled(due_at=999), step=step_ref("pages.fetch", 10), attempt=1, at=140)
    author.begin_step(A, "pages.fetch", 10, 2, at=150)
    author.complete_step(A, "pages.fetch", 10, 2, output=OUTPUT, duration_s=0.5)
    author.complete_step(A, "pages.fetch", 2, output=OUTPUT, duration_s=2.0)
    first = author.entry(A)
    author.start(B, name="report", kind="agent", at=100)
    author.note(B, RunFailed(error=digest(5)), at=160)
    second = author.entry(B)
    author.start(C, name="xreport", at=90)
    author.begin_step(C, "fetch", at=170)
    author.note(C, RunCompleted(output=OUTPUT), at=180)
    return [first, second, author.entry(C)]


class SelectContract:
    """Inherited by the tests of an adapter, which give the fixture `journal`."""

    @pytest.fixture
    def world(self, journal: Journal) -> Journal:
        for entry in a_small_world():
            journal.append([entry], durability=FAST)
        return journal

    @pytest.mark.parametrize(
        ("select", "expected"),
        [
            (Select(), [C, B, A]),  # the one written last first, though the clock was set back before it
            (Select(run_ids=[A, C, STRANGER]), [C, A]),
            (Select(run_ids=[]), []),
            (Select(run_prefix="0000000000a"), [A]),
            (Select(run_prefix="00000"), [C, B, A]),
            (Select(run_prefix="0000000000"), [B, A]),
            (Select(run_prefix=C), [C]),
            (Select(run_prefix=""), [C, B, A]),
            (Select(run_prefix="z"), []),
            (Select(older_than=C), [B, A]),
            (Select(older_than=B, limit=1), [A]),
            (Select(older_than=A), []),
            (Select(older_than=STRANGER), []),
            (Select(run_prefix="0000000000", run_ids=[A, C]), [A]),
            (Select(kind="flow"), [C, A]),
            (Select(kind="flo"), []),
            (Select(name="report"), [B, A]),
            (Select(name="report", is_full_name=True), [B]),
            (Select(name="report", is_full_name=True, limit=3), [B]),
            (Select(name="nobody", is_full_name=True), []),
            (Select(name="report", limit=1), [B]),
            (Select(name="pages.report"), [A]),
            (Select(name="pages.report", is_full_name=True), [A]),
            (Select(name="eport"), []),
            (Select(name="xreport"), [C]),
            (Select(name="REPORT"), []),
            (Select(name="%"), []),
            (Select(statuses=[RunStatus.FAILED]), [B]),
            (Select(statuses={RunStatus.FAILED, RunStatus.RUNNING}), [B, A]),
            (Select(statuses=[]), []),
            (Select(since=100), [B, A]),
            (Select(since=101), []),
            (Select(since=100, limit=1), [B]),
            (Select(since=0), [C, B, A]),
            (Select(limit=1), [C]),
            (Select(limit=2), [C, B]),
            (Select(limit=0), []),
            (Select(limit=9), [C, B, A]),
            (Select(kind="flow", limit=1), [C]),
            (Select(statuses=[RunStatus.FAILED], limit=1), [B]),
            (Select(statuses={RunStatus.FAILED, RunStatus.RUNNING}, limit=1), [B]),
            (Select(kind="flow", name="report", statuses=[RunStatus.RUNNING], since=100, limit=5), [A]),
        ],
    )
    def test_runs_are_selected_newest_first(self, world: Journal, select: Select, expected: list[RunId]) -> None:
        with world.reading() as reader:
            assert [row.run_id for row in reader.runs(select)] == expected

    @pytest.mark.parametrize(
        ("select", "expected"),
        [
            (Select(), ["C fetch[0] 1", "fetch[10] 1", "fetch[10] 2", "fetch[2] 1", "fit[0] 1"]),
            (Select(limit=2), ["C fetch[0] 1", "fetch[10] 1"]),
            (Select(is_latest=True), ["C fetch[0] 1", "fetch[10] 2", "fetch[2] 1", "fit[0] 1"]),
            (Select(is_latest=True, limit=2), ["C fetch[0] 1", "fetch[10] 2"]),
            (Select(is_latest=True, step_statuses=[StepStatus.COMPLETED], limit=1), ["fetch[10] 2"]),
            (Select(step_statuses=[StepStatus.COMPLETED]), ["fetch[10] 2", "fetch[2] 1"]),
            (Select(step_statuses={StepStatus.RUNNING, StepStatus.RETRYING}), ["C fetch[0] 1", "fit[0] 1"]),
            (Select(step_statuses=[]), []),
            (Select(run_name="xreport"), ["C fetch[0] 1"]),
            (Select(run_name="report", is_latest=True, limit=1), ["fetch[10] 2"]),
            (Select(run_name="report", is_full_name=True), []),
            (Select(run_name="pages.report", is_full_name=True, name="fit"), ["fit[0] 1"]),
            (Select(name="fetch", is_full_name=True), ["C fetch[0] 1"]),
            (Select(limit=0), []),
            (Select(run_ids=[C]), ["C fetch[0] 1"]),
            (Select(run_ids=[B]), []),
            (Select(run_prefix="0000000000"), ["fetch[10] 1", "fetch[10] 2", "fetch[2] 1", "fit[0] 1"]),
            (Select(name="fetch"), ["C fetch[0] 1", "fetch[10] 1", "fetch[10] 2", "fetch[2] 1"]),
            (Select(name="pages.fetch"), ["fetch[10] 1", "fetch[10] 2", "fetch[2] 1"]),
            (Select(name="etch"), []),
            (Select(since=150), ["C fetch[0] 1", "fetch[10] 2"]),
            (Select(since=130, name="pages.fetch", limit=1), ["fetch[10] 2"]),
            (Select(kind="agent", statuses=[RunStatus.FAILED], run_ids=[C]), ["C fetch[0] 1"]),
        ],
    )
    def test_steps_are_selected_by_run_first_fact_and_attempt(
        self, world: Journal, select: Select, expected: list[str]
    ) -> None:
        with world.reading() as reader:
            rows = reader.steps(select)
        found = [f"{'C ' if row.run_id == C else ''}{row.step.removeprefix('pages.')} {row.attempt}" for row in rows]
        assert found == expected

    @pytest.mark.parametrize(
        ("select", "expected"),
        [
            (Select(), list(range(1, 15))),
            (Select(limit=3), [12, 13, 14]),
            (Select(limit=0), []),
            (Select(limit=99), list(range(1, 15))),
            (Select(run_ids=[B]), [10, 11]),
            (Select(run_ids=[]), []),
            (Select(run_prefix="0000000000b"), [10, 11]),
            (Select(run_prefix="00000c"), [12, 13, 14]),
            (Select(name="RunStarted"), [1, 10, 12]),
            (Select(name="Started"), []),
            (Select(run_name="report"), list(range(1, 12))),
            (Select(run_name="report", limit=2), [10, 11]),
            (Select(run_name="report", is_full_name=True), [10, 11]),
            (Select(run_name="xreport", name="StepStarted", since=160), [13]),
            (Select(run_name="nobody"), []),
            (Select(name="StepStarted", limit=2), [7, 13]),
            (Select(since=151), [8, 9, 11, 13, 14]),
            (Select(since=160, run_ids=[B, C], limit=2), [13, 14]),
            (Select(run_ids=[A], after_version=2), [3, 4, 5, 6, 7, 8, 9]),
            (Select(run_ids=[A], after_version=2, until_version=4), [3, 4]),
            (Select(run_ids=[A], after_version=3, until_version=4), [4]),
            (Select(run_ids=[A], until_version=0), []),
            (Select(until_version=1), [1, 10, 12]),
            (Select(after=11), [12, 13, 14]),
            (Select(after=11, limit=2), [12, 13]),
            (Select(after=0, limit=3), [1, 2, 3]),
            (Select(after=2, run_ids=[A], limit=2), [3, 4]),
            (Select(after=9, run_name="report", limit=1), [10]),
            (Select(after=14), []),
        ],
    )
    def test_events_are_selected_by_position(self, world: Journal, select: Select, expected: Sequence[int]) -> None:
        with world.reading() as reader:
            assert [row.position for row in reader.events(select)] == expected
            assert whole(reader.event_columns(select)).position == expected

    def test_the_columns_of_events_hold_what_their_rows_hold(self, world: Journal) -> None:
        with world.reading() as reader:
            rows, columns = reader.events(Select()), whole(reader.event_columns(Select()))
        assert columns == columns_of(rows)
        assert columns.data == [json.loads(row.data) for row in rows]
        assert (columns.step[0], columns.attempt[0]) == (None, None)
        assert (columns.step[1], columns.attempt[1]) == ("pages.fetch[10]", 1)

    def test_steps_are_tallied_by_their_latest_attempts(self, world: Journal) -> None:
        expected = {
            A: [
                StepTally("fit", StepStatus.RUNNING, 1, None),
                StepTally("pages.fetch", StepStatus.COMPLETED, 2, 2.5, 1),
            ],
            C: [StepTally("fetch", StepStatus.RUNNING, 1, None)],
        }
        with world.reading() as reader:
            assert reader.tallies([A, B, C, STRANGER]) == expected
            assert reader.tallies([C]) == {C: expected[C]}
            assert reader.tallies([]) == reader.tallies([STRANGER]) == {}

    def test_a_tally_keeps_statuses_apart_and_adds_the_seconds_it_knows(self, journal: Journal) -> None:
        author = Author()
        author.start(A)
        for index in range(11):
            author.begin_step(A, "fetch", index)
        for index in (3, 4, 10):
            author.complete_step(A, "fetch", index, output=OUTPUT, duration_s=0.25)
        author.fail_step(A, "fetch", 5, duration_s=4.0)
        journal.append([author.entry(A)], durability=FAST)
        with journal.reading() as reader:
            assert reader.tallies([A]) == {
                A: [
                    StepTally("fetch", StepStatus.COMPLETED, 3, 0.75),
                    StepTally("fetch", StepStatus.FAILED, 1, 4.0),
                    StepTally("fetch", StepStatus.RUNNING, 7, None),
                ]
            }

    def test_steps_are_counted_by_the_site_of_their_latest_call(self, journal: Journal) -> None:
        author = Author()
        author.start(A)
        for index, site in enumerate(["d:1", "", "d:2", "d:1"]):
            author.begin_step(A, "fetch", index, site=site)
        author.fail_step(A, "fetch", 0, duration_s=4.0)
        author.begin_step(A, "fetch", 0, attempt=2, site="d:3")
        author.complete_step(A, "fetch", 3, output=OUTPUT, duration_s=0.25)
        journal.append([author.entry(A)], durability=FAST)
        with journal.reading() as reader:
            assert reader.sites(A, without=["fetch[2]"]) == [
                SiteTally("fetch", StepStatus.RUNNING, 1, None),
                SiteTally("fetch", StepStatus.COMPLETED, 1, 0.25, site="d:1"),
                SiteTally("fetch", StepStatus.RUNNING, 1, None, 1, site="d:3"),
            ]
            assert reader.sites(STRANGER) == []

    def test_steps_that_began_before_the_latest_continuation_are_counted(self, journal: Journal) -> None:
        author = Author()
        author.start(A)
        for index in range(3):
            author.begin_step(A, "fetch", index)
        author.complete_step(A, "fetch", 0, output=OUTPUT)
        again = RunContinued(reason="rerun", owner="me", definition=digest(1), durability="process")
        author.note(A, again)
        began_at = author.states[A].version
        author.complete_step(A, "fetch", 1, output=OUTPUT)  # it had waited until now
        journal.append([author.entry(A)], durability=FAST)
        with journal.reading() as reader:
            for version, n_completed, n_running in ((0, 0, 0), (3, 0, 0), (began_at, 1, 1)):
                counted = {tally.status: tally.n_recorded_before for tally in reader.sites(A, began_at=version)}
                assert counted == {StepStatus.COMPLETED: n_completed, StepStatus.RUNNING: n_running}

    def test_skipped_steps_are_counted_by_their_reason(self, journal: Journal) -> None:
        author = Author()
        author.start(A)
        for index, reason in enumerate(["when is false", f"x{AFTER_FAILURE}", "when is false"]):
            skipped = StepSkipped(name="fetch", index=index, identity=digest(3), reason=reason)
            author.note(A, skipped, step=step_ref("fetch", index), attempt=1)
        journal.append([author.entry(A)], durability=FAST)
        false = SiteTally("fetch", StepStatus.SKIPPED, 2, None, reason="when is false")
        failed = SiteTally("fetch", StepStatus.SKIPPED, 1, None, reason=f"x{AFTER_FAILURE}")
        with journal.reading() as reader:
            assert reader.sites(A) == [false, failed]
            assert reader.sites(A, continued_at=3) == [false, failed]
            assert reader.sites(A, continued_at=4) == [false]

    def test_the_head_of_a_run_is_its_newest_event(self, world: Journal) -> None:
        with world.reading() as reader:
            assert [reader.head(run) for run in (A, B, C, STRANGER)] == [(9, 152), (2, 160), (3, 180), None]

    def test_every_run_is_found_by_each_of_its_prefixes(self, journal: Journal) -> None:
        journal.append([one_run(A), one_run(D)], durability=FAST)
        with journal.reading() as reader:
            for run in (A, D):
                for length in range(1, 13):
                    assert [row.run_id for row in reader.runs(Select(run_prefix=run[:length]))] == [run]

    def test_a_call_joins_its_run_of_the_latest_other_execution(self, journal: Journal) -> None:
        author = Author()
        author.start(A, execution="cell 1")
        author.start(B, execution="cell 2")
        journal.append([author.entry(A), author.entry(B)], durability=FAST)
        call = CallKey(kind="flow", name="pages.report", inputs_digest=digest(2), ordinal=0, execution="cell 3")

        def joined(**changed: object) -> RunId | None:
            with journal.reading() as reader:
                found = reader.run_to_join(replace(call, **changed))
                return None if found is None else found.run_id

        assert joined() == B
        assert joined(execution="cell 2") == A
        author.note(A, RunInterrupted(reason="gone"))
        journal.append([author.entry(A)], durability=FAST)
        assert joined() == B
        author.note(
            A, RunContinued(reason="rerun", owner="x", definition=digest(1), durability="power", execution="cell 4")
        )
        journal.append([author.entry(A)], durability=FAST)
        assert joined() == A
        assert joined(execution="cell 4") == B
        assert joined(kind="agent") is None
        assert joined(name="report") is None
        assert joined(inputs_digest=digest(3)) is None
        assert joined(ordinal=1) is None

    @pytest.mark.parametrize("given", [{"key": "k"}, {"parent_run_id": D}])
    def test_no_call_joins_a_run_of_a_key_or_of_a_parent(self, journal: Journal, given: dict[str, str]) -> None:
        call = CallKey(kind="flow", name="pages.report", inputs_digest=digest(2), ordinal=0, execution="now")
        journal.append([one_run(A, execution="then", **given)], durability=FAST)
        with journal.reading() as reader:
            assert reader.run_to_join(call) is None
        journal.append([one_run(B)], durability=FAST)  # a run outside of any execution
        with journal.reading() as reader:
            found = reader.run_to_join(call)
            assert found is not None
            assert found.run_id == B
