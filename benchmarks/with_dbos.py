"""The workloads on DBOS with SQLite, as it is shipped: the file is its system database."""

# mypy: disable-error-code="untyped-decorator, no-any-return"
from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

from dbos import DBOS

from benchmarks.samples import Figures, Sample

N_STEPS: Final = 1000
N_AT_ONCE: Final = 10
_TEXT: Final = "x" * 180

_spent: list[float] = []


@DBOS.step()
def work(n: int) -> Sample:
    """Return some 200 bytes."""
    return {"n": n, "text": _TEXT}


@DBOS.step()
async def work_async(n: int) -> Sample:
    """Return some 200 bytes."""
    return {"n": n, "text": _TEXT}


@DBOS.workflow()
def sequential(n_steps: int) -> int:
    """Call a step so many times, and note the seconds of a step."""
    begun = time.perf_counter()
    total = sum(work(n)["n"] for n in range(n_steps))
    _spent.append((time.perf_counter() - begun) / n_steps)
    return total


@DBOS.workflow()
async def gathered(n_steps: int) -> int:
    """Call a step so many times, ten at once."""
    few = asyncio.Semaphore(N_AT_ONCE)

    async def one(n: int) -> int:
        async with few:
            return (await work_async(n))["n"]

    return sum(await asyncio.gather(*map(one, range(n_steps))))


def _launch(folder: Path) -> None:
    DBOS(
        config={
            "name": "bench",
            "system_database_url": f"sqlite:///{folder / 'dbos.sqlite'}",
            "log_level": "ERROR",
            "run_admin_server": False,
        }
    )
    DBOS.launch()


def peer_dbos(folder: Path) -> Figures:
    """Measure sequential steps, ten at once, and steps that a fork of the run is answered from what is recorded."""
    _launch(folder)
    sequential(3)
    handle = DBOS.start_workflow(sequential, N_STEPS)
    handle.get_result()
    begun = time.perf_counter()
    asyncio.run(gathered(N_STEPS))
    beside = (time.perf_counter() - begun) / N_STEPS
    sequential_step = _spent[-1]
    DBOS.fork_workflow(handle.workflow_id, N_STEPS + 1).get_result()
    DBOS.destroy()
    return {"dbos: step": sequential_step, "dbos: beside": beside, "dbos: replayed": _spent[-1]}
