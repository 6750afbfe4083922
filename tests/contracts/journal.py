"""What every journal has to keep when it is written; what it has to answer is in `selections` and `stored_values`."""

from __future__ import annotations

import time

import pytest
from msgspec.structs import replace

from ironflow_nb.core.event_codec import decode_event
from ironflow_nb.core.events import RunContinued, RunInterrupted, TimerFired
from ironflow_nb.core.identity import RunId, step_ref
from ironflow_nb.core.status import RunStatus, StepStatus
from ironflow_nb.errors import JournalConflict
from ironflow_nb.journal.ports import CachedResult, Durability, Journal, Reader, RunCommit, Select, Signal, SignalId
from tests.contracts.histories import (
    STRANGER,
    A,
    Author,
    B,
    C,
    answers,
    definition,
    digest,
    full_run,
    full_step,
    lease,
    one_run,
    value,
)

FAST = Durability.PROCESS
CONTINUED = RunContinued(reason="rerun", owner="you", definition=digest(5), durability="power", execution="c:2")


def computing(run: RunId) -> CachedResult:
    """Say that the run computes something."""
    return CachedResult(identity=digest(1), code=digest(2), run_id=run, step=step_ref("f", 0), owner="me")


def next_token(journal: Journal, before: list[int]) -> int:
    """Return the token once it has changed: a server tells of a commit a moment after it."""
    until = time.monotonic() + 10
    while (token := journal.change_token()) in before:
        assert time.monotonic() < until, "the commit of another handle was not noticed"
    return token


class JournalContract:
    """Inherited by the tests of an adapter, which give the fixtures `journal` and `other_handle` of one store."""

    def test_a_new_journal_answers_everything_with_nothing(self, journal: Journal) -> None:
        assert not journal.exists()
        for view in (journal.reading, journal.current):
            with view() as reader:
                found = answers(reader)
                rows = [reader.runs(Select()), reader.steps(Select()), reader.events(Select())]
                assert rows == [[], [], []]
                assert [reader.tallies([A]), reader.values([value(b"x").value_id]), reader.leases()] == [{}, {}, {}]
                assert reader.run_by_key("flow", "f", "k") is None
                assert reader.head(A) is None
                assert found["signals"] == [[]] * 6
        journal.release("nobody")
        assert not journal.exists()

    @pytest.mark.parametrize("durability", list(Durability))
    def test_events_come_back_in_order_of_append(self, journal: Journal, durability: Durability) -> None:
        author = Author()
        author.start(B)
        author.begin_step(B, "fetch", 3)
        first = author.entry(B)
        author.start(A)
        second = author.entry(A)
        author.fail_step(B, "fetch", 3)
        author.note(B, RunInterrupted(reason="gone"), at=5)  # clocks go back
        third = author.entry(B)
        journal.append([first, second], durability=durability)
        journal.append([third], durability=durability)
        assert journal.exists()
        for view in (journal.reading, journal.current):
            with view() as reader:
                rows = reader.events(Select())
            expected = [(entry.run_id, fact) for entry in (first, second, third) for fact in entry.events]
            assert [(row.run_id, row.version, row.at, row.step, row.attempt) for row in rows] == [
                (run, fact.version, fact.at, fact.step, fact.attempt) for run, fact in expected
            ]
            assert [decode_event(row.type, row.data) for row in rows] == [fact.event for _, fact in expected]
            assert [row.position for row in rows] == [1, 2, 3, 4, 5]

    def test_every_column_of_runs_and_steps_comes_back(self, journal: Journal) -> None:
        run, step = full_run(), full_step()
        journal.append([replace(one_run(A), run=run, steps=(step,))], durability=FAST)
        with journal.reading() as reader:
            assert reader.runs(Select()) == [run]
            assert reader.steps(Select()) == [step]
            assert list(reader.attempts(A)) == [(step, None)]

    def test_rows_written_again_replace_those_before(self, journal: Journal) -> None:
        journal.append([replace(one_run(A), steps=(full_step(),))], durability=FAST)
        author = Author()
        author.start(A)
        author.entry(A)
        author.note(A, RunInterrupted(reason="gone"))
        later = replace(author.entry(A), run=full_run(), steps=(replace(full_step(), status=StepStatus.COMPLETED),))
        journal.append([later], durability=FAST)
        with journal.reading() as reader:
            assert reader.runs(Select()) == [full_run()]
            assert reader.steps(Select()) == list(later.steps)

    @pytest.mark.parametrize("is_lived_with", [False, True])
    def test_a_completed_attempt_that_has_only_a_result_replaces_the_whole_row(
        self, journal: Journal, *, is_lived_with: bool
    ) -> None:
        author, before = Author(), full_step()
        completed = replace(
            before, status=StepStatus.COMPLETED, lived_with=is_lived_with, error_id=None, due_at=None,
            child_run_id=None, origin_run_id=None, output_id=value(b"new").value_id,
        )  # fmt: skip
        other = replace(completed, index=13, step=step_ref("näme", 13))  # there is no row yet
        journal.append([replace(one_run(A), steps=(before,))], durability=FAST)
        author.start(A)
        author.entry(A)
        author.note(A, RunInterrupted(reason="gone"))
        journal.append([replace(author.entry(A), steps=(completed, other))], durability=FAST)
        with journal.reading() as reader:
            assert reader.steps(Select()) == [completed, other]

    def test_a_run_whose_row_before_is_known_is_changed_like_any_other(self, journal: Journal) -> None:
        author = Author()
        author.start(A)
        first = author.entry(A)
        journal.append([first], durability=FAST)
        before = first.run
        for event in (RunInterrupted(reason="gone"), CONTINUED):
            author.note(A, event)
            entry = author.entry(A)
            journal.append([replace(entry, run_before=before)], durability=FAST)
            with journal.reading() as reader:
                assert reader.runs(Select()) == [entry.run]
            before = entry.run

    def test_an_event_that_leaves_the_row_of_its_run_as_it_was_is_written(self, journal: Journal) -> None:
        author = Author()
        author.start(A)
        first = author.entry(A)
        author.note(A, TimerFired(key="bell"))
        second = author.entry(A)
        assert second.run == first.run
        journal.append([first, replace(second, run_before=first.run)], durability=FAST)
        with journal.reading() as reader:
            assert [row.type for row in reader.events(Select())] == ["RunStarted", "TimerFired"]
            assert reader.runs(Select()) == [first.run]

    @pytest.mark.parametrize("stale_first", [True, False])
    def test_a_taken_version_is_a_conflict_and_nothing_of_the_batch_is_written(
        self, journal: Journal, other_handle: Journal, stale_first: bool
    ) -> None:
        journal.append([one_run(A)], durability=FAST)
        journal.send(Signal(run_id=B, name="stop", sent_at=1))
        with journal.reading() as reader:
            before = answers(reader)
            (signal,) = reader.signals([B])
            assert signal.signal_id is not None
        author = Author()
        author.start(B)
        author.begin_step(B, "fetch")
        good = author.entry(B, values=[value(b"new")], definition=definition(), taken=[signal.signal_id])
        batch = [one_run(A), good] if stale_first else [good, one_run(A)]
        with pytest.raises(JournalConflict) as caught:
            other_handle.append(batch, durability=FAST, lease=lease("me"))
        assert caught.value.ids["run_id"] == A
        assert A in str(caught.value)
        for view in (journal.reading, journal.current, other_handle.reading, other_handle.current):
            with view() as reader:
                assert answers(reader) == before
        other_handle.append([good], durability=FAST)
        with journal.reading() as reader:
            assert [row.run_id for row in reader.events(Select())] == [A, B, B]

    def test_who_lost_a_conflict_can_go_on_from_the_newest_version(
        self, journal: Journal, other_handle: Journal
    ) -> None:
        author = Author()
        author.start(A)
        journal.append([author.entry(A)], durability=FAST)
        author.note(A, RunInterrupted(reason="theirs"))
        other_handle.append([author.entry(A)], durability=FAST)
        slow = Author()
        slow.start(A)
        slow.entry(A)
        slow.note(A, RunInterrupted(reason="mine"))
        with pytest.raises(JournalConflict):
            journal.append([slow.entry(A)], durability=FAST)
        author.note(A, RunContinued(reason="resume", owner="x", definition=digest(1), durability="power"))
        journal.append([author.entry(A)], durability=FAST)
        with other_handle.reading() as reader:
            assert [row.type for row in reader.events(Select())] == ["RunStarted", "RunInterrupted", "RunContinued"]
            assert "theirs" in reader.events(Select(name="RunInterrupted"))[0].data

    def test_a_key_belongs_to_one_run_of_its_kind_and_name(self, journal: Journal) -> None:
        journal.append([one_run(A, key="k")], durability=FAST)
        with journal.reading() as reader:
            before = answers(reader)
        with pytest.raises(JournalConflict) as caught:
            journal.append([replace(one_run(B, key="k"), values=(value(b"new"),))], durability=FAST)
        assert caught.value.ids["run_id"] == B
        with journal.reading() as reader:
            assert answers(reader) == before
        others = [one_run(B, key="k", name="other"), one_run(C, key="k", kind="agent"), one_run(STRANGER)]
        journal.append(others, durability=FAST)
        with journal.reading() as reader:
            for row in reader.runs(Select()):
                assert row.key is None or reader.run_by_key(row.kind, row.name, row.key) == row
            assert reader.run_by_key("flow", "pages.report", "k2") is None
            assert reader.run_by_key("flow", "report", "k") is None

    def test_two_runs_of_one_batch_cant_have_one_key(self, journal: Journal) -> None:
        with pytest.raises(JournalConflict):
            journal.append([one_run(A, key="k"), one_run(B, key="k")], durability=FAST)
        with journal.reading() as reader:
            assert reader.runs(Select()) == []
        journal.append([one_run(B, key="k")], durability=FAST)

    def test_a_run_of_a_key_goes_on_with_it(self, journal: Journal) -> None:
        author = Author()
        author.start(A, key="k")
        journal.append([author.entry(A)], durability=FAST)
        author.note(A, RunInterrupted(reason="gone"))
        journal.append([author.entry(A)], durability=FAST)
        with journal.reading() as reader:
            found = reader.run_by_key("flow", "pages.report", "k")
            assert found is not None
            assert found.status is RunStatus.INTERRUPTED

    def test_a_definition_takes_the_newest_source_and_diagram(self, journal: Journal) -> None:
        newer = definition(source="def f(): return 1", diagram='{"n": 1}')
        first = [replace(one_run(A), definitions=(definition(),)), replace(one_run(B), definitions=(definition(2),))]
        journal.append(first, durability=FAST)
        with journal.reading() as reader:
            assert reader.definition(digest(1)) == definition()
        journal.append([replace(one_run(C), definitions=(newer,))], durability=FAST)
        with journal.reading() as reader:
            assert reader.definition(digest(1)) == newer
            assert reader.definition(digest(2)) == definition(2)
            assert reader.definition(digest(3)) is None

    def test_leases_are_written_renewed_and_released(self, journal: Journal, other_handle: Journal) -> None:
        journal.append([one_run(A)], durability=FAST, lease=lease("me"))
        other_handle.write_lease(lease("you"))
        with journal.reading() as reader:
            assert reader.leases() == {"me": lease("me"), "you": lease("you")}
        newer = replace(lease("me", heartbeat_at=99), host="b", pid=13, process_started_at="later", lease_s=0.5)
        journal.write_lease(newer)
        journal.release("you")
        journal.release("nobody")
        for view in (journal.current, other_handle.reading):
            with view() as reader:
                assert reader.leases() == {"me": newer}
        journal.append([], durability=FAST, lease=lease("me", heartbeat_at=100))
        with other_handle.reading() as reader:
            assert reader.leases() == {"me": lease("me", heartbeat_at=100)}

    def test_signals_wait_in_order_until_they_are_taken(self, journal: Journal, other_handle: Journal) -> None:
        payload = value(b"p").value_id
        sent = [
            Signal(run_id=A, name="pause", sent_at=9, sent_by="you", payload_id=payload),
            Signal(run_id=B, name="cancel", sent_at=8),
            Signal(run_id=A, name="pause", sent_at=7),
        ]
        for signal in sent:
            other_handle.send(signal)
        with journal.reading() as reader:
            found = reader.signals([A, B])
            assert [replace(signal, signal_id=None) for signal in found] == sent
            assert reader.signals([A]) == [found[0], found[2]]
            assert reader.signals([C]) == reader.signals([]) == []
        ids = [signal.signal_id for signal in found if signal.signal_id is not None]
        assert len(set(ids)) == 3
        journal.append([replace(one_run(A), taken=(ids[0],))], durability=FAST)
        with other_handle.reading() as reader:
            assert reader.signals([A, B]) == found[1:]
        journal.send(sent[0])
        with journal.current() as reader:
            assert reader.signals([A])[-1].signal_id not in ids

    def test_a_run_has_one_signal_of_an_id_of_its_sender_received_or_not(
        self, journal: Journal, other_handle: Journal
    ) -> None:
        def known(run: RunId, payload: int = 1) -> SignalId:
            return SignalId(run_id=run, caller_id="a", name="paid", payload=digest(payload))

        def refuse(reader: Reader) -> None:
            raise LookupError

        paid = Signal(run_id=A, name="paid", sent_at=1)
        with pytest.raises(LookupError):
            journal.send(paid, known=known(A), check=refuse)
        assert journal.send(paid, known=known(A)) is None
        assert journal.send(replace(paid, run_id=B), known=known(B)) is None
        assert journal.send(paid) is None
        assert other_handle.send(paid, known=known(A, 2), check=refuse) == known(A)
        with journal.reading() as reader:
            first = reader.signals([A])[0].signal_id
            assert first is not None
            assert len(reader.signals([A])) == 2
            assert len(reader.signals([B])) == 1
        journal.append([replace(one_run(A), taken=(first,))], durability=FAST)
        assert other_handle.send(paid, known=known(A)) == known(A)
        with other_handle.reading() as reader:
            assert len(reader.signals([A])) == 1

    def test_a_result_for_all_runs_is_there_once_it_was_computed(self, journal: Journal, other_handle: Journal) -> None:
        author, claim = (
            Author(),
            CachedResult(identity=digest(1), code=digest(2), run_id=A, step=step_ref("f", 0), owner="me"),
        )
        author.start(A)
        with journal.current() as reader:
            assert reader.cached(digest(1), digest(2)) is None
        assert journal.claim(claim, lambda *_: True) is None
        rival = replace(claim, run_id=B, owner="you")
        assert other_handle.claim(rival, lambda found, _: found.owner == "me") == claim
        done = replace(claim, owner=None, output_id=value(b"x").value_id, finished_at=7, duration_s=0.5)
        journal.append([replace(author.entry(A), cached=(done,))], durability=FAST)
        with other_handle.reading() as reader:
            assert reader.cached(digest(1), digest(2)) == done
            assert reader.cached(digest(2), digest(1)) is None
        assert other_handle.claim(rival, lambda found, _: found.output_id is not None) == done
        assert other_handle.claim(rival, lambda *_: False) is None
        with journal.current() as reader:
            assert reader.cached(digest(1), digest(2)) == rival

    def test_a_claim_brings_the_lease_of_who_computes(self, journal: Journal, other_handle: Journal) -> None:
        assert journal.claim(computing(A), lambda *_: True, lease=lease("me")) is None
        rival = replace(computing(B), owner="you")
        seen: list[object] = []
        other_handle.claim(rival, lambda _, leases: not seen.append(leases), lease=lease("you"))
        assert seen == [{"me": lease("me")}]
        with journal.reading() as reader:
            assert reader.leases() == {"me": lease("me")}, "who waits writes nothing"

    def test_only_who_computes_a_result_gives_that_back(self, journal: Journal) -> None:
        claim = computing(A)
        journal.claim(claim, lambda *_: True)
        for other in (replace(claim, run_id=B), replace(claim, owner="you")):
            journal.append([RunCommit(run_id=other.run_id, events=(), cached=(other,))], durability=FAST)
            with journal.current() as reader:
                assert reader.cached(digest(1), digest(2)) == claim
        journal.append([RunCommit(run_id=A, events=(), cached=(claim,))], durability=FAST)
        with journal.current() as reader:
            assert reader.cached(digest(1), digest(2)) is None

    def test_the_token_changes_when_another_handle_writes(self, journal: Journal, other_handle: Journal) -> None:
        journal.append([one_run(A)], durability=FAST)
        other_handle.change_token()
        tokens = [journal.change_token()]
        assert journal.change_token() == tokens[0]
        other_handle.append([one_run(B)], durability=FAST)
        tokens.append(next_token(journal, tokens))
        other_handle.send(Signal(run_id=A, name="pause", sent_at=1))
        tokens.append(next_token(journal, tokens))
        other_handle.append([one_run(C)], durability=Durability.POWER)
        tokens.append(next_token(journal, tokens))
        assert len(set(tokens)) == 4

    def test_a_reader_sees_one_moment(self, journal: Journal, other_handle: Journal) -> None:
        author = Author()
        author.start(A, key="k")
        author.begin_step(A, "fetch")
        journal.append([author.entry(A)], durability=FAST, lease=lease("me"))
        with other_handle.reading() as reader:
            before = answers(reader)
            author.complete_step(A, "fetch", output=value(b"o").value_id)
            batch = [author.entry(A, values=[value(b"o")], definition=definition()), one_run(B, key="k2")]
            journal.append(batch, durability=FAST, lease=lease("you"))
            journal.send(Signal(run_id=A, name="pause", sent_at=1))
            journal.release("me")
            assert answers(reader) == before
            with journal.current() as now:
                assert answers(now) != before
        with other_handle.reading() as reader, journal.current() as now:
            assert answers(reader) == answers(now) != before
