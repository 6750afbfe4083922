"""Equal calls whose code is as it was: on_rerun="reuse", and child runs when a step inside of them was edited."""

from __future__ import annotations

from typing import Any

import pytest

import ironflow_nb as iron
from tests.cells import World, run_cell
from tests.conftest import Lab

STEPS = """
def scale(n):
    return n * 2

@iron.step
def work(n):
    world.did("work", n)
    return scale(n)

@iron.step
def label(n):
    world.did("label", n)
    return f"<{n}>"
"""
FLOWS = """
@iron.flow(on_rerun="reuse")
def main(n):
    return label(work(n))

@iron.flow
def child(n):
    return label(work(n))

@iron.flow
def parent(n):
    return [child(number) for number in range(n)]
"""


@pytest.fixture
def cells(lab: Lab, world: World) -> dict[str, Any]:
    names: dict[str, Any] = {"iron": iron, "world": world}
    run_cell(STEPS + FLOWS, names)
    return names


def test_a_completed_equal_call_is_answered_by_its_result(lab: Lab, cells: dict[str, Any], world: World) -> None:
    assert cells["main"](1) == "<2>"
    world.log.clear()
    lab.cell()
    assert cells["main"](1) == "<2>"
    assert world.log == []
    assert len(iron.runs()) == 1
    assert cells["main"](2) == "<4>"
    assert len(iron.runs()) == 2


def test_it_is_answered_in_the_background_and_in_a_new_process_too(
    lab: Lab, cells: dict[str, Any], world: World
) -> None:
    assert cells["main"](1) == "<2>"
    world.log.clear()
    lab.die()
    assert cells["main"].start(1).result() == "<2>"
    assert world.log == []


@pytest.mark.parametrize(
    "edit",
    [
        STEPS.replace("n * 2", "n * 3"),
        STEPS.replace("<{n}>", "[{n}]"),
        FLOWS.replace("label(work(n))", "label(work(n)) + '!'", 1),
    ],
)
def test_any_edit_of_what_it_rests_on_begins_a_new_run(
    lab: Lab, cells: dict[str, Any], world: World, edit: str
) -> None:
    cells["main"](1)
    lab.cell()
    run_cell(edit, cells)
    cells["main"](1)
    assert len(iron.runs()) == 2


def test_a_failed_run_is_continued_as_ever(lab: Lab, cells: dict[str, Any], world: World) -> None:
    broken = STEPS.replace("    return f", "    raise RuntimeError\n    return f")
    run_cell(broken, cells)
    with pytest.raises(RuntimeError):
        cells["main"](1)
    lab.cell()
    run_cell(STEPS, cells)
    world.log.clear()
    assert cells["main"](1) == "<2>"
    assert world.log == [("label", 2)]


def test_a_child_whose_step_was_edited_is_taken_on_and_does_only_that_step_again(
    lab: Lab, cells: dict[str, Any], world: World
) -> None:
    cells["parent"](3)
    parent = cells["parent"].last
    world.log.clear()
    run_cell(STEPS.replace("<{n}>", "[{n}]"), cells)
    lab.cell()
    run_cell(FLOWS.replace("range(n)]", "range(n)] + ['more']"), cells)
    assert parent.resume(rerun=["child[1]"]).result() == ["[0]", "[2]", "[4]", "more"]
    assert sorted(world.log) == [("label", 0), ("label", 2), ("label", 4), ("work", 1)]


def test_a_child_is_kept_where_that_is_the_policy(lab: Lab, cells: dict[str, Any], world: World) -> None:
    broken = FLOWS.replace("    return [child", "    found = [child") + "    raise RuntimeError\n"
    run_cell(broken, cells)
    with pytest.raises(RuntimeError):
        cells["parent"](2)
    world.log.clear()
    run_cell(STEPS.replace("<{n}>", "[{n}]") + FLOWS, cells)
    lab.cell()
    assert cells["parent"].options(on_change="keep")(2) == ["<0>", "<2>"]
    assert world.log == []
