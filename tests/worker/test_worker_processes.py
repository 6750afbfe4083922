"""``python -m ironflow_nb work`` as a process: what it loads, and how it ends, also when it is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.core.status import RunStatus
from tests.waits.conftest import LIMIT_S, until

SCRIPT = """
import os
import pathlib
import time
import ironflow_nb as iron
from ironflow_nb import flow, step

FOLDER = pathlib.Path(os.environ["FOLDER"])
FACTORS = {}
FACTORS["of work"] = 10

def note(text):
    with open(FOLDER / "log", "a") as file:
        file.write(f"{text}\\n")

@step
def work(n):
    note(f"work {n}")
    return n * FACTORS["of work"]

@step
def gate(n):
    note(f"gate {n}")
    while not (FOLDER / "open").exists():
        time.sleep(0.01)
    return n

@flow
def gated(n):
    return work(n), gate(n), work(n + 1)

@flow
async def waiting(n):
    return work(n), await iron.aio.wait_for("go"), work(n + 1)

note("loaded")
shown = gated.last

if __name__ == "__main__":
    gated(1)
"""


def cell(source: str) -> dict[str, Any]:
    return {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": source}


def notebook(path: Path, *sources: str) -> Path:
    cells = [cell(source) for source in sources]
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}))
    return path


class Place:
    """A folder with a journal, its worker processes, and what their steps have noted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = folder / "journal.db"
        self.environment = os.environ | {"FOLDER": str(folder)}
        self.processes: list[subprocess.Popen[str]] = []

    def worker(self, target: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "ironflow_nb", "work", target, "--journal", str(self.journal)]
        log = (self.folder / f"worker {len(self.processes)}.log").open("w")
        with log:
            process = subprocess.Popen(command, cwd=self.folder, env=self.environment, stderr=log, text=True)
        self.processes.append(process)
        return process

    def said(self, number: int = 0) -> str:
        return (self.folder / f"worker {number}.log").read_text()

    def start(self, call: str) -> Any:
        """Make a call in a process that runs the script itself; return the run."""
        program = SCRIPT.replace("    gated(1)\n", f"    iron.use({str(self.journal)!r})\n    print({call}.id)\n")
        (self.folder / "starting.py").write_text(program)
        out = subprocess.run(
            [sys.executable, "starting.py"], cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        assert out.returncode == 0, out.stderr
        self.noted(clear=True)
        return iron.get_run(out.stdout.split()[-1])

    def noted(self, *, clear: bool = False) -> list[str]:
        log = self.folder / "log"
        found = log.read_text().splitlines() if log.exists() else []
        if clear:
            log.unlink(missing_ok=True)
        return found

    def open(self) -> None:
        (self.folder / "open").touch()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    (tmp_path / "script.py").write_text(SCRIPT)
    place = Place(tmp_path)
    with iron.open(place.journal):
        yield place
    for process in place.processes:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait(LIMIT_S)


@pytest.mark.crash
def test_a_script_is_loaded_without_what_it_runs_and_its_detached_runs_are_executed(place: Place) -> None:
    run = place.start("gated.start(1, detach=True)")
    place.open()
    process = place.worker("script.py")
    until(lambda: run.status is RunStatus.COMPLETED)
    assert run.result() == (10, 1, 20)
    assert place.noted() == ["work 1", "gate 1", "work 2"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(LIMIT_S) == 0
    assert "defined here: flow gated, flow waiting" in place.said()
    assert f"run {run.id} of gated: continued here (was pending)" in place.said()
    assert f"run {run.id} of gated: completed" in place.said()
    assert str(place.journal) in place.said()


@pytest.mark.crash
@pytest.mark.parametrize("at", ["pending", "in a body", "waiting"])
def test_after_the_kill_of_a_worker_another_one_goes_on(place: Place, at: str) -> None:
    run = place.start("waiting.start(1, detach=True)" if at == "waiting" else "gated.start(1, detach=True)")
    first = place.worker("script.py")
    if at == "in a body":
        until(lambda: "gate 1" in place.noted())
    elif at == "waiting":
        until(lambda: run.status is RunStatus.WAITING)
    first.kill()
    first.wait(LIMIT_S)
    place.open()
    second = place.worker("script.py")
    if at == "waiting":
        run.signal("go", "gone")
    until(lambda: run.status is RunStatus.COMPLETED)
    assert run.result() == ((10, "gone", 20) if at == "waiting" else (10, 1, 20))
    assert place.noted().count("work 1") == place.noted().count("work 2") == 1
    second.send_signal(signal.SIGINT)
    assert second.wait(LIMIT_S) == 0


@pytest.mark.crash
def test_a_first_signal_ends_a_worker_after_the_bodies_in_flight_and_a_second_one_at_once(place: Place) -> None:
    run = place.start("gated.start(1, detach=True)")
    first = place.worker("script.py")
    until(lambda: "gate 1" in place.noted())
    first.send_signal(signal.SIGTERM)
    until(lambda: "once more ends the process at once" in place.said())
    late = place.start("waiting.start(5, detach=True)")
    place.open()
    assert first.wait(LIMIT_S) == 0
    assert (run.status, late.status) == (RunStatus.PENDING, RunStatus.PENDING)
    assert list(run.steps()["status"]) == ["completed", "completed"]
    (place.folder / "open").unlink()
    other = place.start("gated.start(7, detach=True)")
    second = place.worker("script.py")
    until(lambda: run.status is RunStatus.COMPLETED and "gate 7" in place.noted())
    until(lambda: late.status is RunStatus.WAITING)
    assert "gate 1" not in place.noted()
    second.send_signal(signal.SIGINT)
    until(lambda: "once more" in place.said(1))
    second.send_signal(signal.SIGINT)
    assert second.wait(LIMIT_S) == 128 + signal.SIGINT
    assert other.status is RunStatus.PENDING
    assert late.status is RunStatus.WAITING


@pytest.mark.crash
def test_a_worker_on_a_journal_that_is_not_there_says_so_and_takes_what_comes(place: Place) -> None:
    process = place.worker("script.py")
    until(lambda: f"there is no journal at {place.journal} yet" in place.said())
    run = place.start("gated.start(1, detach=True)")
    place.open()
    until(lambda: run.status is RunStatus.COMPLETED)
    process.send_signal(signal.SIGTERM)
    assert process.wait(LIMIT_S) == 0


NOTEBOOK = [
    "# a line of text, and a magic that a worker does not need\n%load_ext ironflow_nb",
    SCRIPT.partition('note("loaded")')[0],
    '%%graph sent\nnodes:\n  - {id: first, python: double, with: {n: "{{ input.n }}"}}',
    "def double(n):\n    return 2 * n\n\n%matplotlib inline",
    "result = gated(1)\nresult",
    "!touch shell\nraise SystemExit",
]


@pytest.mark.crash
def test_a_notebook_is_a_worker_without_the_cells_that_run_something(place: Place) -> None:
    notebook(place.folder / "analysis.ipynb", *NOTEBOOK)
    run = place.start("gated.start(3, detach=True)")
    place.open()
    process = place.worker("analysis.ipynb")
    until(lambda: run.status is RunStatus.COMPLETED)
    assert run.result() == (30, 3, 40)
    assert place.noted() == ["work 3", "gate 3", "work 4"]
    assert "graph sent" in place.said()
    assert not (place.folder / "shell").exists()
    process.send_signal(signal.SIGTERM)
    assert process.wait(LIMIT_S) == 0


@pytest.mark.parametrize(
    ("target", "text", "said"),
    [
        ("missing.py", None, "there is no file"),
        ("missing.ipynb", None, "there is no file"),
        ("nowhere", None, "there is no module nowhere"),
        ("bad.py", "def f(:", "is not Python"),
        ("bad.ipynb", "{}", "is not a notebook"),
        ("empty.py", "x = 1", "defines no flow, graph, decider or queue"),
        ("failing.py", "import ironflow_nb\nimport surely_missing", "failing.py, line 2: import surely_missing"),
        ("memory.py", "from ironflow_nb import flow\n@flow\ndef f(): ...", "a worker needs a journal on disk"),
    ],
)
@pytest.mark.crash
def test_what_is_no_worker_says_so_and_exits_with_one(place: Place, target: str, text: str | None, said: str) -> None:
    if text is not None:
        (place.folder / target).write_text(text)
    place.environment["IRONFLOW_DB"] = ":memory:"
    command = [sys.executable, "-m", "ironflow_nb", "work", target]
    done = subprocess.run(command, cwd=place.folder, env=place.environment, capture_output=True, text=True)
    assert (done.returncode, said in done.stderr) == (1, True), done.stderr
