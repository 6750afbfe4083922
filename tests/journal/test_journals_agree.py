"""Whatever legal history is written, the journals of SQLite and the one of plain Python give the same answers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from threading import RLock

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ironflow_nb.core.events import (
    DomainEvent,
    InjectionUndone,
    OutputInjected,
    RunCancelRequested,
    RunCompleted,
    RunContinued,
    RunFailed,
    RunInterrupted,
    RunPaused,
    RunWaiting,
    SessionEnded,
    SignalReceived,
    StepRetryScheduled,
    StepReused,
)
from ironflow_nb.core.identity import RunId, ValueId, step_ref
from ironflow_nb.core.run_state import StepRow
from ironflow_nb.core.status import ENDED, RunStatus, StepReason, StepStatus
from ironflow_nb.journal.ports import Durability, Journal, RunCommit, Select, Signal
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from ironflow_nb.journal.sqlite_memory import SqliteMemoryJournal
from ironflow_nb.testing.memory_journal import MemoryJournal
from ironflow_nb.values.stored_value import StoredValue
from tests.conftest import FULL_PROOF
from tests.contracts.histories import A, Author, B, C, D, answers, definition, digest, folded, lease, value

pytestmark = pytest.mark.slow

FAST = Durability.PROCESS
RUNS = (A, B, C, D)
NAMES = ("fetch", "pages.fetch", "pages.fit")
FLOWS = ("report", "pages.report", "pages.fetch")
SIZES = (3, 1024, 1025, 70_000)
Deed = tuple[str, RunId, int]

DEEDS = (
    "step", "step", "step", "done", "done", "failed", "failed", "retry", "reuse", "inject", "note", "wait",
    "woken", "account", "end", "end", "continue", "continue", "sign again", "define", "lease", "release", "send",
    "take", "resign", "done", "inject", "take back", "take back",
)  # fmt: skip
deeds = st.tuples(st.sampled_from(DEEDS), st.sampled_from(RUNS), st.integers(0, 47))
histories = st.lists(st.lists(deeds, min_size=1, max_size=8), min_size=1, max_size=10)
selects = st.builds(
    Select,
    run_ids=st.none() | st.lists(st.sampled_from(RUNS), max_size=3, unique=True),
    run_prefix=st.none() | st.builds(lambda run, length: run[:length], st.sampled_from(RUNS), st.integers(0, 12)),
    kind=st.none() | st.sampled_from(("flow", "agent")),
    name=st.none() | st.sampled_from((*NAMES, *FLOWS, "etch", "", "RunStarted", "StepStarted", "pages.Decided")),
    statuses=st.none() | st.sets(st.sampled_from(list(RunStatus)), max_size=4),
    since=st.none() | st.integers(0, 40),
    limit=st.none() | st.integers(0, 9),
)


class Scribe:
    """Writes deeds into journals, each as far as it is legal now; `number` decides everything about a deed."""

    def __init__(self, *journals: Journal) -> None:
        self.journals = journals
        self.author = Author()
        self.author.now = 0
        self.keys: set[tuple[str, str, str]] = set()

    def write(self, batch: list[Deed]) -> None:
        entries = [entry for deed in batch if (entry := self.perform(*deed)) is not None]
        durability = Durability.POWER if len(batch) == 1 and batch[0][2] % 8 == 0 else FAST
        owner = lease("me", heartbeat_at=self.author.now) if len(batch) % 2 else None
        for journal in self.journals:
            journal.append(entries, durability=durability, lease=owner)

    def perform(self, deed: str, run: RunId, number: int) -> RunCommit | None:
        """Return what the deed adds to the run; the mailbox and the leases are written at once."""
        if run not in self.author.states:
            return self.start(run, number)
        outside: dict[str, Callable[[Journal], object]] = {
            "lease": lambda journal: journal.write_lease(lease(f"owner {number % 3}", heartbeat_at=number)),
            "release": lambda journal: journal.release(f"owner {number % 3}"),
            "send": lambda journal: journal.send(Signal(run_id=run, name="pause", sent_at=number)),
        }
        if deed in outside:
            for journal in self.journals:
                outside[deed](journal)
            return None
        if deed == "resign":
            known = value(b"x" * SIZES[number % 4]).value_id
            counts = [journal.replace_signatures("tagged", {known: b"mac %d" % number}) for journal in self.journals]
            assert len(set(counts)) == 1
            return None
        return self.change(deed, run, number)

    def start(self, run: RunId, number: int) -> RunCommit:
        kind, name, key = ("flow", "flow", "agent")[number % 3], FLOWS[number % 3], f"key {number % 2}"
        is_free = number % 4 == 0 and (kind, name, key) not in self.keys
        if is_free:
            self.keys.add((kind, name, key))
        self.author.start(
            run,
            at=self.author.now + number % 2,
            kind=kind,
            name=name,
            key=key if is_free else None,
            inputs_digest=digest(number % 2),
            execution=(None, "cell 1", "cell 2")[number % 3],
            ordinal=number // 40,
            parent_run_id=D if number % 7 == 0 else None,
        )
        return self.author.entry(run, definition=definition(number % 3))

    def change(self, deed: str, run: RunId, number: int) -> RunCommit | None:  # noqa: PLR0915 -- one case a deed
        author, values, row_values, taken = self.author, list[StoredValue](), list[StoredValue](), list[int]()
        name, index = NAMES[number % 3], number // 3 % 4 * 5  # 0, 5, 10, 15: as text they sort otherwise
        step = step_ref(name, index)
        row, output = author.states[run].latest(step), value(b"x" * SIZES[number % 4], mac=b"%d" % number)
        of_row = value(b"y" * (number % 5))
        output, place = (of_row, row_values) if number % 5 < 2 else (output, values)
        state, attempt = row and row.status, row.attempt if row else 0
        has_ended = self.status(run) in ENDED
        match deed:
            case "step" if not has_ended and state in {None, StepStatus.FAILED, StepStatus.RETRYING}:
                failures = [one.step for one in self.latest(run) if one.status is StepStatus.FAILED]
                given = {"lived_with": tuple(failures[: number % 2]), "inputs": of_row.value_id}
                author.begin_step(run, name, index, attempt + 1, **given)
                row_values += [of_row] * (number % 7 > 0)
            case "done" if row and state is StepStatus.RUNNING:
                author.complete_step(run, name, index, attempt, output=output.value_id, duration_s=number / 8)
                place.append(output)
            case "failed" if row and state is StepStatus.RUNNING:
                author.fail_step(run, name, index, attempt, duration_s=number / 8)
            case "retry" if row and state is StepStatus.FAILED:
                author.note(run, StepRetryScheduled(due_at=number), step=step, attempt=attempt)
            case "reuse" if row is None:
                author.note(run, reused(name, index, output.value_id), step=step, attempt=1)
            case "inject" if row and state is StepStatus.COMPLETED:
                given = {"name": name, "index": index, "identity": digest(3), "reason": "x"}
                injected = OutputInjected(output=output.value_id, **given)
                author.note(run, injected, step=step, attempt=attempt + 1)
                place.append(output)
            case "take back" if row and row.reason == StepReason.INJECTED:
                author.note(run, InjectionUndone(output=row.output_id), step=step, attempt=attempt)
            case "note":
                decided = msgspec.Raw(b'{"z": 1, "a": [%d]}' % number)
                author.note(run, DomainEvent(type="pages.Decided", data=decided))
            case "wait" if not has_ended:
                author.note(run, RunWaiting(waiting_for="an answer"))
            case "woken" if not has_ended:
                author.note(run, SignalReceived(name="go", signal_id=number))
            case "account" if not has_ended:
                author.note(run, SessionEnded(n_reused=number))
            case "end" if not has_ended:
                self.end(run, number)
            case "continue" if has_ended and self.status(run) is not RunStatus.COMPLETED:
                author.note(run, continued(number))
            case "sign again":
                values += [output, value(b"x" * SIZES[number % 4], codec="pickle", mac=b"m", preview=f"look {number}")]
                author.note(run, DomainEvent(type="pages.Signed"))
            case "take":
                author.note(run, DomainEvent(type="pages.Taken"))
                with self.journals[0].current() as reader:
                    taken = [one.signal_id for one in reader.signals([run]) if one.signal_id][: 1 + number % 2]
            case "define":
                author.note(run, DomainEvent(type="pages.Defined"))
            case _:
                return None
        newer = definition(number % 4, source=f"newer {number}") if deed in {"define", "continue"} else None
        return author.entry(run, values=values, row_values=row_values, definition=newer, taken=taken)

    def end(self, run: RunId, number: int) -> None:
        last = tuple(row.step for row in self.latest(run) if row.status is StepStatus.FAILED)
        self.author.note(
            run,
            (
                RunInterrupted(reason="gone"),
                RunFailed(error=digest(9), caused_by=last[-1:]),
                RunPaused(),
                RunCancelRequested(asked_by="me"),
                RunCompleted(output=value(b"x" * 3).value_id),
            )[number % 5],
        )

    def status(self, run: RunId) -> RunStatus:
        row = self.author.states[run].run
        assert row is not None
        return row.status

    def latest(self, run: RunId) -> list[StepRow]:
        state = self.author.states[run]
        return [row for step in state.n_attempts if (row := state.latest(step)) is not None]


def continued(number: int) -> RunContinued:
    return RunContinued(
        reason="rerun", owner="you", definition=digest(number % 4), durability="power",
        execution=(None, "cell 2", "cell 3")[number % 3], ordinal=number // 40,
    )  # fmt: skip


def reused(name: str, index: int, output: ValueId) -> StepReused:
    return StepReused(
        name=name, index=index, identity=digest(3), code=digest(4), output=output,
        origin_run_id=D, origin_step=step_ref(name, index),
    )  # fmt: skip


@settings(max_examples=500 if FULL_PROOF else 50)
@given(history=histories, asked=st.lists(selects, min_size=6, max_size=12))
def test_all_journals_answer_alike_after_any_history(history: list[list[Deed]], asked: list[Select]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.db"
        memory, sqlite, sqlite_memory = MemoryJournal(), SqliteJournal(path), SqliteMemoryJournal(RLock())
        scribe = Scribe(memory, sqlite, sqlite_memory)
        try:
            for batch in history:
                scribe.write(batch)
            with memory.reading() as expected, sqlite.reading() as found:
                wanted = answers(expected, [Select(), *asked])
                assert answers(found, [Select(), *asked]) == wanted
                for view in (sqlite.current, sqlite_memory.reading, sqlite_memory.current):
                    with view() as reader:
                        assert answers(reader, [Select(), *asked]) == wanted
                for run, state in scribe.author.states.items():
                    refolded = folded(found.events(Select()), run)
                    assert refolded.run == state.run
                    assert found.runs(Select(run_ids=[run])) == [refolded.run]
                    by_place = {(row.step, row.attempt): row for row in found.steps(Select(run_ids=[run]))}
                    assert by_place == refolded.steps == state.steps
        finally:
            sqlite.close()
        with SqliteJournal(path, read_only=True).reading() as kept:
            assert answers(kept, [Select(), *asked]) == wanted
