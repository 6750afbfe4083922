"""Nodes that a run leaves out are in its history as skipped, each with the reason."""

from __future__ import annotations

from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.errors import NothingToDo
from tests.cells import World
from tests.conftest import Lab
from tests.diagram.drawn import Drawn, title
from tests.graphs.playing import Node, doing, fail, graph_of, work


def reasons(run: iron.Run[Any] | None) -> dict[str, str]:
    """Return why each of the skipped steps was left out, by reference."""
    assert run is not None
    steps = run.steps()
    skipped = steps[steps["status"] == "skipped"]
    return dict(zip(skipped["step"].str.removeprefix("g."), skipped["reason"], strict=True))


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (work("x", when=False), {"x[0]": "when is false"}),
        (
            {"id": "c", "condition": True, "then": [], "else": [work("x"), work("y")]},
            {"x[0]": "c took then", "y[0]": "c took then"},
        ),
        ({"id": "c", "condition": "{{ input.no }}", "then": [work("x")]}, {"x[0]": "c took else"}),
        (
            {"id": "s", "switch": "a", "cases": {"a": [work("x")], "b": [work("y")]}, "default": [work("z")]},
            {"y[0]": "s took a", "z[0]": "s took a"},
        ),
        ({"id": "s", "switch": "c", "cases": {"a": [work("x")]}, "default": [work("z")]}, {"x[0]": "s took default"}),
        ({"id": "s", "switch": "c", "cases": {"a": [work("x")]}}, {"x[0]": "s took none of its cases"}),
        (
            {"id": "b", "branch": {"one": {"when": False, "do": [work("x")]}, "two": {"do": [work("y")]}}},
            {"x[0]": "when of one is false"},
        ),
        (
            {"id": "c", "when": False, "condition": True, "then": [work("x", on_error=[work("h")])]},
            {"c[0]": "when is false", "x[0]": "when is false"},
        ),
        ({"id": "l", "when": False, "loop": [1], "do": [work("x")]}, {"l[0]": "when is false"}),
        ({"id": "l", "loop": [1, 2, 3], "do": [work("x", when="{{ item != `2` }}")]}, {"x[1]": "when is false"}),
        (
            {"id": "b", "on_error": "continue", "branch": {"one": {"do": [fail("f"), work("x"), work("y")]}}},
            {"x[0]": "f failed", "y[0]": "f failed"},
        ),
    ],
)
def test_a_node_that_is_left_out_is_recorded_as_skipped_with_the_reason(
    lab: Lab, world: World, node: Node, said: dict[str, str]
) -> None:
    world.is_broken = True
    graph = graph_of(node, work("last"), functions=doing(world))
    graph(no=False)
    assert graph.last is not None
    assert reasons(graph.last) == said
    events = graph.last.events()
    skipped = events[events["type"] == "StepSkipped"]
    assert set(skipped["step"].str.removeprefix("g.")) == set(said)
    assert "x" not in world.log or "x[0]" not in said
    assert list(iron.runs()["n_steps"]) == [len(graph.last.steps()) - len(said)]


def test_a_left_out_node_costs_no_commit_of_its_own(lab: Lab, world: World) -> None:
    def at_of(*nodes: Node) -> int:
        graph = graph_of(*nodes, functions=doing(world))
        graph.options(fresh=True)()
        assert graph.last is not None
        return len(graph.last.steps())

    assert at_of(work("a"), *(work(f"x{n}", when=False) for n in range(20)), work("b")) == 22


def test_what_comes_after_a_failure_is_skipped_until_the_run_continues(lab: Lab, world: World) -> None:
    world.is_broken = True
    inner: Node = {"id": "c", "condition": True, "then": [work("x")]}
    graph = graph_of(work("a"), fail("f"), inner, work("never", when=False), functions=doing(world))
    with pytest.raises(ConnectionError):
        graph()
    run = graph.last
    assert run is not None
    assert reasons(run) == {"c[0]": "f failed", "x[0]": "f failed", "never[0]": "f failed"}
    assert "f failed" in str(run.explain("x"))
    with pytest.raises(NothingToDo):
        run.resume(retry=["x"])
    world.is_broken = False
    assert run.resume().result() is None
    assert world.log == ["a", "f", "f", "x"]
    assert reasons(run) == {"never[0]": "when is false"}
    attempts = run.attempts()
    of_x = attempts[attempts["step"] == "g.x[0]"]
    assert list(zip(of_x["attempt"], of_x["status"], strict=True)) == [(1, "skipped"), (2, "completed")]
    assert "attempt 2 (completed): new" in str(run.explain("x"))
    assert set(run.plan()["action"]) <= {"reuse"} if len(run.plan()) else True


def test_a_node_that_stays_left_out_is_recorded_once(lab: Lab, world: World) -> None:
    world.is_broken = True
    graph = graph_of(work("x", when=False), fail("f"), functions=doing(world))
    for _ in range(3):
        with pytest.raises(ConnectionError):
            graph()
        lab.cell()
    world.is_broken = False
    graph()
    assert graph.last is not None
    assert list(graph.last.events()["type"]).count("StepSkipped") == 1
    assert len(iron.runs()) == 1


def test_a_node_that_an_edit_lets_in_runs_and_one_that_ran_keeps_its_result(lab: Lab, world: World) -> None:
    world.is_broken = True
    last = fail("f", depends_on=["a", "b"])

    def graph(is_a: bool) -> iron.Graph:
        nodes = [work("a", 1, when=is_a, depends_on=[]), work("b", 2, when=not is_a, depends_on=[])]
        return graph_of(*nodes, last, functions=doing(world), output="{{ [a, b] }}")

    with pytest.raises(ConnectionError):
        graph(is_a=True)()
    world.is_broken = False
    lab.cell()
    assert graph(is_a=False)() == [None, 2]
    run = graph(is_a=False).last
    assert run is not None
    assert world.log == ["a", "f", "b", "f"]
    assert reasons(run) == {}
    assert run.value("a") == 1
    assert run.value("b") == 2


def test_a_skipped_node_of_a_completed_run_is_skipped_in_the_run_that_is_built_on_it(lab: Lab, world: World) -> None:
    lab.is_interactive = True
    graph = graph_of(work("x", when=False), work("a", "{{ default(x, `1`) }}"), functions=doing(world))
    graph()
    lab.cell()
    edited = graph_of(work("x", when=False), work("a", "{{ default(x, `2`) }}"), functions=doing(world))
    assert edited() == 2
    assert reasons(edited.last) == {"x[0]": "when is false"}


def shown(run: iron.Run[Any] | None) -> dict[str, str]:
    """Return what the tooltips say of the nodes that are drawn as skipped."""
    assert run is not None
    nodes = [each for each in Drawn.of(run.diagram().svg).root.iter() if each.get("data-status") == "skipped"]
    return dict(title(node).split("\n")[0].split(": ", 1) for node in nodes)


MANY: list[Node] = [
    {"id": "c", "condition": True, "then": [work("a")], "else": [work("x")]},
    work("w", when=False),
    {"id": "l", "loop": [1, 2, 3], "do": [work("e", when="{{ item != `2` }}")]},
    {"id": "none", "loop": [], "do": [work("i")]},
    work("h", on_error=[work("rescue")]),
]


def test_a_node_that_was_left_out_is_drawn_as_skipped_with_the_reason(lab: Lab, world: World) -> None:
    graph = graph_of(*MANY, functions=doing(world))
    graph()
    assert graph.last is not None
    assert shown(graph.last) == {
        "x": "skipped (c took then)",
        "w": "skipped (when is false)",
        "i": "skipped (none ended without it)",
        "rescue": "skipped (h ended without it)",
    }
    picture = graph.last.diagram()
    assert "e: 2 of 3, 1 skipped (when is false)" in picture.text
    assert "[else] ↷ x: skipped (c took then)" in picture.text
    [head] = [each for each in Drawn.of(picture.svg).root.iter() if str(each.get("id")).endswith("-head")]
    assert "3 skipped" in title(head)


def test_what_follows_a_failure_is_drawn_as_skipped_until_the_run_goes_on(lab: Lab, world: World) -> None:
    world.is_broken = True
    seen: list[dict[str, str]] = []

    def look() -> None:
        seen.append(shown(graph.last))

    nodes = [work("w", when=False), fail("f"), {"id": "look", "python": "look"}, work("x"), work("n", when=False)]
    graph = graph_of(*nodes, functions=doing(world) | {"look": look})
    with pytest.raises(ConnectionError):
        graph()
    after = {"look": "skipped (f failed)", "x": "skipped (f failed)", "n": "skipped (f failed)"}
    assert shown(graph.last) == after | {"w": "skipped (when is false)"}
    world.is_broken = False
    lab.cell()
    graph()
    assert seen == [{"w": "skipped (when is false)"}]
    assert shown(graph.last) == {"w": "skipped (when is false)", "n": "skipped (when is false)"}


def test_another_process_draws_the_same(lab: Lab, world: World) -> None:
    graph = graph_of(*MANY, functions=doing(world))
    graph()
    assert graph.last is not None
    text = graph.last.diagram().text
    lab.die()
    assert iron.get_run(graph.last.id).diagram().text == text
