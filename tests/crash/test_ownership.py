"""Who owns a run: through forks, spawned workers, closed engines, several engines in one process, and races."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.journal.ports import Select
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from tests.contracts.histories import folded

pytestmark = pytest.mark.crash

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

HEAD = """
import os, sys, time
from pathlib import Path
import ironflow_nb as iron
from ironflow_nb import flow, step

@step
def work(n):
    with open("bodies", "a") as file:
        file.write(f"{n} {os.getpid()}\\n")
    time.sleep(float(os.environ.get("BODY_S", "0")))
    return n
"""

FORKS = """
@step
def fork():
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return "the child goes on as if nothing had happened"

@flow
def main():
    return [work(1), fork(), work(2)]

try:
    print(main())
except iron.errors.EngineClosed as error:
    Path("child").write_text(str(error))
    sys.exit(3)  # the exit handlers of a forked child must leave the run of its parent alone
"""

FORKS_UNDER_LOCKS = """
import threading
from ironflow_nb.execution.steps.context import SCOPE

@flow
def main():
    work(1)
    session = SCOPE.get().session
    held, let_go = threading.Event(), threading.Event()

    def hold():
        with session.lock, session.access.lock:
            held.set()
            let_go.wait()

    threading.Thread(target=hold, daemon=True).start()
    held.wait()
    child = os.fork()
    if not child:
        return [work(2), None]
    let_go.set()
    return [work(2), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]

try:
    print(main())
except iron.errors.EngineClosed:
    sys.exit(3)
"""

POOLS = """
import concurrent.futures, multiprocessing

def square(n):
    return n * n

@step
def pooled(method):
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        return list(pool.map(square, range(4)))

@flow
def main(methods):
    return [work(1), *[pooled(method) for method in methods], work(2)]

if __name__ == "__main__":
    print(main(sys.argv[1:]))
"""

RACES = """
@flow
def main():
    return sum(work(n) for n in range(30))

print(main.options(key="the one")())
"""


def start(folder: Path, source: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    program = folder / "program.py"
    if not program.exists():  # one that began before may be reading it
        program.write_text(HEAD + source)
    everything = os.environ | {"IRONFLOW_DB": str(folder / "journal.db")} | environment
    everything.pop("PYTEST_CURRENT_TEST", None)
    return subprocess.Popen(
        [sys.executable, str(program), *arguments], cwd=folder, env=everything, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def printed(process: subprocess.Popen[str]) -> str:
    out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    return out.strip()


def bodies(folder: Path) -> Counter[str]:
    return Counter(line.split()[0] for line in (folder / "bodies").read_text().splitlines())


@needs_fork
def test_a_forked_child_does_not_wait_for_locks_of_threads_that_it_does_not_have(tmp_path: Path) -> None:
    assert printed(start(tmp_path, FORKS_UNDER_LOCKS)) == "[2, 3]"


@needs_fork
def test_the_engine_of_a_forked_child_refuses_and_that_of_its_parent_goes_on(tmp_path: Path) -> None:
    assert printed(start(tmp_path, FORKS)) == "[1, 3, 2]"
    assert "forked" in (tmp_path / "child").read_text()
    with iron.open(tmp_path / "journal.db"):
        (status,) = iron.runs()["status"]
        types = iron.events()["type"].tolist()
    assert status == "completed"
    assert "RunInterrupted" not in types


@pytest.mark.parametrize("method", ["spawn", *(["fork", "forkserver"] if hasattr(os, "fork") else [])])
def test_a_step_may_use_a_pool_of_processes(method: str, tmp_path: Path) -> None:
    assert printed(start(tmp_path, POOLS, method)) == "[1, [0, 1, 4, 9], 2]"
    with iron.open(tmp_path / "journal.db"):
        assert iron.runs()["status"].tolist() == ["completed"]
        assert len(iron.steps()) == 3


def test_of_processes_that_race_for_a_run_one_executes_it_and_all_get_its_result(tmp_path: Path) -> None:
    racing = [start(tmp_path, RACES, BODY_S="0.01") for _ in range(4)]
    assert [printed(process) for process in racing] == [str(sum(range(30)))] * 4
    assert set(bodies(tmp_path).values()) == {1}
    assert len({line.split()[1] for line in (tmp_path / "bodies").read_text().splitlines()}) == 1


def test_of_processes_that_race_and_are_killed_the_next_goes_on_and_no_history_is_torn(tmp_path: Path) -> None:
    racing = [start(tmp_path, RACES, BODY_S="0.02") for _ in range(3)]
    executing = None
    while executing is None:
        lines = (tmp_path / "bodies").read_text().splitlines() if (tmp_path / "bodies").exists() else []
        executing = next((p for p in racing if lines[5:] and str(p.pid) == lines[5].split()[1]), None)
    executing.kill()
    executing.communicate(timeout=20)
    left = [process for process in racing if process is not executing]
    assert [printed(process) for process in left] == [str(sum(range(30)))] * 2
    assert sum(bodies(tmp_path).values()) <= 31  # the one that was in flight
    with SqliteJournal(tmp_path / "journal.db").reading() as reader:
        (run,) = reader.runs(Select())
        assert folded(reader.events(Select()), run.run_id).run == run
        assert run.n_sessions == 2


GATE = threading.Event()


@step
def held(n: int) -> int:
    if n == 1:
        GATE.wait(20)
    return n


@flow
def holding() -> int:
    return sum(held(n) for n in range(4))


def test_an_engine_that_is_closed_under_a_running_flow_interrupts_it(tmp_path: Path) -> None:
    GATE.clear()
    path = tmp_path / "journal.db"
    with iron.open(path) as engine:
        run = holding.start()
        while len(run.steps()) < 2:
            threading.Event().wait(0.01)
        engine.close()
        GATE.set()
        with pytest.raises(iron.IronflowError):
            run.result(timeout_s=20)
    with iron.open(path):
        assert iron.runs()["status"].tolist() == ["interrupted"]
        assert holding.options(key=None).resume().result(timeout_s=20) == 6
        assert iron.attempts().groupby("step")["attempt"].max().tolist() == [1, 2, 1, 1]


def test_of_two_engines_in_one_process_one_executes_and_the_other_watches(tmp_path: Path) -> None:
    GATE.clear()
    path = tmp_path / "journal.db"
    with iron.open(path):
        mine = holding.options(key="k").start()
        while len(mine.steps()) < 2:
            threading.Event().wait(0.01)
        with iron.open(path):
            theirs = holding.options(key="k").start()
            assert theirs.id == mine.id
            assert theirs.status == "running"
            GATE.set()
            assert theirs.result(timeout_s=20) == 6
            assert len(iron.attempts()) == 4
        assert mine.result() == 6
