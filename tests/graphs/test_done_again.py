"""What is done again when a run of a graph is continued: what changed, and nothing else; and what is shared."""

from __future__ import annotations

from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import step
from ironflow_nb.errors import CodeChanged
from tests.cells import World, run_cell
from tests.conftest import Lab
from tests.graphs.playing import Node, doing, fail, graph_of, work


def test_two_equal_graphs_in_one_cell_are_two_runs_and_a_repeated_cell_continues_both(lab: Lab, world: World) -> None:
    graph = graph_of(work("a", 1), fail("b"), functions=doing(world))
    for _ in range(2):
        with pytest.raises(ConnectionError):
            graph()
    assert len(iron.runs(graph)) == 2
    world.is_broken = False
    lab.cell()
    assert [graph(), graph()] == ["b works"] * 2
    assert len(iron.runs(graph)) == 2
    assert world.log == ["a", "b"] * 2 + ["b"] * 2


def test_of_an_edited_graph_only_what_changed_runs_again(lab: Lab, world: World) -> None:
    def cell(value: int, *more: Node) -> Any:
        lab.cell()
        nodes = [work("a", 1), work("b", value), work("c", "{{ a }}"), work("d", "{{ b }}"), *more, fail("z")]
        return graph_of(*nodes, functions=doing(world), output="{{ [a, b, c, d] }}")()

    with pytest.raises(ConnectionError):
        cell(2)
    with pytest.raises(ConnectionError):
        cell(3, work("new"))
    world.is_broken = False
    assert cell(2) == [1, 2, 1, 2]  # as it was before: nothing of it runs again
    assert world.log == ["a", "b", "c", "d", "z", "b", "d", "new", "z", "z"]


def test_a_function_that_is_defined_anew_in_a_later_cell_runs_again(lab: Lab, world: World) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__", "world": world, "step": step}
    nodes = [{"id": "a", "python": "f_of_cell"}, work("x", "{{ a }}"), fail("z")]
    graph = graph_of(*nodes, functions=doing(world), output="{{ x }}")
    run_cell("@step(name='f_of_cell')\ndef f():\n    world.did('old')\n    return 1\n", namespace)
    with pytest.raises(ConnectionError):
        graph()
    lab.cell()
    world.is_broken = False
    run_cell("@step(name='f_of_cell')\ndef f():\n    world.did('new')\n    return 2\n", namespace)
    assert graph() == 2
    assert world.log == ["old", "x", "z", "new", "x", "z"]


def test_a_strict_graph_stops_before_it_does_changed_work_again(lab: Lab, world: World) -> None:
    def old() -> int:
        return 1

    def new() -> int:
        return 2

    def made(function: Any) -> Any:
        nodes = [{"id": "a", "python": "f"}, fail("z")]
        return graph_of(*nodes, functions={**doing(world), "f": function}, output="{{ a }}")

    with pytest.raises(ConnectionError):
        made(old)()
    lab.cell()
    world.is_broken = False
    with pytest.raises(CodeChanged, match=r"g\.a has changed"):
        made(new).options(on_change="strict")()
    lab.cell()
    assert made(new).options(on_change="keep")() == 1


def test_a_kind_of_node_that_is_registered_anew_runs_again(lab: Lab, world: World) -> None:
    @iron.node("shouted")
    def shouted(text: str) -> str:
        world.did("old")
        return text

    graph = graph_of({"id": "a", "shouted": "x"}, fail("z"), functions=doing(world), output="{{ a }}")
    with pytest.raises(ConnectionError):
        graph()
    lab.cell()
    world.is_broken = False

    @iron.node("shouted")
    def louder(text: str) -> str:
        world.did("new")
        return text.upper()

    assert graph() == "X"
    assert world.log == ["old", "z", "new", "z"]


def test_data_that_a_function_closes_over_is_an_argument_of_its_node(lab: Lab, world: World) -> None:
    def made(n: int) -> Any:
        def add() -> int:
            world.did(n)
            return n

        return graph_of(
            {"id": "a", "python": "add"}, fail("z"), functions={**doing(world), "add": add}, output="{{ a }}"
        )

    with pytest.raises(ConnectionError):
        made(1)()
    lab.cell()
    world.is_broken = False
    assert made(2)() == 2
    assert world.log == [1, "z", 2, "z"]


@pytest.mark.usefixtures("lab")
def test_a_cached_node_is_shared_between_runs(world: World) -> None:
    graph = graph_of(work("a", "{{ input.n }}", cache=True), functions=doing(world))
    assert [graph(n=1), graph(n=1), graph(n=2)] == [1, 1, 2]
    assert world.log == ["a", "a"]
    assert graph.last is not None


@pytest.mark.usefixtures("lab")
def test_a_step_brings_its_own_options_along(world: World) -> None:
    @step(name="flaky_step", retries=iron.Retry(attempts=3, delay_s=0))
    def flaky_step() -> int:
        world.did("flaky")
        if len(world.log) < 3:
            raise ConnectionError("again")
        return 1

    @step(name="cached_step", cache=True)
    def cached_step(n: int) -> int:
        world.did("cached")
        return n

    graph = graph_of({"id": "a", "python": "flaky_step"}, {"id": "b", "python": "cached_step", "with": {"n": 1}})
    assert [graph(), graph()] == [1, 1]
    assert world.log == ["flaky", "flaky", "flaky", "cached", "flaky"]


@pytest.mark.usefixtures("lab")
def test_async_functions_run_beside_each_other_and_beside_others(world: World) -> None:
    import asyncio

    n_now = 0
    most = 0

    async def come(n: int) -> int:
        nonlocal n_now, most
        n_now += 1
        most = max(most, n_now)
        await asyncio.sleep(0.05)
        n_now -= 1
        return n

    do = [{"id": "a", "python": "come", "with": ["{{ item }}"]}]
    graph = graph_of({"id": "each", "loop": [1, 2, 3], "concurrency": 3, "do": do}, functions={"come": come})
    assert graph() == [{"a": 1}, {"a": 2}, {"a": 3}]
    assert most == 3
