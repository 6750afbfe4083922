"""Measure against the floor: ``python -m benchmarks.run [--repeat N] [--steps N]``.

Every row of the table is measured in this one run, interleaved with the floor and repeated; the figures are medians.
Ratios are to a committed row of raw ``sqlite3`` in the same mode.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import ironflow_nb as iron
from benchmarks.floor import committed_rows
from ironflow_nb import flow, step

Measured = dict[str, list[float]]

_PAYLOAD = "x" * 180


@step
def work(n: int) -> dict[str, object]:
    """Return some 200 bytes."""
    return {"n": n, "text": _PAYLOAD}


@flow
def sequential(n_steps: int) -> int:
    """Call a step so many times."""
    return sum(work(n)["n"] for n in range(n_steps))  # type: ignore[misc]


@flow
def broken(n_steps: int) -> int:
    """Call a step so many times, and fail after them the first time."""
    total = sum(work(n)["n"] for n in range(n_steps))  # type: ignore[misc]
    if FAIL:
        raise RuntimeError
    return total


FAIL: list[bool] = []


def a_step(folder: Path, durability: str, n_steps: int) -> float:
    """Return the seconds of one sequential durable step."""
    with iron.open(folder / "steps.db", durability=durability):
        sequential.options(fresh=True)(3)  # the file is made, the threads are started
        begun = time.perf_counter()
        sequential.options(fresh=True)(n_steps)
        return (time.perf_counter() - begun) / n_steps


def a_replayed_step(folder: Path, n_steps: int) -> float:
    """Return the seconds of one step that is answered from the journal, loading included."""
    with iron.open(folder / "replay.db", durability="process"):
        FAIL.append(True)
        try:
            broken.options(key="replay")(n_steps)
        except RuntimeError:
            FAIL.clear()
        begun = time.perf_counter()
        broken.options(key="replay")(n_steps)
        return (time.perf_counter() - begun) / n_steps


def a_run_of_three(folder: Path, n_runs: int) -> float:
    """Return the seconds of one run of three steps, in power."""
    with iron.open(folder / "runs.db", durability="power"):
        sequential.options(fresh=True)(3)
        begun = time.perf_counter()
        for _ in range(n_runs):
            sequential.options(fresh=True)(3)
        return (time.perf_counter() - begun) / n_runs


def a_process(folder: Path, program: str) -> float:
    """Return the seconds from the start of a Python process until its program writes its first byte, or ends."""
    # As for whoever installed the package: pip compiles what it installs.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", program]
    begun = time.perf_counter()
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        spent = time.perf_counter() - begun
        process.stdout.read()  # a closed pipe would fail its program
    assert process.returncode == 0
    return spent


IMPORT = "import ironflow_nb; ironflow_nb.flow, ironflow_nb.step"
FIRST_STEP = """
import linecache
source = '''
@step
def work(n):
    return n

@flow
def main():
    print(work(1), flush=True)
'''
linecache.cache["cell"] = (len(source), None, source.splitlines(True), "cell")
from ironflow_nb import flow, step
exec(compile(source, "cell", "exec"))
main.options(fresh=True)()
"""


def measure(n_repeat: int, n_steps: int) -> Measured:
    """Return all figures in microseconds, so many of each, interleaved."""
    found: Measured = defaultdict(list)
    rows: dict[str, Callable[[Path], float]] = {
        "floor power": lambda folder: committed_rows(folder, "power", n_steps) / n_steps,
        "step power": lambda folder: a_step(folder, "power", n_steps),
        "floor process": lambda folder: committed_rows(folder, "process", n_steps) / n_steps,
        "step process": lambda folder: a_step(folder, "process", n_steps),
        "replayed step": lambda folder: a_replayed_step(folder, n_steps),
        "run of 3": lambda folder: a_run_of_three(folder, max(20, n_steps // 20)),
        "python": lambda folder: a_process(folder, "pass"),
        "python, sqlite3": lambda folder: a_process(folder, "import sqlite3"),
        "import": lambda folder: a_process(folder, IMPORT),
        "first step, new journal": lambda folder: a_process(folder, FIRST_STEP),
    }
    for _ in range(n_repeat):
        for name, row in rows.items():
            folder = Path(tempfile.mkdtemp(prefix="ironflow-bench-"))
            try:
                found[name].append(row(folder) * 1e6)
                if name == "first step, new journal":
                    found["first step, existing journal"].append(row(folder) * 1e6)
            finally:
                shutil.rmtree(folder)
    return found


def table(found: Measured) -> str:
    """Return the figures as a Markdown table."""
    middle = {name: statistics.median(values) for name, values in found.items()}
    power, process, python = middle["floor power"], middle["floor process"], middle["python"]
    lines = [
        "| what | measured | against the floor of the same run |",
        "| --- | --: | --: |",
        f"| committed row of raw sqlite3, power | {power:.0f} us | 1 |",
        f"| sequential durable step, power | {middle['step power']:.0f} us | {middle['step power'] / power:.2f} |",
        f"| committed row of raw sqlite3, process | {process:.0f} us | 1 |",
        f"| the same, process | {middle['step process']:.0f} us | {middle['step process'] / process:.2f} |",
        f"| replayed step | {middle['replayed step']:.1f} us | |",
        f"| run of 3 steps, power | {middle['run of 3']:.0f} us | {middle['run of 3'] / power:.2f} |",
        f"| `import ironflow_nb`, beyond Python's own start | {(middle['import'] - python) / 1000:.0f} ms | |",
    ]
    lines += [
        f"| first durable step of a process, {kind} journal | {took / 1000:.0f} ms | Python: {python / 1000:.0f} ms |"
        for kind in ("existing", "new")
        for took in [middle[f"first step, {kind} journal"]]
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--steps", type=int, default=1000)
    given = parser.parse_args()
    print(table(measure(given.repeat, given.steps)))


if __name__ == "__main__":
    main()
