"""Sweeps in a real kernel: the strip follows, the stop button stops them, and the next kernel goes on."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from tests.kernel.kernels import TIMEOUT_S, Kernel

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="interrupts of Windows kernels go another way"),
]

CELL = """
import time
from pathlib import Path
import ironflow_nb as iron
from ironflow_nb import flow, step

@step
def work(n):
    with open("bodies.log", "a") as log:
        log.write(f"{n}\\n")
    while n >= 4 and not Path("go").exists():
        time.sleep(0.01)
    return n

@step
def note(n):
    return -n

@flow
def trial(n):
    return {"noted": note(work(n))}
"""


def bodies(folder: Path) -> list[int]:
    log = folder / "bodies.log"
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def test_a_stopped_sweep_goes_on_in_the_next_kernel_and_its_strip_follows(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        kernel.run("%load_ext ironflow_nb")
        assert kernel.run(CELL).error is None
        cell = kernel.send("sweep = trial.sweep(range(12), concurrency=2)\nsweep.wait()")
        end_s = time.monotonic() + TIMEOUT_S
        while len(bodies(tmp_path)) < 6 and time.monotonic() < end_s:
            time.sleep(0.01)
        kernel.interrupt()
        shown = kernel.collect(cell)
        assert shown.error is not None
        assert shown.error.startswith("KeyboardInterrupt")
        assert "the sweep is interrupted; rows 4, 5 are at work" in shown.text
        (tmp_path / "go").touch()
        assert "6 pending" in kernel.run("print(sweep.wait())").text
        kernel.kill()
    with Kernel(tmp_path) as kernel:
        kernel.run("%load_ext ironflow_nb")
        assert kernel.run(CELL).error is None
        shown = kernel.run("sweep = trial.sweep(range(12), concurrency=2)\nsweep")
        assert "12 rows: 4 completed before and reused, 2 continued, 6 new" in shown.text
        (bundle,) = shown.bundles
        if "✓ 12 completed" not in bundle["text/plain"]:
            kernel.take_updates(lambda _: "✓ 12 completed" in bundle["text/plain"])
        assert "12&nbsp;completed" in bundle["text/html"]
        assert kernel.run("print(sweep.frame()['noted'].sum())").text == f"{-sum(range(12))}\n"
    assert sorted(bodies(tmp_path)) == [*range(12)]


def test_a_cell_that_waits_for_a_sweep_ends_with_its_last_strip(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        kernel.run("%load_ext ironflow_nb")
        assert kernel.run(CELL).error is None
        (bundle,) = kernel.run("sweep = trial.sweep(range(6), concurrency=2)\nsweep").bundles
        assert "✓ 6 completed" not in bundle["text/plain"]
        kernel.run("Path('go').touch()\nsweep.wait()")
        assert "✓ 6 completed" in bundle["text/plain"]
