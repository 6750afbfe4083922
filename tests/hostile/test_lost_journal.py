"""A journal that is deleted, moved or replaced while an engine has it open: no write vanishes without a word."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.journal.ports import Durability, Select
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from ironflow_nb.values.private_files import journal_of
from ironflow_nb.values.stored_value import INLINE_LIMIT
from tests.cells import World
from tests.conftest import Lab
from tests.contracts.histories import A, B, C, D, one_run, value

NewLab = Callable[[Path], Lab]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "place" / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[SqliteJournal]:
    with closing(SqliteJournal(path)) as journal:
        yield journal


@pytest.fixture
def lab(path: Path, new_lab: NewLab) -> Lab:
    return new_lab(path)


@pytest.fixture
def world(lab: Lab) -> World:
    return World(lab.die_in_flow)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A journal of somebody else, with one run."""
    place = tmp_path / "other" / "journal.db"
    journal = SqliteJournal(place)
    journal.append([one_run(C, name="theirs")], durability=Durability.PROCESS)
    journal.close()
    return place


LOSSES: dict[str, tuple[Callable[[Path, Path], Any], str]] = {
    "deleted": (lambda path, other: path.unlink(), "deleted"),
    "moved": (lambda path, other: path.rename(path.with_name("moved.db")), "deleted"),
    "its folder deleted": (lambda path, other: shutil.rmtree(path.parent), "deleted"),
    "replaced": (lambda path, other: other.rename(path), "replaced"),
    "restored": (lambda path, other: shutil.copy(other, path.with_name("copy")).rename(path), "replaced"),
}
every_loss = pytest.mark.parametrize(("lose", "word"), LOSSES.values(), ids=LOSSES)


@step
def work(world: World, n: int) -> bytes:
    world.did(n)
    for act in world.plan:
        act(n)
    return bytes([n]) * 10


@flow
def sequential(world: World) -> int:
    return sum(len(work(world, n)) for n in range(5))


@flow
def mapped(world: World) -> int:
    return len(work(world, 9)) + sum(len(item) for item in work.map([world] * 4, range(4), concurrency=2))


@flow
def flushed(world: World) -> int:
    """Leave the commits to the worker: nobody waits for what is submitted."""
    first = work(world, 9)
    futures = [work.submit(world, n) for n in range(4)]
    return len(first) + sum(len(future.result()) for future in futures)


def loses_at(n: int, lose: Callable[[], Any]) -> Callable[[int], None]:
    return lambda now: lose() if now == n else None


@every_loss
@pytest.mark.parametrize("flow", [sequential, mapped, flushed], ids=["sequential", "mapped", "flushed"])
def test_a_flow_whose_journal_is_lost_stops_with_a_word_and_can_begin_afresh(
    flow: iron.Flow, lose: Callable[[Path, Path], Any], word: str, path: Path, other: Path, lab: Lab, world: World
) -> None:
    world.plan = [loses_at(2, lambda: lose(path, other))]
    # Of a folder that is deleted the log may be missed first.
    with pytest.raises(iron.JournalError, match=rf"{path}(-wal)? was {word} .*iron\.use\("):
        flow(world)
    lab.cell()
    with pytest.raises(iron.JournalError, match=word):  # and so does everything after it
        flow(world)
    before = iron.runs()["name"].tolist()
    assert before == (["theirs"] if word == "replaced" else [])
    world.plan.clear()
    iron.use(path)
    assert flow(world) == 50
    assert iron.runs()["status"].tolist()[0] == "completed"
    assert iron.runs()["name"].tolist()[1:] == before
    iron.engine().close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@every_loss
def test_a_run_in_the_background_tells_of_the_loss(
    lose: Callable[[Path, Path], Any], word: str, path: Path, other: Path, lab: Lab, world: World
) -> None:
    world.plan = [loses_at(2, lambda: lose(path, other))]
    run = mapped.start(world)
    with pytest.raises(iron.JournalError, match=word):
        run.result(timeout_s=20)


def test_a_journal_that_is_put_back_is_gone_on_with(path: Path, lab: Lab, world: World) -> None:
    aside = path.with_name("aside.db")
    world.plan = [loses_at(2, lambda: path.rename(aside))]
    with pytest.raises(iron.JournalError, match="put it back"):
        sequential(world)
    aside.rename(path)
    world.plan.clear()
    lab.cell()
    assert sequential(world) == 50
    assert world.log == [0, 1, 2, 2, 3, 4]  # nothing that was acknowledged before is done again
    assert iron.runs()["n_sessions"].tolist() == [2]


def test_a_journal_that_was_moved_away_takes_along_what_only_its_log_had(path: Path, lab: Lab, world: World) -> None:
    world.plan = [loses_at(4, lambda: path.rename(path.with_name("moved.db")))]
    with pytest.raises(iron.JournalError):
        sequential(world)
    lab.engine.close()
    with iron.open(path.with_name("moved.db")):
        assert iron.steps(status="completed")["step"].tolist() == [f"{work.name}[{n}]" for n in range(4)]


@every_loss
def test_two_engines_that_have_lost_a_journal_leave_what_is_there_now_alone(
    lose: Callable[[Path, Path], Any], word: str, path: Path, other: Path
) -> None:
    one, two = SqliteJournal(path), SqliteJournal(path)
    one.append([one_run(A)], durability=Durability.PROCESS)
    two.append([one_run(B)], durability=Durability.PROCESS)
    lose(path, other)
    with pytest.raises(iron.JournalError, match=word):
        one.append([one_run(D)], durability=Durability.PROCESS)
    fresh = SqliteJournal(path)  # while the second still has the old one open
    fresh.append([one_run(A)], durability=Durability.PROCESS)
    with pytest.raises(iron.JournalError, match=r"deleted|replaced"):
        two.append([one_run(D)], durability=Durability.PROCESS)
    fresh.append([one_run(B)], durability=Durability.PROCESS)
    with fresh.reading() as reader:
        runs = {row.run_id for row in reader.runs(Select())}
    for journal in (two, one, fresh):
        journal.close()
    assert runs == ({A, B, C} if word == "replaced" else {A, B})
    with SqliteJournal(path).reading() as reader:
        assert {row.run_id for row in reader.runs(Select())} == runs
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_folder_of_values_that_is_removed_is_made_again(path: Path, lab: Lab, world: World) -> None:
    @step
    def large(world: World, n: int) -> bytes:
        world.did(n)
        if n == 1:
            shutil.rmtree(path.parent / "values")
        return bytes([n]) * INLINE_LIMIT

    @flow
    def main(world: World) -> int:
        return sum(len(large(world, n)) for n in range(3))

    assert main(world) == 3 * INLINE_LIMIT
    assert main.last is not None
    assert main.last.value("large[2]") == bytes([2]) * INLINE_LIMIT
    with pytest.raises(iron.errors.ValueUnreadable, match="is missing"):
        main.last.value("large[0]")


def test_an_engine_that_lost_its_journal_closes_without_a_word_too_many(path: Path, lab: Lab, world: World) -> None:
    world.plan = [loses_at(2, path.unlink)]
    with pytest.raises(iron.JournalError):
        sequential(world)
    lab.engine.close()
    lab.engine.close()
    assert not path.exists()


def test_a_file_that_is_made_anew_is_not_taken_for_the_one_that_was_lost(path: Path) -> None:
    lost = SqliteJournal(path)
    lost.append([one_run(A)], durability=Durability.PROCESS)
    path.unlink()
    for _ in range(3):
        with pytest.raises(iron.JournalError, match=r"deleted|replaced"):
            lost.append([one_run(B)], durability=Durability.PROCESS)
        fresh = SqliteJournal(path)  # file systems give the number of a file that is gone to the next one
        fresh.append([one_run(C)], durability=Durability.PROCESS)
        with pytest.raises(iron.JournalError, match="replaced"):
            lost.append([one_run(B)], durability=Durability.PROCESS)
        fresh.close()
        path.unlink()
    lost.close()


def cut(log: Path, n_bytes: int) -> None:
    with log.open("r+b") as file:
        file.truncate(n_bytes)


HARMS: dict[str, Callable[[Path], Any]] = {
    "deleted": lambda log: log.unlink(),
    "moved": lambda log: log.rename(log.with_name("moved-wal")),
    "replaced": lambda log: shutil.copy(log, log.with_name("copy")).rename(log),
}
KILLED = """
import os, sys
from pathlib import Path
from tests.contracts.histories import C, one_run
from ironflow_nb.journal.ports import Durability
from ironflow_nb.journal.sqlite_journal import SqliteJournal
SqliteJournal(Path(sys.argv[1])).append([one_run(C)], durability=Durability.PROCESS)
os._exit(0)
"""


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
@pytest.mark.parametrize("flow", [sequential, mapped, flushed], ids=["sequential", "mapped", "flushed"])
def test_a_flow_whose_log_is_lost_stops_and_keeps_what_was_acknowledged(
    flow: iron.Flow, harm: Callable[[Path], Any], path: Path, lab: Lab, world: World
) -> None:
    world.plan = [loses_at(2, lambda: harm(path.with_name(f"{path.name}-wal")))]
    with pytest.raises(iron.JournalError, match=r"the log .*-wal was (deleted|replaced) .*iron\.use\("):
        flow(world)
    lab.cell()
    with pytest.raises(iron.JournalError, match=r"-wal was (deleted|replaced)"):
        flow(world)
    world.plan.clear()
    before = list(world.log)
    lab.begin()
    lab.cell()
    assert flow(world) == 50
    assert before[0] not in world.log[len(before) :]  # its commit was acknowledged before the log was lost
    subprocess.run([sys.executable, "-c", KILLED, path], check=True)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (2,)


@pytest.mark.parametrize("n_bytes", [0, 32, 5000])
def test_a_log_that_was_cut_is_noticed_before_the_next_write(path: Path, journal: SqliteJournal, n_bytes: int) -> None:
    journal.append([one_run(A)], durability=Durability.PROCESS)
    cut(path.with_name(f"{path.name}-wal"), n_bytes)
    with pytest.raises(iron.JournalError, match="-wal was cut"):
        journal.append([one_run(B)], durability=Durability.PROCESS)


def test_a_journal_that_is_reached_by_a_link_has_its_log_and_its_values_beside_its_file(tmp_path: Path) -> None:
    link, path = tmp_path / "link" / "journal.db", tmp_path / "place" / "journal.db"
    for each in (link, path):
        each.parent.mkdir()
    link.symlink_to(path)
    large = value(b"x" * INLINE_LIMIT)
    with closing(SqliteJournal(link)) as by_link:
        by_link.append([replace(one_run(A), values=[large])], durability=Durability.PROCESS)
        with SqliteJournal(path).reading() as reader:
            assert reader.values([large.value_id])[large.value_id].content == large.content
        assert journal_of(path.with_name("journal.db-wal")) == path
        path.with_name("journal.db-wal").unlink()
        with pytest.raises(iron.errors.JournalError, match="deleted"):
            by_link.append([one_run(B)], durability=Durability.PROCESS)


def test_a_journal_that_is_emptied_is_no_longer_written(path: Path, journal: SqliteJournal) -> None:
    journal.append([one_run(A)], durability=Durability.PROCESS)
    os.truncate(path, 0)  # SQLite deletes the log beside an empty file, with all that it holds
    with pytest.raises(iron.JournalError, match="emptied"):
        journal.append([one_run(B)], durability=Durability.PROCESS)


def test_a_journal_that_is_moved_and_linked_to_its_place_is_no_longer_written(
    path: Path, journal: SqliteJournal
) -> None:
    journal.append([one_run(A)], durability=Durability.PROCESS)
    path.symlink_to(path.rename(path.with_name("moved.db")))  # SQLite looks for its log beside it, under that name
    with pytest.raises(iron.JournalError, match="replaced"):
        journal.append([one_run(B)], durability=Durability.PROCESS)
    with SqliteJournal(path).reading() as reader:
        assert [run.run_id for run in reader.runs(Select())] == [A]


def test_a_log_that_another_tool_has_written_back_and_cut_is_gone_on_with(path: Path, journal: SqliteJournal) -> None:
    for run in (A, B, C):
        journal.append([one_run(run)], durability=Durability.PROCESS)
        with closing(sqlite3.connect(path)) as tool:
            assert tool.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)
    journal.append([one_run(D)], durability=Durability.PROCESS)
    with journal.reading() as reader:
        assert len(reader.runs(Select())) == 4


def test_each_engine_on_a_journal_whose_log_was_deleted_notices(path: Path) -> None:
    one, two = SqliteJournal(path), SqliteJournal(path)
    one.append([one_run(A)], durability=Durability.PROCESS)
    two.append([one_run(B)], durability=Durability.PROCESS)
    path.with_name(f"{path.name}-wal").unlink()
    for journal in (two, one):
        with pytest.raises(iron.JournalError, match="-wal was deleted"):
            journal.append([one_run(D)], durability=Durability.PROCESS)
    fresh = SqliteJournal(path)
    fresh.append([one_run(C)], durability=Durability.PROCESS)
    for journal in (one, two, fresh):
        journal.close()
    with SqliteJournal(path).reading() as reader:
        assert {row.run_id for row in reader.runs(Select())} == {A, B, C}
