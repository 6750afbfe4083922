"""A completed run of a graph is built on: after an edit the next call does only what the edit touches."""

from __future__ import annotations

from typing import Any

import pytest

import ironflow_nb as iron
from tests.cells import World
from tests.conftest import Lab
from tests.graphs.playing import Node, doing, graph_of, work


@pytest.fixture(autouse=True)
def interactive(lab: Lab) -> None:
    lab.is_interactive = True


def completed(lab: Lab, graph: iron.Graph, world: World, **given: Any) -> None:
    graph(**given)
    lab.cell()
    world.log.clear()


def test_an_edited_option_lets_its_node_and_what_takes_its_output_run(lab: Lab, world: World) -> None:
    def graph(value: int) -> iron.Graph:
        nodes = [work("a"), work("b", value), work("c", "{{ b }}"), work("d", "same")]
        return graph_of(*nodes, functions=doing(world), output="{{ c }}")

    completed(lab, graph(1), world, n=1)
    first = graph(1).last
    assert graph(2)(n=1) == 2
    assert world.log == ["b", "c"]
    run = graph(2).last
    assert run is not None
    assert first is not None
    assert run.id != first.id
    steps = run.steps()
    assert list(steps[steps["reason"] == "reused"]["step"]) == ["g.a[0]", "g.d[0]"]


def test_the_plan_of_a_call_names_the_nodes_whose_options_were_edited(lab: Lab, world: World) -> None:
    def graph(value: int) -> iron.Graph:
        return graph_of(work("a"), work("b", value), work("c", 5), functions=doing(world))

    completed(lab, graph(1), world)
    plan = graph(2).plan()
    assert "built on run" in plan.headline
    assert list(plan["action"]) == ["reuse", "redo", "reuse"]
    assert plan["reason"][1] == "edited: with.value; runs again if its values change"
    graph(2)()
    assert world.log == ["b"]


def test_an_edited_function_lets_its_node_run(lab: Lab, world: World) -> None:
    nodes: list[Node] = [work("a"), {"id": "f", "python": "f", "with": {"n": 1}}, work("b", "{{ f }}"), work("c", 5)]

    def old(n: int) -> int:
        return n + 1

    def new(n: int) -> int:
        return n + 2

    completed(lab, graph_of(*nodes, functions={**doing(world), "f": old}), world)
    assert graph_of(*nodes, functions={**doing(world), "f": new})() == 5
    assert world.log == ["b"]


def test_an_edit_in_a_loop_lets_only_its_items_run(lab: Lab, world: World) -> None:
    def graph(factor: int) -> iron.Graph:
        inner = [work("x", "{{ item }}"), work("y", f"{{{{ sum([x, `{factor}`]) }}}}", when="{{ item > `1` }}")]
        return graph_of(work("a"), {"id": "l", "loop": [1, 2, 3], "do": inner}, functions=doing(world))

    completed(lab, graph(10), world)
    assert [each.get("y") for each in graph(20)()] == [None, 22, 23]
    assert world.log == ["y", "y"]


def test_an_edit_of_a_child_lets_only_that_run(lab: Lab, world: World) -> None:
    def child(value: int) -> None:
        graph_of(work("x"), work("y", value), name="inner", functions=doing(world))

    parent = graph_of(work("a"), {"id": "c", "workflow": "inner"}, work("b"), functions=doing(world), output="{{ c }}")
    child(1)
    completed(lab, parent, world)
    child(2)
    assert parent() == 2
    assert world.log == ["y"]


def test_a_node_that_is_added_runs_alone_and_one_that_is_let_in_does_too(lab: Lab, world: World) -> None:
    def graph(*more: Node, is_in: bool) -> iron.Graph:
        return graph_of(work("a"), work("w", 1, when=is_in), *more, functions=doing(world))

    completed(lab, graph(is_in=False), world)
    assert graph(work("b", 3), is_in=True)() == 3
    assert world.log == ["w", "b"]
    lab.cell()
    assert graph(work("b", 3), is_in=False)() == 3
    assert world.log == ["w", "b"]


def test_nothing_edited_in_the_same_kernel_begins_anew(lab: Lab, world: World) -> None:
    graph = graph_of(work("a"), work("b", 2), functions=doing(world))
    completed(lab, graph, world)
    assert graph() == 2
    assert world.log == ["a", "b"]
