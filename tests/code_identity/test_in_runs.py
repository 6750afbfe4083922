"""Edits of what a step refers to, in runs that go on after them."""

from __future__ import annotations

from typing import Any

import pytest

import ironflow_nb as iron
from tests.cells import World, run_cell
from tests.conftest import Lab

SOURCE = """
LIMIT = 10
def help(number):
    return number + LIMIT

@iron.step(depends=depends)
def work(number):
    world.did(number)
    return help(number)

@iron.step
def other(number):
    return number

@iron.flow
def main(n):
    done = [(work(number), other(number)) for number in range(n)]
    if world.is_broken:
        raise RuntimeError
    return done
"""


@pytest.fixture
def cells(lab: Lab, world: World) -> dict[str, Any]:
    """Return the namespace of a notebook whose run has failed after two calls of each step."""
    names: dict[str, Any] = {"iron": iron, "world": world, "depends": ["v1"]}
    run_cell(SOURCE, names)
    with pytest.raises(RuntimeError):
        names["main"](2)
    world.is_broken = False
    lab.cell()
    return names


EDITS = ["def help(number):\n    return number + LIMIT + 1", "LIMIT = 20"]


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_of_what_a_step_refers_to_lets_its_finished_calls_run_again(
    cells: dict[str, Any], world: World, edit: str
) -> None:
    run_cell(edit, cells)
    cells["main"](2)
    assert world.log == [0, 1, 0, 1]
    attempts = iron.attempts()
    assert list(attempts.query("reason == 'code changed'")["name"]) == ["work", "work"]
    assert len(attempts) == 6


def test_an_edit_that_is_undone_runs_nothing_again(cells: dict[str, Any], world: World) -> None:
    run_cell("LIMIT = 20\nLIMIT = 10", cells)
    assert cells["main"](2) == [(10, 0), (11, 1)]
    assert world.log == [0, 1]


def test_what_is_declared_counts_and_what_calls_a_step_does_not_change_it(cells: dict[str, Any], world: World) -> None:
    again = cells["work"].options(depends=["v2"])
    assert again.depends == ("v2",)
    assert again.spec.code != cells["work"].spec.code == cells["work"].options(retries=2).spec.code


@pytest.mark.parametrize("depends", ["prompt.txt", 5, b"x"])
def test_what_is_declared_is_a_list(depends: Any) -> None:
    with pytest.raises(iron.errors.DefinitionError, match="depends is a list"):
        iron.step(depends=depends)(lambda: None)
