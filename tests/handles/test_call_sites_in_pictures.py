"""Each node of a picture shows what was called there, and the ways that were gone are marked."""

from __future__ import annotations

import asyncio
import xml.etree.ElementTree as ET
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.handles.run_picture import picture_of
from tests.cells import run_cell
from tests.conftest import Lab
from tests.diagram.drawn import Drawn, title

STEPS = """
@iron.step
def fetch(n):
    if n in broken:
        raise ValueError(n)
    return n

@iron.step
async def load(n):
    return n

@iron.flow
def child(n):
    return fetch(n)
"""


def cell(lab: Lab, source: str, space: dict[str, Any] | None = None, *broken: int) -> dict[str, Any]:
    """Run a cell that defines the steps and the flow `main`."""
    lab.cell()
    space = {"__name__": "__main__", "iron": iron} if space is None else space
    space["broken"] = broken
    run_cell(STEPS + source, space)
    return space


def drawn(lab: Lab, run_id: str | None = None) -> ET.Element:
    run_id = iron.runs(flow="main")["run_id"].iloc[0] if run_id is None else run_id
    return Drawn.of(picture_of(lab.engine, run_id).svg).root


def boxes(lab: Lab) -> dict[str, str]:
    """Return what each box says of the steps, by its call in the source; what hangs beside the start by its label."""
    found: dict[str, str] = {}
    for element in drawn(lab).iter():
        if element.get("data-kind") in {"step", "map", "child", "other"}:
            said, *_, source, _ = title(element).splitlines()
            label, _, words = said.partition(": ")
            count = words.partition(" · ")[0] if " of " in words else ""
            place = label if element.get("data-kind") == "other" else source
            found[place] = f"{element.get('data-status')} {count}".strip()
    return found


def n_taken(lab: Lab) -> int:
    return sum(element.get("data-taken") == "true" for element in drawn(lab).iter())


BRANCHES = """
@iron.flow
def main(n):
    a = fetch(n)
    if a > 3:
        b = fetch(a + 1)
        list(fetch.map([1, 2, 3]))
    elif a > 1:
        b = fetch(2)
    else:
        b = fetch(0) + fetch(
            # what follows
            7)
    return b
"""


@pytest.mark.parametrize(
    ("n", "ran"),
    [(5, {"fetch(a + 1)", "fetch.map([1, 2, 3])"}), (2, {"fetch(2)"}), (1, {"fetch(0)", "fetch(7)"})],
    ids=["if", "elif", "else"],
)
def test_only_the_branch_that_was_taken_is_completed(lab: Lab, n: int, ran: set[str]) -> None:
    cell(lab, BRANCHES)["main"](n)
    found = boxes(lab)
    assert found.pop("fetch(n)") == "completed"
    assert {place for place, said in found.items() if said != "none"} == ran
    lab.die()
    assert {place for place, said in boxes(lab).items() if said != "none"} == {"fetch(n)", *ran}


@pytest.mark.parametrize("n", [5, 2, 1])
def test_the_ways_that_were_gone_are_marked(lab: Lab, n: int) -> None:
    cell(lab, BRANCHES)["main"](n)
    assert n_taken(lab) == {5: 5, 2: 5, 1: 6}[n]


def test_a_way_of_which_nothing_is_known_is_not_marked(lab: Lab) -> None:
    cell(lab, "@iron.flow\ndef main():\n for x in range(3):\n  if x == 1:\n   fetch(x)\n  fetch(10 + x)\n")["main"]()
    # Whether the condition was passed by is not recorded; that it led to its step is.
    assert boxes(lab) == {"fetch(x)": "completed", "fetch(10 + x)": "completed 3 of 3"}
    assert n_taken(lab) == 6


HANDLED = """
@iron.flow
def main():
    for n in range(3):
        try:
            fetch(n)
        except ValueError:
            {more}
    return fetch(9)
"""


@pytest.mark.parametrize("more", ["pass", "fetch(10)"])
def test_the_way_of_a_failure_that_was_handled_is_marked(lab: Lab, more: str) -> None:
    def labels() -> set[str]:
        edges = [each for each in drawn(lab).iter() if each.get("data-taken") == "true"]
        return {text for each in edges for text in each.itertext() if text.startswith("except")}

    cell(lab, HANDLED.format(more=more))["main"]()
    assert labels() == set()
    cell(lab, HANDLED.format(more=more), None, 1)["main"]()
    assert labels() == {"except ValueError"}
    lab.die()
    assert labels() == {"except ValueError"}


def test_of_several_handlers_none_is_marked_without_a_call(lab: Lab) -> None:
    both = HANDLED.format(more="pass\n        except KeyError:\n            pass")
    cell(lab, both, None, 1)["main"]()
    n_both = n_taken(lab)
    cell(lab, both)["main"]()
    assert n_both == n_taken(lab)


EVERY_STYLE = """
@iron.flow
def main():
    fetch(0)
    two = fetch.submit(1), fetch.submit(2)
    xs = [fetch(n) for n in (10, 11)]
    ys = list(fetch.map(fetch(m) for m in (20, 21, 22)))
    child(40)
    child(41)
    return two[0].result() + two[1].result() + sum(xs) + sum(ys)
"""


def test_calls_of_every_style_are_shown_where_they_are_made(lab: Lab) -> None:
    cell(lab, EVERY_STYLE)["main"]()
    found = boxes(lab)
    assert found.pop("fetch(n)") == "completed 2 of 2"
    assert found.pop("fetch(m)") == found.pop("fetch.map((fetch(m) for m in (20, 21, 22)))") == "completed 3 of 3"
    assert set(found.values()) == {"completed"}
    assert {"fetch(0)", "fetch.submit(1)", "fetch.submit(2)", "child(40)", "child(41)"} <= set(found)


def test_awaited_calls_are_shown_where_they_are_made(lab: Lab) -> None:
    source = """
@iron.flow
async def main():
    a = await load(1)
    if a > 1:
        await load(2)
    xs = await load.map([3, 4])
    return a + await load(5) + await load.submit(6) + sum(xs)
"""
    cell(lab, source)["main"].start().result(timeout_s=20)
    assert boxes(lab) == {
        "load(1)": "completed", "load(2)": "none", "load.map([3, 4])": "completed 2 of 2", "load(5)": "completed",
        "load.submit(6)": "completed",
    }  # fmt: skip


def test_places_move_along_when_the_source_is_edited_elsewhere(lab: Lab) -> None:
    source = "@iron.flow\ndef main():\n    fetch(1)\n    fetch(2)\n    fetch(3)\n    return fetch(4)\n"
    space = cell(lab, source, None, 3)
    with pytest.raises(ValueError, match="3"):
        space["main"]()
    assert boxes(lab) == {"fetch(1)": "completed", "fetch(2)": "completed", "fetch(3)": "failed", "fetch(4)": "none"}
    lab.die()
    edited = source.replace("    fetch(1)\n", "    fetch(0)\n\n    # the first\n    fetch(\n        1)\n")
    space = cell(lab, edited, None, 4)
    with pytest.raises(ValueError, match="4"):
        space["main"]()
    assert len(iron.runs(flow="main")) == 1
    expected = {f"fetch({n})": "completed" for n in range(4)} | {"fetch(4)": "failed"}
    assert boxes(lab) == expected


def test_comments_and_line_breaks_move_nothing(lab: Lab) -> None:
    source = "@iron.flow\ndef main():\n    fetch(1)\n    return fetch(2)\n"
    space = cell(lab, source, None, 2)
    with pytest.raises(ValueError, match="2"):
        space["main"]()
    lab.die()
    cell(lab, source.replace("    fetch(1)", "    # one\n    (\n    fetch(1))"), None, 2)
    assert boxes(lab) == {"fetch(1)": "completed", "fetch(2)": "failed"}


def test_what_a_helper_calls_is_shown_in_the_place_of_the_helper(lab: Lab) -> None:
    helper = "def helper(n):\n    return fetch(n + 1)\n\n"
    cell(lab, f"{helper}@iron.flow\ndef main(n):\n    helper(8)\n    return n and fetch(1)\n")["main"](0)
    assert boxes(lab) == {"fetch(n + 1)": "completed", "fetch(1)": "none"}


CALLED_IN_HELPERS = """
import asyncio

def both(n):
    fetch(n)
    for _ in range(n):
        fetch(5)

def deeper(n):
    both(n)
    if n > 2:
        deeper(n - 1)
    fetch(6)

async def coroutine(n):
    await load(n)
    kept = load(7)
    return await kept

@iron.flow
def main():
    both(1)
    both(2)
    deeper(3)

@iron.flow
async def tasks():
    kept = coroutine(1)
    await asyncio.gather(coroutine(2), asyncio.shield(coroutine(3)))
    await kept
"""


def calls_in_order(lab: Lab) -> list[str]:
    """Return what each box of the latest run says, in the order of the source."""
    found = drawn(lab, iron.runs()["run_id"].iloc[0])
    told = [title(each).splitlines() for each in found.iter() if each.get("data-kind") in {"step", "other"}]
    counts = [(source, said.partition(": ")[2].partition(" · ")[0]) for said, *_, source, _ in told]
    return [f"{source} {count if ' of ' in count else 'once'}" for source, count in counts]


def test_two_calls_of_one_step_in_a_helper_are_told_apart(lab: Lab) -> None:
    space = cell(lab, CALLED_IN_HELPERS)
    space["main"]()
    in_both = ["fetch(n) once", "fetch(5) once", "fetch(n) once", "fetch(5) 2 of 2"]
    assert calls_in_order(lab) == [*in_both, "fetch(n) 2 of 2", "fetch(5) 5 of 5", "fetch(6) 2 of 2"]
    asyncio.run(space["tasks"]())
    assert calls_in_order(lab) == ["load(n) once", "load(7) once"] * 3


HELPERS = """
import asyncio
from functools import partial

@iron.step
def other(n):
    return n

def branch(name):
    if name == "A":
        return fetch(1)
    return other(2)

async def coroutine(n):
    await load(n)

@iron.flow
def main():
    branch("A")
    iron.gather(partial(branch, "A"), partial(branch, "B"), lambda: fetch(3))

@iron.flow
async def tasks():
    await coroutine(3)
    await asyncio.gather(coroutine(1), coroutine(2))
"""


def text_of_latest(lab: Lab) -> list[str]:
    run_id = iron.runs()["run_id"].iloc[0]
    return [line.strip() for line in picture_of(lab.engine, run_id).text.splitlines()]


def test_each_call_of_a_helper_shows_what_it_did_and_those_of_one_gather_show_it_together(lab: Lab) -> None:
    cell(lab, HELPERS)["main"]()
    assert text_of_latest(lab) == [
        "main: completed",
        "◇ name == 'A'", "[yes] ✓ fetch: completed", "[no] · other",
        "⑂ gather: completed",
        "◇ name == 'A'", "[yes] ✓ fetch: completed", "[no] ✓ other: completed",
        "✓ fetch: completed",
    ]  # fmt: skip


def test_coroutines_that_are_gathered_show_what_they_did_together(lab: Lab) -> None:
    asyncio.run(cell(lab, HELPERS)["tasks"]())
    assert text_of_latest(lab) == ["tasks: completed", "✓ load: completed", "⑂ gather: completed", "✓ load: 2 of 2"]


def test_of_steps_without_call_sites_no_way_is_claimed(lab: Lab) -> None:
    """As in a journal of before call sites were recorded: here they are unknown, for the flow has no source then."""
    source = "@iron.flow\ndef main():\n    fetch(1)\n    return fetch(2)\n"
    space: dict[str, Any] = {"__name__": "__main__", "iron": iron, "broken": ()}
    run_cell(STEPS, space)
    exec(source, space)
    space["main"]()
    assert n_taken(lab) == 0
    assert boxes(lab) == {"fetch": "completed 2 of 2"}


def test_what_runs_side_by_side_is_shown_in_its_branch(lab: Lab) -> None:
    source = """
import functools

@iron.flow
def main():
    def two(n):
        return fetch(n) if n > 9 else fetch(n + 1)
    return sum(iron.gather(lambda: fetch(30), functools.partial(two, 7), functools.partial(fetch, 3)))
"""
    cell(lab, source)["main"]()
    assert boxes(lab) == {
        "fetch(30)": "completed", "fetch(n)": "none", "fetch(n + 1)": "completed",
        "functools.partial(fetch, 3)": "completed",
    }  # fmt: skip


def test_tasks_are_shown_in_the_function_that_makes_their_calls(lab: Lab) -> None:
    source = """
import asyncio

@iron.flow
async def main():
    async def one(n):
        if await load(n) > 1:
            await load(n + 10)
    await asyncio.gather(*[one(n) for n in range(3)])
    async with asyncio.TaskGroup() as group:
        group.create_task(load(20))
        group.create_task(load(21))
"""
    cell(lab, source)["main"].start().result(timeout_s=20)
    assert boxes(lab) == {
        "load(n)": "completed 3 of 3", "load(n + 10)": "completed", "load(20)": "completed", "load(21)": "completed",
    }  # fmt: skip


def planned(plan: Any) -> dict[str, str]:
    """Return what the picture of a plan says of each box, by its call in the source."""
    found: dict[str, str] = {}
    for element in Drawn.of(plan.diagram().svg).root.iter():
        if element.get("data-kind") in {"step", "map", "child", "other"}:
            said, *_, source, _ = title(element).splitlines()
            place = said.partition(": ")[0] if element.get("data-kind") == "other" else source
            found[place] = str(element.get("data-status"))
    return found


PLANNED = """
@iron.step
def act(n):
    if n in broken:
        raise ValueError(n)
    return n

@iron.flow
def main():
    act(1)
    if broken:
        fetch(2)
    else:
        fetch(8)
    act(3)
    return list(act.map([4, 5]))
"""


def test_a_plan_shows_each_step_where_it_was_called(lab: Lab) -> None:
    space = cell(lab, PLANNED, None, 3)
    with pytest.raises(ValueError, match="3"):
        space["main"]()
    lab.cell()
    assert planned(space["main"].plan()) == {
        "act(1)": "completed", "fetch(2)": "completed", "fetch(8)": "none", "act(3)": "pending",
        "act.map([4, 5])": "none",
    }  # fmt: skip
    cell(lab, PLANNED.replace("    return n\n", "    return n + 0\n"), space, 3)
    found = planned(space["main"].plan())
    assert found == planned(space["main"].last.plan())
    assert (found["act(1)"], found["fetch(2)"], found["act.map([4, 5])"]) == ("pending", "completed", "none")


def test_a_plan_of_a_completed_run_and_of_an_edited_one_shows_steps_where_they_were_called(lab: Lab) -> None:
    lab.is_interactive = True
    space = cell(lab, PLANNED, None)
    space["main"]()
    edited = PLANNED.replace("    act(3)\n", "    act(6)\n    act(3)\n")
    cell(lab, edited, space)
    assert planned(space["main"].plan())["fetch(8)"] in {"completed", "pending"}
    assert planned(space["main"].plan())["fetch(2)"] == "none"


def test_a_plan_of_an_async_flow_shows_steps_where_they_were_called(lab: Lab) -> None:
    source = """
@iron.flow
async def main(ways):
    await load(1)
    if broken:
        raise ValueError
    await load(2)
"""
    space = cell(lab, source, None, 1)
    with pytest.raises(ValueError):  # noqa: PT011 -- it says nothing
        asyncio.run(_awaited(space["main"](0)))
    assert planned(space["main"].last.plan()) == {"load(1)": "completed", "load(2)": "none"}


async def _awaited(call: Any) -> Any:
    return await call
