"""CSV with types, quotes and other signs, read by parse and written by format."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironflow_nb.errors import NodeFailed
from ironflow_nb.graphs.compiler.schema_check import problems
from ironflow_nb.graphs.nodes.texts import FORMAT, PARSE
from tests.graphs.evaluations import context_of


def parsed(text: str, **options: Any) -> Any:
    assert list(problems(PARSE.schema, {"csv": text, **options}, allows_expressions=False)) == []
    return PARSE.perform({"csv": text, **options}, context_of())


def formatted(rows: Any, **options: Any) -> Any:
    assert list(problems(FORMAT.schema, {"csv": rows, **options}, allows_expressions=False)) == []
    return FORMAT.perform({"csv": rows, **options}, context_of())


def test_columns_have_the_types_that_are_given_and_others_stay_texts() -> None:
    types = {"n": "integer", "price": "number", "paid": "boolean"}
    text = "id,n,price,paid\n007, 3 ,1.50,TRUE\n008,,,\n"
    assert parsed(text, types=types) == [
        {"id": "007", "n": 3, "price": 1.5, "paid": True}, {"id": "008", "n": None, "price": None, "paid": None},
    ]  # fmt: skip


def test_auto_finds_the_narrowest_type_of_each_column() -> None:
    text = "id,n,price,paid,note,none,big\n007,3,1.5,true,3,,12345678901234567890\n008,-4,2,false,x,,1\n,,1e2,,,,\n"
    assert parsed(text, types="auto") == [
        {"id": "007", "n": 3, "price": 1.5, "paid": True, "note": "3", "none": "", "big": 12345678901234567890},
        {"id": "008", "n": -4, "price": 2, "paid": False, "note": "x", "none": "", "big": 1},
        {"id": "", "n": None, "price": 100.0, "paid": None, "note": "", "none": "", "big": None},
    ]


def test_a_table_of_another_country_is_read() -> None:
    text = "name;price\n'Me;yer';1,5\nK;-2\n"
    assert parsed(text, delimiter=";", quote="'", decimal=",", types="auto") == [
        {"name": "Me;yer", "price": 1.5}, {"name": "K", "price": -2},
    ]  # fmt: skip


NO_TABLES = [
    ("a\nx", {"types": {"a": "integer"}}, "the row that ends in line 2: a: a cell of 1 characters is no whole number"),
    ("a\n1.5", {"types": {"a": "integer"}}, "is no whole number"),
    ("a\n" + "9" * 5000, {"types": {"a": "integer"}}, "a cell of 5000 characters is no whole number"),
    ("a\n1e999", {"types": {"a": "number"}}, "is no number"),
    ("a\nnan", {"types": {"a": "number"}}, "is no number"),
    ("a\n1.5", {"types": {"a": "number"}, "decimal": ","}, "is no number with decimal sign ,"),
    ("a\n1_000", {"types": {"a": "number"}}, "is no number"),
    ("a\nyes", {"types": {"a": "boolean"}}, "is neither true nor false"),
    ("a,b\n1,2", {"types": {"c": "integer"}}, "types has 'c', but the columns are a, b"),
    ("1,2", {"types": "auto", "header": False}, "types go by the names of columns, so they need a header"),
    ("a", {"delimiter": "'", "quote": "'"}, "must be two different characters"),
    ("a", {"delimiter": "\n"}, "and no end of a line"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "options", "expected"), NO_TABLES)
def test_what_does_not_fit_is_told_with_its_place_and_without_its_content(
    text: str, options: Any, expected: str
) -> None:
    with pytest.raises(NodeFailed) as caught:
        parsed(text, **options)
    assert expected in str(caught.value)
    assert caught.value.is_retryable is False
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("options", [{"types": "guess"}, {"types": {"a": "date"}}, {"quote": ""}, {"decimal": "." * 2}])
def test_options_that_csv_does_not_have_are_refused(options: Any) -> None:
    assert list(problems(PARSE.schema, {"csv": "", **options}, allows_expressions=False))


def test_cells_have_quotes_where_they_need_them_or_all_of_them() -> None:
    rows = [{"a": "x", "b": "1;2"}, {"a": None, "b": True}]
    assert formatted(rows, delimiter=";") == 'a;b\nx;"1;2"\n;true\n'
    assert formatted(rows, delimiter=";", quote="'", quotes="all") == "'a';'b'\n'x';'1;2'\n'';'true'\n"


cells = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)


@pytest.mark.slow
@given(st.lists(st.lists(cells, min_size=2, max_size=2), min_size=1, max_size=4), st.sampled_from(";\t|,"))
def test_what_was_written_is_read_again(rows: list[list[str]], delimiter: str) -> None:
    text = formatted(rows, delimiter=delimiter, quote="'", header=False)
    assert parsed(text, delimiter=delimiter, quote="'", header=False) == [
        [
            cell.removeprefix("\ufeff") if at == number == 0 and text.startswith("\ufeff") else cell
            for at, cell in enumerate(row)
        ]
        for number, row in enumerate(rows)
    ]
