"""Steps that hang, in cells of real kernels: their time limits, the stop button, and the death of the kernel."""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel.kernels import Kernel

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="interrupts of Windows kernels go another way"),
]

LIMIT_S = 60.0
CELL = """
import asyncio, pathlib, time
import ironflow_nb as iron
from ironflow_nb import flow, step

def note(word):
    with open("bodies.log", "a") as log:
        log.write(f"{word}\\n")

def hangs():
    return not pathlib.Path("go on").exists()

@step(timeout_s=3, retries=iron.Retry(attempts=2, delay_s=0))
def hasty(n):
    note("hasty")
    while n and hangs():
        time.sleep(0.02)
    return n

@step(timeout_s=0.5, retries=iron.Retry(attempts=2, delay_s=0))
async def hasty_async(n):
    note("hasty async")
    await asyncio.sleep(120 * n)
    return n

@step(timeout_s=100, deadline_s=1000)
def patient():
    note("patient")
    while hangs():
        time.sleep(0.02)
    return "done"

@step(deadline_s=5)
def mortal():
    note("mortal")
    time.sleep(120 if hangs() else 0)
    return "done"

@flow
def limited(n):
    return hasty(n)

@flow
async def limited_async(n):
    return await hasty_async(n)

@flow
def stopped():
    return patient()

@flow
def killed():
    return mortal()
"""


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    with Kernel(tmp_path) as made:
        made.run("%load_ext ironflow_nb")
        assert made.run(CELL).error is None
        yield made


def wait_until(is_so: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def bodies(folder: Path) -> list[str]:
    log = folder / "bodies.log"
    return log.read_text().splitlines() if log.exists() else []


def test_a_step_that_hangs_fails_its_cell_and_is_tried_again_when_its_body_has_ended(
    kernel: Kernel, tmp_path: Path
) -> None:
    cell = kernel.send("limited(1)")
    statuses = "SELECT status FROM steps ORDER BY attempt"
    wait_until(lambda: recorded(tmp_path, statuses) == ["retrying"])
    assert bodies(tmp_path) == ["hasty"]  # the next one waits for it
    (tmp_path / "go on").touch()
    shown = kernel.collect(cell)
    assert shown.error is None
    assert recorded(tmp_path, statuses) == ["timed_out", "completed"]


def test_an_async_step_that_hangs_fails_its_cell(kernel: Kernel, tmp_path: Path) -> None:
    shown = kernel.run("await limited_async(1)")
    assert shown.error is not None
    assert shown.error.startswith("StepTimeout: hasty_async[0] took longer than its timeout_s of 0.5 s")
    assert bodies(tmp_path) == ["hasty async"] * 2
    assert "timed out" in kernel.run("print(limited_async.last.diagram())").text


def test_the_stop_button_leaves_a_limited_body_for_the_next_call_of_the_cell(kernel: Kernel, tmp_path: Path) -> None:
    cell = kernel.send("stopped()")
    wait_until(lambda: bodies(tmp_path) == ["patient"])
    kernel.interrupt()
    shown = kernel.collect(cell)
    assert shown.error is not None
    assert shown.error.startswith("KeyboardInterrupt")
    cell = kernel.send("print(stopped())")
    (tmp_path / "go on").touch()
    assert "done" in kernel.collect(cell).text
    assert bodies(tmp_path) == ["patient"]


def test_a_deadline_is_over_although_its_kernel_was_killed(kernel: Kernel, tmp_path: Path) -> None:
    kernel.send("killed()")
    wait_until(lambda: recorded(tmp_path, "SELECT status FROM steps") == ["running"])
    kernel.kill()
    time.sleep(5)  # what the deadline leaves
    with Kernel(tmp_path) as another:
        another.run("%load_ext ironflow_nb")
        another.run(CELL)
        shown = another.run("killed()")
        assert shown.error is not None
        assert shown.error.startswith("StepTimeout: mortal[0] took longer than its deadline_s of 5 s")
        assert bodies(tmp_path) == ["mortal"]
        (tmp_path / "go on").touch()
        assert "done" in another.run("print(killed())").text


def recorded(folder: Path, query: str) -> list[str]:
    """Return what the journal has, as another process sees it."""
    journal = folder / ".ironflow" / "journal.db"
    if not journal.exists():
        return []
    connection = sqlite3.connect(f"file:{journal}?mode=ro", uri=True)
    try:
        return [row[0] for row in connection.execute(query)]
    except sqlite3.OperationalError:  # it is being made
        return []
    finally:
        connection.close()
