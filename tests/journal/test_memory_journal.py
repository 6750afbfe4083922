"""The journals in memory keep the contract: that of ``:memory:``, and the reference of the tests."""

from __future__ import annotations

import gc
import warnings
from concurrent.futures import ThreadPoolExecutor
from threading import RLock

import pytest
from msgspec.structs import replace

from ironflow_nb.errors import JournalError
from ironflow_nb.journal.ports import Durability, Journal, Reader, RunCommit, Select
from ironflow_nb.journal.sqlite_memory import SqliteMemoryJournal
from ironflow_nb.retention.run_rows import RunRows
from ironflow_nb.testing.memory_journal import MemoryJournal
from ironflow_nb.values.stored_value import INLINE_LIMIT
from tests.contracts.histories import A, Author, B, one_run, value
from tests.contracts.journal import JournalContract
from tests.contracts.lanes import LaneContract
from tests.contracts.projections import ProjectionContract
from tests.contracts.selections import SelectContract
from tests.contracts.stored_values import ValueContract
from tests.contracts.work import WorkContract

FAST = Durability.PROCESS


@pytest.fixture
def other_handle(journal: Journal) -> Journal:
    """It ends with its process, in which there is one handle."""
    return journal


class TestMemoryJournal(
    JournalContract, ValueContract, SelectContract, WorkContract, ProjectionContract, LaneContract,
):  # fmt: skip
    @pytest.fixture
    def journal(self) -> Journal:
        return MemoryJournal()


class TestSqliteMemoryJournal(
    JournalContract, ValueContract, SelectContract, WorkContract, ProjectionContract, LaneContract
):
    @pytest.fixture
    def journal(self) -> Journal:
        return SqliteMemoryJournal(RLock())

    def test_a_decision_may_read_through_a_reader_of_its_own(self, journal: Journal) -> None:
        journal.append([one_run(A)], durability=FAST)

        def act(reader: Reader) -> list[RunCommit]:
            with journal.reading() as own:
                assert own.head(A) == reader.head(A) is not None
            return [one_run(B)]

        journal.exchange(act, durability=FAST)
        with journal.reading() as reader:
            assert {run.run_id for run in reader.runs(Select())} == {A, B}

    def test_every_reader_sees_whole_commits_while_another_thread_writes(self, journal: Journal) -> None:
        author = Author()
        author.start(A)
        journal.append([author.entry(A)], durability=FAST)

        def write() -> None:
            for number in range(200):
                author.begin_step(A, "fetch", number)
                author.fail_step(A, "fetch", number)
                journal.append([author.entry(A)], durability=FAST)

        def read() -> int:
            with journal.reading() as reader:
                n_events, n_steps = len(reader.events(Select())), len(reader.steps(Select()))
            assert n_events == 1 + 2 * n_steps
            return n_steps

        with ThreadPoolExecutor(3) as threads:
            writing = threads.submit(write)
            while not writing.done():
                for reading in [threads.submit(read) for _ in range(2)]:
                    reading.result()
            writing.result()
        assert read() == 200

    def test_what_was_recorded_can_be_read_after_the_engine_was_closed(self, journal: Journal) -> None:
        large = value(b"l" * INLINE_LIMIT)
        journal.append([replace(one_run(A), values=(large,))], durability=FAST)
        journal.close()
        with journal.reading() as reader:
            assert reader.values([large.value_id]) == {large.value_id: large}

    def test_its_database_is_closed_with_the_last_who_holds_it(self) -> None:
        journal = SqliteMemoryJournal(RLock())
        journal.append([one_run(A)], durability=FAST)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of a connection that was left open, newer Pythons warn
            connection = journal._connection
            del journal
            gc.collect()
        with pytest.raises(Exception, match="closed"):
            connection.execute("SELECT 1")


def test_what_reads_tables_is_refused_by_the_memory_journal_of_the_tests() -> None:
    with MemoryJournal().reading() as reader:
        for kind in (RunRows, lambda connection: connection):
            with pytest.raises(JournalError, match="the memory journal has none; use a file or"):
                reader.extension(kind)
