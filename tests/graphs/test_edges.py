"""Rare ways of nodes: failures that die half handled, values that nothing stores, flows taken for functions."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow
from ironflow_nb.errors import DefinitionError
from tests.cells import World
from tests.conftest import Lab
from tests.graphs.playing import doing, fail, graph_of, work


@pytest.mark.parametrize("is_handled", [True, False])
def test_only_a_failure_that_is_handled_stays_after_a_crash_also_beside_others(
    lab: Lab, world: World, is_handled: bool
) -> None:
    """Two branches: one fails, the other has still to begin a node when the process dies."""
    good = [{"id": "x", "python": "after_a"}, work("y"), {"id": "stop", "python": "stop"}]
    ways = {"bad": {"do": [fail("a")]}, "good": {"do": good}}
    around: dict[str, Any] = {"id": "fan", "branch": ways}
    if is_handled:
        around["on_error"] = [work("h", "handled")]

    def after_a() -> None:
        while "a" not in world.log:
            threading.Event().wait(0.01)
        threading.Event().wait(0.3)  # so that the run has seen it fail
        world.did("x")

    functions = {**doing(world), "after_a": after_a, "stop": lambda: world.die() if world.is_broken else None}
    graph = graph_of(around, functions=functions, concurrency=2, output="{{ fan }}")
    with contextlib.suppress(BaseException):
        graph()
    assert "a" in world.log
    world.is_broken = False
    if is_handled:
        assert graph() == "handled"
        assert world.log.count("a") == 1
    else:
        assert graph()["bad"] == {"a": "a works"}
        assert world.log.count("a") == 2
    assert (world.log.count("x"), world.log.count("y")) == (1, 1)


@pytest.mark.usefixtures("lab")
@pytest.mark.parametrize("inside", [True, False])
def test_a_value_that_nothing_stores_fails_its_node(world: World, inside: bool) -> None:
    node: dict[str, Any] = {"id": "a", "python": "gives", "on_error": "continue"}
    if inside:
        node = {"id": "a", "condition": True, "then": [{"id": "i", "python": "gives"}], "on_error": "continue"}
    graph = graph_of(
        node, work("b", "{{ a.error.type }}"), functions={**doing(world), "gives": lambda: (n for n in "ab")}
    )
    assert graph() == "ValueNotStorable"


@pytest.mark.usefixtures("lab")
def test_an_iterator_that_can_be_stored_fails_who_is_given_it_and_not_the_run(world: World) -> None:
    then = [{"id": "i", "python": "gives"}]
    graph = graph_of(
        {"id": "c", "condition": True, "then": then, "on_error": "continue"},
        work("b", "{{ keys(c) }}"),
        functions={**doing(world), "gives": lambda: iter([1, 2])},
    )
    assert graph() in (["error"], ["taken", "i"])


@pytest.mark.usefixtures("lab")
def test_records_and_tuples_of_functions_and_kinds_are_data_to_expressions(world: World) -> None:
    from dataclasses import dataclass

    @dataclass
    class Point:
        x: int
        more: tuple[int, ...]

    @dataclass
    class Nothing:
        pass

    @iron.node("pointed")
    def pointed(x: int) -> Point:
        return Point(x, (1, 2))

    graph = graph_of(
        {"id": "a", "python": "point"}, {"id": "b", "pointed": {"x": 3}}, {"id": "c", "python": "nothing"},
        functions={"point": lambda: Point(2, (1, 2)), "nothing": lambda: Nothing()},
        output="{{ [a.more[1], b.x, b.more, c] }}",
    )  # fmt: skip
    assert graph() == [2, 3, [1, 2], {}]


@pytest.mark.usefixtures("lab")
def test_a_flow_is_no_function_of_a_node(world: World) -> None:
    @flow(name="whole_flow")
    def whole() -> int:
        return 1

    for functions in ({}, {"whole_flow": whole}):
        graph = graph_of({"id": "a", "python": "whole_flow"}, functions=functions)
        with pytest.raises(
            DefinitionError, match="whole_flow is a flow, whose calls are runs; run it as a child: workflow:"
        ):
            graph()


def test_an_interrupt_inside_of_a_child_interrupts_both_and_both_go_on(lab: Lab, world: World) -> None:
    def interrupted() -> int:
        if world.is_broken:
            raise KeyboardInterrupt
        return 1

    graph_of(work("x"), {"id": "y", "python": "y"}, name="inner", functions={**doing(world), "y": interrupted})
    graph = graph_of(work("a"), {"id": "c", "workflow": "inner"}, functions=doing(world))
    with pytest.raises(KeyboardInterrupt):
        graph()
    assert set(iron.runs()["status"]) == {"interrupted"}
    world.is_broken = False
    lab.cell()
    assert graph() == 1
    assert world.log == ["a", "x"]
    assert list(iron.runs()["status"]) == ["completed", "completed"]


@pytest.mark.usefixtures("lab")
def test_a_node_that_fails_behind_another_does_not_make_that_one_fail(world: World) -> None:
    """The end of the inner node ends the loop around it, whose next test fails: that is the failure of the loop."""
    loop = {"while": "{{ round.last == `null` || round.last.a.more }}", "max_rounds": 5}
    inner = work("a", {"x": 1}, on_error="continue")
    graph = graph_of({"id": "again", "loop": loop, "do": [inner], "on_error": "continue"}, functions=doing(world))
    found = graph()
    assert found["error"]["node"] == "again"
    assert world.log == ["a"]
