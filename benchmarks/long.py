"""A run of 100,000 steps: whether it gets slower, and what a step leaves in memory and on the disk."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path
from typing import Final

import ironflow_nb as iron
from benchmarks.samples import Figures
from benchmarks.steps import work
from ironflow_nb import flow

WARM_UP: Final = 1000
N_STEPS: Final = 100_000
THOUSAND: Final = 1000

_seen: dict[str, float] = {}


def peak_bytes() -> int:
    """Return the most memory that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _thousand(first: int) -> float:
    begun = time.process_time()  # what other processes take, and a disk that is busy with them, says nothing of growth
    for n in range(first, first + THOUSAND):
        work(n)
    return time.process_time() - begun


@flow
def long_run() -> None:
    """Call a step so many times, and note the processor time of the first and last thousand."""
    for n in range(WARM_UP):
        work(n)
    before = peak_bytes()
    _seen["first"] = _thousand(WARM_UP)
    for n in range(WARM_UP + THOUSAND, WARM_UP + N_STEPS - THOUSAND):
        work(n)
    _seen["last"] = _thousand(WARM_UP + N_STEPS - THOUSAND)
    _seen["memory"] = (peak_bytes() - before) / N_STEPS


def hundred_thousand_steps(folder: Path) -> Figures:
    """Measure the first and the last thousand of 100,000 sequential steps, and bytes per step."""
    path = folder / "long.db"
    with iron.open(path, durability="process"):
        long_run.options(fresh=True)()
    return {
        "step of the first thousand": _seen["first"] / THOUSAND,
        "step of the last thousand": _seen["last"] / THOUSAND,
        "memory of a step": _seen["memory"],
        "journal of a step": path.stat().st_size / (WARM_UP + N_STEPS),
    }
