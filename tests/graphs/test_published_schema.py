"""The published schema: valid itself, a copy of it among the documents, and whatever compiles fits it."""

from __future__ import annotations

import functools
import json
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ironflow_nb as iron
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.graphs.catalog import BUILT_IN, NODE_KINDS, kinds
from ironflow_nb.graphs.compiler.graph_source import read_yaml
from ironflow_nb.graphs.compiler.json_schema import CONTROL, graph_schema
from ironflow_nb.graphs.graph import Graph
from ironflow_nb.graphs.kinds import Kind, NodeContext, Options, options_schema
from tests.conftest import FULL_PROOF
from tests.graphs.mistakes import fetching, said
from tests.graphs.random_graphs import Graphs
from tests.graphs.test_any_text import graph_like, keys

COPY = Path(__file__).parents[2] / "docs" / "graph.schema.json"

EXAMPLE = """
graph: triage
allow: {http: [api.example.org], env: [TOKEN]}
nodes:
  - id: alert
    http: {method: POST, url: "https://api.example.org/alerts", json: {message: "{{ input.message }}"}}
    retry: {attempts: 3, delay_s: 0.5, on_status: [429, 503]}
  - id: created
    condition: "{{ alert.body.ok }}"
    then: [{id: ack, http: {method: POST, url: "https://api.example.org/alerts/{{ alert.body.id }}/ack"}}]
    else: [{id: note, log: "not created: {{ alert.status_code }}"}]
  - id: tell
    loop: "{{ input.teams }}"
    as: team
    concurrency: 4
    do: [{id: sent, python: notify, with: {team: "{{ team.id }}"}}]
  - id: fan
    branch:
      mail: {when: "{{ input.mail }}", do: [{id: m, python: mail}]}
      chat: {do: [{id: c, python: chat}]}
  - id: child
    workflow: other
    input: {told: "{{ length(tell) }}"}
  - id: check
    assert: [{equals: ["{{ child.n }}", "{{ length(tell) }}"]}, {holds: "{{ alert.status_code == `201` }}"}]
output: "{{ {id: alert.body.id, told: tell[].sent} }}"
"""


@cache
def validator(kinds_there: tuple[str, ...]) -> Any:
    return draft()(graph_schema(kinds()))


def draft() -> Any:
    """Import what takes seconds where JupyterLab is installed in the one process of the tests that needs it."""
    from jsonschema import Draft202012Validator

    return Draft202012Validator


def misfits(data: Any) -> list[str]:
    return [
        f"{list(error.absolute_path)}: {error.message[:200]}" for error in validator(tuple(kinds())).iter_errors(data)
    ]


def fits(*nodes: Any, **top: Any) -> bool:
    return not misfits({"graph": "g", "nodes": list(nodes), **top})


def test_the_schema_is_a_schema() -> None:
    draft().check_schema(Graph.schema())
    json.dumps(Graph.schema(), allow_nan=False)


def test_the_copy_among_the_documents_is_the_schema_of_the_built_in_kinds() -> None:
    command = 'python -c "import json, ironflow_nb as iron; print(json.dumps(iron.Graph.schema(), indent=1))"'
    assert json.loads(COPY.read_text()) == json.loads(json.dumps(graph_schema(BUILT_IN))), f"{command} > {COPY}"


def test_the_example_of_the_format_compiles_and_fits() -> None:
    if "http" not in kinds():
        pytest.skip("there is no http yet")
    assert said(EXAMPLE) == []
    assert misfits(read_yaml(EXAMPLE).data) == []


@pytest.mark.slow
@settings(max_examples=60)
@given(st.integers(0, 2**32))
def test_random_graphs_compile_and_fit(seed: int) -> None:
    graphs = Graphs(Random(seed))
    graphs.graph("g", n_nodes=5)
    for data in graphs.all.values():
        assert said(data) == []
        assert misfits(data) == []


some_keys = st.dictionaries(keys, graph_like, max_size=4)


all_kinds = st.sampled_from(sorted({*BUILT_IN, *CONTROL}))
needed_keys = st.sampled_from([{}, {"cases": {"a": []}}, {"do": []}])


@pytest.mark.slow
@settings(max_examples=300 if FULL_PROOF else 60)
@given(all_kinds, some_keys, graph_like, needed_keys)
def test_whatever_compiles_fits(kind: str, more: dict[str, Any], value: Any, needed: dict[str, Any]) -> None:
    graph = Graph.from_dict({"graph": "g", "allow": True, "nodes": [{"id": "n", **more, kind: value, **needed}]})
    if not graph.findings():
        assert misfits(graph.data) == []


def test_an_expression_fits_wherever_an_option_wants_something_else_than_an_object(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fetching(monkeypatch)
    filled = {"url": "{{ input.u }}", "method": "{{ input.m }}", "times": "{{ input.n }}", "headers": "{{ input.h }}"}
    assert fits({"id": "a", "fetch": filled})
    assert fits({"id": "a", "fetch": "{{ input.u }}"})
    assert fits({"id": "a", "fetch": {"url": "x", "headers": {"a": "{{ input.a }}"}}})


def test_what_no_expression_makes_good_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    fetching(monkeypatch)
    assert not fits({"id": "a", "fetch": {"url": "x", "times": "three"}})
    assert not fits({"id": "a", "fetch": {"url": "x", "tims": "{{ input.n }}"}})
    assert not fits({"id": "a", "fetch": {"method": "GET"}})
    assert not fits({"id": "a", "fetch": "x", "timeout_s": "{{ input.t }}"})
    assert not fits({"id": "a", "fetch": "x", "python": "f"})
    assert not fits({"id": "a", "condition": True, "retry": {}})
    assert not fits({"id": "a b", "fetch": "x"})
    assert not fits({"id": "a", "nothing": "x"})
    assert not fits({"id": "a", "switch": 1, "cases": {"x": [{"id": "b"}]}})
    assert not fits(node=[])


def test_a_kind_may_have_a_schema_with_references_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def perform(options: Options, context: NodeContext) -> Any:
        return None

    schema = options_schema({"point": {"$ref": "#/$defs/point"}}, **{"$defs": {"point": {"type": "integer"}}})
    kind = Kind(name="draw", description="draws", schema=schema, perform=perform)
    monkeypatch.setitem(REGISTRY.registered[NODE_KINDS], "draw", kind)
    for point, is_fine in [(1, True), ("{{ input.p }}", True), ("x", False)]:
        node = {"id": "a", "draw": {"point": point}}
        assert (said({"graph": "g", "nodes": [node]}) == []) is is_fine
        assert fits(node) is is_fine


@pytest.mark.parametrize("given", [3, None, functools.partial(print)], ids=["a number", "nothing", "a partial"])
def test_a_kind_of_node_without_a_name_is_refused_with_what_to_do(given: Any) -> None:
    with pytest.raises(iron.errors.DefinitionError, match=r"a function with a name, not .*; use @iron\.node\(NAME\)"):
        iron.node(given)
