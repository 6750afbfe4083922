"""Steps one after the other, steps that are answered from the journal, and short runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import ironflow_nb as iron
from benchmarks.floor import between, committed_rows, read_rows
from benchmarks.samples import Figures, Sample
from ironflow_nb import flow, step

N_STEPS: Final = 1000
N_RUNS: Final = 50

_TEXT: Final = "x" * 180


@step
def work(n: int) -> Sample:
    """Return some 200 bytes."""
    return {"n": n, "text": _TEXT}


@flow
def sequential(n_steps: int) -> int:
    """Call a step so many times."""
    return sum(work(n)["n"] for n in range(n_steps))


@flow
def broken(n_steps: int) -> int:
    """Call a step so many times, and fail after them the first time."""
    total = sum(work(n)["n"] for n in range(n_steps))
    if is_broken:
        raise RuntimeError
    return total


is_broken = True


def sequential_steps(folder: Path, durability: str) -> float:
    """Return the seconds of one sequential durable step."""
    with iron.open(folder / "steps.db", durability=durability):
        sequential.options(fresh=True)(3)  # the file is made, the threads are started
        begun = time.perf_counter()
        sequential.options(fresh=True)(N_STEPS)
        return (time.perf_counter() - begun) / N_STEPS


def _beside_rows(folder: Path, durability: str) -> tuple[float, float]:
    return between(
        folder,
        lambda here: committed_rows(here, durability, N_STEPS // 2),
        lambda here: sequential_steps(here, durability),
    )


def steps_in_power(folder: Path) -> Figures:
    """Measure sequential steps that survive a power cut."""
    floor, found = _beside_rows(folder, "power")
    return {"row, power": floor, "step, power": found}


def steps_in_process(folder: Path) -> Figures:
    """Measure sequential steps that survive the death of the process."""
    floor, found = _beside_rows(folder, "process")
    return {"row, process": floor, "step, process": found}


@flow
def grown(n_steps: int) -> int:
    """Call a step so many times, and fail after them the first time; the second time call it as often again."""
    total = sum(work(n)["n"] for n in range(n_steps))
    if is_broken:
        raise RuntimeError
    return total + sum(work(n_steps + n)["n"] for n in range(n_steps))


def _break(definition: Any, n_steps: int) -> str:
    """Run it until it fails, and return the id of its run."""
    global is_broken  # noqa: PLW0603
    is_broken = True
    try:
        definition.options(key=f"of {n_steps}")(n_steps)
    except RuntimeError:
        is_broken = False
    run_id: str = definition.last.id
    return run_id


def replay(folder: Path, n_steps: int) -> tuple[float, float]:
    """Return the seconds of one step that a new engine answers from the journal, loading included, and its floor."""
    path = folder / "replay.db"
    with iron.open(path, durability="process"):
        run_id = _break(broken, n_steps)
    before = read_rows(path, run_id)
    with iron.open(path, durability="process"):
        begun = time.perf_counter()
        broken.options(key=f"of {n_steps}")(n_steps)
        found = (time.perf_counter() - begun) / n_steps
    return (before + read_rows(path, run_id)) / 2, found


def replayed_steps(folder: Path) -> Figures:
    """Measure the continuation of a run of 1,000 finished steps."""
    floor, found = replay(folder, 1000)
    return {"row read of 1,000": floor, "replayed step of 1,000": found}


def replayed_steps_of_many(folder: Path) -> Figures:
    """Measure the continuation of a run of 10,000 finished steps."""
    floor, found = replay(folder, 10_000)
    return {"row read of 10,000": floor, "replayed step of 10,000": found}


def continued_steps(folder: Path) -> Figures:
    """Measure the processor time of runs that go on with as many new steps as they have recorded ones."""
    found: Figures = {}
    for n_steps in (1000, 4000):
        with iron.open(folder / f"{n_steps}.db", durability="process"):
            _break(grown, n_steps)
            begun = time.process_time()
            grown.options(key=f"of {n_steps}")(n_steps)
            found[f"new step beside {n_steps:,}"] = (time.process_time() - begun) / n_steps
    return found


def short_runs(folder: Path) -> float:
    """Return the seconds of a run of three steps, in power."""
    with iron.open(folder / "runs.db", durability="power"):
        sequential.options(fresh=True)(3)
        begun = time.perf_counter()
        for _ in range(N_RUNS):
            sequential.options(fresh=True)(3)
        return (time.perf_counter() - begun) / N_RUNS


def run_of_three(folder: Path) -> Figures:
    """Measure runs of three steps that survive a power cut."""
    floor, found = between(folder, lambda here: committed_rows(here, "power", 3 * N_RUNS), short_runs)
    return {"row beside runs, power": floor, "run of 3": found}
