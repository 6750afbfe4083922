"""The workloads on DBOS as it is shipped: a file of SQLite, or PostgreSQL, is its system database."""

# mypy: disable-error-code="untyped-decorator, no-any-return"
from __future__ import annotations

import asyncio
import time
import uuid
from pathlib import Path
from typing import Final

from dbos import DBOS, DBOSClient

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


@DBOS.step()
def instant() -> float:
    """Return the time at which it is called."""
    return time.time()


@DBOS.workflow()
def woken(n_signals: int) -> list[float]:
    """Wait for so many signals, one after the other; return when the workflow went on after each."""
    found = []
    for n in range(n_signals):
        DBOS.recv(f"go{n}", timeout_seconds=60)
        found.append(instant())
    return found


def send(url: str, n: int) -> None:
    """Send a signal to the workflow that waits."""
    client = DBOSClient(system_database_url=url)
    [waiting] = client.list_workflows(name="woken", status="PENDING")
    client.send(waiting.workflow_id, "now", f"go{n}")
    client.destroy()


def launch(url: str) -> None:
    """Launch DBOS in this process, with an id of its own, on a system database."""
    DBOS(
        config={
            "name": "bench",
            "system_database_url": url,
            "log_level": "ERROR",
            "run_admin_server": False,
            "executor_id": uuid.uuid4().hex,
        }
    )
    DBOS.launch()


def peer_dbos(folder: Path) -> Figures:
    """Measure sequential steps, ten at once, and steps that a fork of the run is answered from what is recorded."""
    launch(f"sqlite:///{folder / 'dbos.sqlite'}")
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
