"""What plans say of edited graphs, and graphs that are taken from the journal."""

from __future__ import annotations

import pytest

import ironflow_nb as iron
from ironflow_nb.execution.registry import REGISTRY
from tests.conftest import Lab

BEFORE = """
graph: work
nodes:
  - {id: first, python: done, with: ["{{ input.x }}"]}
  - {id: second, python: done, with: [1]}
  - id: choice
    condition: "{{ first == `1` }}"
    then: [{id: inner, python: done, with: [2]}]
  - {id: last, python: fails}
"""


class Failing:
    def __init__(self) -> None:
        self.calls: list[object] = []
        self.fails = True

    def __ironflow_digest__(self) -> bytes:
        return b"the same to every function that closes over it"

    def done(self, value: object) -> object:
        self.calls.append(value)
        return value

    def last(self) -> str:
        self.calls.append("last")
        if self.fails:
            raise OSError("not yet")
        return "end"


def graph(text: str, world: Failing) -> iron.Graph:
    return iron.Graph.from_yaml(
        text, functions={"done": lambda value: world.done(value), "fails": lambda: world.last()}
    )


def planned(plan: object) -> dict[str, tuple[str, str]]:
    return {row.step.partition("[")[0]: (row.action, row.reason) for row in plan.itertuples()}  # type: ignore[attr-defined]


def failed(lab: Lab, world: Failing) -> iron.Graph:
    made = graph(BEFORE, world)
    with pytest.raises(OSError, match="not yet"):
        made(x=1)
    lab.cell()
    return made


def test_without_an_edit_what_failed_is_tried_again_and_all_else_is_there(lab: Lab) -> None:
    plan = planned(failed(lab, Failing()).plan(x=1))
    assert {step: action for step, (action, _) in plan.items()} == {
        **dict.fromkeys(("work.first", "work.second", "work.inner", "work.choice"), "reuse"),
        "work.last": "retry",
    }


def test_a_plan_says_which_options_of_a_node_were_edited(lab: Lab) -> None:
    world = Failing()
    failed(lab, world)
    edited = graph(BEFORE.replace("second, python: done, with: [1]", "second, python: done, with: [5]"), world)
    plan = planned(edited.plan(x=1))
    assert plan["work.second"][0] == "redo"
    assert "edited: with[0]" in plan["work.second"][1]
    assert plan["work.first"][0] == "reuse"
    world.fails, world.calls = False, []
    assert edited(x=1) == "end"
    assert world.calls == [5, "last"]


def test_what_decides_nothing_about_the_work_is_no_edit(lab: Lab) -> None:
    world = Failing()
    failed(lab, world)
    edited = graph(BEFORE.replace("with: [1]}", "with: [1], retry: {attempts: 2}, description: again}"), world)
    assert planned(edited.plan(x=1))["work.second"][0] == "reuse"


def test_a_node_that_is_gone_is_told(lab: Lab) -> None:
    world = Failing()
    failed(lab, world)
    edited = graph(BEFORE.replace("  - {id: second, python: done, with: [1]}\n", ""), world)
    action, reason = planned(edited.plan(x=1))["work.second"]
    assert action == "missing"
    assert "no node second" in reason


def test_a_run_keeps_its_graph_in_the_journal_and_any_process_can_continue_it(lab: Lab) -> None:
    world = Failing()
    run_id = failed(lab, world).last.id  # type: ignore[union-attr]
    lab.die()
    REGISTRY.forget("graph", "work")
    kept = iron.Graph.from_run(run_id)
    assert kept.to_yaml() == BEFORE
    REGISTRY.forget("graph", "work")
    with pytest.raises(iron.errors.FlowNotDefined, match="done"):
        iron.resume(run_id).result()
    functions = {"done": lambda value: world.done(value), "fails": lambda: world.last()}
    iron.Graph.from_run(run_id, functions=functions)
    world.fails, world.calls = False, []
    assert iron.resume(run_id).result() == "end"
    assert world.calls == ["last"]


def test_a_graph_that_is_edited_while_a_run_of_it_goes_on_does_not_change_that(lab: Lab) -> None:
    import threading

    begun, go_on = threading.Event(), threading.Event()

    def slow() -> int:
        begun.set()
        assert go_on.wait(10)
        return 1

    text = "graph: edited\nnodes:\n  - {id: a, python: slow}\n  - {id: b, transform: 'old {{ a }}'}\n"
    run = iron.Graph.from_yaml(text, functions={"slow": slow}).start()
    assert begun.wait(10)
    iron.Graph.from_yaml(text.replace("old", "new"), functions={"slow": slow})
    go_on.set()
    assert run.result() == "old 1"


def test_a_graph_built_in_python_says_in_its_text_that_it_may_do_everything(lab: Lab) -> None:
    built = iron.Graph("built").node("one", python=lambda_free).output("{{ one }}")
    again = iron.Graph.from_yaml(built.to_yaml(), functions={"lambda_free": lambda_free})
    assert again.data == built.data
    assert again.definition_id == built.definition_id
    assert again() == 1


def lambda_free() -> int:
    return 1


def test_looking_at_the_graph_of_a_run_leaves_the_one_that_is_defined(lab: Lab) -> None:
    world = Failing()
    run_id = failed(lab, world).last.id  # type: ignore[union-attr]
    edited = graph(BEFORE.replace("with: [1]", "with: [5]"), world)
    assert iron.Graph.from_run(run_id).to_yaml() == BEFORE
    assert REGISTRY.find("graph", "work") is edited
