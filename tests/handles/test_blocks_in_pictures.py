"""Loops, gathers and task groups show that their inside runs or has run, although nothing of them is recorded."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.handles.run_picture import picture_of
from tests.cells import run_cell
from tests.conftest import Lab
from tests.diagram.drawn import Drawn

SOURCE = """
import asyncio
from functools import partial

@iron.step
def fetch(n):
    return n

@iron.step
async def load(n):
    return n

@iron.step
def fail(n):
    raise ValueError(n)

@iron.flow
def main():
    fetch(0)
    look()
    for n in range(2):
        fetch(n)
        look()
    look()
    iron.gather(partial(fetch, 1), partial(fetch, 2))
    fetch(9)
    look()

@iron.flow
async def side_by_side():
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(load(1))
        tasks.create_task(load(2))
    await load(3)

@iron.flow
def handled():
    for n in range(2):
        try:
            fail(n)
        except ValueError:
            pass

@iron.flow
def unhandled():
    for n in range(2):
        fail(n)
"""


def blocks(lab: Lab) -> dict[str, str]:
    """Return what the picture of the latest run shows of each loop, gather and task group, by its kind."""
    run_id = iron.runs()["run_id"].iloc[0]
    elements = Drawn.of(picture_of(lab.engine, run_id).svg).root.iter()
    return {
        kind: str(element.get("data-status"))
        for element in elements
        if (kind := element.get("data-kind")) in {"loop", "fork"}
    }


def flows(lab: Lab, seen: list[dict[str, str]] | None = None) -> dict[str, Any]:
    lab.cell()
    look = (lambda: None) if seen is None else (lambda: seen.append(blocks(lab)))
    space: dict[str, Any] = {"__name__": "__main__", "iron": iron, "look": look}
    run_cell(SOURCE, space)
    return space


def test_a_loop_is_running_between_its_steps_and_completed_once_the_flow_is_beyond_it(lab: Lab) -> None:
    seen: list[dict[str, str]] = []
    flows(lab, seen)["main"]()
    assert [found["loop"] for found in seen] == ["none", "running", "running", "running", "completed"]
    assert [found["fork"] for found in seen] == ["none", "none", "none", "none", "completed"]
    assert blocks(lab) == {"loop": "completed", "fork": "completed"}


def test_a_task_group_that_has_run_is_completed(lab: Lab) -> None:
    asyncio.run(flows(lab)["side_by_side"]())
    assert blocks(lab) == {"fork": "completed"}


def test_a_loop_fails_with_a_step_inside_unless_the_flow_handles_that(lab: Lab) -> None:
    space = flows(lab)
    space["handled"]()
    assert blocks(lab) == {"loop": "completed"}
    with pytest.raises(ValueError, match="0"):
        space["unhandled"]()
    assert blocks(lab) == {"loop": "failed"}


STOPPED = """
@iron.step
def fetch(n):
    return n

@iron.flow
def main(stop_at):
    for n in range(3):
        fetch(n)
        if n == stop_at:
            raise KeyboardInterrupt
    iron.gather(lambda: fetch(10), lambda: fetch(11))
    raise KeyboardInterrupt
"""


@pytest.mark.parametrize(
    ("stop_at", "loop", "fork"),
    [(1, "interrupted", "none"), (9, "completed", "interrupted")],
    ids=["in it", "after it"],
)
def test_a_block_in_which_a_run_was_interrupted_is_not_completed(lab: Lab, stop_at: int, loop: str, fork: str) -> None:
    space: dict[str, Any] = {"__name__": "__main__", "iron": iron}
    run_cell(STOPPED, space)
    with pytest.raises(KeyboardInterrupt):
        space["main"](stop_at)
    assert blocks(lab) == {"loop": loop, "fork": fork}
