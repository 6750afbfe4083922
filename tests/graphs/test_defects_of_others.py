"""Defects that other engines with graphs were found to have, one test each that ours does not have it.

| defect | of an engine where | test |
| --- | --- | --- |
| the result of a chained workflow is not visible to its parent | a workflow node has no output | 1 |
| a failing child never fails its parent | the child's own ids are updated | 2 |
| the depth of children is checked with `>`, one level too late | | 3 |
| a branch of several nodes begins its first one again | an index is off by one | 4 |
| a branch of one node completes the join at the first finisher | | 5 |
| no selected branch: the join never ends | | 6 |
| a loop in memory stays at its first item | its counter is never raised | 7 |
| after a loop only the last iteration is seen | outputs by node id only | 8 |
| an event that comes twice advances the run twice | the advance is not tied to its node | 9 |
| errors are swallowed and acknowledged | the inner result is discarded | 10 |
| an expression that fails gives null | | 11 |
| null or "yes" count as a decision | | 12 |
| attempts are off by two | | 13 |
| a node to be tried again can't be taken again | its lock wants another state | 14 |
| a node run again in a notebook has stale edges | the graph lives on the functions | 15 |
| siblings run for ever in the records after a failure | | 16 |
| who writes the same key at once is decided by who ends last | one shared context | 17 |
| the cost grows with the square of the nodes | every event rewrites everything | 18 |
| a skipped node is recorded as a success with a marker | | 19 |
| a child's error is caught and returned as a flag, so that it is never tried again | | 20 |
| functions without `await` ignore their timeout | | 21 |
| an id of a run is used as the name of a file | | 22 |
| a workflow that is edited changes runs in flight | | 23 |
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.core.events import StepCompleted
from ironflow_nb.errors import ExpressionFailed, NodeFailed, NodeTimeout
from tests.cells import World
from tests.conftest import Lab
from tests.graphs.playing import WAIT_S, Meeting, doing, fail, graph_of, work

pytestmark = pytest.mark.usefixtures("lab")


def test_1_the_result_of_a_child_is_seen_by_its_parent(world: World) -> None:
    graph_of(work("x", {"deep": [1]}), name="inner", functions=doing(world))
    assert graph_of({"id": "c", "workflow": "inner"}, work("b", "{{ c.deep[0] }}"), functions=doing(world))() == 1


def test_2_the_failure_of_a_child_fails_its_parent(world: World) -> None:
    graph_of(fail("x"), name="inner", functions=doing(world))
    graph = graph_of({"id": "c", "workflow": "inner"}, work("b"), functions=doing(world))
    with pytest.raises(ConnectionError):
        graph()
    assert list(iron.runs()["status"]) == ["failed", "failed"]


def test_3_children_are_as_deep_as_is_said_and_not_one_level_deeper(world: World) -> None:
    graph = graph_of(work("x"), {"id": "c", "workflow": "endless"}, name="endless", functions=doing(world))
    with pytest.raises(NodeFailed, match="16 levels deep"):
        graph()
    assert world.log.count("x") == 1 + 16


def test_4_each_node_of_a_branch_runs_once_and_in_order(world: World) -> None:
    ways = {"one": {"do": [work("a"), work("b"), work("c")]}, "two": {"do": [work("d"), work("e")]}}
    graph_of({"id": "fan", "branch": ways}, functions=doing(world))()
    assert [name for name in world.log if name in "abc"] == ["a", "b", "c"]
    assert [name for name in world.log if name in "de"] == ["d", "e"]


def test_5_a_join_waits_for_the_slowest_branch(world: World) -> None:
    fast = threading.Event()

    def slow() -> int:
        assert fast.wait(WAIT_S)
        time.sleep(0.02)
        world.did("slow")
        return 1

    functions = {**doing(world), "slow": slow, "fast": fast.set}
    ways = {"one": {"do": [{"id": "s", "python": "slow"}]}, "two": {"do": [{"id": "f", "python": "fast"}]}}
    graph_of({"id": "fan", "branch": ways}, work("after"), functions=functions)()
    assert world.log == ["slow", "after"]


def test_6_a_join_of_no_branch_ends(world: World) -> None:
    ways = {"one": {"when": False, "do": [work("a")]}}
    graph = graph_of({"id": "fan", "branch": ways}, work("after", "{{ fan }}"), functions=doing(world))
    assert graph.start().result(timeout_s=WAIT_S) == {}


def test_7_and_8_a_loop_goes_through_its_items_and_all_of_them_are_seen(world: World) -> None:
    loop = {"id": "each", "loop": [1, 2, 3], "do": [work("a", "{{ item }}")]}
    assert graph_of(loop, output="{{ each[].a }}", functions=doing(world))() == [1, 2, 3]


def test_9_a_node_that_ends_twice_begins_what_follows_once(lab: Lab, world: World) -> None:
    """The process dies with the end of a node recorded, and nothing that follows from it."""
    graph = graph_of(
        work("a"), {"id": "stop", "python": "stop", "depends_on": ["a"]}, work("b", depends_on=["a"]),
        work("c", depends_on=["a", "b", "stop"]),
        functions={**doing(world), "stop": lambda: world.die() if world.is_broken else None},
    )  # fmt: skip
    with contextlib.suppress(BaseException):
        graph()
    world.is_broken = False
    graph()
    assert world.log.count("a") == world.log.count("c") == 1
    ended = iron.events(graph)
    ended = ended[ended["type"] == StepCompleted.__name__]["step"]
    assert ended.is_unique


def test_10_no_failure_is_swallowed(world: World) -> None:
    inside = {"id": "each", "loop": [1], "do": [{"id": "fan", "branch": {"one": {"do": [fail("x")]}}}]}
    graph = graph_of({"id": "c", "condition": True, "then": [inside]}, work("after"), functions=doing(world))
    with pytest.raises(ConnectionError, match="x is broken"):
        graph()
    assert graph.last is not None
    assert graph.last.status == "failed"
    assert world.log == ["x"]


def test_11_an_expression_that_meets_nothing_fails_its_node(world: World) -> None:
    graph = graph_of(work("a", {"x": 1}), work("b", "{{ a.nothing }}"), functions=doing(world))
    with pytest.raises(ExpressionFailed, match=r"b: 'a\.nothing' failed: a is an object .*without a field nothing"):
        graph()


@pytest.mark.parametrize("value", ["yes", 1, 0, ""])
def test_12_only_true_and_false_decide(world: World, value: Any) -> None:
    graph = graph_of({"id": "c", "condition": "{{ input.x }}", "then": [work("a")]}, functions=doing(world))
    with pytest.raises(ExpressionFailed, match=r"c: 'input\.x' gives a (text|number).*neither true nor false"):
        graph(x=value)
    assert graph(x=None) == {"taken": "else"}


@pytest.mark.parametrize("n_attempts", [1, 2, 4])
def test_13_and_14_a_node_is_tried_as_often_as_is_said(world: World, n_attempts: int) -> None:
    graph = graph_of(fail("a", retry={"attempts": n_attempts, "delay_s": 0}), functions=doing(world))
    with pytest.raises(ConnectionError):
        graph()
    assert len(world.log) == n_attempts


def test_15_a_graph_that_is_defined_again_has_no_edges_of_before(lab: Lab, world: World) -> None:
    graph_of(work("a"), work("b"), functions=doing(world))()
    lab.cell()
    world.log.clear()
    graph_of(work("b"), work("a", depends_on=[]), functions=doing(world))()
    assert sorted(world.log) == ["a", "b"]


def test_16_nothing_is_running_after_a_failure(world: World) -> None:
    meeting = Meeting(2)

    def late(n: int) -> int:
        meeting.come(n)
        time.sleep(0.05)
        return n

    def breaks(n: int) -> int:
        raise ValueError(meeting.come(n))

    nodes = [{"id": name, "python": name, "with": [1], "depends_on": []} for name in ("late", "breaks")]
    graph = graph_of(*nodes, functions={"late": late, "breaks": breaks})
    with pytest.raises(ValueError, match="1"):
        graph()
    assert graph.last is not None
    assert dict(zip(graph.last.steps()["name"], graph.last.steps()["status"], strict=True)) == {
        "g.late": "completed",
        "g.breaks": "failed",
    }


def test_17_what_nodes_give_does_not_depend_on_who_ends_last() -> None:
    order: list[str] = []

    def give(name: str, after: str) -> dict[str, str]:
        deadline = time.monotonic() + WAIT_S
        while after and after not in order and time.monotonic() < deadline:
            time.sleep(0.001)
        order.append(name)
        return {"key": name}

    found = []
    for first, second in (("", "a"), ("b", "")):
        order.clear()
        nodes = [
            {"id": "a", "python": "give", "with": {"name": "a", "after": first}, "depends_on": []},
            {"id": "b", "python": "give", "with": {"name": "b", "after": second}, "depends_on": []},
        ]
        graph = graph_of(*nodes, functions={"give": give}, output="{{ [a.key, b.key] }}").options(fresh=True)
        found.append((graph(), tuple(order)))
    assert found == [(["a", "b"], ("a", "b")), (["a", "b"], ("b", "a"))]


def test_18_the_cost_grows_with_the_nodes_and_not_with_their_square(world: World) -> None:
    def seconds(n_nodes: int) -> float:
        graph = graph_of(*(work(f"n{n}", n) for n in range(n_nodes)), functions=doing(world)).options(fresh=True)
        graph.validate()
        begun = time.process_time()
        graph()
        return time.process_time() - begun

    seconds(50)
    few, many = min(seconds(50) for _ in range(3)), min(seconds(400) for _ in range(2))
    assert many < 8 * 2.5 * few


def test_19_a_skipped_node_is_no_success(world: World) -> None:
    graph = graph_of(work("a", when=False), work("b", 1), functions=doing(world))
    graph()
    assert graph.last is not None
    steps = graph.last.steps()
    assert dict(zip(steps["name"], steps["status"], strict=True)) == {"g.a": "skipped", "g.b": "completed"}
    assert list(iron.runs()["n_completed"]) == [1]


def test_20_the_retries_of_a_child_are_those_of_its_node(world: World) -> None:
    graph_of(fail("x"), name="inner", functions=doing(world))
    graph = graph_of({"id": "c", "workflow": "inner", "retry": {"attempts": 3, "delay_s": 0}})
    with pytest.raises(ConnectionError):
        graph()
    assert world.log == ["x"] * 3


def test_21_a_function_that_blocks_has_a_timeout(world: World) -> None:
    gate = threading.Event()
    node = {"id": "a", "python": "wait", "timeout_s": 0.05}
    with pytest.raises(NodeTimeout):
        graph_of(node, functions={"wait": lambda: gate.wait(WAIT_S)})()
    gate.set()


def test_22_a_key_of_a_run_is_no_path(world: World) -> None:
    graph = graph_of(work("a", 1), functions=doing(world)).options(key="../../etc/passwd")
    assert graph() == 1
    assert graph.last is not None
    assert "/" not in graph.last.id


def test_23_an_edit_does_not_change_a_run_in_flight(world: World) -> None:
    begun, gate = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        assert gate.wait(WAIT_S)

    functions = {**doing(world), "wait": wait}
    run = graph_of({"id": "a", "python": "wait"}, work("b", "before"), functions=functions).start()
    assert begun.wait(WAIT_S)
    graph_of({"id": "a", "python": "wait"}, work("b", "after"), functions=functions)
    gate.set()
    assert run.result(timeout_s=WAIT_S) == "before"
