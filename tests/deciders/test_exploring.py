"""What can be reached is found out once, and again when code has changed by which it was found."""

from __future__ import annotations

from typing import Any

import pytest

from ironflow_nb.deciders.given_when_then import NOW
from ironflow_nb.deciders.possible_transitions import Explorer
from tests.conftest import Lab

SOURCE = """
from dataclasses import dataclass, replace
import ironflow_nb as iron

@dataclass(frozen=True)
class Lamp:
    is_on: bool = False

@dataclass(frozen=True)
class Press:
    id: str

@dataclass(frozen=True)
class Pressed:
    pass

def has_power(): return True
def pressed(lamp): return not lamp.is_on
def word(lamp): return "on" if lamp.is_on else "off"
def is_broken(lamp): return False

lamp = iron.Decider("lamp", initial=Lamp(), status=lambda state: word(state), terminal=lambda state: is_broken(state))

@lamp.evolve
def evolve(state: Lamp, event: Pressed) -> Lamp:
    return replace(state, is_on=pressed(state))

@lamp.decide
def decide(state: Lamp, command: Press):
    return iron.accept(Pressed()) if has_power() else iron.reject("no power")
"""
EDITS = [
    ("def has_power(): return False", set()),
    ("def pressed(lamp): return lamp.is_on", {("off", "off")}),
    ("def word(lamp): return 'bright' if lamp.is_on else 'dark'", {("dark", "bright"), ("bright", "dark")}),
    ("def is_broken(lamp): return lamp.is_on", {("off", "on")}),
]


def lamps() -> dict[str, Any]:
    """Return the names of a notebook with a decider whose functions call others."""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(SOURCE, space)
    return space


@pytest.mark.parametrize(("edit", "expected"), EDITS)
def test_what_is_edited_is_tried_again_and_what_is_not_is_not(edit: str, expected: set[tuple[str, str]]) -> None:
    space, explorer = lamps(), Explorer()
    lamp, samples = space["lamp"], [space["Press"]("l-1")]
    before = explorer.explored(lamp, samples, NOW)
    assert {(each.source, each.target) for each in before.transitions} == {("off", "on"), ("on", "off")}
    assert explorer.explored(lamp, samples, NOW) is before
    exec(edit, space)
    after = explorer.explored(lamp, samples, NOW)
    assert {(each.source, each.target) for each in after.transitions} == expected


def test_a_diagram_shows_what_can_be_reached_by_the_code_of_now(lab: Lab) -> None:
    space = lamps()
    samples = [space["Press"]("l-1")]
    assert "on: Press" in space["lamp"].diagram(samples=samples).text
    exec(EDITS[2][0], space)
    assert "bright: Press" in space["lamp"].diagram(samples=samples).text
