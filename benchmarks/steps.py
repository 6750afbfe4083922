"""Steps one after the other, steps that are answered from the journal, and short runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import ironflow_nb as iron
from benchmarks.floor import between, committed_rows
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


def replay(folder: Path, n_steps: int) -> float:
    """Return the seconds of one step that a new engine answers from the journal, loading included."""
    global is_broken  # noqa: PLW0603
    with iron.open(folder / "replay.db", durability="process"):
        try:
            broken.options(key="replay")(n_steps)
        except RuntimeError:
            is_broken = False
    with iron.open(folder / "replay.db", durability="process"):
        begun = time.perf_counter()
        broken.options(key="replay")(n_steps)
        return (time.perf_counter() - begun) / n_steps


def replayed_steps(folder: Path) -> Figures:
    """Measure the continuation of a run of 1,000 finished steps."""
    return {"replayed step of 1,000": replay(folder, 1000)}


def replayed_steps_of_many(folder: Path) -> Figures:
    """Measure the continuation of a run of 10,000 finished steps."""
    return {"replayed step of 10,000": replay(folder, 10_000)}


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
