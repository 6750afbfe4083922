"""Programs of shell nodes end with the kernel that started them, and never run beside those of the run that goes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from ironflow_nb.graphs.nodes.processes import MARK
from tests.conftest import FULL_PROOF, SEED

pytestmark = [pytest.mark.crash, pytest.mark.skipif(os.name == "nt", reason="the programs are those of POSIX")]

ROOT = Path(__file__).parents[2]
N_KERNELS = 25 if FULL_PROOF else 5

KERNEL = """
import os, sys, threading
import ironflow_nb as iron
from ironflow_nb.graphs.graph import Graph

program = 'trap "" TERM; while :; do echo $$ >> written; {more} sleep 0.01; done'
graph = Graph.from_dict({{"graph": "g", "allow": True, "nodes": [
    {{"id": "a", "shell": {{"command": ["sh", "-c", program]}}, "timeout_s": {timeout_s}, "on_error": "continue"}},
]}})
iron.use("journal.db")
if {forks}:
    if os.fork() == 0:  # a child that keeps whatever it has inherited
        threading.Event().wait(60)
        os._exit(0)
print("begins", flush=True)
{how}
"""


def kernel(
    folder: Path, *, how: str = "graph()", timeout_s: float = 60, forks: bool = False, more: str = ""
) -> subprocess.Popen[str]:
    code = KERNEL.format(how=how, timeout_s=timeout_s, forks=forks, more=more)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    )


def lines(folder: Path) -> list[str]:
    file = folder / "written"
    return file.read_text().split() if file.exists() else []


def wait_for(folder: Path, n_lines: int) -> None:
    until = time.monotonic() + 30
    while len(lines(folder)) < n_lines:
        assert time.monotonic() < until, "the program did not begin"
        time.sleep(0.005)


def is_quiet(folder: Path, within_s: float = 5) -> bool:
    """Return True when no program writes any more, False if one still does after that time."""
    until, before = time.monotonic() + within_s, -1
    while before != (before := len(lines(folder))):
        if time.monotonic() >= until:
            return False
        time.sleep(0.2)
    return True


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.parametrize("forks", [False, True])
def test_a_program_ends_with_a_killed_kernel(tmp_path: Path, forks: bool) -> None:
    process = kernel(tmp_path, forks=forks)
    wait_for(tmp_path, 3)
    kill(process)
    assert is_quiet(tmp_path)


def test_a_program_of_a_thread_ends_with_the_kernel_and_not_with_the_thread(tmp_path: Path) -> None:
    """The thread that starts a program ends before it: signals of Linux for dead parents would kill it then."""
    how = "\nthread = threading.Thread(target=graph.start); thread.start(); thread.join(); threading.Event().wait(60)"
    process = kernel(tmp_path, how=how)
    wait_for(tmp_path, 30)
    kill(process)
    assert is_quiet(tmp_path)


def test_what_a_program_started_in_its_group_ends_too(tmp_path: Path) -> None:
    process = kernel(tmp_path, more="(while :; do echo child >> written; sleep 0.01; done) & more=1; wait;")
    wait_for(tmp_path, 10)
    kill(process)
    assert is_quiet(tmp_path)


def test_a_program_does_not_run_beside_that_of_the_run_that_goes_on(tmp_path: Path) -> None:
    first = kernel(tmp_path)
    wait_for(tmp_path, 60)  # by then the begin of the run is in the journal
    kill(first)
    before = len(lines(tmp_path))
    second = kernel(tmp_path, how="graph.resume().result()", timeout_s=1)
    assert second.wait(30) == 0
    assert second.stdout is not None
    second.stdout.close()
    written = lines(tmp_path)
    programs = list(dict.fromkeys(written))
    assert len(programs) == 2
    assert written == sorted(written, key=programs.index)
    assert written[: before // 2].count(programs[0]) == before // 2


@pytest.mark.slow
def test_no_program_outlives_a_kernel_that_is_killed_while_it_starts_one(tmp_path: Path) -> None:
    chance = random.Random(f"{SEED} kernels")
    for number in range(N_KERNELS):
        folder = tmp_path / str(number)
        folder.mkdir()
        process = kernel(folder)
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        time.sleep(chance.uniform(0.0, 0.12))
        kill(process)
        assert is_quiet(folder)


@pytest.mark.parametrize("another", ["SUPERVISOR.add(SUPERVISOR.begin(), 2**22 + 5)", ""], ids=["begins", "no program"])
def test_an_interrupted_supervisor_is_replaced(tmp_path: Path, another: str) -> None:
    how = f"""
import subprocess
from ironflow_nb.graphs.nodes.processes import SUPERVISOR
run = graph.start()
while not os.path.exists("written"):
    threading.Event().wait(0.01)
mine = subprocess.run(["pgrep", "-P", str(os.getpid())], capture_output=True, text=True).stdout.split()
for pid in mine:
    if "-I" in open(f"/proc/{{pid}}/cmdline").read().split("\\0"):
        os.kill(int(pid), 9)
        os.waitpid(int(pid), 0)
{another}
open("ready", "w").close()
threading.Event().wait(60)
"""
    if not Path("/proc/self").exists():
        pytest.skip("it looks for the supervisor in /proc")
    process = kernel(tmp_path, how=how)
    until = time.monotonic() + 30
    while not (tmp_path / "ready").exists():
        assert time.monotonic() < until
        time.sleep(0.01)
    wait_until(lambda: has_supervisor(process.pid))
    kill(process)
    assert is_quiet(tmp_path)


def has_supervisor(pid: int) -> bool:
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if f"{MARK}={pid}.".encode() in file.read_bytes():
                return True
    return False


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.005)


SERVICE = (
    'if [ -z "$more" ]; then more=1;'
    ' setsid sh -c "echo \\\\$\\\\$ > service.part; mv service.part service; exec sleep 60" & fi;'
)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="it looks for the supervisor in /proc")
@pytest.mark.parametrize("age_s", [0, pytest.param(6, marks=pytest.mark.slow)])
@pytest.mark.parametrize("how", ["killed", "ended"])
def test_what_a_program_has_put_into_a_session_of_its_own_stays(tmp_path: Path, how: str, age_s: float) -> None:
    """It is a service, as one that a program of the user starts for good, however young it is."""
    process = kernel(tmp_path, more=SERVICE, timeout_s=60 if how == "killed" else age_s + 2)
    wait_until(lambda: (tmp_path / "service").exists() and has_supervisor(process.pid))
    service = int((tmp_path / "service").read_text())
    try:
        time.sleep(age_s)
        if how == "killed":
            kill(process)
        else:
            assert process.wait(30) == 0
            assert process.stdout is not None
            process.stdout.close()
        assert is_quiet(tmp_path)
        wait_until(lambda: not has_supervisor(process.pid))
        os.kill(service, 0)
        assert "sleep" in Path(f"/proc/{service}/cmdline").read_text()
    finally:
        os.kill(service, signal.SIGKILL)
