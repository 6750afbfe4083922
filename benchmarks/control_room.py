"""The dashboard of a long journal, and the slider over a long run: how long a frame and a move take."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Any, Final

import ironflow_nb as iron
from benchmarks.history import copy_run
from benchmarks.samples import Figures
from ironflow_nb import flow, step
from ironflow_nb.notebook.slider_card import SliderContent

N_RUNS: Final = 10_000
N_ITEMS: Final = 5_000
"""Each is two events."""
N_TIMES: Final = 15


@step
def count(n: int) -> int:
    """Return the number."""
    return n


@flow
def counted() -> int:
    """Do one step."""
    return count(1)


@flow
def mapped() -> int:
    """Map a step over many numbers."""
    return sum(count.map(range(N_ITEMS), concurrency=4))


def frame_of_a_dashboard(folder: Path) -> Figures:
    """Measure a frame of the dashboard of a journal of 10,000 runs, all of which are counted."""
    path = folder / "runs.db"
    with iron.open(path, durability="process"):
        counted()
        copy_run(path, counted.last.id, N_RUNS - 1)
        dashboard = iron.dashboard(since=None)
        assert dashboard.view().n_by_status == {"completed": N_RUNS}
        return {"frame of 10,000 runs": _median_s(dashboard.view)}


def moves_of_a_slider(folder: Path) -> Figures:
    """Measure moves of the slider to moments all over a run of 10,000 events."""
    with iron.open(folder / "events.db", durability="process"):
        mapped()
        slider = SliderContent(mapped.last.slider().moments)
        slider.advance()
        versions = iter(range(1, 2 * N_ITEMS, 2 * N_ITEMS // N_TIMES))

        def move() -> None:
            slider.act({"do": "move", "at": next(versions), "other": None, "is_live": False})

        return {"move over 10,000 events": _median_s(move)}


def _median_s(act: Any) -> float:
    times = []
    for _ in range(N_TIMES):
        begun = time.perf_counter()
        act()
        times.append(time.perf_counter() - begun)
    return median(times)
