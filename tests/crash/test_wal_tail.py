"""A write-ahead log that lost its end, as a power cut leaves it: cut at each of its frames, and inside of them."""

from __future__ import annotations

import random
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from ironflow_nb.core.status import RunStatus
from ironflow_nb.execution import DETACHED
from ironflow_nb.journal.ports import Durability, EventRow, QueueSelect, Reader, Select
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from ironflow_nb.testing.clock import SimClock
from ironflow_nb.testing.process_death import abandon, completed, outcome_of, process_on
from tests.conftest import FULL_PROOF, SEED
from tests.contracts.histories import folded
from tests.crash import flows

pytestmark = pytest.mark.crash

# https://sqlite.org/fileformat2.html#the_write_ahead_log
HEADER: Final = 32
FRAME: Final = 24 + 4096
N_CUTS: Final = 1_000 if FULL_PROOF else 40
"""How many cuts of each flow, at most."""


class Log(list[tuple[str, object]]):
    """The log of the flows, which notes how long the write-ahead log is whenever something is acknowledged."""

    def __init__(self, wal: Path) -> None:
        super().__init__()
        self.wal = wal
        self.acknowledged_at: dict[object, int] = {}

    def append(self, entry: tuple[str, object]) -> None:
        super().append(entry)
        if entry[0] == "ack":
            self.acknowledged_at[entry[1]] = self.wal.stat().st_size


def lived(name: str, journal: SqliteJournal) -> object:
    """Run the flow to its end, die then, and return its result; the write-ahead log stays as it is."""
    flows.FAILED.clear()
    with process_on(journal, Durability.POWER, SimClock()) as engine:
        result = outcome_of(flows.FLOWS[name])
        abandon(engine)
    return result


def cuts(wal: bytes, dice: random.Random) -> Iterator[tuple[str, int, bytes]]:
    """Return what may be left of the log: to which frame it is whole, and its bytes."""
    n_frames = (len(wal) - HEADER) // FRAME
    for n in range(n_frames + 1):
        end = HEADER + n * FRAME
        yield "cut at a frame", n, wal[:end]
        if n < n_frames:
            torn = dice.randrange(1, FRAME)
            yield "cut in a frame", n, wal[: end + torn]
            yield "noise in a frame", n, wal[:end] + dice.randbytes(FRAME) + wal[end + FRAME :]
            yield "zeros to the end", n, wal[:end] + bytes(len(wal) - end)


def events(journal: SqliteJournal) -> list[EventRow]:
    with journal.reading() as reader:
        return reader.events(Select())


def check_rows(reader: Reader) -> None:
    """Assert that what is left is one moment of the journal: the rows are those of its events."""
    rows = reader.events(Select())
    steps = defaultdict(list)
    for row in reader.steps(Select()):
        steps[row.run_id].append(row)
    for run in reader.runs(Select()):
        state = folded(rows, run.run_id)
        assert state.run == run
        assert sorted(state.steps.values(), key=repr) == sorted(steps[run.run_id], key=repr)


def check_statuses(reader: Reader) -> None:
    """Assert that all runs are completed but the detached ones, each of which is in the queue of a worker."""
    runs = reader.runs(Select())
    detached = {run.run_id for run in runs if run.status is RunStatus.PENDING}
    assert {run.status for run in runs if run.run_id not in detached} == {RunStatus.COMPLETED}
    assert {work.run_id for work in reader.work(QueueSelect(kind=DETACHED))} == detached


@pytest.mark.sampled(8)
@pytest.mark.parametrize("name", flows.FLOWS)
def test_whatever_is_left_of_the_log_the_run_continues(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source" / "journal.db"
    wal = source.with_name("journal.db-wal")
    log = Log(wal)
    monkeypatch.setattr(flows, "LOG", log)
    journal = SqliteJournal(source)
    expected = lived(name, journal)
    acknowledged_at = dict(log.acknowledged_at)
    whole, content = events(SqliteJournal(source)), wal.read_bytes()
    assert acknowledged_at
    assert max(acknowledged_at.values()) <= len(content)
    dice = random.Random(f"{SEED} {name}")
    all_cuts = list(cuts(content, dice))
    assert len(all_cuts) > 100
    chosen = all_cuts if len(all_cuts) <= N_CUTS else dice.sample(all_cuts, N_CUTS)
    for number, (kind, n_frames, left) in enumerate(chosen):
        copy = tmp_path / str(number) / "journal.db"
        shutil.copytree(source.parent, copy.parent)
        copy.with_name("journal.db-shm").unlink(missing_ok=True)
        copy.with_name("journal.db-wal").write_bytes(left)
        kept = {what for what, size in acknowledged_at.items() if size <= HEADER + n_frames * FRAME}
        monkeypatch.setattr(flows, "LOG", [])
        flows.FAILED.clear()
        with process_on(SqliteJournal(copy), Durability.POWER, SimClock()) as engine:
            with engine.reading() as reader:
                assert reader.events(Select()) == whole[: len(reader.events(Select()))]
                check_rows(reader)
                owners = reader.leases()  # of this process, which is alive; a power cut ends all that had one
            engine.journal.release(*owners)
            assert completed(flows.FLOWS[name]) == expected, f"{kind} {n_frames}"
            with engine.reading() as reader:
                check_rows(reader)
                check_statuses(reader)
        again = kept & {what for kind, what in flows.LOG if kind == "body"}
        assert not again, f"{kind} {n_frames}: {again} had been acknowledged, and ran again"
        shutil.rmtree(copy.parent)
    journal.close()  # only now: it would write the log back
