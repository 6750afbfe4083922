"""Steps of cells whose bodies run in other processes, and the stop button, which reaches those processes, too."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.kernels import Kernel
from tests.waits.conftest import until

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="interrupts of Windows kernels go another way"),
]

CELL = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from ironflow_nb import flow, step

class Odd(Exception):
    def __init__(self, code, hint):
        super().__init__(code)
        self.hint = hint

def processes():
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))

def twice(n):
    return 2 * n

@step(executor=processes)
def work(n):
    with open("bodies.log", "a") as log:
        log.write(f"{n}\\n")
    while n == 7 and not Path("go on").exists():
        time.sleep(0.02)
    return twice(n), os.getpid() != parent

@step(executor=processes)
def fails():
    raise Odd(5, "a hint")

parent = os.getpid()

@flow
def main(n):
    return work(1), *work.map(range(2, n))

@flow
def failing():
    fails()

@flow
async def main_async(n):
    return await work.submit(n)
"""


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    with Kernel(tmp_path) as made:
        made.run("%load_ext ironflow_nb")
        assert made.run(CELL).error is None
        yield made


def bodies(folder: Path) -> list[str]:
    log = folder / "bodies.log"
    return log.read_text().split() if log.exists() else []


def test_functions_of_cells_run_in_other_processes_and_their_errors_show_the_lines_of_the_cell(kernel: Kernel) -> None:
    assert "((2, True), (4, True), (6, True))" in kernel.run("print(main(4))").text
    assert "(10, True)" in kernel.run("print(await main_async(5))").text
    shown = kernel.run("failing()")
    assert shown.error is not None
    assert shown.error.startswith("Odd: 5")
    told = re.sub(r"\x1b\[[0-9;]*m", "", shown.traceback)
    assert 'raise Odd(5, "a hint")' in told
    assert "worker_call" not in told


def test_the_stop_button_interrupts_a_body_in_another_process_and_the_cell_continues(
    kernel: Kernel, tmp_path: Path
) -> None:
    cell = kernel.send("main(8)")
    until(lambda: "7" in bodies(tmp_path))
    kernel.interrupt()
    shown = kernel.collect(cell)
    assert shown.error is not None
    assert shown.error.startswith("KeyboardInterrupt")
    (tmp_path / "go on").touch()
    assert "(14, True)" in kernel.run("print(main(8))").text
    assert sorted(n for n in bodies(tmp_path) if n != "7") == [str(n) for n in range(1, 7)]
