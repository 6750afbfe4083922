"""The order in which nodes run, what runs at once, and what each sees."""

from __future__ import annotations

from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.errors import GraphInvalid
from tests.cells import World
from tests.conftest import Lab
from tests.graphs.playing import Meeting, doing, fail, graph_of, work

pytestmark = pytest.mark.usefixtures("lab")


def test_a_node_runs_after_the_one_above_it(world: World) -> None:
    graph = graph_of(work("a", 1), work("b", "{{ a }}"), work("c", "{{ b }}"), functions=doing(world))
    assert graph() == 1
    assert world.log == ["a", "b", "c"]


def test_a_node_runs_after_those_that_it_depends_on_wherever_they_stand(world: World) -> None:
    graph = graph_of(
        work("a", "{{ c }} after", depends_on=["c"]),
        work("b", "{{ a }}", depends_on=["a"]),
        work("c", "c", depends_on=[]),
        functions=doing(world),
    )
    assert graph() == "c"  # the last in the text, and the first that ran
    assert world.log == ["c", "a", "b"]


def test_nodes_that_depend_on_nothing_run_at_once() -> None:
    meeting = Meeting(3)
    nodes = [{"id": f"n{n}", "python": "come", "with": {"n": n}, "depends_on": []} for n in range(3)]
    graph = graph_of(*nodes, functions={"come": meeting.come}, output="{{ [n0, n1, n2] }}")
    assert graph() == [0, 1, 2]


def test_nodes_behind_the_same_node_run_at_once() -> None:
    meeting = Meeting(2)
    nodes = [
        {"id": "first", "python": "one"},
        *({"id": f"n{n}", "python": "come", "with": {"n": n}, "depends_on": ["first"]} for n in range(2)),
    ]
    graph = graph_of(*nodes, functions={"come": meeting.come, "one": lambda: 1}, output="{{ [n0, n1] }}")
    assert graph() == [0, 1]


@pytest.mark.parametrize("n_at_once", [1, 2, 5])
def test_no_more_nodes_run_at_once_than_the_graph_says(n_at_once: int) -> None:
    meeting = Meeting(1)
    nodes = [{"id": f"n{n}", "python": "count", "with": {"n": n}, "depends_on": []} for n in range(12)]
    graph_of(*nodes, functions={"count": meeting.count}, concurrency=n_at_once)()
    assert 1 <= meeting.n_most <= n_at_once
    assert (meeting.n_most > 1) == (n_at_once > 1)


def test_a_node_that_waits_for_one_of_several_does_not_wait_for_the_others(world: World) -> None:
    """The slow one waits for what stands behind the fast one."""
    meeting = Meeting(2)
    graph = graph_of(
        {"id": "slow", "python": "come", "with": {"n": 1}, "depends_on": []},
        work("fast", 2, depends_on=[]),
        {"id": "behind", "python": "come", "with": {"n": "{{ fast }}"}, "depends_on": ["fast"]},
        functions={**doing(world), "come": meeting.come},
        output="{{ [slow, behind] }}",
    )
    assert graph() == [1, 2]


def test_what_need_not_have_ended_can_not_be_seen(world: World) -> None:
    graph = graph_of(work("a", 1), work("b", "{{ a }}", depends_on=[]), functions=doing(world))
    with pytest.raises(GraphInvalid, match="a may not have ended by then; add it to depends_on"):
        graph()
    assert world.log == []


def test_the_ancestors_of_a_node_can_be_seen_and_not_only_its_neighbours(world: World) -> None:
    graph = graph_of(work("a", 1), work("b", 2), work("c", "{{ [a, b, input.n] }}"), functions=doing(world))
    assert graph(n=3) == [1, 2, 3]


def test_a_value_keeps_its_type_and_a_text_takes_it_in(world: World) -> None:
    graph = graph_of(work("a", {"n": [1, 2.5, True, None]}), work("b", "{{ a }} and more"), functions=doing(world))
    graph_of(work("a", "{{ input.x }}"), functions=doing(world), name="types")
    assert graph() == '{"n":[1,2.5,true,null]} and more'
    assert graph_of(work("a", "{{ input.x }}"), functions=doing(world))(x=[1, None]) == [1, None]


def test_a_graph_without_nodes_gives_null() -> None:
    assert graph_of()() is None
    assert graph_of(output="{{ input.n }}")(n=1) == 1


def test_the_output_is_that_of_the_last_node_unless_it_is_said(world: World) -> None:
    nodes = [work("a", 1), work("b", 2)]
    assert graph_of(*nodes, functions=doing(world))() == 2
    assert graph_of(*nodes, functions=doing(world), output={"x": "{{ a }}"}, name="said")() == {"x": 1}


def test_a_skipped_node_gives_null_and_does_not_block(world: World) -> None:
    graph = graph_of(work("a", 1, when="{{ input.n > `3` }}"), work("b", "{{ [a, input.n] }}"), functions=doing(world))
    assert graph(n=1) == [None, 1]
    assert graph(n=4) == [1, 4]
    assert world.log == ["b", "a", "b"]


@pytest.mark.parametrize("value", [False, None])
def test_when_runs_a_node_only_if_it_is_true(world: World, value: Any) -> None:
    graph = graph_of(work("a", 1, when="{{ input.x }}"), functions=doing(world))
    assert graph(x=value) is None
    assert world.log == []


def test_the_input_and_outputs_are_not_changed_by_who_changes_what_it_was_given(world: World) -> None:
    def spoil(items: list[int]) -> int:
        items.append(9)
        return len(items)

    graph = graph_of(
        work("a", [1]),
        {"id": "b", "python": "spoil", "with": {"items": "{{ a }}"}},
        {"id": "c", "python": "spoil", "with": {"items": "{{ input.items }}"}},
        functions={**doing(world), "spoil": spoil},
        output="{{ [a, input.items] }}",
    )
    items = [1]
    assert graph(items=items) == [[1], [1]]
    assert items == [1]


def test_only_variables_that_are_granted_can_be_seen(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    monkeypatch.setenv("GRANTED", "this")
    monkeypatch.setenv("HIDDEN", "that")
    allow = {"env": ["GRANTED"]}
    nodes = [work("a", "{{ env.GRANTED }}")]
    assert graph_of(*nodes, functions=doing(world), allow=allow)() == "this"
    with pytest.raises(GraphInvalid, match="HIDDEN"):
        graph_of(work("a", "{{ env.HIDDEN }}"), functions=doing(world), allow=allow)()
    found = graph_of(work("a", "{{ keys(env) }}"), functions=doing(world), allow=allow, name="keys")()
    assert found == ["GRANTED"]


def test_every_node_is_a_step_of_the_run(lab: Lab, world: World) -> None:
    graph = graph_of(
        work("a", 1), {"id": "c", "condition": "{{ a == `1` }}", "then": [work("t", 2)]}, functions=doing(world)
    )
    graph()
    assert graph.last is not None
    steps = graph.last.steps()
    assert list(steps["name"]) == ["g.a", "g.t", "g.c"]
    assert set(steps["status"]) == {"completed"}
    assert graph.last.value("g.c") == {"taken": "then", "t": 2}


def test_a_failure_names_its_node_and_keeps_what_was_done(world: World) -> None:
    graph = graph_of(work("a", 1), fail("b"), work("c", 2), functions=doing(world))
    with pytest.raises(ConnectionError, match="b is broken"):
        graph()
    world.is_broken = False
    iron.resume(graph.last.id).result(timeout_s=20)
    assert world.log == ["a", "b", "b", "c"]


def test_what_does_not_depend_on_a_failed_node_goes_on_and_what_does_never_runs(world: World) -> None:
    graph = graph_of(
        fail("a", depends_on=[]),
        work("behind", 1, depends_on=["a"]),
        work("far", 1, depends_on=["behind"]),
        work("other", 1, depends_on=[]),
        work("beside", 1, depends_on=["other"]),
        work("both", 1, depends_on=["beside", "behind"]),
        functions=doing(world),
    )
    with pytest.raises(ConnectionError):
        graph()
    assert sorted(world.log) == ["a", "beside", "other"]
    world.is_broken = False
    assert graph.resume().result(timeout_s=20) == 1
    assert sorted(world.log[3:]) == ["a", "behind", "both", "far"]


def test_several_failures_are_told_together(world: World) -> None:
    graph = graph_of(fail("a", depends_on=[]), fail("b", depends_on=[]), functions=doing(world))
    with pytest.raises(ExceptionGroup, match="2 nodes of g failed") as caught:
        graph()
    assert sorted(map(str, caught.value.exceptions)) == ["a is broken", "b is broken"]
