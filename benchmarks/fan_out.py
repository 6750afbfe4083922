"""Steps beside each other: a map on ten threads, and a gather of coroutines."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

import ironflow_nb as iron
from benchmarks.floor import between, gathered_rows, rows_of_threads
from benchmarks.samples import Figures, Sample
from benchmarks.steps import work
from ironflow_nb import flow, step

N_STEPS: Final = 1000
N_THREADS: Final = 10

_TEXT: Final = "x" * 180


@flow
def mapped(n_steps: int) -> int:
    """Map a step over so many numbers, ten at a time."""
    return sum(found["n"] for found in work.map(range(n_steps), concurrency=N_THREADS))


@step
async def work_async(n: int) -> Sample:
    """Return some 200 bytes, after the loop has had its turn."""
    await asyncio.sleep(0)
    return {"n": n, "text": _TEXT}


@flow
async def gathered(n_steps: int) -> int:
    """Gather so many coroutines of a step."""
    return sum(found["n"] for found in await asyncio.gather(*map(work_async, range(n_steps))))


def mapped_steps(folder: Path, durability: str) -> float:
    """Return the seconds of one mapped durable step."""
    with iron.open(folder / "map.db", durability=durability):
        mapped.options(fresh=True)(2 * N_THREADS)  # the file is made, the threads are started
        begun = time.perf_counter()
        mapped.options(fresh=True)(N_STEPS)
        return (time.perf_counter() - begun) / N_STEPS


def _beside_rows(folder: Path, durability: str) -> tuple[float, float]:
    return between(
        folder,
        lambda here: rows_of_threads(here, durability, N_STEPS, N_THREADS),
        lambda here: mapped_steps(here, durability),
    )


def map_in_power(folder: Path) -> Figures:
    """Measure mapped steps that survive a power cut."""
    floor, found = _beside_rows(folder, "power")
    return {"row of threads, power": floor, "mapped step, power": found}


def map_in_process(folder: Path) -> Figures:
    """Measure mapped steps that survive the death of the process."""
    floor, found = _beside_rows(folder, "process")
    return {"row of threads, process": floor, "mapped step, process": found}


async def _plain_gather() -> float:
    begun = time.perf_counter()
    await asyncio.gather(*map(work_async.fn, range(N_STEPS)))
    return time.perf_counter() - begun


def gathered_steps(folder: Path) -> float:
    """Return the seconds of one gathered durable step, in power."""
    with iron.open(folder / "gather.db", durability="power"):
        gathered.options(fresh=True).start(3).result()  # the file is made, the loop is started
        begun = time.perf_counter()
        gathered.options(fresh=True).start(N_STEPS).result()
        return (time.perf_counter() - begun) / N_STEPS


def gather_in_power(folder: Path) -> Figures:
    """Measure a gather of steps, and of raw rows, each beyond the gather of plain coroutines."""
    plain = asyncio.run(_plain_gather()) / N_STEPS
    floor, found = between(folder, lambda here: gathered_rows(here, "power", N_STEPS), gathered_steps)
    return {"gathered row": floor - plain, "gathered step": found - plain}
