"""The rows of logs, metrics and progress: every kind of journal keeps them alike."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from threading import RLock

from hypothesis import given, settings
from hypothesis import strategies as st

from ironflow_nb.journal.ports import Durability, Journal, RunCommit
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from ironflow_nb.journal.sqlite_memory import SqliteMemoryJournal
from ironflow_nb.telemetry.telemetry_rows import LogRow, MetricRow, ProgressRow, TelemetryReader, TelemetryRow
from ironflow_nb.testing.memory_journal import MemoryJournal
from tests.contracts.histories import A, B

PLACES = [("", 0), ("fetch", 0), ("fetch", 1), ("a.b", 0)]  # the flow has no index
attempts = {"attempt": st.integers(0, 1), "at": st.integers(0, 3)}
counts = st.integers(0, 2**63 - 1)


def rows_of(kind: type[TelemetryRow], **fields: st.SearchStrategy[object]) -> st.SearchStrategy[TelemetryRow]:
    return st.builds(
        lambda place, more: kind(name=place[0], index=place[1], **more),
        st.sampled_from(PLACES),
        st.fixed_dictionaries(attempts | fields),
    )


logs = rows_of(
    LogRow, number=st.integers(0, 6), stream=st.sampled_from(["stdout", "omitted"]),
    level=st.sampled_from([None, "INFO"]), text=st.sampled_from(["", "a", "b\n"]), until=st.none() | st.integers(0, 6),
)  # fmt: skip
metrics = rows_of(
    MetricRow, branch=st.sampled_from(["", "/b"]), metric=st.sampled_from("xy"), nth=st.integers(0, 1),
    value=st.sampled_from([0.0, 1.5, math.inf, -math.inf, math.nan]),
)  # fmt: skip
progress = rows_of(ProgressRow, n_done=counts, n_total=st.none() | counts, is_open=st.booleans())
commits = st.lists(st.tuples(st.sampled_from([A, B]), st.lists(logs | metrics | progress, max_size=6)), max_size=6)


def told(journal: Journal) -> list[object]:
    with journal.reading() as reader:
        found = reader.extension(TelemetryReader)
        return [
            found.logs(A), found.logs(B), [repr(each) for each in found.metrics([A, B])], found.metrics([]),
            found.progress([A, B]), found.progress([]), found.open_progress(A), found.open_progress(B),
        ]  # fmt: skip


@settings(max_examples=20)
@given(commits)
def test_all_journals_keep_the_same_rows(written: list[tuple[str, list[TelemetryRow]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        journals: list[Journal] = [
            SqliteJournal(Path(folder) / "journal.db"), SqliteMemoryJournal(RLock()), MemoryJournal(),
        ]  # fmt: skip
        for journal in journals:
            for run_id, rows in written:
                commit = RunCommit(run_id=run_id, events=(), additions=tuple(rows))  # type: ignore[arg-type]
                journal.append([commit], durability=Durability.PROCESS)
        first, *others = [told(journal) for journal in journals]
        for journal in journals:
            journal.close()
        assert all(other == first for other in others)
