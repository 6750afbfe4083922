"""What nodes that decide make of the nodes inside of them: condition, switch, branch, loop."""

from __future__ import annotations

from typing import Any

import pytest

from ironflow_nb.errors import ExpressionFailed, NodeFailed
from tests.cells import World
from tests.conftest import Lab
from tests.graphs.playing import Meeting, doing, fail, graph_of, work

pytestmark = pytest.mark.usefixtures("lab")

# -- condition and switch ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "taken"), [(True, "then"), (False, "else"), (None, "else")])
def test_null_counts_as_false(world: World, value: Any, taken: str) -> None:
    graph = graph_of(
        {"id": "c", "condition": "{{ input.x }}", "then": [work("a", 1)], "else": [work("b", 2)]},
        functions=doing(world),
    )
    assert graph(x=value) == {"taken": taken, **({"a": 1} if taken == "then" else {"b": 2})}
    assert world.log == ["a" if taken == "then" else "b"]


def test_a_condition_may_have_nothing_to_do() -> None:
    assert graph_of({"id": "c", "condition": "{{ input.x }}", "then": []})(x=True) == {"taken": "then"}
    assert graph_of({"id": "c", "condition": "{{ input.x }}", "then": []})(x=False) == {"taken": "else"}


def test_what_was_skipped_inside_is_not_in_the_output(world: World) -> None:
    then = [work("a", 1), work("b", 2, when=False), work("c", "{{ b }}")]
    graph = graph_of({"id": "c0", "condition": True, "then": then}, functions=doing(world))
    assert graph() == {"taken": "then", "a": 1, "c": None}


SWITCH = {
    "id": "s",
    "switch": "{{ input.x }}",
    "cases": {"red": [work("r", 1)], "2": [work("two", 2)], "true": [work("t", 3)], "null": [work("n", 4)]},
}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("red", {"taken": "red", "r": 1}),
        (2, {"taken": "2", "two": 2}),
        ("2", {"taken": "2", "two": 2}),
        (True, {"taken": "true", "t": 3}),
        (None, {"taken": "null", "n": 4}),
    ],
)
def test_a_switch_takes_the_case_of_its_value_as_a_text(world: World, value: Any, expected: Any) -> None:
    assert graph_of(SWITCH, functions=doing(world))(x=value) == expected


def test_a_switch_without_that_case_takes_its_default_or_nothing(world: World) -> None:
    assert graph_of(SWITCH, functions=doing(world))(x="blue") == {"taken": None}
    graph = graph_of({**SWITCH, "default": [work("d", 5)]}, functions=doing(world), name="with_default")
    assert graph(x="blue") == {"taken": "default", "d": 5}


def test_a_switch_over_a_list_fails_its_node(world: World) -> None:
    with pytest.raises(ExpressionFailed, match="s: switch takes a text, a number or true or false, not a list"):
        graph_of(SWITCH, functions=doing(world))(x=[1])


# -- branch ------------------------------------------------------------------------------------------------------


def test_branches_run_side_by_side_and_join_when_all_have_ended() -> None:
    meeting = Meeting(2)
    come = {"python": "come", "with": {"n": 1}}
    branches = {
        "short": {"do": [{"id": "s", **come}]},
        "long": {"do": [{"id": "l1", **come}, {"id": "l2", "python": "one"}, {"id": "l3", "python": "one"}]},
    }
    graph = graph_of(
        {"id": "fan", "branch": branches}, functions={"come": meeting.come, "one": lambda: 2}, output="{{ fan }}"
    )
    assert graph() == {"short": {"s": 1}, "long": {"l1": 1, "l2": 2, "l3": 2}}


def test_each_branch_has_a_condition_of_its_own(world: World) -> None:
    branches = {name: {"when": f"{{{{ input.{name} }}}}", "do": [work(name, name)]} for name in ("a", "b")}
    graph = graph_of({"id": "fan", "branch": branches}, functions=doing(world))
    assert graph(a=True, b=True) == {"a": {"a": "a"}, "b": {"b": "b"}}
    assert graph(a=False, b=True) == {"b": {"b": "b"}}
    assert graph(a=False, b=None) == {}


def test_the_other_branches_end_before_a_failed_one_fails_the_node(world: World) -> None:
    branches = {"bad": {"do": [fail("x"), work("never")]}, "good": {"do": [work("a"), work("b"), work("c")]}}
    with pytest.raises(ConnectionError, match="x is broken"):
        graph_of({"id": "fan", "branch": branches}, work("after"), functions=doing(world))()
    assert sorted(world.log) == ["a", "b", "c", "x"]


# -- loop --------------------------------------------------------------------------------------------------------


def test_a_loop_gives_a_list_in_the_order_of_its_items(world: World) -> None:
    do = [work("a", "{{ item }}"), work("b", "{{ [a, index] }}")]
    graph = graph_of({"id": "each", "loop": "{{ input.items }}", "do": do}, functions=doing(world))
    assert graph(items=["x", "y"]) == [{"a": "x", "b": ["x", 0]}, {"a": "y", "b": ["y", 1]}]
    assert world.log == ["a", "b", "a", "b"]
    assert graph(items=[]) == []


def test_a_loop_over_equal_items_does_each_of_them(world: World) -> None:
    graph = graph_of({"id": "each", "loop": [7, 7, 7], "do": [work("a", "{{ item }}")]}, functions=doing(world))
    assert graph() == [{"a": 7}] * 3
    assert world.log == ["a"] * 3


@pytest.mark.parametrize("value", [None, "abc", 3, {"a": 1}])
def test_a_loop_over_what_is_no_list_fails_its_node(lab: Lab, world: World, value: Any) -> None:
    graph = graph_of({"id": "each", "loop": "{{ input.items }}", "do": [work("a")]}, functions=doing(world))
    with pytest.raises(ExpressionFailed, match="each: loop goes over a list, not over"):
        graph(items=value)
    assert graph.last is not None
    assert list(graph.last.steps()["step"]) == ["g.each[0]"]
    assert world.log == []


@pytest.mark.parametrize("n_at_once", [1, 3])
def test_so_many_items_at_once_as_the_loop_says(n_at_once: int) -> None:
    meeting = Meeting(1)
    do = [{"id": "a", "python": "count", "with": {"n": "{{ item }}"}}]
    loop = {"id": "each", "loop": "{{ input.items }}", "concurrency": n_at_once, "do": do}
    found = graph_of(loop, functions={"count": meeting.count})(items=list(range(12)))
    assert found == [{"a": n} for n in range(12)]
    assert meeting.n_most <= n_at_once
    assert (meeting.n_most > 1) == (n_at_once > 1)


def test_the_items_of_a_loop_really_run_at_once() -> None:
    meeting = Meeting(4)
    do = [{"id": "a", "python": "come", "with": {"n": "{{ item }}"}}]
    loop = {"id": "each", "loop": [1, 2, 3, 4], "concurrency": 4, "do": do}
    assert graph_of(loop, functions={"come": meeting.come})() == [{"a": n} for n in (1, 2, 3, 4)]


def test_after_a_failed_item_no_other_begins_and_continuing_goes_on_there(world: World) -> None:
    def picky(n: int) -> int:
        world.did(n)
        if n == 2 and world.is_broken:
            raise ValueError("two")
        return n

    do = [{"id": "a", "python": "picky", "with": {"n": "{{ item }}"}}]
    graph = graph_of({"id": "each", "loop": [1, 2, 3], "do": do}, functions={"picky": picky})
    with pytest.raises(ValueError, match="two"):
        graph()
    assert world.log == [1, 2]
    world.is_broken = False
    assert graph.resume().result(timeout_s=20) == [{"a": 1}, {"a": 2}, {"a": 3}]
    assert world.log == [1, 2, 2, 3]


def test_while_goes_on_as_long_as_its_test_is_true(world: World) -> None:
    loop = {"while": "{{ round.index < input.n }}", "max_rounds": 5}
    do = [work("a", "{{ [round.index, round.last] }}")]
    graph = graph_of({"id": "again", "loop": loop, "do": do}, functions=doing(world))
    assert graph(n=2) == [{"a": [0, None]}, {"a": [1, {"a": [0, None]}]}]
    assert graph(n=0) == []
    assert len(graph(n=5)) == 5


def test_a_while_that_never_ends_fails_at_its_cap(world: World) -> None:
    loop = {"while": "{{ `true` }}", "max_rounds": 3}
    graph = graph_of({"id": "again", "loop": loop, "do": [work("a")]}, functions=doing(world))
    with pytest.raises(NodeFailed, match="again: while is still true after 3 rounds"):
        graph()
    assert world.log == ["a"] * 3


def test_a_test_of_while_that_fails_fails_the_node_with_its_expression(world: World) -> None:
    loop = {"while": "{{ round.last == `null` || round.last.a.more }}", "max_rounds": 3}
    graph = graph_of({"id": "again", "loop": loop, "do": [work("a", "no object")]}, functions=doing(world))
    with pytest.raises(ExpressionFailed, match=r"again, while: .*round\.last\.a\.more"):
        graph()


def test_everything_inside_of_everything(world: World) -> None:
    inner = {
        "id": "deep",
        "loop": "{{ row.ns }}",
        "as": "n",
        "concurrency": 2,
        "do": [work("a", "{{ [row.name, n] }}")],
    }
    chosen = {"id": "s", "switch": "{{ row.name }}", "cases": {"x": [inner], "y": [work("y", "{{ index }}")]}}
    fan = {"id": "fan", "branch": {"one": {"do": [chosen]}, "two": {"when": "{{ index == `1` }}", "do": [work("z")]}}}
    rows = [{"name": "x", "ns": [1, 2]}, {"name": "y", "ns": []}]
    loop = {"id": "rows", "loop": "{{ input.rows }}", "as": "row", "concurrency": 2, "do": [fan]}
    graph = graph_of(
        {"id": "c", "condition": True, "then": [loop]}, functions=doing(world), output="{{ c.rows[].fan }}"
    )
    first = {"one": {"s": {"taken": "x", "deep": [{"a": ["x", 1]}, {"a": ["x", 2]}]}}}
    assert graph(rows=rows) == [first, {"one": {"s": {"taken": "y", "y": 1}}, "two": {"z": None}}]
