"""A journal on a network file system: a rollback journal in the place of the log, and everything else as anywhere."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.journal.ports import Durability, Select
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from tests.cells import World
from tests.conftest import Lab
from tests.contracts.histories import A, B, answers, one_run
from tests.contracts.journal import JournalContract
from tests.contracts.lanes import LaneContract
from tests.contracts.selections import SelectContract
from tests.contracts.stored_values import ValueContract
from tests.contracts.work import WorkContract

pytestmark = pytest.mark.slow

FAST = Durability.PROCESS


def on_network(_path: Path) -> str:
    return "nfs4"


def on_disk(_path: Path) -> None:
    return None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def opened(path: Path) -> Iterator[SqliteJournal]:
    journal = SqliteJournal(path, network=on_network)
    yield journal
    journal.close()


@pytest.fixture
def journal(path: Path) -> Iterator[SqliteJournal]:
    yield from opened(path)


@pytest.fixture
def other_handle(path: Path) -> Iterator[SqliteJournal]:
    yield from opened(path)


class TestRollbackJournal(JournalContract, ValueContract, SelectContract, WorkContract, LaneContract):
    @pytest.fixture(autouse=True)
    def short_patience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("ironflow_nb.journal.sqlite_file.BUSY_TIMEOUT_S", 0.1)

    def test_a_reader_sees_one_moment(self, journal: SqliteJournal, other_handle: SqliteJournal) -> None:  # type: ignore[override]
        """Without a log there is only one moment in the file: who writes waits for who reads."""
        journal.append([one_run(A)], durability=FAST)
        with other_handle.reading() as reader:
            before = answers(reader)
            with pytest.raises(iron.errors.JournalBusy):
                journal.append([one_run(B)], durability=FAST)
            assert answers(reader) == before
        journal.append([one_run(B)], durability=FAST)
        with other_handle.reading() as reader:
            assert {row.run_id for row in reader.runs(Select())} == {A, B}


def pragma(journal: SqliteJournal, name: str) -> object:
    assert journal._connection is not None
    return journal._connection.execute(f"PRAGMA {name}").fetchone()[0]


@pytest.mark.parametrize(("durability", "level"), [(Durability.POWER, 3), (Durability.PROCESS, 2)])
def test_a_new_journal_there_has_no_log_and_syncs_what_it_must(
    journal: SqliteJournal, path: Path, durability: Durability, level: int
) -> None:
    journal.append([one_run(A)], durability=durability)
    assert pragma(journal, "journal_mode") == "delete"
    assert pragma(journal, "synchronous") == level
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_it_is_said_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for run in (A, B):
        (journal,) = [SqliteJournal(path, network=on_network)]
        journal.append([one_run(run)], durability=FAST)
        journal.close()
    (record,) = caplog.records
    assert record.name == "ironflow_nb"
    assert record.levelno == logging.WARNING
    for words in (str(path), "nfs4", "rollback journal", "iron.use"):
        assert words in record.getMessage()


def test_a_journal_that_was_brought_there_loses_its_log_and_nothing_else(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    local = SqliteJournal(path, network=on_disk)
    local.append([one_run(A)], durability=FAST)
    assert pragma(local, "journal_mode") == "wal"
    local.close()
    there = SqliteJournal(path, network=on_network)
    there.append([one_run(B)], durability=FAST)
    assert pragma(there, "journal_mode") == "delete"
    assert "rollback journal instead" in caplog.text
    with there.reading() as reader:
        assert {row.run_id for row in reader.runs(Select())} == {A, B}
    there.close()


def test_a_log_that_others_use_is_left_and_told_of(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ironflow_nb.journal.sqlite_file.BUSY_TIMEOUT_S", 0.05)
    local, there = SqliteJournal(path, network=on_disk), SqliteJournal(path, network=on_network)
    local.append([one_run(A)], durability=FAST)
    there.append([one_run(B)], durability=FAST)
    assert "can't be changed while others use it" in caplog.text
    assert pragma(there, "journal_mode") == "wal"
    there.close()
    local.close()


def test_a_journal_without_a_log_stays_so_where_it_looks_local(journal: SqliteJournal, path: Path) -> None:
    journal.append([one_run(A)], durability=FAST)
    server = SqliteJournal(path, network=on_disk)
    server.append([one_run(B)], durability=Durability.POWER)
    assert pragma(server, "journal_mode") == "delete"
    assert pragma(server, "synchronous") == 3
    journal.append([one_run(type(A)("c" * 12))], durability=FAST)
    server.close()


@step
def work(world: World, n: int) -> bytes:
    world.did(n)
    if n == 2 and world.is_broken:
        world.die()
    return bytes([n]) * (1000 if n % 2 else 70_000)


@flow
def sequential(world: World) -> int:
    return sum(len(work(world, n)) for n in range(4))


@flow
def mapped(world: World) -> int:
    return sum(map(len, work.map([world] * 4, range(4), concurrency=2)))


def test_flows_run_die_and_continue_there(path: Path, new_lab: Callable[[Path], Lab]) -> None:
    lab = new_lab(path)
    lab.new_journal = lambda: SqliteJournal(path, network=on_network)
    REGISTRY.use(lab.begin())
    world = World(lab.die_in_flow)
    with pytest.raises(SystemExit):
        sequential(world)
    world.is_broken = False
    assert sequential(world) == 2 * 71_000
    assert world.log == [0, 1, 2, 2, 3]
    assert mapped.start(world).result(timeout_s=20) == 2 * 71_000
    assert iron.runs()["status"].tolist() == ["completed"] * 2
    lab.engine.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
