"""Flows that wait for a signal, in real kernels: what the cell says, the stop button, and the death of the kernel."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ironflow_nb as iron
from tests.kernel.kernels import Kernel
from tests.waits.conftest import until

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="interrupts of Windows kernels go another way"),
]

CELL = """
import ironflow_nb as iron
from ironflow_nb import flow, step

@step
def work(n):
    with open("bodies.log", "a") as log:
        log.write(f"{n}\\n")
    return n

@flow
def waiter():
    return work(1), iron.wait_for("go", timeout_s="1h"), work(2)

@flow
async def waiter_async():
    return work(1), await iron.aio.wait_for("go", timeout_s="1h"), work(2)
"""
SENDER = """
import ironflow_nb as iron
(run_id,) = iron.runs(status="waiting")["run_id"]
iron.get_run(run_id).signal("go", {"by": "somebody"})
"""


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    with Kernel(tmp_path) as made:
        made.run("%load_ext ironflow_nb")
        assert made.run(CELL).error is None
        yield made


def await_wait(kernel: Kernel, cell: str, *, is_async: bool) -> None:
    """Wait until the cell says for what it waits: a plain call asks for the payload."""
    if is_async:
        kernel.await_text(cell, 'waiting for the signal "go" until')
    else:
        assert 'waiting for the signal "go" until' in kernel.prompted()


@pytest.mark.parametrize("call", ["waiter()", "await waiter_async()"])
def test_a_flow_that_waits_outlives_the_stop_button_and_its_kernel(kernel: Kernel, tmp_path: Path, call: str) -> None:
    is_async = call.startswith("await")
    cell = kernel.send(call)
    await_wait(kernel, cell, is_async=is_async)
    kernel.interrupt()
    shown = kernel.collect(cell)
    assert shown.error is not None
    assert "1 finished step is kept" in shown.traceback
    await_wait(kernel, kernel.send(call), is_async=is_async)
    with iron.open(tmp_path / ".ironflow" / "journal.db", read_only=True):
        until(lambda: list(iron.runs()["status"]) == ["waiting"])
    kernel.kill()
    with Kernel(tmp_path) as another:
        another.run("%load_ext ironflow_nb")
        another.run(CELL)
        assert another.run("print(*iron.runs()['status'])").text.split() == ["waiting"]
        cell = another.send(call)
        await_wait(another, cell, is_async=is_async)
        subprocess.run([sys.executable, "-c", SENDER], cwd=tmp_path, check=True, timeout=60)
        shown = another.collect(cell)
        assert shown.error is None
        assert "(1, {'by': 'somebody'}, 2)" in "".join(shown.of("text/plain"))
    assert (tmp_path / "bodies.log").read_text().split() == ["1", "2"]
