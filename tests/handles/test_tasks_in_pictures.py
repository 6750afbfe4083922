"""What a helper does in a task of its own is shown in the place where the flow makes the task."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.handles.run_picture import picture_of
from tests.cells import run_cell
from tests.conftest import Lab

HELPERS = """
import asyncio
import contextlib
import functools

@iron.step
async def load(n):
    return n

@iron.step
def fetch(n):
    return n

async def helper(n):
    return await load(n)

async def outer(n):
    return sum(await asyncio.gather(helper(n), helper(n + 1)))

async def limited(coroutine):
    return await coroutine

async def numbers(n):
    for each in range(n):
        yield await load(each + 1000)

def numbers_of(n):
    for each in range(n):
        yield fetch(each + 1000)

@contextlib.asynccontextmanager
async def place(n):
    await load(n)
    yield
    await load(n + 1)

def traced(function):
    @functools.wraps(function)
    def call(*args):
        return function(*args)
    return call

@traced
def decorated(n):
    return fetch(n)
"""


def counts(lab: Lab, body: str, how: str = "async def") -> list[str]:
    """Return what the boxes of the steps say, in the order of the picture, after the flow ran."""
    lab.cell()
    space: dict[str, Any] = {"__name__": "__main__", "iron": iron}
    lines = "".join(f"    {line}\n" for line in body.strip().splitlines())
    run_cell(f"{HELPERS}\n@iron.flow\n{how} main():\n{lines}", space)
    run = space["main"].start()
    run.result(timeout_s=60)
    text = picture_of(lab.engine, run.id).text
    boxes = (line.rpartition("] ")[2].strip() for line in text.splitlines()[1:])
    return [box.partition(": ")[2] for box in boxes if "load" in box or "fetch" in box]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("await asyncio.gather(helper(1), helper(2))\nawait asyncio.gather(*[helper(n) for n in (3, 4, 5)])", [2, 3]),
        ("a = asyncio.create_task(helper(1))\nb = asyncio.ensure_future(outer(2))\nawait a\nawait b", [1, 2]),
        ("async with asyncio.TaskGroup() as g:\n  g.create_task(helper(1))\n  g.create_task(outer(2))\nawait load(9)",
         [1, 2, 1]),
        ("await asyncio.wait_for(helper(1), 60)\nawait asyncio.shield(outer(2))\nawait limited(helper(9))", [1, 2, 1]),
        ("await asyncio.gather(limited(helper(1)), asyncio.wait_for(outer(2), 60))\nawait helper(9)", [1, 2, 1]),
        ("await asyncio.gather(asyncio.create_task(helper(1)), asyncio.create_task(outer(2)), load(9))", [1, 2, 1]),
        ("some = [helper(n) for n in range(3)]\nawait asyncio.gather(*some)\nawait helper(9)", [3, 1]),
        ("some = []\nfor n in range(3):\n  some.append(outer(10 * n))\nawait asyncio.gather(*some)\nawait helper(9)",
         [6, 1]),
        ("for done in asyncio.as_completed([helper(1), outer(2)]):\n  await done\n  await load(9 + await load(8))",
         [1, 2, 2, 2]),
        ("await (\n  helper(1))\nawait helper(2)\nawait outer(3)", [1, 1, 2]),
    ],
)  # fmt: skip
def test_a_helper_shows_what_it_did_where_its_task_is_made(lab: Lab, body: str, expected: list[int]) -> None:
    assert counts(lab, body) == ["completed" if n == 1 else f"{n} of {n}" for n in expected]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("async for n in numbers(3):\n  await load(n)", [3, 3]),
        ("return [await load(n) async for n in numbers(3)]", [3, 3]),
        ("async with place(1):\n  await load(3)", [1, 1, 1]),
        ("for n in numbers_of(3):\n  fetch(n)", [3, 3]),
        ("return [fetch(n) for n in numbers_of(2)]", [2, 2]),
        ("for n in [1, 2]:\n  decorated(n)\ndecorated(3)", [2, 1]),
    ],
)
def test_what_runs_between_the_lines_of_a_flow_is_not_shown_at_the_last_of_them(
    lab: Lab, body: str, expected: list[int]
) -> None:
    """A loop that goes on, or a block that is left, has the end of its last call in the code of Python before 3.13."""
    assert counts(lab, body) == ["completed" if n == 1 else f"{n} of {n}" for n in expected]


OTHER_MODULE = """
import ironflow_nb as iron

@iron.step
def fetch_there(n):
    return n

def helper_there(n):
    return fetch_there(n) + fetch_there(n + 1)
"""


def test_a_helper_of_another_module_is_drawn_where_it_is_called(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("a_module_with_helpers")
    run_cell(OTHER_MODULE, vars(module))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    lab.cell()
    space: dict[str, Any] = {"__name__": "__main__", "iron": iron, "there": module, "helper": module.helper_there}
    run_cell(
        "@iron.flow\ndef main(n):\n    helper(n)\n    if n:\n        there.helper_there(5)\n    helper(9)\n", space
    )
    space["main"](0)
    lines = picture_of(lab.engine, space["main"].last.id).text.splitlines()[1:]
    assert [line.strip() for line in lines] == [
        "✓ fetch_there: completed", "✓ fetch_there: completed", "◇ n",
        "[yes] · fetch_there", "· fetch_there", "✓ fetch_there: completed", "✓ fetch_there: completed",
    ]  # fmt: skip
