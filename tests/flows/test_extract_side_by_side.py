"""Calls of inner functions, and calls that run side by side, are drawn in their place."""

from __future__ import annotations

import asyncio
import functools
import textwrap

import pytest

import ironflow_nb as iron
from ironflow_nb.diagram.model import Diagram, NodeKind
from ironflow_nb.flows.diagram_statements import extract
from tests.flows.sources import describe, function, labels, read, ways

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
        ("fetch", "0"),
        ("gather", None),
        ("fetch", "1"),
        ("parse", "1"),
    ]


def test_an_inner_function_that_calls_itself_is_read_once() -> None:
    assert labels(read("def one(n):\n    fetch(n)\n    one(n - 1)\none(3)\nparse(one(2))")) == ["fetch", "parse"]


HELPER = """
def branch(n, x=0):
    if x:
        return fetch(n)
    return parse(n)

async def task(n):
    await fetch(n)

def plain(n):
    return n

def deeper(n):
    plain(n)
    branch(n)
    deeper(n - 1)

def raising(n):
    parse(n)
    raise ValueError

"""


def read_with_helpers(body: str, head: str = "def main(xs, x=0):") -> Diagram:
    lines = textwrap.indent(textwrap.dedent(body).strip("\n"), "    ")
    known = {"asyncio": asyncio, "iron": iron, "partial": functools.partial}
    return extract(function(f"{HELPER}{head}\n{lines}\n", **known), describe)


def test_a_helper_that_calls_steps_is_read_in_the_place_of_its_call() -> None:
    diagram = read_with_helpers("clean(1)\nbranch(1)\npublish(plain(2))")
    assert ways(diagram) == {
        "start -> clean", "clean -> x", "x ->[yes] fetch", "x ->[no] parse", "fetch -> publish", "parse -> publish",
        "publish -> end",
    }  # fmt: skip
    assert [(node.label, node.site) for node in diagram.nodes if node.step] == [
        ("clean", "0"), ("fetch", "1.0"), ("parse", "1.1"), ("publish", "2"),
    ]  # fmt: skip
    assert diagram.nodes[3].title.endswith("line 4 of branch")


def test_each_call_of_a_helper_is_drawn_and_one_that_calls_itself_only_once() -> None:
    assert labels(read_with_helpers("branch(1)\nbranch(2)")) == ["x", "fetch", "parse"] * 2
    assert labels(read_with_helpers("deeper(1)")) == ["x", "fetch", "parse"]
    assert labels(read_with_helpers("if x:\n    plain(1)\nfor n in xs:\n    plain(n)")) == []


@pytest.mark.parametrize(
    "body",
    [
        "iron.gather(partial(task, 1), parse)\npublish(1)",
        "iron.gather(task, parse)\npublish(1)",
        "iron.gather(lambda: task(1), parse)\npublish(1)",
        "asyncio.gather(task(1), parse(2))\npublish(3)",
    ],
)
def test_a_helper_that_is_gathered_is_a_branch(body: str) -> None:
    assert ways(read_with_helpers(body)) == FORKED


def test_equal_helpers_of_one_gather_are_drawn_once() -> None:
    diagram = read_with_helpers('iron.gather(partial(branch, "A"), partial(branch, "B"))')
    assert labels(diagram) == ["gather", "x", "fetch", "parse"]
    assert {node.site for node in diagram.nodes if node.step} == {"0.0", "0.1"}


def test_what_a_coroutine_calls_in_a_task_has_the_site_of_the_call_that_makes_the_task() -> None:
    body = """
        await task(0)
        await asyncio.gather(*[task(n) for n in xs])
        async with asyncio.TaskGroup() as group:
            group.create_task(task(1))
        asyncio.create_task(task(2))
        kept = [task(n) for n in xs]
        await asyncio.wait_for(task(3), 1)
        await asyncio.gather(*kept, asyncio.wait_for(task(4), 1), asyncio.create_task(task(5)))
        other = task(6)
    """
    sites = [node.site for node in read_with_helpers(body, HEAD).nodes if node.step]
    assert sites == ["0.0", "1.0", "4.0", "6.0", "11.0", "9.0", "13.0", None]


def test_what_a_helper_raises_is_caught_around_its_call() -> None:
    body = "try:\n    raising(1)\nexcept ValueError:\n    clean(1)"
    assert "parse ~>[except ValueError] clean" in ways(read_with_helpers(body))
