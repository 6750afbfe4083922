"""Threads that wait to write are written in one transaction, and each hears of its own errors only."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest

from ironflow_nb.core.identity import RunId
from ironflow_nb.errors import JournalConflict
from ironflow_nb.execution.engine import Engine
from ironflow_nb.journal.ports import Durability, Lease, RunCommit
from ironflow_nb.testing.memory_journal import MemoryJournal
from tests.waits.conftest import LIMIT_S, until

N_THREADS = 5
FIRST = RunId("f" * 12)


class Watched(MemoryJournal):
    """A journal that notes its transactions, and refuses those with a run that is to be refused."""

    def __init__(self) -> None:
        super().__init__()
        self.transactions: list[tuple[list[RunId], Durability]] = []
        self.refused: set[RunId] = set()
        self.interrupts: list[BaseException] = []
        self.writes, self.goes_on = threading.Event(), threading.Event()

    def append(self, commits: Sequence[RunCommit], *, durability: Durability, lease: Lease | None = None) -> None:
        run_ids = [commit.run_id for commit in commits]
        if run_ids == [FIRST]:
            self.writes.set()
            assert self.goes_on.wait(LIMIT_S)
            return
        self.transactions.append((run_ids, durability))
        if self.interrupts:
            raise self.interrupts.pop()
        if lost := self.refused & {*run_ids}:
            raise JournalConflict(f"{lost} is another's", run_id=lost.pop())
        super().append(commits, durability=durability, lease=lease)


@pytest.fixture
def journal() -> Watched:
    return Watched()


@pytest.fixture
def engine(journal: Watched) -> Iterator[Engine]:
    engine = Engine(journal)
    yield engine
    engine.close()


def written_at_once(
    engine: Engine, journal: Watched, *durabilities: Durability
) -> list[tuple[RunId, object, BaseException | None]]:
    """Have threads write while another one does; return the run, value and error of each."""
    access, errors = engine.access, dict[RunId, BaseException]()
    runs = [RunId(f"{n:012}") for n in range(len(durabilities))]
    stored = [engine.codecs.store(f"value {n}")[0] for n in range(len(durabilities))]

    def write(n: int) -> None:
        try:
            access.append([RunCommit(run_id=runs[n], events=(), values=(stored[n],))], durabilities[n])
        except BaseException as error:
            errors[runs[n]] = error

    threads = [threading.Thread(target=write, args=(n,)) for n in range(len(durabilities))]
    first = threading.Thread(target=access.append, args=([RunCommit(run_id=FIRST, events=())], Durability.PROCESS))
    first.start()
    assert journal.writes.wait(LIMIT_S)
    for thread in threads:
        thread.start()
    until(lambda: len(access._waiting) == len(durabilities))
    journal.goes_on.set()
    for thread in (first, *threads):
        thread.join(LIMIT_S)
    assert access._waiting == {}
    return [(run, access.value(each.value_id), errors.get(run)) for run, each in zip(runs, stored, strict=True)]


def test_they_are_written_in_one_transaction_as_durable_as_the_most_durable(engine: Engine, journal: Watched) -> None:
    levels = [Durability.PROCESS, Durability.POWER, *[Durability.PROCESS] * (N_THREADS - 2)]
    found = written_at_once(engine, journal, *levels)
    [(runs, durability)] = journal.transactions
    assert sorted(runs) == [run for run, _, _ in found]
    assert durability is Durability.POWER
    assert all(value is not None and error is None for _, value, error in found)


def test_one_that_is_refused_takes_nothing_from_the_others(engine: Engine, journal: Watched) -> None:
    journal.refused = {RunId(f"{3:012}")}
    for n, (_, value, error) in enumerate(written_at_once(engine, journal, *[Durability.POWER] * N_THREADS)):
        assert isinstance(error, JournalConflict) is (n == 3)
        assert (value is None) is (n == 3)


def test_one_that_is_interrupted_takes_nothing_from_the_others(engine: Engine, journal: Watched) -> None:
    journal.interrupts = [KeyboardInterrupt()]
    found = written_at_once(engine, journal, *[Durability.POWER] * N_THREADS)
    assert [type(error) for _, _, error in found if error is not None] == [KeyboardInterrupt]
    assert [value is None for _, value, _ in found] == [error is not None for _, _, error in found]
