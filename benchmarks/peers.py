"""Other engines on the same machine in the same run: those that are installed beside this package.

Each does the same with its usual durable configuration and a SQLite file: 1,000 steps one after the other (redun: 100),
as many ten at once, and a continued run that is answered from what is recorded. They take turns with the workloads of
this package, whose figures stand beside theirs.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from benchmarks.isolated import Workload
from benchmarks.samples import Figures
from benchmarks.table import Samples, shown


def dbos(folder: Path) -> Figures:
    """Measure DBOS."""
    from benchmarks.with_dbos import peer_dbos

    return peer_dbos(folder)


def langgraph(folder: Path) -> Figures:
    """Measure LangGraph."""
    from benchmarks.with_langgraph import peer_langgraph

    return peer_langgraph(folder)


def burr(folder: Path) -> Figures:
    """Measure Burr."""
    from benchmarks.with_burr import peer_burr

    return peer_burr(folder)


def redun(folder: Path) -> Figures:
    """Measure redun."""
    from benchmarks.with_redun import peer_redun

    return peer_redun(folder)


def diskcache(folder: Path) -> Figures:
    """Measure DiskCache, a memory of results without any history."""
    from benchmarks.with_diskcache import peer_diskcache

    return peer_diskcache(folder)


ENGINES: Final = (dbos, langgraph, burr, redun, diskcache)
FLOOR: Final = "row, power"


def is_installed(engine: Workload) -> bool:
    """Tell whether the package of that name can be imported."""
    return find_spec(engine.__name__) is not None


def workloads() -> Sequence[Workload]:
    """Return the workloads of the engines that are installed."""
    return list(filter(is_installed, ENGINES))


def missing() -> list[str]:
    """Return the names of the engines that are not installed."""
    return [engine.__name__ for engine in ENGINES if not is_installed(engine)]


def table(samples: Samples) -> str:
    """Return what was measured as a Markdown table."""
    found = [_line("raw sqlite3", (FLOOR, "row of threads, power", "row read of 1,000"), samples)]
    for mode in ("power", "process"):
        own = (f"step, {mode}", f"mapped step, {mode}", "replayed step of 1,000")
        found.append(_line(f"ironflow_nb {version('ironflow-nb')}, {mode}", own, samples))
    for name in (engine.__name__ for engine in ENGINES if f"{engine.__name__}: step" in samples):
        figures = (f"{name}: step", f"{name}: beside", f"{name}: replayed")
        found.append(_line(f"{name} {version(name)}", figures, samples))
    lines = ["| engine | a step | x raw row | ten at once: a step | replayed step |", "| --- | --: | --: | --: | --: |"]
    return "\n".join([*lines, *found])


def _line(name: str, figures: Sequence[str], samples: Samples) -> str:
    middle = [statistics.median(samples[figure]) if figure in samples else None for figure in figures]
    step, beside, replayed = ("" if figure is None else shown(figure, "us") for figure in middle)
    assert middle[0] is not None
    return f"| {name} | {step} | {middle[0] / statistics.median(samples[FLOOR]):.1f} | {beside} | {replayed} |"
