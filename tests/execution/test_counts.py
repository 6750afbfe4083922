"""What is said of finished steps: each counts once, and all lines about one call count the same."""

from __future__ import annotations

import os
import re
import signal
import threading
from functools import partial
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from tests.cells import World, run_cell
from tests.conftest import Lab

PROGRAM = """
@step
def head():
    return 1

@step
def fetch(n):
    if {version} == 2 and n == 5 and world.is_broken:
        raise OSError("down")
    return n * {version}

@step
def tail(total):
    if world.is_broken:
        raise OSError("off")
    return total

{call}
"""
CALLS = {
    "def": "@flow\ndef main():\n    head()\n    return tail(sum(fetch(n) for n in range(20)))",
    "async def": "@flow\nasync def main():\n    head()\n    return tail(sum([fetch(n) for n in range(20)]))",
    "map": "@flow\ndef main():\n    head()\n    return tail(sum(fetch.map(range(20), concurrency=1)))",
}


class Cells:
    """One flow, edited and called again."""

    def __init__(self, lab: Lab, world: World, style: str, caplog: pytest.LogCaptureFixture) -> None:
        self.lab, self.style, self.caplog = lab, style, caplog
        self.space: dict[str, Any] = {"step": step, "flow": flow, "world": world, "__name__": "__main__"}

    def call(self, version: int, **options: Any) -> list[str]:
        """Return what the call says, in lines above its output or below its failure."""
        self.lab.cell()
        run_cell(PROGRAM.format(version=version, call=CALLS[self.style]), self.space)
        self.caplog.clear()
        self.caplog.set_level("INFO", logger="ironflow_nb")
        notes: list[str] = []
        try:
            self.space["main"].options(**options).start().result()
        except OSError as error:
            notes = list(error.__notes__)
        return [*self.caplog.messages, *notes]


@pytest.fixture(params=list(CALLS))
def cells(request: pytest.FixtureRequest, lab: Lab, world: World, caplog: pytest.LogCaptureFixture) -> Cells:
    return Cells(lab, world, request.param, caplog)


def counted(lines: list[str]) -> list[tuple[int, str]]:
    found = re.findall(
        r"(\d+)(?: finished steps?| of the finished steps)? (?:is|are) (kept|done again|reused)", "\n".join(lines)
    )
    return [(int(n), what) for n, what in found]


def finished(version: int) -> int:
    """Count the steps that have a result of the code of that version."""
    attempts = iron.attempts()
    done = attempts[attempts["status"] == "completed"]
    return int(done["step"].nunique()) if version == 1 else int((done.groupby("step")["attempt"].max() > 1).sum()) + 1


def test_what_an_edit_leaves_and_what_it_does_again_are_counted_in_one_line(cells: Cells, world: World) -> None:
    assert counted(cells.call(1)) == [(21, "kept")]
    assert counted(cells.call(2)) == [(1, "kept"), (20, "done again"), (finished(2), "kept")]
    kept = finished(2)
    world.is_broken = False
    assert counted(cells.call(2)) == [(kept, "kept"), (21 - kept, "done again")]


def test_kept_results_of_other_code_are_counted_among_the_finished(cells: Cells, world: World) -> None:
    cells.call(1)
    assert counted(cells.call(2, on_change="keep")) == [(21, "kept"), (20, "kept"), (21, "kept")]


def test_a_run_that_stops_before_its_edited_steps_keeps_all(cells: Cells, world: World) -> None:
    cells.call(1)
    with pytest.raises(iron.CodeChanged, match="since 20 finished steps"):
        cells.call(2, on_change="strict")
    assert "21 finished steps are kept, it stops before 20 of them are done again (fetch: edited" in cells.caplog.text


BEGUN, GO_ON = threading.Semaphore(0), threading.Event()


@step
def quick(n: int) -> int:
    return n


@step
def slow(n: int) -> int:
    BEGUN.release()
    GO_ON.wait(30)
    return n


@flow
def submitted() -> list[int]:
    quick(1)
    futures = [slow.submit(n) for n in (1, 2)]
    if not GO_ON.is_set():
        for _ in futures:
            BEGUN.acquire(timeout=30)
        raise KeyboardInterrupt
    return [future.result() for future in futures]


def test_an_interrupt_counts_what_still_runs_and_the_next_call_finds_it(lab: Lab) -> None:
    GO_ON.clear()
    with pytest.raises(KeyboardInterrupt) as stopped:
        submitted()
    said = "1 finished step is kept; 2 more are running, and kept if they end in this process."
    assert said in stopped.value.__notes__[0]
    GO_ON.set()
    lab.cell()
    assert submitted() == [1, 2]
    assert iron.attempts()["step"].is_unique


@flow
def inner() -> None:
    quick(1)
    quick(2)
    raise KeyboardInterrupt


@flow
def outer() -> None:
    quick(3)
    inner()


def test_what_an_unfinished_child_has_finished_is_counted_with_its_parent(lab: Lab) -> None:
    with pytest.raises(KeyboardInterrupt) as stopped:
        iron.flow(lambda: outer(), name="outermost")()
    assert "0 finished steps are kept, and 3 of its child runs." in stopped.value.__notes__[0]


@flow
def one_of_two(n: int) -> int:
    return quick(n) + slow(n)


@flow
def both() -> list[int]:
    return iron.gather(partial(one_of_two, 1), partial(one_of_two, 2))


def test_children_that_still_stop_are_counted_and_the_next_call_counts_the_same(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    GO_ON.clear()
    while BEGUN.acquire(blocking=False):
        pass

    def press() -> None:
        for _ in range(2):
            BEGUN.acquire(timeout=30)
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    with pytest.raises(KeyboardInterrupt) as stopped:
        both()
    presser.join()
    kept = "0 finished steps are kept, and 2 of its child runs"
    assert f"{kept}; 2 more are running, and kept if they end in this process." in stopped.value.__notes__[0]
    lab.die()
    GO_ON.set()
    with caplog.at_level("INFO", "ironflow_nb"):
        assert both() == [2, 4]
    (line,) = (record.getMessage() for record in caplog.records if "continuing run" in record.getMessage())
    assert f"; {kept}. " in line


def test_children_whose_code_was_edited_are_not_told_as_done_again(
    lab: Lab, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    program = """
@step
def fetch(n):
    world.did(n)
    return n

@flow
def child(n):
    return fetch(n) + {version}

@step
def tail(total):
    if world.is_broken:
        raise OSError("off")
    return total

@flow
def main():
    return tail(sum(child(n) for n in range(3)))
"""
    space: dict[str, Any] = {"step": step, "flow": flow, "world": world, "__name__": "__main__"}
    run_cell(program.format(version=0), space)
    with pytest.raises(OSError, match="off"):
        space["main"]()
    lab.cell()
    world.is_broken = False
    run_cell(program.format(version=1), space)
    with caplog.at_level("INFO", logger="ironflow_nb"):
        assert space["main"]() == 6
    assert world.log == [0, 1, 2]
    said = next(line for line in caplog.messages if "child" in line)
    assert "3 child runs are gone through step by step (" in said
    assert "done again" not in said
