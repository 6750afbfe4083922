"""What is found before a graph runs about the nodes that decide what runs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.graphs.mistakes import messages, said_of, work


def one(**keys: Any) -> list[str]:
    """Return what is wrong with one node of some kind."""
    return messages({"id": "a", **keys})


A_TEXT = "must be exactly one expression; with other text beside it the result is a text"
NO_CACHE = "a workflow node has no 'cache': its child is a run of its own; set it on the nodes of the child"
ROUNDS = {"while": "{{ input.a }}", "max_rounds": 2}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"condition": "yes"}, "must be true or false or an expression in {{ }}, not a text"),
        ({"condition": "x {{ input.a }}"}, A_TEXT),
        ({"condition": r"\{{ input.a }}"}, A_TEXT),
        ({"condition": True, "then": {}}, "must be a list, not a mapping"),
        ({"condition": True, "els": []}, "a condition node has no 'els'; did you mean else?"),
        ({"switch": 1}, "cases is missing"),
        ({"switch": 1, "cases": {}}, "it is empty"),
        ({"switch": 1, "cases": {"x": {}}}, "must be a list, not a mapping"),
        ({"switch": 1, "cases": {"x": []}, "defalt": []}, "a switch node has no 'defalt'; did you mean default?"),
        ({"branch": {}}, "it is empty"),
        ({"branch": ["x"]}, "must be a mapping, not a list"),
        ({"branch": {"x": 3}}, "must be a list or a mapping, not a whole number"),
        ({"branch": {"x": {}}}, "do is missing"),
        ({"branch": {"x": {"do": [], "wen": True}}}, "'wen' is not known here; did you mean when?"),
        ({"branch": {"x": {"do": [], "when": []}}}, "must be true or false or an expression in {{ }}, not a list"),
        ({"loop": 3, "do": []}, "must be an expression in {{ }} or a list or a mapping, not a whole number"),
        ({"loop": "abc", "do": []}, "must be an expression in {{ }} or a list or a mapping, not a text"),
        ({"loop": "x {{ input.a }}", "do": []}, A_TEXT),
        ({"loop": [1]}, "do is missing"),
        ({"loop": {"while": "{{ input.a }}"}, "do": []}, "max_rounds is missing"),
        ({"loop": {"while": True, "max_rounds": 3}, "do": []}, "must be an expression in {{ }}, not true"),
        ({"loop": {"while": "{{ input.a }}", "max_rounds": 0}, "do": []}, "must be at least 1"),
        ({"loop": ROUNDS, "do": [], "concurrency": 2}, "the rounds of while: run one after the other"),
        ({"loop": [1], "do": [], "as": "1x"}, "must be letters, digits and underscores, with no digit first"),
        ({"loop": [1], "do": [], "as": "input"}, "'input' has another meaning; choose another name for the item"),
        ({"loop": [1], "do": [], "as": "index"}, "'index' has another meaning; choose another name for the item"),
        ({"loop": [1], "do": [], "concurrency": 0}, "must be at least 1"),
        ({"workflow": ""}, "it is empty"),
        ({"workflow": 3}, "must be a text, not a whole number"),
        ({"workflow": "x", "cache": 3}, NO_CACHE),
        ({"assert": []}, "it is empty"),
        ({"assert": {"holds": True}}, "must be a list, not a mapping"),
        ({"assert": [{}]}, "it needs one of equals, not_equals, matches, holds"),
        ({"assert": [{"equals": [1]}]}, "it has 1 item, and 2 is the least"),
        ({"assert": [{"equals": [1, 2, 3]}]}, "it has 3 items, and 2 is the most"),
        ({"assert": [{"equals": [1, 2], "holds": True}]}, "it has equals and holds; only one of them is allowed"),
        ({"assert": [{"holds": "yes"}]}, "must be true or false or an expression in {{ }}, not a text"),
        ({"assert": [{"matches": ["a", "("]}]}, "the pattern is not a regular expression: missing ) (at character 2)"),
    ],
)  # fmt: skip
def test_a_node_that_decides_is_checked(keys: dict[str, Any], message: str) -> None:
    assert one(**keys) == [message]


@pytest.mark.parametrize(
    "keys",
    [
        {"condition": "{{ input.a }}\n"}, {"condition": False}, {"condition": True, "then": [], "else": []},
        {"switch": "{{ input.a }} and {{ input.b }}", "cases": {"x": []}, "default": []},
        {"switch": True, "cases": {"true": []}},
        {"branch": {"x": {"do": []}, "a b": {"do": [], "when": "{{ input.a }}"}}},
        {"loop": "{{ input.a }}", "do": []}, {"loop": [1, "{{ input.a }}"], "do": [], "as": "one", "concurrency": 3},
        {"loop": {"while": "{{ round.index < `3` }}", "max_rounds": 5}, "do": []}, {"loop": [], "do": []},
        {"workflow": "other"}, {"workflow": "{{ input.name }}", "input": {"x": "{{ input.x }}"}, "once": True},
        {"assert": [{"holds": True, "message": "x"}, {"equals": [1, "{{ input.a }}"]}]},
        {"assert": [{"matches": ["{{ input.a }}", "^a+$"]}, {"not_equals": [1, "2"]}]},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_fine(keys: dict[str, Any]) -> None:
    assert one(**keys) == []


def test_loops_inside_of_loops_need_names_of_their_own_or_none() -> None:
    def nested(**inner: Any) -> list[str]:
        inside = {"id": "b", "loop": [1], "do": [work("c", **{"with": "{{ item }}"})], **inner}
        return messages({"id": "a", "loop": [1], "as": "team", "do": [inside]})

    assert nested() == []
    assert "'team' has another meaning; choose another name for the item" in nested(**{"as": "team"})
    rounds = {"while": "{{ round.index < `2` }}", "max_rounds": 2}
    assert messages({"id": "a", "loop": rounds, "do": [{"id": "b", "loop": rounds, "do": []}]}) == []


def test_what_is_wrong_inside_of_nodes_is_found_at_any_depth() -> None:
    found = said_of("""
  - id: a
    condition: true
    then:
      - id: b
        switch: x
        cases:
          x:
            - id: c
              branch:
                left:
                  do:
                    - {id: d, loop: [1], do: [{id: e, python: f, on_error: [{id: h, pyton: f}]}]}
""")
    place = "nodes[0].then[0].cases.x[0].branch.left.do[0].do[0].on_error[0].pyton"
    assert found == [f"{place}: there is no kind of node 'pyton'; did you mean python?"]
