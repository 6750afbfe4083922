"""Failures of nodes, and the handlers that may resolve them; assertions, retries, timeouts."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest

from ironflow_nb.errors import AssertionsFailed, EngineClosed, ExpressionFailed, NodeTimeout, OutcomeUnknown
from tests.cells import World
from tests.conftest import Lab
from tests.graphs.playing import doing, fail, graph_of, work


@pytest.mark.usefixtures("lab")
def test_a_handler_resolves_a_failure_and_its_last_output_stands_for_the_node(world: World) -> None:
    handler = [work("tell", "{{ error.message }}"), work("mend", "{{ [error.node, error.type, tell] }}")]
    graph = graph_of(fail("a", on_error=handler), work("b", "{{ a }}"), functions=doing(world))
    assert graph() == ["a", "ConnectionError", "a is broken"]
    assert world.log == ["a", "tell", "mend", "b"]


@pytest.mark.usefixtures("lab")
def test_a_handler_does_not_run_without_a_failure(world: World) -> None:
    world.is_broken = False
    graph = graph_of(fail("a", on_error=[work("mend")]), functions=doing(world))
    assert graph() == "a works"
    assert world.log == ["a"]


@pytest.mark.usefixtures("lab")
def test_a_handler_that_fails_fails_the_node_and_both_are_told(world: World) -> None:
    graph = graph_of(fail("a", on_error=[fail("h")]), work("b"), functions=doing(world))
    with pytest.raises(ConnectionError, match="h is broken") as caught:
        graph()
    assert "a is broken" in str(caught.value.__cause__)
    assert world.log == ["a", "h"]
    world.is_broken = False
    graph.resume().result(timeout_s=20)
    assert world.log == ["a", "h", "a", "b"]  # its failure was not handled, so the node itself is tried again


@pytest.mark.usefixtures("lab")
def test_continue_makes_the_failure_the_output(world: World) -> None:
    graph = graph_of(fail("a", on_error="continue"), work("b", "{{ a.error }}"), functions=doing(world))
    assert graph() == {"node": "a", "type": "ConnectionError", "message": "a is broken", "output": None}


@pytest.mark.usefixtures("lab")
@pytest.mark.parametrize("n_levels", [1, 3])
def test_the_handler_of_a_node_around_it_handles_a_failure_inside(world: World, n_levels: int) -> None:
    inside: dict[str, Any] = fail("a")
    for level in range(n_levels):
        inside = {"id": f"c{level}", "loop": [1], "do": [inside, work(f"never{level}")]}
    inside["on_error"] = [work("mend", "{{ error.message }}")]
    graph = graph_of(inside, work("b", f"{{{{ c{n_levels - 1} }}}}"), functions=doing(world))
    assert graph() == "a is broken"
    assert world.log == ["a", "mend", "b"]


def test_a_failure_that_a_handler_around_it_handled_is_not_tried_again(lab: Lab, world: World) -> None:
    """The process dies after the handler: what the run lived with stays so, though the world has been mended."""
    graph = graph_of(
        {"id": "c", "condition": True, "then": [fail("a")], "on_error": [work("mend", "mended")]},
        {"id": "stop", "python": "stop"},
        work("b", "{{ c }}"),
        functions={**doing(world), "stop": lambda: world.die() if world.is_broken else 1},
    )
    with pytest.raises(SystemExit):
        graph()
    world.is_broken = False
    assert graph() == "mended"
    assert world.log == ["a", "mend", "b"]


def test_a_failure_that_nothing_handled_yet_is_tried_again_after_a_crash(lab: Lab, world: World) -> None:
    def stop() -> int:
        if world.is_broken:
            world.die()
        return 1

    graph = graph_of(
        fail("a", depends_on=[]), work("x", depends_on=[]), {"id": "stop", "python": "stop"},
        functions={**doing(world), "stop": stop}, output="{{ a }}",
    )  # fmt: skip
    with pytest.raises((SystemExit, EngineClosed)):
        graph()
    world.is_broken = False
    assert graph() == "a works"
    assert sorted(world.log) == ["a", "a", "x"]


@pytest.mark.usefixtures("lab")
def test_an_expression_that_fails_is_the_failure_of_its_node(world: World) -> None:
    graph = graph_of(work("a", {"x": 1}), work("b", "{{ a.y.z }}", on_error="continue"), functions=doing(world))
    found = graph()["error"]
    assert found["type"] == "ExpressionFailed"
    assert "a.y.z" in found["message"]


@pytest.mark.usefixtures("lab")
def test_a_when_that_fails_fails_its_node(world: World) -> None:
    graph = graph_of(work("a", 1), work("b", when="{{ a.x }}"), functions=doing(world))
    with pytest.raises(ExpressionFailed, match=r"b, when: .*a\.x"):
        graph()
    assert graph.last is not None
    assert list(graph.last.steps()["status"]) == ["completed", "failed"]


@pytest.mark.usefixtures("lab")
def test_an_assert_checks_all_and_lists_every_mismatch() -> None:
    checks = [
        {"equals": ["{{ input.n }}", 2]},
        {"not_equals": ["{{ input.n }}", 1], "message": "it must not be one"},
        {"matches": ["{{ input.word }}", "^b"]},
        {"holds": "{{ input.n > `0` }}"},
        {"holds": "{{ input.n > `5` }}"},
        {"equals": ["{{ input.flag }}", 1]},
    ]
    graph = graph_of({"id": "a", "assert": checks})
    with pytest.raises(AssertionsFailed) as caught:
        graph(n=1, word="abc", flag=True)
    assert str(caught.value).splitlines()[:6] == [
        "a: 5 of 6 checks failed:",
        "  1 is not 2",
        "  it must not be one: expected a value other than 1",
        '  "abc" does not match "^b"',
        "  input.n > `5` is false, not true",
        "  true is not 1",
    ]


@pytest.mark.usefixtures("lab")
def test_an_assert_that_holds_says_how_much_it_checked() -> None:
    assert graph_of({"id": "a", "assert": [{"equals": [1, 1.0]}, {"holds": True}]})() == {"n_checks": 2}


# -- retries and time --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beside", [False, True])
def test_a_node_is_tried_again_as_often_and_after_as_long_as_it_says(lab: Lab, world: World, beside: bool) -> None:
    clock = lab.simulate_time()
    began: list[float] = []

    def fails() -> None:
        began.append(clock.monotonic())
        raise ConnectionError("no")

    retry = {"attempts": 3, "delay_s": 2.0, "factor": 3.0}
    nodes = [{"id": "a", "python": "fails", "retry": retry, "depends_on": []}]
    nodes += [work("other", depends_on=[])] if beside else []
    graph = graph_of(*nodes, functions={**doing(world), "fails": fails})
    with pytest.raises(ConnectionError):
        graph()
    assert [round(after - before, 3) for before, after in itertools.pairwise(began)] == [2.0, 6.0]
    assert graph.last is not None
    attempts = graph.last.attempts()
    assert list(attempts[attempts["name"] == "g.a"]["attempt"]) == [1, 2, 3]


@pytest.mark.usefixtures("lab")
def test_a_blocking_function_is_given_up_after_its_time(world: World) -> None:
    gate = threading.Event()
    graph = graph_of(
        {"id": "a", "python": "wait", "timeout_s": 0.05, "on_error": "continue"},
        work("b", "{{ a.error.type }}"),
        functions={**doing(world), "wait": lambda: gate.wait(20)},
    )
    try:
        assert graph() == "NodeTimeout"
    finally:
        gate.set()


@pytest.mark.usefixtures("lab")
def test_an_async_function_is_cancelled_after_its_time() -> None:
    import asyncio

    cancelled: list[bool] = []

    async def wait() -> None:
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    graph = graph_of({"id": "a", "python": "wait", "timeout_s": 0.05}, functions={"wait": wait})
    with pytest.raises(NodeTimeout, match=r"a\[0\] took longer than its timeout_s of 0\.05 s"):
        graph()
    assert cancelled == [True]


@pytest.mark.usefixtures("lab")
def test_a_timeout_of_the_function_itself_is_told_as_it_is() -> None:
    async def wait() -> None:
        raise TimeoutError("the other side")

    with pytest.raises(TimeoutError, match="the other side"):
        graph_of({"id": "a", "python": "wait", "timeout_s": 20}, functions={"wait": wait})()


@pytest.mark.usefixtures("lab")
def test_a_node_that_takes_too_long_is_tried_again_if_it_says_so(world: World) -> None:
    gate = threading.Event()

    def wait() -> int:
        world.did("wait")
        if len(world.log) < 3:
            gate.wait(0.3)
        return 1

    retry = {"attempts": 3, "delay_s": 0}
    graph = graph_of({"id": "a", "python": "wait", "timeout_s": 0.1, "retry": retry}, functions={"wait": wait})
    try:
        assert graph() == 1
    finally:
        gate.set()
    assert world.log == ["wait"] * 3


def test_what_is_to_happen_once_is_not_done_again_after_a_crash(lab: Lab, world: World) -> None:
    def pay() -> str:
        world.did("pay")
        if world.is_broken:
            world.die()
        return "paid"

    graph = graph_of(
        {"id": "a", "python": "pay", "once": True}, work("b", "{{ a }}"), functions={**doing(world), "pay": pay}
    )
    with pytest.raises(SystemExit):
        graph()
    with pytest.raises(OutcomeUnknown, match=r"g\.a\[0\]"):
        graph()
    assert world.log == ["pay"]
    assert graph.last is not None
    assert list(graph.last.steps()["status"]) == ["unknown"]
    world.is_broken = False
    assert graph.last.resume(retry=["g.a[0]"]).result(timeout_s=20) == "paid"
    assert world.log == ["pay", "pay", "b"]
