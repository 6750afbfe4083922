"""Differences of values are none where values are equal, and name the place where they are not."""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironflow_nb.history.value_differences import differences

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5)
VALUES = st.recursive(
    LEAVES,
    lambda parts: (
        st.lists(parts, max_size=4)
        | st.dictionaries(st.text(max_size=3), parts, max_size=4)
        | st.tuples(parts, parts)
        | st.frozensets(st.integers(), max_size=4)
    ),
    max_leaves=12,
)


@dataclass
class Page:
    title: str
    parts: list[int]


def said(a: object, b: object) -> list[str]:
    return [str(each) for each in differences(a, b)]


@given(VALUES)
def test_a_value_does_not_differ_from_its_copy(value: object) -> None:
    assert differences(value, copy.deepcopy(value)) == []


@given(VALUES, VALUES)
def test_values_differ_as_their_texts_do(a: object, b: object) -> None:
    assert (differences(a, b) == []) == (_text(a) == _text(b))


def _text(value: Any) -> str:
    """Return a text that is the same for values of the same types and contents; NaN equals NaN, 0.0 equals -0.0."""
    match value:
        case dict():
            return f"dict {sorted((_text(key), _text(item)) for key, item in value.items())}"
        case frozenset():
            return f"frozenset {sorted(value)}"
        case list() | tuple():
            return f"{type(value).__name__} {[_text(item) for item in value]}"
        case float():
            return f"float {value + 0.0!r}"
    return f"{type(value).__name__} {value!r}"


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ({"n": 1, "gone": 2}, {"n": 3, "new": 4}, ["['n']: 1 -> 3", "['gone']: only in a: 2", "['new']: only in b: 4"]),
        ({"pages": [{"id": 1}, {"id": 2}]}, {"pages": [{"id": 1}, {"id": 5}]}, ["['pages'][1]['id']: 2 -> 5"]),
        ([1, 2, 3], [1, 5], ["3 items -> 2 items", "[1]: 2 -> 5"]),
        ({1, 2}, {2, 3}, ["only in a: 1", "only in b: 3"]),
        (1, 1.0, ["int 1 -> float 1.0"]),
        ("a", "b", ["'a' -> 'b'"]),
        (Page("x", [1]), Page("y", [1, 2]), [".title: 'x' -> 'y'", ".parts: 1 items -> 2 items"]),
        (OrderedDict(a=1), {"a": 1}, ["OrderedDict OrderedDict({'a': 1}) -> dict {'a': 1}"]),
        (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC), []),
    ],
)
def test_a_difference_has_the_path_to_its_place(a: object, b: object, expected: list[str]) -> None:
    if isinstance(a, OrderedDict):
        assert [each.partition(" ")[0] for each in said(a, b)] == ["OrderedDict"]
        return
    assert said(a, b) == expected


def test_rows_of_frames_are_compared_by_their_labels() -> None:
    a = pd.DataFrame({"price": [1.0, 2.0, np.nan], "name": ["x", "y", "z"]}, index=[10, 20, 30])
    b = pd.DataFrame({"price": [1.0, 2.5, np.nan, 4.0], "name": ["x", "y", "z", "w"]}, index=[10, 20, 30, 40])
    assert said(a, b) == [
        "3 x 2 -> 4 x 2",
        "1 row only in b",
        "1 of 3 rows differ: 20",
        "['price']: 1 differ, first 20: 2.0 -> 2.5",
    ]


def test_frames_differ_in_columns_types_and_order() -> None:
    a = pd.DataFrame({"n": [1, 2], "x": [1, 2]})
    assert said(a, a.astype({"n": "float64"})) == ["['n']: int64 -> float64"]
    assert said(a, a.rename(columns={"x": "y"})) == [
        "['x']: only in a: a column of int64",
        "['y']: only in b: a column of int64",
    ]
    assert said(a, a[["x", "n"]]) == ["the columns are in another order"]


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (pd.Categorical(["a", "b"]), pd.Categorical(["a", "c"])),
        ([[1], [2]], [[1], [3]]),
        ([np.array([1, 2]), np.array([3])], [np.array([1, 2]), np.array([4])]),
        (pd.array([1, None], dtype="Int64"), pd.array([1, 2], dtype="Int64")),
        (pd.to_datetime(["2026-01-01", None]), pd.to_datetime(["2026-01-01", "2026-01-02"])),
        (["a", None], ["a", "b"]),
    ],
)
def test_the_second_row_of_a_column_of_any_type_differs(x: Any, y: Any) -> None:
    a, b = pd.DataFrame({"c": x}), pd.DataFrame({"c": y})
    assert differences(a, a.copy()) == []
    assert next(each for each in said(a, b) if "differ" in each) == "1 of 2 rows differ: 1"


def test_rows_with_one_label_are_compared_by_position() -> None:
    a = pd.DataFrame({"n": [1, 2, 3]}, index=[0, 0, 1])
    b = pd.DataFrame({"n": [1, 5]}, index=[0, 0])
    assert said(a, b) == [
        "3 x 1 -> 2 x 1",
        "1 row only in a",
        "1 of 2 rows differ: 0",
        "['n']: 1 differ, first 0: 2 -> 5",
    ]


def test_columns_of_one_name_are_said_to_differ() -> None:
    a = pd.DataFrame([[1, 2]], columns=["n", "n"])
    assert differences(a, a.copy()) == []
    assert len(differences(a, a + 1)) == 1


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (np.zeros((2, 2)), np.zeros((2, 3)), "shape (2, 2) -> (2, 3)"),
        (np.array([1, 2, 3]), np.array([1, 2, 7]), "1 of 3 elements differ, by at most 4; first at [2]: 3 -> 7"),
        (np.array([1.0, np.nan]), np.array([1.0, np.nan]), None),
        (np.array(["a", "b"]), np.array(["a", "c"]), "1 of 2 elements differ; first at [1]: 'b' -> 'c'"),
        (
            np.array([1, [2]], dtype=object),
            np.array([1, [3]], dtype=object),
            "1 of 2 elements differ; first at [1]: [2] -> [3]",
        ),
        (np.array(5), np.array(6), "1 of 1 elements differ, by at most 1; first: 5 -> 6"),
        (np.array([1], dtype="int8"), np.array([1], dtype="int64"), "int8 -> int64"),
    ],
)
def test_elements_of_arrays_are_counted(a: Any, b: Any, expected: str | None) -> None:
    assert said(a, b) == ([] if expected is None else [expected])


def test_a_value_that_contains_itself_is_compared_once() -> None:
    a: list[Any] = [1]
    b: list[Any] = [2]
    a.append(a)
    b.append(b)
    assert said(a, b) == ["[0]: 1 -> 2"]


def test_a_class_whose_comparison_raises_differs() -> None:
    class Odd:
        __slots__ = ()
        __match_args__ = ()

        def __eq__(self, other: object) -> bool:
            raise TypeError("no")

        __hash__ = object.__hash__

    assert len(differences(Odd(), Odd())) == 1


def test_no_more_differences_are_looked_for_than_are_wanted() -> None:
    assert len(differences(list(range(100)), list(range(1, 101)), most=3)) == 3
