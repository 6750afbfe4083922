"""Arithmetic and plain numbers in expressions, beside the JMESPath that they leave as it is."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from ironflow_nb.graphs.language.evaluation import EvaluationError
from ironflow_nb.graphs.language.expression import ExpressionSyntaxError, compile_expression
from tests.graphs.evaluations import value_of

CONTEXT = {
    "price": 2.5, "n": 4, "index": 0, "exact": Decimal("1.5"), "text": "4", "flag": True, "none": None,
    "rows": [{"a": 1, "b": 2}, {"a": 3, "b": 4}], "object": {"n": 2, "m": 3},
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("price * n", 10.0),
        ("index + 1", 1),
        ("index+1", 1),
        ("n-1", 3),
        ("n -1", 3),
        ("n - -1", 5),
        ("-n", -4),
        ("-n + 5", 1),
        ("2 * -n", -8),
        ("n / 2", 2),
        ("n / 3", 4 / 3),
        ("n % 3", 1),
        ("-1 % 3", 2),
        ("1 + 2 * 3 - 4 / 2", 5),
        ("(1 + 2) * 3", 9),
        ("10 - 3 - 2", 5),
        ("8 / 4 / 2", 1),
        ("exact * 2", 3.0),
        ("n > 3 && n < 4.5", True),
        ("n + 1 == 5", True),
        ("n * 2 > 7 || none", True),
        ("[n, 1.5, -1]", [4, 1.5, -1]),
        ("[1, 2]", [1, 2]),
        ("[1 + 1]", [2]),
        ("{sum: n + 1}", {"sum": 5}),
        ("rows[?a * 2 > 2].b", [4]),
        ("rows[*].{t: a * b} | [*].t", [2, 12]),
        ("map(&(a + b), rows)", [3, 7]),
        ("sum(rows[*].a) * 2", 8),
        ("length(rows) - 1", 1),
        ("rows[-1].a", 3),
        ("rows[0:1].a", [1]),
        ("rows[::-1].a", [3, 1]),
        ("object.*", [2, 3]),
        ("rows[*].a", [1, 3]),
        ("round(price * 1.19, 2)", 2.97),
    ],
)
def test_an_expression_calculates(text: str, expected: Any) -> None:
    found = value_of(text, CONTEXT)
    assert found == pytest.approx(expected) if isinstance(expected, float) else found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n + text", "+ takes numbers, and text is a text of 1 characters; concat() joins texts"),
        ("n * flag", "* takes numbers, and flag is a boolean"),
        ("n - none", "- takes numbers, and none is null"),
        ("rows[*].a * 2", "* takes numbers, and rows[*].a is a list of 2, first a number"),
        ("n + object.x", "object is an object with n, m, without a field x"),
        ("n / index", "/ by zero"),
        ("n % index", "% by zero"),
        ("1.0e", None),
        ("n +", None),
        ("+ n", None),
        ("n ** 2", None),
        ("rows[1.5]", None),
        ("rows[-]", None),
        ("n ^ 2", "Unknown token ^"),
    ],
)
def test_what_is_no_number_and_what_is_no_expression_is_an_error(text: str, message: str | None) -> None:
    with pytest.raises((EvaluationError, ExpressionSyntaxError)) as caught:
        value_of(text, CONTEXT)
    assert (message or "was not expected") in str(caught.value)


def test_a_number_that_grows_without_bound_is_an_error() -> None:
    large = 10**1_000
    assert value_of("x * 10", {"x": large}) == large * 10
    for text, number in (("x * x", large), ("x * x", 1e300), ("x - y", 1e308)):
        with pytest.raises(EvaluationError, match=r"the result of . is too large"):
            value_of(text, {"x": number, "y": -1e308})


def test_an_expression_knows_the_names_it_calculates_with() -> None:
    assert compile_expression("price * qty + other.n").names == {"price", "qty", "other"}
    assert not compile_expression("[n * 2, n * 3]").is_repeating


def test_functions_that_shape_data_take_expressions() -> None:
    rows = [{"k": 1, "n": "a"}, {"k": 1, "n": "a"}, {"k": 2, "n": "b"}]
    assert value_of("rename(unique(rows, 'k'), {k: 'key'})[*].key", {"rows": rows}) == [1, 2]
    assert value_of("[truthy(nothing.here), truthy(rows)]", {"rows": rows}) == [False, True]
