"""A graph that is accepted runs: what goes wrong then is told as failures of nodes, and never from inside."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ironflow_nb.errors import InputInvalid, IronflowError
from ironflow_nb.graphs.graph import Graph
from tests.conftest import FULL_PROOF

NAMES = ("a", "b", "c", "d")
expressions = st.sampled_from([
    "{{ input.n }}", "{{ input.list }}", "{{ input.yes }}", "{{ input.missing }}", "{{ input.n > `1` }}",
    "{{ length(input.list) }}", "{{ input.list[0] == `1` }}", "{{ input }}", "{{ a }}",
])  # fmt: skip
values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["x", "", "text {{ input.n }}"]) | expressions,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["k", "l"]), inner, max_size=2),
    max_leaves=4,
)
tests = st.booleans() | expressions
pure = st.one_of(
    values.map(lambda value: {"transform": value}),
    st.fixed_dictionaries({"items": values, "where": st.sampled_from(["{{ item }}", "{{ item == `1` }}"])}).map(
        lambda options: {"filter": options}
    ),
    values.map(lambda value: {"assert": [{"equals": [value, 1]}]}),
    tests.map(lambda test: {"assert": [{"holds": test}]}),
    st.sampled_from(["{{ input.n }}", "x", 3]).map(lambda message: {"log": message}),
)


@st.composite
def blocks(draw: st.DrawFn, names: tuple[str, ...] = NAMES, depth: int = 0) -> list[dict[str, Any]]:
    """Return nodes with and without nodes inside of them."""
    nodes = []
    for number, name in enumerate(names[: draw(st.integers(0, len(names)))]):
        inside = blocks(tuple(f"{name}{each}" for each in NAMES[:2]), depth + 1) if depth < 2 else st.just([])
        way = draw(st.integers(0, 5))
        node: dict[str, Any] = draw(pure)
        if way == 1:
            node = {"condition": draw(tests), "then": draw(inside), "else": draw(inside)}
        elif way == 2:
            node = {"switch": draw(values), "cases": {"1": draw(inside), "x": draw(inside)}}
        elif way == 3:
            node = {"loop": draw(st.just("{{ input.list }}") | values), "do": draw(inside)}
        elif way == 4:
            node = {"branch": {"left": {"do": draw(inside)}, "right": {"when": draw(tests), "do": draw(inside)}}}
        if draw(st.booleans()):
            node["on_error"] = draw(st.just("continue") | inside)
        if draw(st.booleans()):
            before = st.sampled_from(names[: max(number, 1)])
            node["depends_on"] = draw(st.lists(before, max_size=2, unique=True)) if number else []
        if draw(st.booleans()):
            node["when"] = draw(tests)
        nodes.append({"id": name, **node})
    return nodes


@pytest.mark.slow
@settings(max_examples=500 if FULL_PROOF else 60)
@given(blocks(), st.none() | values)
def test_a_graph_that_is_accepted_ends_or_fails_in_words(nodes: list[dict[str, Any]], output: Any) -> None:
    top = {} if output is None else {"output": output}
    graph = Graph.from_dict({"graph": "g", "nodes": nodes, **top})
    if graph.findings():
        return
    given_input = {"n": 2, "list": [1, 2], "yes": True}
    try:
        tried = graph.test(**given_input)
    except InputInvalid:
        # Nothing has run, since the one name is missing that the expressions above ask for in vain.
        tried = graph.test(**given_input, missing=None)
    assert tried.error is None or is_in_words(tried.error), repr(tried.error)


def is_in_words(error: BaseException) -> bool:
    """Tell whether the error is one of ours, or several of them."""
    parts = error.exceptions if isinstance(error, BaseExceptionGroup) else [error]
    return all(isinstance(part, IronflowError) or (part is not error and is_in_words(part)) for part in parts)
