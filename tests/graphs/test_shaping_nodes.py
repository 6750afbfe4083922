"""The kinds transform, filter and foreach."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from ironflow_nb.errors import ExpressionFailed, NodeFailed
from ironflow_nb.graphs.compiler.schema_check import problems
from ironflow_nb.graphs.nodes import transform
from ironflow_nb.graphs.nodes.transform import FILTER, FOREACH, TRANSFORM
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


def test_a_list_of_100_000_items_takes_about_a_second() -> None:
    items = [{"n": number} for number in range(100_000)]
    begun = time.perf_counter()
    assert len(filtered("{{ item.n > `50` && item.n < `90000` }}", items)) == 89_949
    assert made("{{ item.n }}", items)[-1] == 99_999
    assert time.perf_counter() - begun < 20  # far from it, for machines that do much else


def test_every_kind_is_described() -> None:
    for kind in transform.KINDS:
        assert kind.description.endswith(".")
        assert all(option["description"].endswith(".") for option in kind.schema["properties"].values())
