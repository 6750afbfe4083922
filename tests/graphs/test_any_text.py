"""Whatever is given as a graph is read, or refused as a graph is; what is written is read as what it was."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ironflow_nb.errors import GraphInvalid
from ironflow_nb.graphs.compiler.graph_source import read_yaml, write_yaml
from ironflow_nb.graphs.graph import Graph
from tests.conftest import FULL_PROOF

any_character = st.characters(exclude_categories=["Cs"])
yaml_like = st.text("ab1 \n\t:-#'\"|>&*!%@`?[]{},~<=.\\\r\x85\u2028\ufeff\x00\x7f", max_size=40)
UNUSUAL = [
    "yes", "1", "null", "a: b", "#x", "- a", "0o17", "1e3", ".inf", "~", "=", "<<", "2024-01-01", "---", "...", "😀",
    "", "x\n---\ny", "a\n\n", "a\n \n", " a\nb", "\ta\nb", "a \nb", "{{ a }}", "|", "key: |\n  x", "x" * 2000,
    "a\r\nb", "'", '"',
]  # fmt: skip
texts = st.text(any_character, max_size=20) | yaml_like | st.sampled_from(UNUSUAL)
finite = st.floats(allow_nan=False, allow_infinity=False)
leaves = st.none() | st.booleans() | st.integers() | finite | texts
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)


@pytest.mark.slow
@settings(max_examples=400 if FULL_PROOF else 60)
@given(values)
def test_what_is_written_is_read_as_what_it_was(data: Any) -> None:
    found = read_yaml(write_yaml(data)).data
    assert found == data
    assert repr(found) == repr(data)  # 1 is not 1.0, nor true


@pytest.mark.parametrize("text", UNUSUAL, ids=repr)
def test_every_unusual_text_stays_a_text_wherever_it_is(text: str) -> None:
    data = {"graph": "g", "nodes": [], text or "k": text, "list": [text, [text]], "deep": {"x": {text: [{text: text}]}}}
    graph = Graph.from_dict(data)
    assert Graph.from_yaml(graph.to_yaml()).data == data


@settings(max_examples=400 if FULL_PROOF else 60)
@given(st.text(any_character, max_size=60) | yaml_like)
@example("a: &a [*a]\n")
@example("? ? ? a\n")
@example("%YAML 1.0\n---\n")
@example("--- !<tag:yaml.org,2002:python/none> x\n")
@example("\n" + "a: " * 50)
def test_any_text_is_a_graph_or_refused_as_one(text: str) -> None:
    with suppress(GraphInvalid):
        Graph.from_yaml(f"{text}\n").validate()


keys = st.sampled_from([
    "id", "depends_on", "when", "retry", "timeout_s", "on_error", "once", "cache", "description", "condition", "then",
    "else", "switch", "cases", "default", "branch", "loop", "as", "do", "concurrency", "workflow", "input", "assert",
    "python", "with", "transform", "filter", "log", "file", "shell", "sql", "template", "parse", "format", "hash",
    "equals", "holds", "matches", "while", "max_rounds", "attempts", "lane", "graph", "nodes", "allow", "secrets",
    "output", "foreach", "items", "where", "value", "env", "http", "files", "url",
])  # fmt: skip
words = st.sampled_from([
    "a", "b", "{{ a }}", "{{ input.x }}", "x {{ a.b }}", "{{", "{{ a(", "{{ secrets.t }}", "{{ env.HOME }}", "\\{{ a",
    "continue", "7d", "[", "", "{{ @ }}", "{{ nodes[] }}",
])  # fmt: skip
odd = st.none() | st.booleans() | st.integers(-2, 10**20) | st.floats() | words | st.just(b"x") | st.just({1, 2})
graph_like = st.recursive(
    odd,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys | words | st.integers(), inner, max_size=5),
    max_leaves=20,
)


some_keys = st.dictionaries(keys, graph_like, max_size=5)


@pytest.mark.slow
@settings(max_examples=600 if FULL_PROOF else 60)
@given(
    st.lists(st.dictionaries(keys, graph_like, max_size=5), max_size=3), st.dictionaries(keys, graph_like, max_size=3)
)
def test_any_data_is_a_graph_or_has_findings(nodes: list[Any], top: dict[str, Any]) -> None:
    named = [{"id": f"n{number}", **node} for number, node in enumerate(nodes)]
    graph = Graph.from_dict({"graph": "g", "nodes": named, **top})
    findings = graph.findings()
    assert findings == graph.findings()
    assert len(set(findings)) == len(findings)
    if not findings:
        assert Graph.from_yaml(graph.to_yaml()).data == graph.data


@given(graph_like)
def test_any_value_at_all_is_a_graph_or_refused_as_one(data: Any) -> None:
    with suppress(GraphInvalid):
        Graph.from_dict(data).validate()
