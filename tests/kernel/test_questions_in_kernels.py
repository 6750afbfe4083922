"""Questions in real kernels: the cell asks where the front end lets it, and is left without an answer."""

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
def asks():
    return work(1), iron.approve("Go?", ["a"]), iron.ask("Who?", choices=["ann", "bob"]), work(2)

@flow
async def asks_async():
    return work(1), await iron.aio.approve("Go?", ["a"]), work(2)
"""
ANSWER = """
import ironflow_nb as iron
[asked] = iron.waiting().itertuples()
iron.get_run(asked.run_id).answer({}, asked.step)
"""


def answer_elsewhere(folder: Path, value: object) -> None:
    subprocess.run([sys.executable, "-c", ANSWER.format(repr(value))], cwd=folder, check=True, timeout=60)


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    with Kernel(tmp_path) as made:
        made.run("%load_ext ironflow_nb")
        assert made.run(CELL).error is None
        yield made


def test_a_cell_asks_and_is_left_and_asks_again(kernel: Kernel, tmp_path: Path) -> None:
    cell = kernel.send("asks()")
    assert kernel.prompted() == "Go?\n['a']\nyes or no (an empty line: later): "
    kernel.type("")
    shown = kernel.collect(cell)
    assert (shown.error or "").startswith("RunInterrupted: run ")
    assert "waits for an answer to" in shown.traceback
    assert "run the cell again" in shown.traceback
    assert "File" not in shown.traceback  # it is no mistake, so there are no frames
    assert kernel.run("print(*iron.runs()['status'])").text.split() == ["waiting"]
    cell = kernel.send("asks()")
    kernel.prompted()
    kernel.interrupt()
    shown = kernel.collect(cell)
    assert (shown.error or "").startswith("KeyboardInterrupt")
    assert "1 finished step is kept" in shown.traceback
    cell = kernel.send("asks()")
    kernel.prompted()
    answer_elsewhere(tmp_path, value=True)
    assert "1 ann, 2 bob" in kernel.prompted()
    kernel.type("ann")
    shown = kernel.collect(cell)
    assert shown.error is None
    assert "(1, True, 'ann', 2)" in "".join(shown.of("text/plain"))
    assert (tmp_path / "bodies.log").read_text().split() == ["1", "2"]


def test_a_kernel_that_dies_while_it_asks_leaves_the_question_open(kernel: Kernel, tmp_path: Path) -> None:
    kernel.send("asks()")
    kernel.prompted()
    with iron.open(tmp_path / ".ironflow" / "journal.db", read_only=True):
        until(lambda: list(iron.runs()["status"]) == ["waiting"])
    kernel.kill()
    answer_elsewhere(tmp_path, value=False)
    with Kernel(tmp_path) as another:
        another.run("%load_ext ironflow_nb")
        another.run(CELL)  # from here on the run goes on in the background, for it was answered
        with iron.open(tmp_path / ".ironflow" / "journal.db", read_only=True):
            until(lambda: list(iron.waiting()["question"]) == ["Who?"])
        answer_elsewhere(tmp_path, value="bob")
        shown = another.run("asks.last.result()")
        assert "(1, False, 'bob', 2)" in "".join(shown.of("text/plain"))
    assert (tmp_path / "bodies.log").read_text().split() == ["1", "2"]


def test_a_cell_that_joins_a_run_asks_what_that_asks(kernel: Kernel, tmp_path: Path) -> None:
    kernel.run("run = asks.start()")
    cell = kernel.send("asks()")
    assert kernel.prompted() == "Go?\n['a']\nyes or no (an empty line: later): "
    kernel.type("perhaps")
    assert "perhaps" in kernel.prompted()
    kernel.type("yes")
    assert "1 ann, 2 bob" in kernel.prompted()
    kernel.type("")  # from here on it waits
    answer_elsewhere(tmp_path, value="bob")
    shown = kernel.collect(cell)
    assert shown.error is None
    assert "(1, True, 'bob', 2)" in "".join(shown.of("text/plain"))
    assert (tmp_path / "bodies.log").read_text().split() == ["1", "2"]


def test_an_async_cell_says_how_to_answer_and_is_left_by_the_stop_button(kernel: Kernel, tmp_path: Path) -> None:
    cell = kernel.send("await asks_async()")
    kernel.await_text(cell, '.answer(True, "iron.approve[0]")')
    kernel.interrupt()
    assert kernel.collect(cell).error is not None
    assert kernel.run("print(*iron.runs()['status'])").text.split() == ["waiting"]
    cell = kernel.send("await asks_async()")
    kernel.await_text(cell, '.answer(True, "iron.approve[0]")')
    answer_elsewhere(tmp_path, value=True)
    assert "(1, True, 2)" in "".join(kernel.collect(cell).of("text/plain"))
