"""Nodes that wait: for a time, for signals, for a person."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.core.status import RunStatus, StepStatus
from ironflow_nb.diagram.model import NodeKind
from tests.conftest import Lab
from tests.waits.conftest import LIMIT_S, until

SIGN = """
graph: sign
nodes:
  - {id: pause, delay: 0.01}
  - id: ok
    approve: {question: "Publish {{ input.name }}?", payload: "{{ input }}"}
  - {id: who, depends_on: [ok], approve: {question: Who?, choices: "{{ input.who }}"}}
  - {id: many, depends_on: [who], approve: {question: How many?, schema: {type: integer, minimum: 1}}}
  - {id: paid, wait: paid}
  - {id: either, wait: {any_of: [a, b]}}
  - {id: all, wait: {all_of: [c, d]}}
output: "{{ {ok: ok, who: who, many: many, paid: paid, either: either, all: all} }}"
"""
GIVEN = {"name": "it", "who": ["ann", "bob"]}


def asked(question: str) -> None:
    until(lambda: list(iron.waiting()["question"]) == [question])


def test_a_graph_waits_for_answers_and_signals_and_goes_on_with_them(lab: Lab) -> None:
    graph = iron.Graph.from_yaml(SIGN)
    run = graph.start(GIVEN)
    asked("Publish it?")
    [row] = iron.waiting().to_dict("records")
    assert (row["flow"], row["step"], row["payload"]) == ("sign", "sign.ok[0]", str(GIVEN))
    assert f'answer(True, "{row["step"]}")' in run.diagram().text
    run.answer(True)
    asked("Who?")
    with pytest.raises(iron.errors.InputInvalid, match="among the choices"):
        run.answer("eve")
    run.answer("bob")
    asked("How many?")
    with pytest.raises(iron.errors.InputInvalid, match="minimum of 1"):
        run.answer(0)
    run.answer(3)
    for name, payload in (("paid", {"eur": 5}), ("b", 1), ("d", 4), ("c", 3)):
        run.signal(name, payload)
    expected = {
        "ok": True, "who": "bob", "many": 3, "paid": {"eur": 5}, "either": ["b", 1], "all": {"c": 3, "d": 4},
    }  # fmt: skip
    assert run.result(LIMIT_S) == expected
    assert run.value("ok") is True
    assert "answered by " in str(run.explain("ok"))


def test_what_is_answered_is_not_asked_again_after_a_death(lab: Lab) -> None:
    run = iron.Graph.from_yaml(SIGN).start(GIVEN)
    asked("Publish it?")
    run.answer(False)
    asked("Who?")
    lab.die()
    again = iron.Graph.from_yaml(SIGN)
    assert again.name == "sign"
    found = iron.get_run(run.id)
    found.resume()
    asked("Who?")
    found.cancel()
    assert found.value("ok") is False


def test_delays_and_time_limits_take_no_time_on_a_simulated_clock(lab: Lab) -> None:
    lab.simulate_time()
    graph = iron.Graph.from_yaml("""
graph: slow
nodes:
  - {id: day, delay: 1d}
  - {id: until, delay: {until: "{{ input.at }}"}}
  - {id: ok, approve: Go?, timeout_s: 3600, on_error: continue}
  - {id: paid, wait: paid, timeout_s: 3600, on_error: [{id: late, log: "{{ error.message }}"}]}
output: "{{ ok.error }}"
""")
    found = graph({"at": "2030-06-01T00:00:00Z"})
    assert found["type"] == "WaitTimeout"
    assert 'an answer to "Go?"' in found["message"]
    run = graph.last
    assert run is not None
    steps = run.steps().set_index("name")["status"].to_dict()
    assert steps["slow.ok"] == StepStatus.TIMED_OUT
    assert steps["slow.paid"] == StepStatus.TIMED_OUT
    assert run.status is RunStatus.COMPLETED


def test_waits_in_branches_and_loops_go_on_side_by_side(lab: Lab) -> None:
    graph = iron.Graph.from_yaml("""
graph: side
nodes:
  - id: fan
    branch:
      one: {do: [{id: a, approve: A?}]}
      two: {do: [{id: b, wait: go}]}
      three: {do: [{id: each, loop: "{{ input.names }}", concurrency: 2, do: [{id: ask, approve: "{{ item }}?"}]}]}
""")
    run = graph.start({"names": ["x", "y"]})
    until(lambda: len(iron.waiting()) == 3)
    for row in iron.waiting().itertuples():
        run.answer(row.question != "x?", row.step)
    run.signal("go", 7)
    each = [{"ask": False}, {"ask": True}]
    assert run.result(LIMIT_S) == {"one": {"a": True}, "two": {"b": 7}, "three": {"each": each}}


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ("delay: soon", "'soon' is no duration"),
        ("delay: -1", "must be at least 0"),
        ("delay: {until: '2026-01-01T00:00'}", "has no time zone"),
        ("delay: {until: x, duration_s: 1}", "only one of them"),
        ("delay: 1, timeout_s: 5", "a delay node has no 'timeout_s': it waits"),
        ("wait: {signal: a, any_of: [b]}", "only one of them"),
        ("wait: 'ironflow:x'", "the package's own"),
        ("wait: go, retry: {attempts: 3}", "a wait node has no 'retry': it waits"),
        ("approve: ''", "it is empty"),
        ("approve: {question: q, choices: [a], schema: {}}", "choices or a schema, not both"),
        ("approve: {question: q, schema: {type: nope}}", "schema is no JSON schema"),
        ("approve: q, once: true", "a approve node has no 'once'"),
    ],
)
def test_what_can_not_be_waited_for_is_a_finding(node: str, message: str) -> None:
    graph = iron.Graph.from_yaml(f"graph: g\nnodes:\n  - {{id: x, {node}}}")
    with pytest.raises(iron.GraphInvalid, match=message):
        graph({})


@pytest.mark.parametrize(
    ("node", "given", "message"),
    [
        ("delay: '{{ input.a }}'", "soon", "is no duration"),
        ("delay: {until: '{{ input.a }}'}", "soon", "Invalid isoformat"),
        ("wait: '{{ input.a }}'", "ironflow:x", "the package's own"),
        ("approve: {question: q, choices: '{{ input.a }}'}", "no list", "choices"),
    ],
)
def test_what_an_expression_makes_and_can_not_be_waited_for_fails_the_node(
    lab: Lab, node: str, given: Any, message: str
) -> None:
    graph = iron.Graph.from_yaml(f"graph: g\nnodes:\n  - {{id: x, {node}}}")
    with pytest.raises(iron.NodeFailed, match=message):
        graph({"a": given})


def test_a_test_of_a_graph_gives_the_answers(lab: Lab) -> None:
    graph = iron.Graph.from_yaml(SIGN)
    mocks = {"pause": None, "ok": True, "who": "ann", "many": 2, "paid": 1, "either": ["a", 1], "all": {}}
    assert graph.test(GIVEN, mocks=mocks).output["who"] == "ann"


def test_a_node_that_waits_is_drawn_as_a_wait() -> None:
    nodes = iron.Graph.from_yaml(SIGN).diagram_model().nodes
    assert {node.id for node in nodes if node.kind is NodeKind.WAIT} >= {"pause", "ok", "paid"}


POLL = """
graph: poll
nodes:
  - {id: first, log: begin}
  - id: rounds
    loop: {while: "{{ !round.last || round.last.asked < input.n }}", max_rounds: 50, pause: "{{ input.pause }}"}
    do: [{id: asked, python: ask, with: ["{{ index }}"]}]
output: "{{ rounds[].asked }}"
"""


def ask(index: int) -> int:
    return index + 1


def poll() -> Any:
    return iron.Graph.from_yaml(POLL, functions={"ask": ask})


def test_a_loop_pauses_before_each_round_but_the_first(lab: Lab) -> None:
    clock = lab.simulate_time()
    graph, began = poll(), clock.now()
    assert graph({"n": 3, "pause": "1d"}) == [1, 2, 3]
    assert round((clock.now() - began) / 86_400e6, 1) == 2.0
    assert graph.last.steps()["name"].tolist().count("poll.rounds.pause") == 2
    assert graph({"n": 1, "pause": "1d"}) == [1]
    assert "rounds.pause" in graph.diagram().text


def test_a_run_that_died_in_a_pause_of_a_loop_waits_on_until_the_recorded_instant(lab: Lab) -> None:
    run = poll().start({"n": 3, "pause": "1h"})
    until(lambda: iron.work()["kind"].tolist() == ["sleep"])
    due_at = iron.work()["due_at"].tolist()
    lab.die()
    poll()
    found = iron.get_run(run.id)
    found.resume()
    until(lambda: list(found.events()["type"])[-1] == "RunWaiting")
    assert iron.work()["due_at"].tolist() == due_at
    assert found.steps().query("name == 'poll.asked'")["attempt"].tolist() == [1]
    found.cancel()


def test_a_loop_that_pauses_in_the_background_holds_no_thread(tmp_path: Path) -> None:
    with iron.open(tmp_path / "journal.db", park_s=0) as engine:
        run = poll().start({"n": 3, "pause": "1h"})
        until(lambda: run.id not in engine.sessions and iron.runs()["status"].tolist() == ["waiting"])
        assert not [thread for thread in threading.enumerate() if run.id in thread.name]
        run.cancel()


def test_a_graph_is_tested_without_the_pauses_of_its_loops(lab: Lab) -> None:
    found = poll().test({"n": 3, "pause": "1d"}, mocks={"asked": lambda given: given[0] + 1})
    assert found.unwrap() == [1, 2, 3]


@pytest.mark.parametrize("pause", ["-1", '"5 parsecs"', "[1]", "true"])
def test_a_pause_that_is_no_duration_is_told_with_its_line(lab: Lab, pause: str) -> None:
    with pytest.raises(iron.errors.GraphInvalid, match=r"line 6, .*\.pause"):
        iron.Graph.from_yaml(POLL.replace('"{{ input.pause }}"', pause)).validate()


def test_a_pause_that_turns_out_to_be_no_duration_fails_its_loop(lab: Lab) -> None:
    with pytest.raises(iron.errors.ExpressionFailed, match=r"rounds.pause: .*parsecs"):
        poll()({"n": 3, "pause": "5 parsecs"})
