"""The input of a graph: what it declares, and calls that do not fit, which are refused before anything runs."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.core.status import RunStatus
from ironflow_nb.errors import GraphInvalid, InputInvalid
from tests.cells import World
from tests.conftest import Lab
from tests.graphs.playing import Node, doing, graph_of, work

TEXT = """
graph: triage
input:
  teams: {type: list, items: text, description: who is told}
  mail: {type: boolean, default: false}
  n: {type: integer, default: null, minimum: 1}
  level: {enum: [low, high], default: low}
  at: text
nodes:
  - {id: first, python: did, with: {name: first, value: "{{ input.mail }}"}}
output: "{{ input }}"
"""


@pytest.fixture
def triage(lab: Lab, world: World) -> iron.Graph:
    return iron.Graph.from_yaml(TEXT, functions=doing(world))


def test_what_a_call_does_not_give_is_what_the_graph_says(triage: iron.Graph) -> None:
    assert triage(teams=("a", "b"), at="now") == {
        "teams": ["a", "b"], "mail": False, "n": None, "level": "low", "at": "now",
    }  # fmt: skip
    assert triage({"teams": [], "n": None, "at": date(2026, 1, 2)}, mail=True)["mail"] is True
    assert triage(teams=[], n=3, at="", level="high")["n"] == 3


def test_a_call_that_spells_a_default_out_is_the_same_call(triage: iron.Graph, world: World, lab: Lab) -> None:
    keyed = triage.options(key="k")
    assert keyed(teams=[], at="") == keyed(teams=[], at="", mail=False)
    assert world.log == ["first"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"team": ["a"], "at": ""}, ["there is no input 'team'; did you mean teams?", "teams is missing"]),
        ({"teams": "a", "at": ""}, ["teams: must be a list, not a text"]),
        ({"teams": ["a", 1], "at": ""}, ["teams[1]: must be a text, not a whole number"]),
        ({"teams": [], "at": None}, ["at: must be a text, not null"]),
        ({"teams": [], "at": "", "mail": 1}, ["mail: must be true or false, not a whole number"]),
        ({"teams": [], "at": "", "n": 1.5}, ["n: must be a whole number or null, not a number with a fraction"]),
        ({"teams": [], "at": "", "level": "mid"}, ["level: must be one of low, high"]),
        ({}, ["teams is missing", "at is missing"]),
    ],
)
@pytest.mark.parametrize("way", ["call", "start", "plan", "test", "child"])
def test_a_call_that_does_not_fit_is_refused_before_anything_runs(
    triage: iron.Graph, world: World, given: dict[str, Any], said: list[str], way: str
) -> None:
    parent = iron.flow(lambda: triage(given), name="parent")
    ways = {"call": triage, "start": triage.start, "plan": triage.plan, "test": triage.test}
    with pytest.raises(InputInvalid, match="triage") as refused:
        parent() if way == "child" else ways[way](given)
    assert not [each for each in said if each not in str(refused.value)]
    assert "teams: " in str(refused.value)
    assert not [note for note in getattr(refused.value, "__notes__", ()) if "iron.resume(" in note]
    assert list(iron.runs()["name"]) == (["parent"] if way == "child" else [])
    assert world.log == []


def test_a_run_that_is_continued_has_to_fit_what_the_graph_declares_by_then(lab: Lab, world: World) -> None:
    world.is_broken = True
    nodes: list[Node] = [{"id": "f", "python": "fails", "with": {"name": "f"}}]
    graph = graph_of(*nodes, functions=doing(world))
    with pytest.raises(ConnectionError):
        graph(n=1)
    world.is_broken = False
    with pytest.raises(InputInvalid, match="x is missing"):
        graph_of(*nodes, functions=doing(world), input={"n": "integer", "x": "integer"}).resume()
    more = graph_of(*nodes, functions=doing(world), input={"n": "integer", "x": {"default": 1}}, output="{{ input.x }}")
    assert more.resume().result() == 1


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"a": "lisst"}, ["input.a: must be one of string,", "did you mean list?"]),
        ({"a": {"typ": "list"}}, ["'typ' is not known here; did you mean type?"]),
        ({"a": {"type": ["integer", "foo"]}}, ["input.a.type[1]: must be one of"]),
        ({"a": {"type": "list", "items": {"$ref": "http://a.org"}}}, ["input.a.items", "'$ref' is not known here"]),
        ({"a": {"type": "integer", "default": "x"}}, ["input.a.default: must be a whole number, not a text"]),
        ({"a": {"default": "{{ env.A }}"}}, ["input.a.default: an expression can't stand here"]),
        ({"a": 5}, ["input.a: must be a text"]),
        (["a"], ["input: must be a mapping, not a list"]),
    ],
)
def test_a_declaration_that_is_wrong_is_found_with_its_place(declared: Any, said: list[str]) -> None:
    with pytest.raises(GraphInvalid) as wrong:
        graph_of({"id": "a", "transform": "{{ input.a }}"}, input=declared).validate()
    assert not [each for each in said if each not in str(wrong.value)]


def test_an_expression_that_looks_at_an_input_which_is_not_declared_is_found_by_validate() -> None:
    inner: Node = {"id": "b", "transform": "{{ default(input.x[0].y, `1`) }}"}
    node: Node = {"id": "a", "loop": "{{ input.tems[*].x }}", "do": [inner]}
    with pytest.raises(GraphInvalid) as wrong:
        graph_of(node, input={"teams": "list"}, output="{{ input.teams }}").validate()
    said = [str(each) for each in graph_of(node, input={"teams": "list"}).findings()]
    assert len(said) == 2
    assert "the graph declares no input 'tems'; did you mean teams?" in str(wrong.value)
    assert "the graph declares no input 'x' (it declares: teams)" in str(wrong.value)


def test_a_graph_that_is_built_declares_its_input_as_well(lab: Lab) -> None:
    graph = iron.Graph("built", input={"x": "integer", "y": {"type": "list", "default": []}})
    graph.node("a", transform="{{ input.x }}")
    graph.output("{{ input }}")
    assert graph(x=1) == {"x": 1, "y": []}
    assert iron.Graph.from_yaml(graph.to_yaml()).data == graph.data
    with pytest.raises(InputInvalid, match="x: must be a whole number"):
        graph(x="1")


def test_a_default_is_another_one_for_each_run(lab: Lab) -> None:
    graph = graph_of(
        {"id": "a", "python": "add", "with": "{{ [input.y] }}"},
        functions={"add": lambda y: y.append(1) or y},
        input={"y": {"default": []}},
    )
    assert graph() == [1]
    lab.cell()
    assert graph.options(fresh=True)() == [1]


# -- without a declaration ---------------------------------------------------------------------------------------


def test_an_input_that_a_run_would_fail_without_is_told_before_anything_runs(lab: Lab, world: World) -> None:
    graph = graph_of(work("first"), work("second", "{{ length(input.teams) }}"), functions=doing(world))
    with pytest.raises(InputInvalid, match=r"teams is missing, which second reads \(given: team\); did you mean it by"):
        graph(team=["a"])
    with pytest.raises(InputInvalid, match=r"given: nothing"):
        graph.start()
    assert world.log == []
    assert graph(teams=["a"], more=1) == 1


@pytest.mark.parametrize(
    "node",
    [
        {"id": "a", "transform": "{{ default(input.x, `1`) }}"},
        {"id": "a", "transform": "{{ input.x || `1` }}"},
        {"id": "a", "transform": "{{ input.x == `null` }}"},
        {"id": "a", "transform": "{{ !input.x }}"},
        {"id": "a", "when": False, "transform": "{{ input.x }}"},
        {"id": "a", "on_error": "continue", "transform": "{{ input.x }}"},
        {"id": "a", "condition": False, "then": [{"id": "b", "transform": "{{ input.x }}"}]},
        {"id": "a", "loop": [], "do": [{"id": "b", "transform": "{{ input.x }}"}]},
        {"id": "a", "transform": "{{ input }}"},
    ],
)
def test_an_input_that_a_run_may_do_without_is_not_asked_for(lab: Lab, node: Node) -> None:
    graph = graph_of(node)
    graph(z=1)
    assert graph.last is not None
    assert graph.last.status == RunStatus.COMPLETED


@pytest.mark.parametrize(
    "node",
    [
        {"id": "a", "transform": "{{ input.x > `1` }}"},
        {"id": "a", "transform": "n: {{ input.x.y[0] }}"},
        {"id": "a", "transform": {"x": ["{{ {a: [input.x]} }}"]}},
        {"id": "a", "condition": "{{ input.x }}"},
        {"id": "a", "switch": "{{ input.x[*].y | [0] }}", "cases": {"b": []}},
        {"id": "a", "loop": "{{ input.x }}", "do": []},
        {"id": "a", "branch": {"b": {"when": "{{ input.x }}", "do": []}}},
        {"id": "a", "assert": [{"holds": "{{ input.x }}"}]},
        {"id": "a", "workflow": "{{ input.x }}"},
    ],
)
def test_an_input_that_a_node_takes_which_always_runs_is_asked_for(lab: Lab, node: Node) -> None:
    with pytest.raises(InputInvalid, match="x is missing, which a reads"):
        graph_of(node)(z=1)


# -- children ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("declared", [{"input": {"teams": "list"}}, {}])
def test_what_a_node_gives_its_child_is_looked_at_before_the_parent_runs(
    lab: Lab, world: World, declared: dict[str, Any]
) -> None:
    graph_of(work("in", "{{ input.teams }}"), name="inner", functions=doing(world), **declared)
    child: Node = {"id": "c", "workflow": "inner", "input": {"team": "{{ first }}"}}
    parent = graph_of(work("first"), child, functions=doing(world))
    with pytest.raises(InputInvalid, match=r"c: the input does not fit graph inner:\n.*teams"):
        parent()
    assert world.log == []


def test_what_is_known_when_the_child_is_called_is_refused_before_the_child_runs(lab: Lab, world: World) -> None:
    graph_of(work("in"), name="inner", functions=doing(world), input={"teams": "list"})
    parent = graph_of(work("first"), {"id": "c", "workflow": "inner", "input": "{{ input }}"}, functions=doing(world))
    with pytest.raises(InputInvalid, match="teams is missing") as failed:
        parent(team=[])
    assert world.log == ["first"]
    assert not [note for note in failed.value.__notes__ if "iron.resume(" in note]
    assert list(iron.runs()["name"]) == ["g"]
