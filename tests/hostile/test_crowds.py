"""Other processes that hold the journal: for a moment, for too long, all at once, or only to read."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.journal import sqlite_file
from ironflow_nb.journal.sqlite_file import LOG_LIMIT
from tests.cells import World
from tests.conftest import Lab

pytestmark = pytest.mark.crash

ROOT = Path(__file__).parent.parent.parent
NewLab = Callable[[Path], Lab]
Crowd = subprocess.Popen[str]
N_STEPS = 3000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def lab(path: Path, new_lab: NewLab) -> Lab:
    return new_lab(path)


@pytest.fixture
def world(lab: Lab) -> World:
    return World(lab.die_in_flow)


@contextmanager
def other_process(*words: object) -> Iterator[Crowd]:
    """Start one of the crowd and wait for its first word."""
    command = [sys.executable, "-m", "tests.hostile.crowd", *map(str, words)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline()
            yield process
        finally:
            if process.poll() is None:
                process.kill()


@step
def work(world: World, n: int) -> int:
    world.did(n)
    for act in world.plan:
        act(n)
    return n


@flow
def sequential(world: World) -> int:
    return sum(work(world, n) for n in range(5))


@flow
def mapped(world: World) -> int:
    return work(world, 4) + sum(work.map([world] * 4, range(4), concurrency=2))


both_flows = pytest.mark.parametrize("flow", [sequential, mapped], ids=["sequential", "mapped"])


@both_flows
def test_a_lock_that_is_given_back_in_time_is_waited_for(flow: iron.Flow, path: Path, lab: Lab, world: World) -> None:
    flow(world)
    lab.cell()
    with other_process("hold", path, 1):
        assert flow(world) == 10
    assert iron.runs()["status"].tolist() == ["completed"] * 2


@both_flows
def test_a_lock_that_is_held_for_too_long_stops_the_run_and_its_cell_continues_it(
    flow: iron.Flow, path: Path, lab: Lab, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_TIMEOUT_S", 0.2)
    crowd: list[Crowd] = []
    with ExitStack() as held:
        world.plan = [lambda n: crowd.append(held.enter_context(other_process("hold", path, 0))) if n == 2 else None]
        with pytest.raises(iron.errors.JournalBusy, match=r"held the journal .* run the cell again") as caught:
            flow(world)
        assert str(path) in str(caught.value)
        if Path("/proc/locks").exists():
            assert caught.value.pids == [crowd[0].pid]
            assert f"process {crowd[0].pid} held" in str(caught.value)
        assert set(iron.runs()["status"]) == {"interrupted"}  # reading goes on meanwhile
        n_kept = iron.runs()["n_completed"][0]
    world.plan.clear()
    lab.cell()
    n_before = len(world.log)
    assert flow(world) == 10
    assert len(world.log) - n_before == 5 - n_kept
    assert iron.runs()["status"].tolist() == ["completed"]


def test_many_processes_on_one_file_all_come_through(path: Path) -> None:
    n_processes, n_runs, n_steps = 4, 6, 25
    with ExitStack() as entered:
        crowd = [entered.enter_context(other_process("hammer", path, n_runs, n_steps)) for _ in range(n_processes)]
        for process in crowd:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [process.wait(60) for process in crowd] == [0] * n_processes
    with iron.open(path):
        runs = iron.runs()
        assert len(runs) == n_processes * n_runs
        assert set(runs["status"]) == {"completed"}
        assert set(runs["n_completed"]) == {n_steps}
        events = iron.events()
        assert events["position"].tolist() == list(range(1, len(events) + 1))
        assert not events.duplicated(["run_id", "version"]).any()
        assert len(iron.steps()) == n_processes * n_runs * n_steps
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_long_reader_does_not_stop_a_run_and_the_log_shrinks_when_it_has_left(
    path: Path, lab: Lab, world: World
) -> None:
    @flow
    def long(world: World, n: int) -> int:
        return sum(work(world, n) for n in range(n))

    log = path.with_name("journal.db-wal")
    long(world, 5)
    with other_process("read", path) as reader:
        assert long(world, N_STEPS) == sum(range(N_STEPS))
        pinned = log.stat().st_size
        answer, _ = reader.communicate(timeout=10)
        assert answer == "the same\n"
    assert pinned > 2 * LOG_LIMIT
    long(world, 50)
    assert log.stat().st_size <= LOG_LIMIT
    long(world, N_STEPS // 3)
    assert log.stat().st_size <= LOG_LIMIT
    lab.engine.close()
    assert not log.exists()
