"""What a step asks of Python and of SQLite: counts, which are the same on every machine."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import ironflow_nb as iron
from benchmarks import decisions, steps
from benchmarks.fan_out import N_THREADS, work_async
from benchmarks.isolated import Workload
from benchmarks.samples import Figures
from benchmarks.table import Samples
from ironflow_nb import flow

FEW: Final = 20
MANY: Final = 120

_found: Counter[str] = Counter()


@contextmanager
def _counted() -> Iterator[None]:
    """Count the calls of this thread, and the statements of the connection that writes, in `_found`."""
    connection = iron.engine().journal._writer()  # type: ignore[attr-defined]
    statements: list[str] = []
    calls: list[None] = []
    _found.clear()
    connection.set_trace_callback(statements.append)
    sys.setprofile(lambda _frame, event, _argument: calls.append(None) if event == "call" else None)
    try:
        yield
    finally:
        sys.setprofile(None)
        connection.set_trace_callback(None)
    commits = sum(statement.startswith("COMMIT") for statement in statements)
    _found.update({"calls": len(calls), "statements": len(statements), "commits": commits})


@flow
def mapped(n_steps: int) -> None:
    """Map a step over so many numbers, ten at a time."""
    with _counted():
        list(steps.work.map(range(n_steps), concurrency=N_THREADS))


@flow
async def gathered(n_steps: int) -> None:
    """Gather so many coroutines of a step."""
    with _counted():
        await asyncio.gather(*map(work_async, range(n_steps)))


def _sequential(n_steps: int) -> None:
    with _counted():
        steps.sequential.options(fresh=True)(n_steps)


def _replayed(n_steps: int) -> None:
    steps._break(steps.broken, n_steps)
    with _counted():
        steps.broken.options(key=f"of {n_steps}")(n_steps)


def _runs(n_runs: int) -> None:
    with _counted():
        for _ in range(n_runs):
            steps.sequential.options(fresh=True)(3)


def _commands(n_commands: int) -> None:
    total = decisions.totals()
    total.send(decisions.Add("t", 0))
    with _counted():
        for n in range(n_commands):
            total.send(decisions.Add("t", n))


@dataclass(frozen=True)
class Unit:
    """What is counted: one of what `work` does so many of."""

    what: str
    name: str
    work: Callable[[int], object]


UNITS: Final = (
    Unit("sequential durable step", "step", _sequential),
    Unit("1,000 steps on 10 threads: a step, in the thread of the flow", "mapped step", mapped.options(fresh=True)),
    Unit("async gather of 1,000: a step", "gathered step", lambda n: gathered.options(fresh=True).start(n).result()),
    Unit("replayed step", "replayed step", _replayed),
    Unit("run of 3 steps", "run", _runs),
    Unit("a command decided", "command", _commands),
)


def counts(folder: Path) -> Figures:
    """Count for one unit of each kind: the difference of many and few, without what a run or an engine costs once."""
    found: Figures = {}
    with iron.open(folder / "counts.db", durability="power"):
        for unit in UNITS:
            unit.work(3)  # what is done for the first time is done
            unit.work(FEW)
            few = _found.copy()
            unit.work(MANY)
            found |= {f"{unit.name}: {what}": (n - few[what]) / (MANY - FEW) for what, n in _found.items()}
    return found


WORKLOADS: Final[Sequence[Workload]] = (counts,)


def table(samples: Samples) -> str:
    """Return what was counted as a Markdown table."""
    lines = ["| what | Python calls | statements | syncs in power |", "| --- | --: | --: | --: |"]
    return "\n".join([*lines, *(_line(unit, samples) for unit in UNITS)])


def _line(unit: Unit, samples: Samples) -> str:
    found = [samples[f"{unit.name}: {what}"][0] for what in ("calls", "statements", "commits")]
    return f"| {' | '.join([unit.what, *(f'{n:,.0f}' if n >= 100 else f'{n:.3g}' for n in found)])} |"
