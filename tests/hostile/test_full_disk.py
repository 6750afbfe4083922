"""A disk that runs full in the middle of a flow: nothing is acknowledged that is not kept, and space mends it."""

from __future__ import annotations

import asyncio
import errno
import resource
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from ironflow_nb.values.stored_value import INLINE_LIMIT
from tests.cells import World
from tests.conftest import Lab
from tests.hostile.conftest import Disk

N_STEPS = 6
SMALL, LARGE = 20_000, INLINE_LIMIT + 1
NewLab = Callable[[Path], Lab]


@pytest.fixture
def lab(disk: Disk, new_lab: NewLab) -> Lab:
    return new_lab(disk.folder / "journal.db")


@pytest.fixture
def world(lab: Lab) -> World:
    return World(lab.die_in_flow)


@step
def work(world: World, n: int, size: int) -> bytes:
    world.did(n)
    for act in world.plan:
        act(n)
    return bytes([n]) * size


@step
async def async_work(world: World, n: int, size: int) -> bytes:
    return work.fn(world, n, size)


@flow
def sequential(world: World, size: int) -> list[int]:
    return [len(work(world, n, size)) for n in range(N_STEPS)]


@flow
def mapped(world: World, size: int) -> list[int]:
    return [len(item) for item in work.map([world] * N_STEPS, range(N_STEPS), [size] * N_STEPS, concurrency=2)]


@flow
async def gathered(world: World, size: int) -> list[int]:
    return [len(await async_work(world, n, size)) for n in range(N_STEPS)]


FLOWS = {flow.name.rpartition(".")[2]: flow for flow in (sequential, mapped, gathered)}


def fills(disk: Disk, at: int) -> Callable[[int], None]:
    """Return what fills the disk when that step is at work."""
    return lambda n: disk.fill() if n == at else None


def finish(flow: iron.Flow, world: World, size: int) -> object:
    return asyncio.run(flow(world, size)) if flow.spec.is_async else flow(world, size)


def recorded(journal: Path) -> set[str]:
    """Return the completed steps that a sound file tells of."""
    with closing(sqlite3.connect(journal)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    return {step.rpartition(".")[2] for step in iron.steps(status="completed")["step"]}


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["in the journal", "in value files"])
@pytest.mark.parametrize("durability", ["power", "process"])
@pytest.mark.parametrize("name", FLOWS)
def test_a_run_on_a_full_disk_stops_and_goes_on_when_there_is_space(
    name: str, durability: str, size: int, disk: Disk, lab: Lab, world: World
) -> None:
    chosen = FLOWS[name].options(durability=durability)
    world.plan = [fills(disk, at=3)]
    with pytest.raises(iron.errors.JournalFull, match=r"make space .* run the cell again") as caught:
        finish(chosen, world, size)
    assert str(disk.folder) in str(caught.value)
    assert caught.value.errno == errno.ENOSPC
    kept = recorded(disk.folder / "journal.db")
    assert len(kept) < N_STEPS
    assert set(iron.runs()["status"]) <= {"interrupted", "failed"}  # and it can be looked at all the same
    world.plan.clear()
    world.log.clear()
    disk.free()
    lab.cell()
    assert finish(chosen, world, size) == [size] * N_STEPS
    assert iron.runs()["n_sessions"].tolist() == [2]
    redone = {f"work[{n}]" for n in world.log} | {f"async_work[{n}]" for n in world.log}
    assert not redone & kept  # what was recorded is not done again
    assert len(world.log) == N_STEPS - len(kept)


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["in the journal", "in value files"])
def test_a_process_that_ends_while_the_disk_is_full_is_continued_by_the_next(
    size: int, disk: Disk, lab: Lab, world: World
) -> None:
    world.plan = [fills(disk, at=3)]
    with pytest.raises(iron.errors.JournalFull):
        sequential(world, size)
    lab.engine.close()
    world.plan.clear()
    disk.free()
    lab.begin()
    lab.cell()
    assert sequential(world, size) == [size] * N_STEPS
    assert world.log == [0, 1, 2, 3, 3, 4, 5]
    assert [path.name for path in disk.folder.rglob("*.tmp")] == []


def test_a_journal_can_be_read_while_its_disk_is_full_and_nobody_has_it_open(
    disk: Disk, lab: Lab, world: World
) -> None:
    sequential(world, SMALL)
    lab.engine.close()
    disk.fill()
    with iron.open(disk.folder / "journal.db"):
        assert iron.runs()["status"].tolist() == ["completed"]
        assert sequential.last is not None
        assert sequential.last.value("work[2]") == bytes([2]) * SMALL


def test_a_disk_that_is_full_from_the_beginning_is_told_of_and_leaves_nothing_in_the_way(
    disk: Disk, lab: Lab, world: World
) -> None:
    disk.fill()
    with pytest.raises(iron.JournalError):
        sequential(world, SMALL)
    disk.free()
    lab.cell()
    assert sequential(world, SMALL) == [SMALL] * N_STEPS


def test_a_flow_that_swallows_a_full_disk_does_not_go_on_without_its_step(disk: Disk, lab: Lab, world: World) -> None:
    # JournalFull is an OSError, and code that asks a network is full of `except OSError`.
    @flow
    def careful(world: World) -> list[int]:
        found = []
        for n in range(N_STEPS):
            try:
                found.append(len(work(world, n, SMALL)))
            except OSError:
                found.append(0)
                if n == 3:
                    disk.free()
        return found

    world.plan = [fills(disk, at=3)]
    with pytest.raises(iron.errors.JournalFull):
        careful(world)
    assert world.log == [0, 1, 2, 3]
    world.plan.clear()
    lab.cell()
    assert careful(world) == [SMALL] * N_STEPS
    assert world.log == [0, 1, 2, 3, 3, 4, 5]


def test_a_run_in_the_background_tells_of_the_full_disk_when_it_is_asked_for_its_result(
    disk: Disk, lab: Lab, world: World
) -> None:
    world.plan = [fills(disk, at=3)]
    run = mapped.start(world, SMALL)
    with pytest.raises(iron.errors.JournalFull):
        run.result(timeout_s=20)
    disk.free()
    world.plan.clear()
    lab.cell()
    assert mapped.start(world, SMALL).result(timeout_s=20) == [SMALL] * N_STEPS
    assert run.result() == [SMALL] * N_STEPS


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond that; Python ignores SIGXFSZ, so that writes fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("durability", ["power", "process"])
@pytest.mark.parametrize("size", [SMALL, 400_000], ids=["in the journal", "in value files"])
def test_a_limit_on_the_size_of_files_is_told_of_and_lifted(
    size: int, durability: str, tmp_path: Path, new_lab: NewLab
) -> None:
    lab = new_lab(tmp_path / "journal.db")
    world = World(lab.die_in_flow)
    chosen = sequential.options(durability=durability)
    with files_of_at_most(160_000), pytest.raises(iron.JournalError, match=r"run the cell again"):
        chosen(world, size)
    n_done = len(world.log)
    assert n_done < N_STEPS
    lab.cell()
    assert chosen(world, size) == [size] * N_STEPS
    assert world.log[n_done:] == list(range(n_done - 1, N_STEPS))


def test_a_database_that_may_not_grow_is_full(tmp_path: Path, new_lab: NewLab) -> None:
    lab = new_lab(tmp_path / "journal.db")
    world = World(lab.die_in_flow)

    def limit(n: int) -> None:
        if n == 2:
            journal = lab.engine.journal
            assert isinstance(journal, SqliteJournal)
            assert journal._connection is not None
            journal._connection.execute("PRAGMA max_page_count=1")

    world.plan = [limit]
    with pytest.raises(iron.errors.JournalFull):
        sequential(world, SMALL)
    world.plan.clear()
    lab.die()
    assert sequential(world, SMALL) == [SMALL] * N_STEPS
    assert world.log == [0, 1, 2, 2, 3, 4, 5]


def test_a_value_file_that_was_never_finished_is_not_taken_for_the_value(tmp_path: Path, new_lab: NewLab) -> None:
    lab = new_lab(tmp_path / "journal.db")
    world = World(lab.die_in_flow)
    journal = lab.engine.journal
    assert isinstance(journal, SqliteJournal)
    stored = lab.engine.codecs.encode(bytes([0]) * LARGE)
    place = journal.files.path(stored.value_id)
    place.parent.mkdir(parents=True)
    place.write_bytes(b"half")  # as a copying that broke off leaves it
    place.with_name(f"{place.name}.1.tmp").write_bytes(b"half")
    assert sequential(world, LARGE) == [LARGE] * N_STEPS
    assert sequential.last is not None
    assert sequential.last.value("work[0]") == bytes([0]) * LARGE
