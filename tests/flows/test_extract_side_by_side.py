"""Calls of inner functions, and calls that run side by side, are drawn in their place."""

from __future__ import annotations

import asyncio
import functools

import pytest

import ironflow_nb as iron
from ironflow_nb.diagram.model import Diagram, NodeKind
from tests.flows.sources import labels, read, ways

HEAD = "async def main(xs, x=0):"
FORKED = {
    "start -> gather", "gather -> fetch", "gather -> parse", "fetch -> publish", "parse -> publish", "publish -> end",
}  # fmt: skip


def read_async(body: str) -> Diagram:
    return read(body, head=HEAD, asyncio=asyncio, iron=iron, functools=functools)


@pytest.mark.parametrize(
    "body",
    [
        "await asyncio.gather(fetch(1), parse(2))\npublish(3)",
        "iron.gather(lambda: fetch(1), lambda: parse(2))\npublish(3)",
        "iron.gather(functools.partial(fetch, 1), parse)\npublish(3)",
        "def one(n):\n    return fetch(n)\nasync def two():\n    parse(1)\niron.gather(one, two)\npublish(3)",
        "async def one(n):\n    await fetch(n)\nawait asyncio.gather(one(1), parse(2), one(3))\npublish(3)",
        "f = lambda: fetch(1)\niron.gather(functools.partial(f), lambda: parse(1))\npublish(3)",
    ],
)
def test_what_is_gathered_runs_side_by_side(body: str) -> None:
    diagram = read_async(body)
    assert ways(diagram) == FORKED
    assert [node.kind for node in diagram.nodes if node.label == "gather"] == [NodeKind.FORK]


def test_a_gathered_comprehension_is_a_loop_of_what_its_function_does() -> None:
    body = """
        async def one(n):
            if n > 1:
                return await fetch(n)
            await parse(n)
        await asyncio.gather(*[one(n) for n in xs])
    """
    assert ways(read_async(body)) == {
        "start -> for n in xs", "for n in xs -> n > 1", "n > 1 ->[yes] fetch", "n > 1 ->[no] parse",
        "fetch => for n in xs", "parse => for n in xs", "for n in xs ->[done] end",
    }  # fmt: skip


def test_the_tasks_of_a_group_begin_together_and_all_end_before_what_follows() -> None:
    body = """
        async with asyncio.TaskGroup() as group:
            group.create_task(fetch(1))
            group.create_task(parse(2))
        publish(3)
    """
    assert ways(read_async(body)) == {way.replace("gather", "TaskGroup") for way in FORKED}


def test_a_step_that_a_gathered_partial_calls_has_the_site_of_the_gather() -> None:
    calls = read_async("fetch(0)\niron.gather(functools.partial(fetch, 1), functools.partial(fetch, 2), parse)").nodes
    assert [(node.label, node.site) for node in calls[1:-1]] == [
        ("fetch", 0),
        ("gather", None),
        ("fetch", 1),
        ("parse", 1),
    ]


def test_an_inner_function_that_calls_itself_is_read_once() -> None:
    assert labels(read("def one(n):\n    fetch(n)\n    one(n - 1)\none(3)\nparse(one(2))")) == ["fetch", "parse"]
