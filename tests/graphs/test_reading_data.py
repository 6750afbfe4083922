"""Definitions that are data of Python: what JSON has not is found, and nothing of it is shared."""

from __future__ import annotations

import enum
import math
from datetime import date
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.errors import GraphInvalid, NodeFailed
from ironflow_nb.graphs.language.data import closest
from tests.graphs.mistakes import messages, said, work


class Colour(enum.StrEnum):
    RED = "red"


STRANGE: list[tuple[Any, str]] = [
    (math.nan, "nan is not a number of JSON"),
    (-math.inf, "-inf is not a number of JSON"),
    (date(2026, 1, 1), "a date has no JSON form; pass it as input"),
    ({1, 2}, "a set has no JSON form; pass it as input"),
    (b"x", "a bytes has no JSON form; pass it as input"),
    (object(), "an object has no JSON form; pass it as input"),
    ("\ud800", "the text has a lone surrogate, half of a character"),
    ({(1, 2): 3}, "a key must be a text, not a tuple"),
    ({1: "a", "1": "b"}, "1 is repeated: as a text and as a str"),
]


@pytest.mark.parametrize(("value", "message"), STRANGE, ids=[message for _, message in STRANGE])
def test_what_json_has_not_is_a_finding_with_its_path(value: Any, message: str) -> None:
    (found,) = iron.Graph.from_dict({"graph": "g", "nodes": [work("a", **{"with": {"x": value}})]}).findings()
    assert found.message == message
    assert found.path[:4] == ("nodes", 0, "with", "x")
    assert found.position is None


def test_a_graph_that_is_built_finds_the_same() -> None:
    graph = iron.Graph("g").node("a", python="f", with_={"at": date(2026, 1, 1)})
    assert [str(each) for each in graph.findings()] == ["nodes[0].with.at: a date has no JSON form; pass it as input"]


def test_keys_and_members_of_enumerations_become_what_yaml_would_say() -> None:
    cases = {True: [], None: [], 2: [], Colour.RED: []}
    graph = iron.Graph.from_dict({"graph": "g", "nodes": [{"id": "a", "switch": Colour.RED, "cases": cases}]})
    assert graph.validate().data["nodes"] == [
        {"id": "a", "switch": "red", "cases": {"true": [], "null": [], "2": [], "red": []}}
    ]
    assert type(graph.data["nodes"][0]["switch"]) is str


def test_nobody_changes_a_graph_from_outside() -> None:
    given = {"graph": "g", "nodes": [work("a", **{"with": {"x": [1]}})]}
    graph = iron.Graph.from_dict(given)
    given["nodes"][0]["with"]["x"].append(2)  # type: ignore[index]
    assert graph.data["nodes"][0]["with"] == {"x": [1]}


@pytest.mark.slow
def test_data_without_end_is_refused() -> None:
    endless: dict[str, Any] = {"graph": "g"}
    endless["nodes"] = [endless]
    wide: list[Any] = []
    for _ in range(9):
        wide = [wide] * 10
    for data in (endless, {"graph": "g", "nodes": wide}):
        with pytest.raises(GraphInvalid, match="nested deeper than 100, or has more than"):
            iron.Graph.from_dict(data)


@pytest.mark.parametrize("data", [None, [], "graph: g", 3])
def test_only_a_mapping_is_a_graph(data: Any) -> None:
    with pytest.raises(GraphInvalid, match="a graph is a mapping with graph: and nodes:, not"):
        iron.Graph.from_dict(data)


def test_findings_come_in_the_order_of_the_data_and_once() -> None:
    nodes = [work("b", retries=1), work("a", timeout_s=-1, **{"with": "{{ x }} {{ x }}"}), work("a")]
    assert said({"concurrency": 0, "nodes": nodes, "graph": 3}) == [
        "concurrency: must be at least 1",
        "nodes[0].retries: a python node has no 'retries'; did you mean retry?",
        "nodes[1].timeout_s: must be more than 0",
        "nodes[1].with: there is no 'x' here (there are: env, input, b)",
        "nodes[2].id: the id 'a' is taken by nodes[1]; ids are unique in the whole graph",
        "graph: must be a text, not a whole number",
    ]


def test_a_value_that_is_refused_is_not_told_of_again() -> None:
    assert messages(work("a", timeout_s=math.nan)) == ["nan is not a number of JSON"]


# -- what was built ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("inf"), "inf is not a number of JSON"),
        ([{"a": float("nan")}], "nan is not a number of JSON"),
        (object(), "an object has no JSON form"),
        ("\ud800", "half of a character"),
    ],
    ids=["infinity", "nan", "object", "surrogate"],
)
def test_what_yaml_has_nothing_for_is_told_and_not_written_as_null(value: Any, message: str) -> None:
    graph = iron.Graph("g").node("a", transform=value).node("b", log="x").output("{{ b }}")
    for ask in (graph.to_yaml, graph.validate, graph):
        with pytest.raises(GraphInvalid, match=message):
            ask()
    assert [message in str(finding) for finding in iron.Graph("g").node("a", log="x").output(value).findings()] == [
        True
    ]
    assert iron.Graph("g").node("a", log="x").output(value).output("{{ a }}").to_yaml().endswith('output: "{{ a }}"\n')


def test_a_graph_that_was_read_and_goes_on_in_python_keeps_its_folder(tmp_path: Path) -> None:
    (tmp_path / "g.yaml").write_text("graph: g\nallow: {files: [data]}\nnodes: [{id: a, log: x}]\n")
    graph = iron.Graph.from_yaml(tmp_path / "g.yaml")
    resolved = graph.grants.resolved("data")
    assert graph.node("b", log="y").grants.resolved("data") == resolved == (tmp_path / "data").resolve()


def test_only_what_is_like_a_word_is_proposed_for_it() -> None:
    known = ["assert", "branch", "condition", "http", "log", "loop", "python", "retry", "sql", "template", "timeout_s"]
    meant = {
        "set": None, "get": None, "if": None, "sleep": None, "email": None, "map": None, "wait": None, "x": None,
        "htpp": "http", "tempalte": "template", "logg": "log", "lop": "loop", "retries": "retry",
        "timeout": "timeout_s", "sqll": "sql", "pyton": "python", "Condition": "condition", "asert": "assert",
        "asserts": "assert",
    }  # fmt: skip
    assert {word: closest(word, known) for word in meant} == meant


HALF = "a\ud83d"
SINKS: list[dict[str, Any]] = [
    {"http": {"url": "http://127.0.0.1:1/", "headers": {"x": "{{ input.x }}"}}},
    {"http": {"url": "http://127.0.0.1:1/", "params": {"x": "{{ input.x }}"}}},
    {"http": {"url": "http://127.0.0.1:1/{{ input.x }}"}},
    {"http": {"url": "http://127.0.0.1:1/", "method": "POST", "body": "{{ input.x }}"}},
    {"http": {"url": "http://127.0.0.1:1/", "method": "POST", "json": ["{{ input.x }}"]}},
    {"shell": {"command": ["echo", "{{ input.x }}"]}},
    {"sql": {"database": ":memory:", "query": "SELECT ?", "parameters": ["{{ input.x }}"]}},
    {"file": {"write": "f", "content": "{{ input.x }}"}},
    {"hash": "{{ input.x }}"},
    {"log": "{{ format_date(now(), input.x) }}"},
]


@pytest.mark.parametrize("node", SINKS, ids=range(len(SINKS)))
@pytest.mark.usefixtures("lab")
def test_half_of_a_character_in_the_input_fails_the_node_that_can_t_write_it(node: dict[str, Any]) -> None:
    graph = iron.Graph.from_dict({"graph": "g", "allow": True, "nodes": [{"id": "n", **node}]})
    with pytest.raises(NodeFailed, match=r"^n: "):
        graph(x=HALF)


@pytest.mark.parametrize("value", [HALF, {HALF: HALF}, [HALF]], ids=["text", "key", "item"])
@pytest.mark.usefixtures("lab")
def test_half_of_a_character_is_passed_on_and_recorded(value: Any) -> None:
    graph = iron.Graph.from_dict({"graph": "g", "nodes": [{"id": "n", "transform": "{{ input.x }}"}]})
    assert graph(x=value) == value
    assert graph.last.value("g.n") == value
