"""Graphs and flows that a graph runs as its children, and graphs in flows."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.errors import FlowNotDefined, NodeFailed, NotAllowedInStep
from tests.cells import World
from tests.conftest import Lab
from tests.graphs.playing import Meeting, doing, fail, graph_of, work

pytestmark = pytest.mark.usefixtures("lab")


def test_the_result_of_a_child_graph_reaches_its_parent(lab: Lab, world: World) -> None:
    graph_of(work("x", "{{ input.n }}"), name="inner", functions=doing(world), output="{{ {n: x, more: input} }}")
    child = {"id": "c", "workflow": "inner", "input": {"n": "{{ input.m }}"}}
    graph = graph_of(child, work("b", "{{ c.n }}"), functions=doing(world))
    assert graph(m=5) == 5
    assert graph.last is not None
    assert graph.last.value("g.c") == {"n": 5, "more": {"n": 5}}
    runs = iron.runs().set_index("name")
    assert set(runs["status"]) == {"completed"}
    assert set(runs.index) == {"g", "inner"}


@pytest.mark.parametrize("colour", ["def", "async"])
@pytest.mark.parametrize("is_beside", [False, True])
@pytest.mark.parametrize(
    ("given", "expected"), [({"a": 1, "b": 2}, [1, 2]), ([3, 4], [3, 4]), (5, [5, 9]), ("{{ input.x }}", [7, 9])]
)
def test_a_flow_of_either_colour_is_a_child_too(
    world: World, colour: str, is_beside: bool, given: Any, expected: Any
) -> None:
    @step
    def pair(a: int, b: int) -> tuple[int, int]:
        return a, b

    @flow(name="inner_flow")
    def inner(a: int, b: int = 9) -> Any:
        return pair(a, b)

    @flow(name="inner_async")
    async def inner_async(a: int, b: int = 9) -> Any:
        await asyncio.sleep(0)
        return pair(a, b)

    name = inner.name if colour == "def" else inner_async.name
    nodes = [{"id": "c", "workflow": name, "input": given, "depends_on": []}]
    nodes += [work("beside", depends_on=[])] if is_beside else []
    graph = graph_of(*nodes, functions=doing(world), output="{{ c }}")
    assert graph(x=7) == expected  # a tuple is a list to expressions


def test_children_side_by_side_run_at_once() -> None:
    meeting = Meeting(2)
    graph_of(
        {"id": "x", "python": "come", "with": {"n": "{{ input.n }}"}}, name="inner", functions={"come": meeting.come}
    )
    nodes = [{"id": f"c{n}", "workflow": "inner", "input": {"n": n}, "depends_on": []} for n in range(2)]
    assert graph_of(*nodes, output="{{ [c0, c1] }}")() == [0, 1]


def test_the_child_may_be_chosen_by_an_expression(world: World) -> None:
    for name in ("one", "two"):
        graph_of(work("x", name), name=name, functions=doing(world))
    graph = graph_of({"id": "c", "workflow": "{{ input.which }}"})
    assert [graph(which="one"), graph(which="two")] == ["one", "two"]


def test_a_child_that_is_not_defined_fails_its_node_and_says_what_there_is() -> None:
    graph_of(name="!inner")  # the first of the names, of which the message has some
    with pytest.raises(FlowNotDefined, match=r"node c runs 'nothing' as its child.*!inner"):
        graph_of({"id": "c", "workflow": "nothing"})()


@pytest.mark.parametrize("is_beside", [False, True])
def test_the_failure_of_a_child_reaches_its_parent_and_continuing_goes_on_in_the_child(
    world: World, is_beside: bool
) -> None:
    graph_of(work("x"), fail("y"), work("z", 1), name="inner", functions=doing(world))
    nodes = [{"id": "c", "workflow": "inner", "depends_on": []}]
    nodes += [work("beside", depends_on=[])] if is_beside else []
    graph = graph_of(*nodes, functions=doing(world), output="{{ c }}")
    with pytest.raises(ConnectionError, match="y is broken"):
        graph()
    world.is_broken = False
    assert graph.resume().result(timeout_s=20) == 1
    assert [name for name in world.log if name != "beside"] == ["x", "y", "y", "z"]
    assert world.log.count("beside") == is_beside
    assert len(iron.runs()) == 2


def test_a_handler_sees_to_the_failure_of_a_child(world: World) -> None:
    graph_of(fail("y"), name="inner", functions=doing(world))
    handler = [work("h", "{{ error.message }}")]
    graph = graph_of({"id": "c", "workflow": "inner", "on_error": handler}, functions=doing(world))
    assert graph() == "y is broken"


@pytest.mark.parametrize("is_beside", [False, True])
def test_a_child_is_tried_again_after_its_delay_and_goes_on_from_where_it_failed(
    lab: Lab, world: World, is_beside: bool
) -> None:
    clock = lab.simulate_time()
    called_at = []

    def twice() -> int:
        called_at.append(clock.monotonic())
        if len(called_at) < 2:
            raise ConnectionError("once")
        return 1

    graph_of(work("x"), {"id": "y", "python": "twice"}, name="inner", functions={**doing(world), "twice": twice})
    child = {"id": "c", "workflow": "inner", "retry": {"attempts": 3, "delay_s": 1}}
    graph = graph_of(
        child, *([work("z", depends_on=[])] if is_beside else []), functions=doing(world), output="{{ c }}"
    )
    assert graph() == 1
    assert world.log.count("x") == 1
    assert called_at[1] - called_at[0] >= 1
    assert len(iron.runs()) == 2


@pytest.mark.parametrize("is_beside", [False, True])
def test_a_graph_that_runs_itself_without_end_is_stopped(world: World, is_beside: bool) -> None:
    nodes = [{"id": "c", "workflow": "endless", "input": {"n": "{{ sum([input.n, `1`]) }}"}, "depends_on": []}]
    nodes += [work("beside", depends_on=[])] if is_beside else []
    graph = graph_of(*nodes, name="endless", functions=doing(world))
    with pytest.raises(NodeFailed, match="children have children 16 levels deep"):
        graph(n=0)
    assert len(iron.runs()) == 17


def test_a_graph_that_runs_itself_may_end(world: World) -> None:
    then = [{"id": "again", "workflow": "down", "input": {"n": "{{ sum([input.n, `-1`]) }}"}}]
    graph = graph_of({"id": "c", "condition": "{{ input.n > `0` }}", "then": then}, name="down", output="{{ c }}")
    assert graph(n=2) == {"taken": "then", "again": {"taken": "then", "again": {"taken": "else"}}}


def test_an_edited_child_runs_again_and_only_what_changed_in_it(lab: Lab, world: World) -> None:
    def define(value: int) -> None:
        graph_of(work("x", 1), work("y", value), name="inner", functions=doing(world))

    define(2)
    graph = graph_of({"id": "c", "workflow": "inner"}, fail("z"), functions=doing(world), output="{{ c }}")
    with pytest.raises(ConnectionError):
        graph()
    world.is_broken = False
    lab.cell()
    define(3)
    assert graph() == 3
    assert world.log == ["x", "y", "z", "y", "z"]


def test_an_edited_function_of_a_child_runs_again(lab: Lab, world: World) -> None:
    def old() -> int:
        world.did("old")
        return 1

    def new() -> int:
        world.did("new")
        return 2

    graph_of(work("x", 1), {"id": "y", "python": "f"}, name="inner", functions={**doing(world), "f": old})
    graph = graph_of({"id": "c", "workflow": "inner"}, fail("z"), functions=doing(world), output="{{ c }}")
    with pytest.raises(ConnectionError):
        graph()
    world.is_broken = False
    lab.cell()
    graph_of(work("x", 1), {"id": "y", "python": "f"}, name="inner", functions={**doing(world), "f": new})
    assert graph() == 2
    assert world.log == ["x", "old", "z", "new", "z"]


def test_a_child_can_not_change_what_its_parent_gave_it() -> None:
    @flow(name="spoiling")
    def spoiling(items: list[int]) -> int:
        items.append(9)
        return len(items)

    child = {"id": "c", "workflow": spoiling.name, "input": {"items": "{{ input.items }}"}}
    graph = graph_of(child, output="{{ [c, input.items] }}")
    assert graph(items=[1]) == [2, [1]]


# -- graphs in flows and steps -----------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", ["def", "async"])
def test_a_graph_called_in_a_flow_is_a_child_run(world: World, colour: str) -> None:
    graph = graph_of(work("a", "{{ input.n }}"), functions=doing(world))

    @flow
    def outer() -> Any:
        return [graph(n=1), graph({"n": 2})]

    @flow
    async def outer_async() -> Any:
        await asyncio.sleep(0)
        return [graph(n=1), graph({"n": 2})]

    found = outer() if colour == "def" else asyncio.run(outer_async())
    assert found == [1, 2]
    runs = iron.runs(graph)
    assert len(runs) == 2
    assert runs["parent_run_id"].notna().all()


def test_a_graph_in_a_flow_continues_with_it_and_is_not_done_again(lab: Lab, world: World) -> None:
    graph = graph_of(work("a", 1), work("b", 2), functions=doing(world))

    @flow
    def outer() -> Any:
        found = graph()
        if world.is_broken:
            world.die()
        return found

    with pytest.raises(SystemExit):
        outer()
    world.is_broken = False
    assert outer() == 2
    assert world.log == ["a", "b"]


def test_an_edited_graph_in_a_flow_runs_again(lab: Lab, world: World) -> None:
    graphs = [graph_of(work("a", 1), work("b", n), functions=doing(world)) for n in (2, 3)]

    @flow
    def outer() -> Any:
        found = graphs[0]() if world.is_broken else graphs[1]()
        if world.is_broken:
            raise RuntimeError("stop")
        return found

    with pytest.raises(RuntimeError):
        outer()
    world.is_broken = False
    lab.cell()
    assert outer() == 3
    assert world.log == ["a", "b", "b"]


def test_a_graph_in_a_step_is_refused(world: World) -> None:
    graph = graph_of(work("a", 1), functions=doing(world))

    @step
    def inside() -> Any:
        return graph()

    @flow
    def outer() -> Any:
        return inside()

    with pytest.raises(NotAllowedInStep, match="graph g was called inside step"):
        outer()


def test_a_graph_in_the_function_of_a_node_is_refused(world: World) -> None:
    graph = graph_of(work("a", 1), functions=doing(world), name="inner")
    with pytest.raises(NotAllowedInStep, match="graph inner was called inside step"):
        graph_of({"id": "x", "python": "call"}, functions={"call": lambda: graph()})()


def test_a_loop_may_run_several_children_by_turns(world: World) -> None:
    for name in ("one", "two"):
        graph_of(work("x", name), name=name, functions=doing(world))
    do = [{"id": "c", "workflow": "{{ item }}", "on_error": "continue"}]
    graph = graph_of({"id": "each", "loop": ["one", "two", "one", "none", "two"], "do": do}, output="{{ each[].c }}")
    found = graph()
    assert [found[n] for n in (0, 1, 2, 4)] == ["one", "two", "one", "two"]
    assert found[3]["error"]["type"] == "FlowNotDefined"
