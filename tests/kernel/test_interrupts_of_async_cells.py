"""The stop button in cells that await async flows, in real kernels."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from tests.kernel.kernels import Kernel

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="interrupts of Windows kernels go another way"),
]

CELL = """
import asyncio, pathlib
import ironflow_nb as iron
from ironflow_nb import flow, step

@step
async def work(n):
    with open("bodies.log", "a") as log:
        log.write(f"{n}\\n")
    if n and pathlib.Path("slow").exists():
        await asyncio.sleep(120)
    return n

@flow
async def child(n):
    return await work(n) + await work(n + 10)

@flow
async def gathered():
    return await work(0) + sum(await asyncio.gather(*map(work, (1, 2, 3))))

@flow
async def grouped():
    first = await work(0)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work(n)) for n in (1, 2, 3)]
    return first + sum(task.result() for task in tasks)

@flow
async def with_children():
    return await work(0) + sum(await asyncio.gather(child(1), child(2), child(3)))

@flow
async def mapped():
    return await work(0) + sum(await work.map([1, 2, 3]))
"""
RESULTS = {"gathered": 6, "grouped": 6, "with_children": 42, "mapped": 6}


def bodies(folder: Path) -> list[int]:
    log = folder / "bodies.log"
    return sorted(map(int, log.read_text().split())) if log.exists() else []


@pytest.mark.parametrize("n_presses", [1, 2], ids=["once", "twice"])
@pytest.mark.parametrize("name", RESULTS)
def test_a_stopped_cell_says_what_is_kept_and_continues(tmp_path: Path, name: str, n_presses: int) -> None:
    (tmp_path / "slow").touch()
    with Kernel(tmp_path) as kernel:
        kernel.run("%load_ext ironflow_nb")
        assert kernel.run(CELL).error is None
        cell = kernel.send(f"result = await {name}()")
        deadline_s = time.monotonic() + 30
        while bodies(tmp_path) != [0, 1, 2, 3]:
            assert time.monotonic() < deadline_s
            time.sleep(0.005)
        for _ in range(n_presses):
            kernel.interrupt()
        shown = kernel.collect(cell)
        assert shown.error is not None
        assert shown.error.startswith(("KeyboardInterrupt", "CancelledError"))
        assert f"{name} was interrupted; 1 finished step is kept" in shown.traceback
        assert "run the cell again" in shown.traceback
        assert kernel.run("1 + 1").of("text/plain") == ["2"]  # no interrupt is left
        assert kernel.run("print({*iron.runs()['status']}, len(iron.runs()))").text.startswith("{'interrupted'}")
        (tmp_path / "slow").unlink()
        if name == "mapped":  # its bodies go on, and would be waited for
            kernel.kill()
    with Kernel(tmp_path) as kernel:
        kernel.run("%load_ext ironflow_nb")
        assert kernel.run(CELL).error is None
        shown = kernel.run(f"print(await {name}())")
        assert shown.error is None
        assert "continuing run" in shown.text
        assert shown.text.endswith(f"{RESULTS[name]}\n")
        assert kernel.run("print({*iron.runs()['status']})").text == "{'completed'}\n"
    assert bodies(tmp_path).count(0) == 1
