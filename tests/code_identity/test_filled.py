"""Containers that the code fills while it runs: classes and functions in them are what it does, not what it is."""

from __future__ import annotations

from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.code_identity.code_parts import Untracked, UntrackedReason
from ironflow_nb.code_identity.tracker import Tracker
from tests.cells import run_cell
from tests.code_identity.tracked import track

CELL = """
import types
from ironflow_nb import flow, step

class First: pass
class Second: pass
def some(x): return x

SEEN = []
BY_NAME = {}
FOUND = set()
NESTED = {"a": []}
SPACE = types.SimpleNamespace(kinds=[])
REMOVED = [First, Second]
JOINED = set()
HANDLERS = {}
ONLY_READ = [First]

class Registry:
    kinds = {}

def register(f):
    HANDLERS[f.__name__] = f
    return f

@register
def handler(x): return x + 1

def remember(kind):
    SEEN.append(kind)

def by_step(kind): BY_NAME[kind.__name__] = kind
def by_helper(kind): remember(kind); return len(SEEN)
def by_update(kind): FOUND.update([kind])
def by_inner_list(kind): NESTED["a"].append(kind)
def by_attribute(kind): SPACE.kinds.append(kind)
def by_class(kind): Registry.kinds.setdefault(kind.__name__, kind)
def by_removal(kind): REMOVED.remove(kind)
def by_operator(kind):
    JOINED.__class__
    global_set = JOINED
    global_set |= {kind}
    JOINED.add(kind)
def by_nested_function(kind):
    def inner(): SEEN.insert(0, kind)
    inner()

@step
def reads(x): return [kind.__name__ for kind in SEEN_BY_FLOW]

SEEN_BY_FLOW = []

@flow
def fills(x):
    SEEN_BY_FLOW.append(First)
    return reads(x)

def registered(x): return HANDLERS["handler"](x)
def only_reads(x): return ONLY_READ[0]
"""
FILLING = [
    "by_step", "by_helper", "by_update", "by_inner_list", "by_attribute", "by_class", "by_operator",
    "by_nested_function",
]  # fmt: skip


@pytest.fixture
def cell() -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    run_cell(CELL, namespace)
    return namespace


@pytest.mark.parametrize("name", FILLING)
def test_what_the_code_puts_into_a_container_is_none_of_it(cell: dict[str, Any], name: str) -> None:
    tracker = Tracker(cell[name])
    before = tracker.current()
    for kind in (cell["First"], cell["Second"]):
        cell[name](kind)
        assert tracker.current().digest == before.digest == track(cell[name]).digest
    assert UntrackedReason.CHANGED in {each.reason for each in track(cell[name]).untracked}
    assert not any("First" in part.name for part in track(cell[name]).parts)


def test_what_the_code_takes_out_of_a_container_is_none_of_it(cell: dict[str, Any]) -> None:
    before = track(cell["by_removal"])
    cell["by_removal"](cell["First"])
    assert track(cell["by_removal"]).digest == before.digest


def test_what_the_flow_beside_a_step_fills_is_no_code_of_the_step(cell: dict[str, Any]) -> None:
    tracker = cell["reads"].fn, Tracker(cell["reads"].fn)
    before = tracker[1].current()
    cell["SEEN_BY_FLOW"].append(cell["First"])
    assert tracker[1].current().digest == before.digest == track(tracker[0]).digest
    assert Untracked("SEEN_BY_FLOW", UntrackedReason.CHANGED) in tracker[1].current().untracked


@pytest.mark.parametrize(("name", "container"), [("registered", "HANDLERS"), ("only_reads", "ONLY_READ")])
def test_what_a_decorator_has_registered_or_nothing_changes_counts(
    cell: dict[str, Any], name: str, container: str
) -> None:
    before = track(cell[name])
    found = cell[container]
    found.append(cell["some"]) if isinstance(found, list) else found.update(other=cell["some"])
    assert track(cell[name]).digest != before.digest


def test_an_edit_of_the_code_that_fills_it_counts(cell: dict[str, Any]) -> None:
    before = track(cell["by_helper"])
    cell["by_helper"](cell["First"])
    run_cell("def remember(kind):\n    SEEN.append(kind or 1)\n", cell)
    assert track(cell["by_helper"]).digest != before.digest


class Kind:
    """Something that a flow meets."""


@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async def"])
def test_a_list_that_a_flow_fills_in_a_closure_runs_nothing_again(iron_engine: Any, is_async: bool) -> None:
    met: list[type] = []
    bodies: list[int] = []
    is_broken = True

    def n_met() -> int:
        return len(met)

    @iron.step
    def counted(n: int, bodies: Any) -> int:
        bodies.append(n)
        return n_met()

    @iron.flow(on_change="strict")
    def work() -> list[int]:
        found = []
        for n in range(3):
            found.append(counted(n, iron.resource(bodies)))
            met.append(Kind)
        if is_broken:
            raise ValueError("not yet")
        return found

    @iron.flow(on_change="strict")
    async def work_async() -> list[int]:
        found = []
        for n in range(3):
            found.append(counted(n, iron.resource(bodies)))
            met.append(Kind)
        if is_broken:
            raise ValueError("not yet")
        return found

    flow = work_async if is_async else work
    with pytest.raises(ValueError, match="not yet"):
        flow.start().result()
    is_broken = False
    assert flow.resume().result() == [0, 1, 2]
    assert bodies == [0, 1, 2]
