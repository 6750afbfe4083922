"""The kinds transform, filter, foreach, batch and deduplicate."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironflow_nb.errors import ExpressionFailed, NodeFailed
from ironflow_nb.graphs.compiler.schema_check import problems
from ironflow_nb.graphs.graph import Graph
from ironflow_nb.graphs.nodes.transform import BATCH, DEDUPLICATE, FILTER, FOREACH, TRANSFORM
from ironflow_nb.graphs.runtime.node_bodies import _is_equal
from tests.graphs.evaluations import context_of

ROWS = [{"n": 1, "name": "a"}, {"n": 2, "name": "b"}, {"n": 3, "name": "c"}]


def filtered(where: Any, items: Any = ROWS, **more: Any) -> Any:
    return FILTER.perform({"items": items, "where": where, **more}, context_of())


def made(value: Any, items: Any = ROWS, **more: Any) -> Any:
    return FOREACH.perform({"items": items, "value": value, **more}, context_of())


@pytest.mark.parametrize("value", [1, None, "text", [1], {}, {"value": 1}, {"a": {"b": 1}}])
def test_transform_gives_the_value_that_is_written_whatever_it_is(value: Any) -> None:
    options = TRANSFORM.options_of(value)
    assert list(problems(TRANSFORM.schema, options, allows_expressions=True)) == []
    assert TRANSFORM.perform(options, context_of()) == value


def test_filter_keeps_what_the_condition_holds_for_in_order() -> None:
    assert filtered("{{ item.n != `2` }}") == [ROWS[0], ROWS[2]]
    assert filtered("{{ index > `0` }}") == ROWS[1:]
    assert filtered("{{ item.n >= values.least }}", values={"least": 3}) == [ROWS[2]]
    assert filtered(True) == ROWS
    assert filtered("{{ item }}", [True, False]) == [True]
    assert filtered("{{ item.x > `1` }}", []) == []


@pytest.mark.parametrize("where", ["{{ item.n }}", "{{ item.name }}", "{{ [item] }}", "yes {{ item.n }}"])
def test_a_condition_of_filter_is_true_or_false_and_nothing_else(where: str) -> None:
    with pytest.raises(NodeFailed, match=r"n: item 0: where gives .*, which is neither true nor false") as caught:
        filtered(where)
    assert caught.value.is_retryable is False


def test_foreach_makes_a_value_of_each_item() -> None:
    assert made("{{ item.n }}") == [1, 2, 3]
    assert made("{{ index }}: {{ item.name }}") == ["0: a", "1: b", "2: c"]
    assert made("{{ item.name }}-{{ item.n }}") == ["a-1", "b-2", "c-3"]
    assert made({"id": "{{ item.n }}", "fixed": [1]})[2] == {"id": 3, "fixed": [1]}
    assert made("{{ concat(values.of, item.name) }}", values={"of": "x"}) == ["xa", "xb", "xc"]
    assert made("same") == ["same"] * 3


def test_foreach_leaves_nulls_out_unless_they_are_to_stay() -> None:
    assert made("{{ item.x || `null` }}", [{"x": 1}, {}]) == [1]
    assert made("{{ item.x || `null` }}", [{"x": 1}, {}], keep_nulls=True) == [1, None]
    assert made("{{ item }}", [0, False, "", None]) == [0, False, ""]


def test_what_foreach_makes_of_one_item_is_not_what_it_makes_of_another() -> None:
    first, second = made({"list": []}, [1, 2])
    first["list"].append(1)
    assert second == {"list": []}


@pytest.mark.parametrize("items", [None, {"a": 1}, "abc", 5])
@pytest.mark.parametrize("shape", [filtered, made])
def test_what_is_no_list_is_an_error_that_says_what_it_is(shape: Any, items: Any) -> None:
    with pytest.raises(NodeFailed, match=r"n: items is .*, and not a list") as caught:
        shape("{{ item }}", items)
    assert caught.value.is_retryable is False


def test_an_expression_that_fails_names_the_item() -> None:
    with pytest.raises(ExpressionFailed, match=re.escape("n: item 1: 'item.x' failed: item is an object with y")):
        made("{{ item.x }}", [{"x": 1}, {"y": 1}])
    with pytest.raises(ExpressionFailed, match=re.escape("n: item 0: 'item.x' gives null")):
        made("a {{ item.x }}", [{"x": None}])
    with pytest.raises(ExpressionFailed, match="n: item 0: "):
        filtered("{{ item.n > 'a' }}")


def test_an_expression_for_each_item_sees_nothing_else() -> None:
    with pytest.raises(ExpressionFailed, match="without a field input"):
        made("{{ input }}")


def test_a_broken_expression_is_told_also_of_an_empty_list() -> None:
    with pytest.raises(ExpressionFailed, match="was not expected"):
        made("{{ item. }}", [])


def test_the_schema_tells_what_is_wrong_before_anything_runs() -> None:
    assert list(problems(FILTER.schema, {"items": "{{ a }}", "where": "{{ item }}"}, allows_expressions=True)) == []
    for options in ({"items": []}, {"items": [], "where": "item.n"}, {"items": [], "where": "{{ a }}", "wher": 1}):
        assert list(problems(FILTER.schema, options, allows_expressions=True))


@pytest.mark.slow
def test_a_list_of_100_000_items_takes_about_a_second() -> None:
    items = [{"n": number} for number in range(100_000)]
    begun = time.perf_counter()
    assert len(filtered("{{ item.n > `50` && item.n < `90000` }}", items)) == 89_949
    assert made("{{ item.n }}", items)[-1] == 99_999
    assert time.perf_counter() - begun < 20  # far from it, for machines that do much else


def test_every_kind_is_described() -> None:
    for kind in (TRANSFORM, FILTER, FOREACH, BATCH, DEDUPLICATE):
        assert kind.description.endswith(".")
        assert all(option["description"].endswith(".") for option in kind.schema["properties"].values())


# -- batch and deduplicate ---------------------------------------------------------------------------------------


def batches(items: Any, size: Any) -> Any:
    return BATCH.perform({"items": items, "size": size}, context_of())


def unique(items: Any, **more: Any) -> Any:
    return DEDUPLICATE.perform({"items": items, **more}, context_of())


@given(st.lists(st.integers()), st.integers(1, 9))
def test_batches_have_the_items_in_order_and_only_the_last_is_smaller(items: list[int], size: int) -> None:
    found = batches(items, size)
    assert [item for batch in found for item in batch] == items
    assert all(len(batch) == size for batch in found[:-1])
    assert all(1 <= len(batch) <= size for batch in found)


@pytest.mark.parametrize("size", [0, -1, 1.5, True, None])
def test_a_batch_has_one_item_at_least(size: Any) -> None:
    assert list(problems(BATCH.schema, {"items": [], "size": size}, allows_expressions=False))


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["", "1", 1.0, -0.0, 0.5]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=5,
)


@given(st.lists(_json, max_size=8))
def test_of_items_that_are_equal_as_json_the_first_or_the_last_stays(items: list[Any]) -> None:
    def differ(chosen: Any, item: Any) -> bool:
        return all(not _is_equal(item, each) for each in chosen)

    first: list[Any] = []
    for item in items:
        if differ(first, item):
            first.append(item)
    last: list[Any] = []
    for item in reversed(items):
        if differ(last, item):
            last.insert(0, item)
    assert list(map(repr, unique(items))) == list(map(repr, first))
    assert list(map(repr, unique(items, keep="last"))) == list(map(repr, last))


def test_items_are_compared_by_what_an_expression_says() -> None:
    rows = [{"n": 1, "day": "a"}, {"n": 2, "day": "b"}, {"n": 3, "day": "a"}]
    assert unique(rows, by="{{ item.day }}") == rows[:2]
    assert unique(rows, by="{{ item.day }}", keep="last") == rows[1:]
    assert unique(rows, by=["{{ item.day }}", "{{ item.n }}"]) == rows
    assert unique([1, 2, 3, 4], by="{{ item > values.limit }}", values={"limit": 2}) == [1, 3]
    with pytest.raises(ExpressionFailed, match="n: item 1: "):
        unique([{"a": 1}, {"b": 1}], by="{{ item.a }}")
    with pytest.raises(NodeFailed, match=r"n: item 0: a set can't be compared; say by what: by"):
        unique([{1}])
    huge: Any = []
    for _ in range(60):
        huge = [huge, huge]
    with pytest.raises(NodeFailed, match="n: item 0: it makes more than"):
        unique([huge])


@pytest.mark.parametrize("items", [None, {"a": 1}, "abc", 5])
def test_only_a_list_has_batches_and_doubles(items: Any) -> None:
    for shape in (lambda: batches(items, 2), lambda: unique(items)):
        with pytest.raises(NodeFailed, match=r"n: items is .*, and not a list"):
            shape()


def test_work_on_batches_is_a_loop() -> None:
    graph = Graph.from_yaml("""
graph: mailing
nodes:
  - id: once
    deduplicate: {items: "{{ input.people }}", by: "{{ lower(item) }}"}
  - id: groups
    batch: {items: "{{ once }}", size: 2}
  - id: sent
    loop: "{{ groups }}"
    as: group
    do: [{id: text, transform: "{{ join('+', group) }}"}]
output: "{{ sent[].text }}"
""")
    assert graph.test(people=["ada", "Ada", "bob", "cyd"]).output == ["ada+bob", "cyd"]
