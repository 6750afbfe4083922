"""Short forms of the text of a graph: order by what is read, inputs in one word, cases and branches as lists."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.errors import InputInvalid
from tests.cells import World
from tests.conftest import Lab
from tests.graphs.mistakes import messages, said
from tests.graphs.playing import Meeting, doing, graph_of, work

pytestmark = pytest.mark.usefixtures("lab")

# -- parallel: true ----------------------------------------------------------------------------------------------


def after(graph: iron.Graph) -> dict[str, set[str]]:
    """Return the ids of the nodes that each outermost node waits for, as its picture shows them."""
    edges = graph.diagram().model.edges
    names = {node.id: node.label for node in graph.diagram().model.nodes}
    found: dict[str, set[str]] = {}
    for edge in edges:
        found.setdefault(names[edge.target], set()).add(names[edge.source])
    return found


def test_nodes_that_read_nothing_of_each_other_run_at_once() -> None:
    meeting = Meeting(3)
    nodes = [{"id": name, "python": "come", "with": {"n": n}} for n, name in enumerate("abc")]
    graph = graph_of(*nodes, functions={"come": meeting.come}, parallel=True, output="{{ [a, b, c] }}")
    assert graph() == [0, 1, 2]


def test_a_node_waits_for_what_it_reads_wherever_that_stands(world: World) -> None:
    nested = {
        "id": "loop",
        "loop": "{{ a }}",
        "do": [
            {
                "id": "chosen",
                "switch": "{{ item }}",
                "cases": [{"is": 1, "do": [work("x", "{{ b }}")]}],
                "default": [{"id": "fan", "branch": {"one": {"when": "{{ c }}", "do": [work("y")]}}}],
            }
        ],
    }
    graph = graph_of(
        nested, work("c", True), work("b", 5), work("a", [1, 2]), functions=doing(world), parallel=True,
        output="{{ loop }}",
    )  # fmt: skip
    assert graph() == [
        {"chosen": {"taken": "1", "x": 5}},
        {"chosen": {"taken": "default", "fan": {"one": {"y": None}}}},
    ]
    assert set(world.log[:3]) == {"a", "b", "c"}


def test_depends_on_and_templates_of_other_languages_count_as_before() -> None:
    first = {"id": "first", "transform": 1}
    shown = {"id": "shown", "template": {"text": "{{ first }}", "values": {"first": 2}}}
    last = {"id": "last", "transform": 3, "depends_on": ["first"]}
    graph = graph_of(first, shown, last, parallel=True, output="{{ shown }}")
    assert graph.findings() == []
    assert graph() == "2"
    compiled = graph._compile()[0].block.nodes
    assert [node.after for node in compiled] == [(), (), (0,)]


def test_nodes_that_read_each_other_are_told() -> None:
    nodes = [{"id": "a", "transform": "{{ b }}"}, {"id": "b", "transform": "{{ a }}"}]
    [message] = messages(*nodes, parallel=True)
    assert message == (
        "the nodes wait for each other: a -> b -> a (a has no depends_on, so it waits for the nodes that it reads)"
    )
    assert "must be true or false, not a text" in messages(*nodes, parallel="yes")


# -- inputs in one word ------------------------------------------------------------------------------------------

SHORT = """
graph: short
input:
  n: integer = 3
  who: text = Ada Lovelace
  code: text = 42
  note: text?
  teams: 'list = ["a"]'
  plain: text
nodes:
  - {id: all, transform: "{{ input }}"}
"""


def test_an_input_has_its_default_in_its_type() -> None:
    assert said(SHORT) == []
    graph = iron.Graph.from_yaml(SHORT)
    whole = {"n": 3, "who": "Ada Lovelace", "code": "42", "note": None, "teams": ["a"], "plain": "x"}
    assert graph(plain="x") == whole
    assert graph(plain="x", n=5, note=None)["n"] == 5
    with pytest.raises(InputInvalid, match="n: must be a whole number, not a text"):
        graph(plain="x", n="five")
    with pytest.raises(InputInvalid, match="plain is missing"):
        graph()


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (
            "integr = 3",
            "must be one of string, number, integer, boolean, array, object, null, text, list, mapping; did",
        ),
        ("integer = three", "must be a whole number, not a text"),
        ("list = {}", "must be a list, not a mapping"),
        ("text = {{ env.A }}", "an expression can't stand here"),
        ("text ?!", "must be one of string"),
    ],
)
def test_a_short_form_that_is_wrong_is_told(declared: str, message: str) -> None:
    [found] = messages({"id": "a", "transform": 1}, input={"n": declared})
    assert found.startswith(message)


# -- cases and branches ------------------------------------------------------------------------------------------

CASES: list[Any] = [{"is": ["mail", 2, True], "do": [work("first", 1)]}, {"is": None, "do": [work("none", 2)]}]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("mail", {"taken": "mail", "first": 1}),
        (2, {"taken": "mail", "first": 1}),
        ("true", {"taken": "mail", "first": 1}),
        (None, {"taken": "null", "none": 2}),
        ("post", {"taken": None}),
    ],
)
def test_several_values_take_one_case(world: World, value: Any, expected: Any) -> None:
    graph = graph_of({"id": "s", "switch": "{{ input.x }}", "cases": CASES}, functions=doing(world))
    assert graph(x=value) == expected


def test_a_switch_with_lists_shows_all_values_and_tells_what_is_wrong(world: World) -> None:
    graph = graph_of({"id": "s", "switch": "{{ input.x }}", "cases": CASES}, functions=doing(world))
    assert "mail, 2, true" in graph.to_mermaid()
    twice = [*CASES, {"is": [3, "2"], "do": []}]
    assert messages({"id": "s", "switch": 1, "cases": twice}) == ["the value 2 has two cases"]
    wrong = messages({"id": "s", "switch": 1, "cases": [{"is": [], "do": []}, {"do": []}]})
    assert wrong == ["it is empty", "is is missing"]


def test_a_branch_without_a_condition_is_its_list(world: World) -> None:
    fan = {"id": "fan", "branch": {"mail": [work("m", 1), work("n", "{{ m }}")], "chat": {"do": [work("c", 2)]}}}
    graph = graph_of(fan, functions=doing(world))
    assert graph() == {"mail": {"m": 1, "n": 1}, "chat": {"c": 2}}
    [message] = messages({"id": "f", "branch": {"mail": [{"id": "m", "transform": 1}]}}, {"id": "l", "log": "{{ m }}"})
    assert message == "m is inside f and not visible here; write f.mail.m"


# -- ids with dashes ---------------------------------------------------------------------------------------------

DASHED = """
graph: dashed
nodes:
  - {id: all-parcels, transform: {n: 3}}
  - {id: twice, transform: '{{ "all-parcels".n * 2 }}'}
  - id: each-one
    loop: [1]
    do: [{id: in-it, transform: "{{ twice + item }}"}]
output: '{{ "each-one"[]."in-it" }}'
"""


def test_an_id_may_have_dashes_and_stands_in_quotes(lab: Lab) -> None:
    graph = iron.Graph.from_yaml(DASHED)
    assert graph.findings() == []
    assert graph() == [7]
    run = graph.last
    assert run is not None
    assert run.value("dashed.all-parcels") == {"n": 3}
    assert graph.test(mocks={"all-parcels": {"n": 5}}).output == [11]
    assert "all-parcels" in str(graph.diagram())


def test_a_dashed_id_without_quotes_is_told_how_to_write_it() -> None:
    nodes = [{"id": "all-parcels", "transform": 3}, {"id": "b", "transform": "{{ all-parcels }}"}]
    assert messages(*nodes) == [
        "there is no 'all' here; a name with dashes stands in quotes: \"all-parcels\"",
        "there is no 'parcels' here; a name with dashes stands in quotes: \"all-parcels\"",
    ]
    inside = [{"id": "a-b", "loop": [1], "do": [{"id": "c-d", "log": "x"}]}, {"id": "e", "log": '{{ "c-d" }}'}]
    assert messages(*inside) == ['c-d is inside a-b and not visible here; write "a-b"[]."c-d"']
    [wrong] = messages({"id": "1-a", "log": "x"})
    assert "no digit first; '1-a' could be" in wrong


def test_a_condition_that_is_neither_true_nor_false_says_how_it_could_be() -> None:
    node = {"id": "c", "condition": "{{ input.x }}", "then": [], "else": []}
    with pytest.raises(iron.errors.ExpressionFailed, match=r"say truthy\(\.\.\.\)"):
        graph_of(node)(x="yes")
    lenient = {"id": "c", "condition": "{{ truthy(input.x) }}", "then": []}
    assert graph_of(lenient)(x="yes") == {"taken": "then"}
    assert graph_of(lenient)() == {"taken": "else"}


POST = {"url": "http://a.test/", "method": "POST", "json": 1}


@pytest.mark.parametrize(
    ("options", "retry", "is_told"),
    [
        ({}, {"attempts": 3}, True),
        ({"headers": {"idempotency-KEY": "{{ uuid() }}"}}, {"attempts": 3}, False),
        ({}, {"attempts": 3, "on_methods": ["POST"]}, False),
        ({}, {"attempts": 3, "on_status": [503]}, False),
        ({}, {"attempts": 1}, False),
        ({"method": "PUT"}, {"attempts": 3}, False),
    ],
)
def test_a_retry_that_sends_a_post_again_is_told(
    caplog: pytest.LogCaptureFixture, options: dict[str, Any], retry: dict[str, Any], is_told: bool
) -> None:
    with caplog.at_level(logging.INFO, "ironflow_nb"):
        graph_of({"id": "sent", "http": {**POST, **options}, "retry": retry}).validate()
    assert [message.partition(";")[0] for message in caplog.messages] == [
        "g: retry of sent sends a request again that may have arrived"
    ] * is_told


def test_a_text_with_a_dash_is_no_difference_of_two_nodes(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "ironflow_nb"):
        graph_of({"id": "a", "transform": {"x": "input-output", "y": "a - b", "z": "input - a"}}).validate()
    assert [message.partition(";")[0] for message in caplog.messages] == [
        "g: transform of node a has the text 'input - a'"
    ]


def test_the_short_forms_are_in_the_published_schema() -> None:
    schema = json.dumps(iron.Graph.schema())
    assert all(word in schema for word in ('"parallel"', "integer = 3", '"is"'))
