"""Four processes in one lane, one of which is killed while it holds a place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ironflow_nb as iron
from tests.lanes import killed
from tests.lanes.conftest import LIMIT_S, until

pytestmark = pytest.mark.crash


def begun(folder: Path, pid: int) -> list[str]:
    log = folder / "log"
    lines = log.read_text().splitlines() if log.exists() else []
    return [line for line in lines if line.split()[2] == str(pid)]


def at_work(lines: list[str], killed_pid: int) -> int:
    """Return how many bodies were at work at once, those that were killed not counted after the death."""
    inside: set[tuple[str, str]] = set()
    most = 0
    events = [line.split() for line in sorted(lines, key=lambda line: int(line.split()[3]))]
    last_of_killed = max(int(at) for _, _, pid, at in events if pid == str(killed_pid))
    for what, n, pid, at in events:
        if int(at) > last_of_killed:
            inside = {each for each in inside if each[1] != str(killed_pid)}
        (inside.add if what == "begin" else inside.discard)((n, pid))
        most = max(most, len(inside))
    return most


def test_a_lane_is_shared_by_processes_and_outlives_the_kill_of_one_that_holds_a_place(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(killed.__file__).parents[2]), *sys.path])}

    def started(first: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.lanes.killed", str(first)]
        return subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE)

    processes = [started(first) for first in (0, 100, 200, 300)]
    doomed = processes[0]
    until(
        lambda: any(line.startswith("begin") for line in begun(tmp_path, doomed.pid)[-1:]) or doomed.poll() is not None
    )
    doomed.kill()
    doomed.communicate(timeout=LIMIT_S)
    processes[0] = started(0)
    for process, first in zip(processes, (0, 100, 200, 300), strict=True):
        out, _ = process.communicate(timeout=LIMIT_S)
        assert out.decode().strip() == str([*range(first, first + 8)])
        assert process.returncode == 0
    lines = (tmp_path / "log").read_text().splitlines()
    assert at_work(lines, doomed.pid) <= 2
    with iron.open(tmp_path / "journal.db"):
        assert list(iron.lanes()["lane"]) == []
        assert set(iron.runs()["status"]) == {"completed"}
