"""Budgets: no text of a graph, however short, makes endless work, and what is exceeded is told."""

from __future__ import annotations

import ast
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.errors import ExpressionFailed, NodeFailed, NodeTimeout
from ironflow_nb.graphs.grants import Grants
from ironflow_nb.graphs.kinds import Kind
from ironflow_nb.graphs.language.budget import MOST_SIZE, MOST_STEPS, SIZE, STEPS, Budget, bounds
from ironflow_nb.graphs.language.evaluation import EvaluationError
from ironflow_nb.graphs.language.patterns import MOST_PARTS, compile_pattern
from ironflow_nb.graphs.nodes.transform import FILTER, FOREACH
from ironflow_nb.graphs.runtime.node_environment import WorkContext
from ironflow_nb.graphs.secrets import Secrets
from ironflow_nb.testing.clock import SimClock
from tests.graphs.evaluations import value_of
from tests.graphs.playing import graph_of

STEPS_TOLD = f"more than {MOST_STEPS:,} steps; .* raise the environment variable {STEPS}"
PATTERN_TOLD = "a pattern searches at most 1000000|the pattern did not finish"  # on a slow machine, time comes first
SIZE_TOLD = f"more than {MOST_SIZE:,} characters and values in all; .* raise the environment variable {SIZE}"

CONTEXT: dict[str, Any] = {
    "x": [1],
    "t": "x" * 1000,
    "l": [[1, 2], [3]],
    "many": list(range(1000)),
    "o": {"a": {"b": 1}},
}

TOO_LARGE = [
    "[`1`]" + " | [@, @]" * 90,
    "x" + " | {a: @, b: @}" * 90,
    "x" + " | {a: @, b: @}" * 22,
    "x" + " | [@, @]" * 60 + " | to_string(@)",
    "x" + " | [@, @]" * 60 + " | hash(@)",
    "[x" + " | [@, @]" * 60 + ", x" + " | [@, @]" * 60 + "] | [0] == [1]",
    "x" + " | zip(@, @)" * 90,
    "l" + " | concat(@, @)" * 60,
    "o" + " | {a: @, b: a}" * 90,
    "map(&([@, @]" + " | [@, @]" * 60 + "), x)",
    "x[*].{a: @, b: @}" + " | [*].{a: @, b: @}" * 60,
    "t" + " | concat(@, @)" * 60,
    "t" + " | join(@, [@, @, @])" * 60,
    "t" + " | base64_encode(@)" * 90,
    "regex_replace(t, 'x', '" + "y" * 200_000 + "')",
    "t" + r" | regex_replace(@, '.', '\g<0>\g<0>')" * 60,
    r"regex_replace(t, '.*', '" + r"\0" * 200_000 + "')",
    "t | join(@, map(&'x', range(`1000000`)))",
    "t" + " | upper(concat(@, '-', @))" * 60,
    "many" + " | concat(@, @, @, @, @, @, @, @)" * 20,
    "o" + " | merge({a: @}, {b: @})" * 90,
    "x" + " | [default(@, `1`), not_null(@)]" * 90,
    "x" + " | [@ || `1`, @]" * 90,
    "x" + " | [sort(@), [@[0]]] | [0]" + " | [@, @[:]]" * 90,
]

TOO_LONG = [
    "x" + " | [@, @][]" * 90,
    "map(&'" + "y" * 100_000 + "', range(`1000000`))",
    "range(`1000000`)[].{a: `[" + "1," * 50_000 + "1]`}",
    "range(`1000000`)[?@ > `1`" + " && @ > `1`" * 40 + "]",
    "range(`1000000`)" + " | map(&abs(@), @)" * 30,
    "range(`100000`) | [" + "sum(@), " * 500 + "sum(@)]",
    "sort_by(range(`1000000`), &length([@" + ", @" * 40 + "]))",
]


@pytest.mark.parametrize("text", TOO_LARGE, ids=range(len(TOO_LARGE)))
def test_what_makes_too_much_of_little_is_stopped(text: str) -> None:
    with pytest.raises(EvaluationError, match=f"{SIZE_TOLD}|{STEPS_TOLD}|{PATTERN_TOLD}"):
        value_of(text, CONTEXT)


@pytest.mark.parametrize("text", TOO_LONG, ids=range(len(TOO_LONG)))
def test_what_takes_too_many_steps_is_stopped(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Budget, "steps", MOST_STEPS // 10)
    with pytest.raises(EvaluationError, match=STEPS_TOLD):
        value_of(text, CONTEXT)


@pytest.mark.slow
def test_ordinary_work_with_much_data_is_within_the_budgets() -> None:
    rows = [{"id": number, "name": f"name {number}", "tags": ["a", "b"]} for number in range(50_000)]
    context = {"rows": rows, "text": "x" * 5_000_000}
    assert len(value_of("rows[?id >= `10`].{id: id, all: @} | [*].all.name", context)) == 49_990
    assert value_of("{all: rows, ids: rows[].id, n: length(rows)}", context)["n"] == 50_000
    assert value_of("length(to_string({a: rows, b: rows}))", context) > 1_000_000
    assert value_of("length(concat(text, text, join('-', rows[].name)))", context) > 10_000_000
    assert value_of("length(regex_replace(join(' ', rows[].name), 'n(a)me', 'N\\1'))", context) > 100_000


def test_a_pattern_with_very_many_parts_is_refused_before_it_is_compiled() -> None:
    for pattern in (
        "|".join(f"w{n}" for n in range(150_000)),
        "((((a{1000}){1000}){1000}){1000})",
        "(?:ab?){1000000}",
        "a{99999999999}",
    ):
        with pytest.raises(ValueError, match=f"parts with its counts written out; at most {MOST_PARTS:,} are allowed"):
            compile_pattern(pattern)
    for pattern in (
        r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        r"(\d{1,3}\.){3}\d{1,3}",
        r"\p{L}{2,}[]{}]{3}",
        "x{,5}|{a}",
    ):
        compile_pattern(pattern)
    compile_pattern("|".join(f"word{n}" for n in range(2_000)))


def test_all_searches_of_one_expression_share_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Budget, "patterns_s", 0.5)
    pattern, text = "(a|aa)+$", "a" * 26 + "b"
    with pytest.raises(EvaluationError, match="did not finish"):
        value_of(f"map(&regex_match(@, '{pattern}'), map(&'{text}', range(`100000`)))", {})


def test_the_environment_raises_the_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STEPS, "7")
    monkeypatch.setenv(SIZE, "no number")
    bounds.cache_clear()
    try:
        assert bounds() == (7, MOST_SIZE)
    finally:
        bounds.cache_clear()


# -- graphs ------------------------------------------------------------------------------------------------------


def chained(node: Any, n: int) -> list[Any]:
    nodes: list[Any] = [{"id": "n0", "transform": ["x" * 50]}]
    for number in range(1, n):
        text = str(node).replace("PREV", f"n{number - 1}").replace("NEW", f"n{number}")
        nodes.append({"id": f"n{number}", **ast.literal_eval(text)})
    return nodes


@pytest.mark.slow
@pytest.mark.parametrize(
    "node",
    [
        {"transform": {"a": "{{ PREV }}", "b": "{{ PREV }}", **{f"k{n}": "{{ PREV }}" for n in range(20)}}},
        {"transform": ["{{ PREV }}", *["{{ PREV }}"] * 20]},
        {"transform": " ".join(["{{ to_string(PREV) }}"] * 20)},
        {"condition": True, "then": [{"id": f"NEW_{n}", "transform": "{{ PREV }}"} for n in range(20)]},
        {"branch": {f"b{n}": {"do": [{"id": f"NEW_{n}", "transform": "{{ PREV }}"}]} for n in range(20)}},
        {"foreach": {"items": list(range(20)), "value": "{{ values.p }}", "values": {"p": "{{ PREV }}"}}},
    ],
    ids=["fields", "items", "text", "condition", "branch", "foreach"],
)
@pytest.mark.usefixtures("lab")
def test_nodes_that_each_give_the_one_before_many_times_are_stopped(node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Budget, "size", 1_000_000)
    with pytest.raises((NodeFailed, ValueError, ExceptionGroup)) as caught:
        graph_of(*chained(node, 40))()
    assert "characters and values in all" in str(caught.value)


@pytest.mark.parametrize(("kind", "options"), [(FOREACH, {"value": "{{ item }}"}), (FILTER, {"where": True})])
def test_the_items_of_filter_and_foreach_share_a_time_that_timeout_s_sets(kind: Kind, options: Any) -> None:
    clock = Hasty()
    grants = Grants.of({})
    context = WorkContext(node="n", grants=grants, clock=clock, secrets=Secrets({}, grants), timeout_s=5.0)
    with pytest.raises(NodeTimeout, match="it took longer than 5 s, and reached item 2; raise timeout_s"):
        kind.perform({"items": [1, 2, 3], **options}, context)


class Hasty(SimClock):
    """A clock that goes on by two seconds whenever it is looked at."""

    def monotonic(self) -> float:
        self.advance(2.0)
        return super().monotonic()


@pytest.mark.usefixtures("lab")
def test_a_run_that_exceeded_a_budget_says_which_node_and_expression() -> None:
    graph = graph_of({"id": "big", "transform": "{{ input.x" + " | [@, @]" * 60 + " }}"})
    with pytest.raises(ExpressionFailed, match=r"^big: 'input\.x \| \[@, @\].*characters and values in all"):
        graph(x=1)
    assert isinstance(graph, iron.Graph)
