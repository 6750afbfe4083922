"""Templates: where an expression begins and ends in a text, and what becomes of its value."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironflow_nb.graphs.language.evaluation import evaluate
from ironflow_nb.graphs.language.expression import Expression, ExpressionSyntaxError
from ironflow_nb.graphs.language.templates import Literal, Template, Whole, compile_template, expressions_of, fill
from tests.graphs.evaluations import TAPE

CONTEXT: dict[str, Any] = {
    "n": 5, "half": 0.5, "name": "Ann", "yes": True, "nothing": None, "list": [1, "a"], "box": {"a": {"b": "c"}},
    "instant": datetime(2030, 1, 1, tzinfo=UTC), "what": object(),
}  # fmt: skip


def compiled(value: Any) -> Template:
    def fault(path: object, error: ExpressionSyntaxError) -> None:
        raise AssertionError(path) from error

    return compile_template(value, fault)


def filled(value: Any) -> Any:
    return fill(compiled(value), lambda expression: evaluate(expression, CONTEXT, TAPE))


def faults(value: Any) -> list[tuple[tuple[str | int, ...], int, str]]:
    found: list[tuple[tuple[str | int, ...], int, str]] = []
    compile_template(value, lambda path, error: found.append((path, error.offset, str(error))))
    return found


FILLED = [
    ("{{ n }}", 5),
    ("{{n}}", 5),
    ("{{ yes }}", True),
    ("{{ nothing }}", None),
    ("{{ list }}", [1, "a"]),
    ("{{ {a: {b: n}} }}", {"a": {"b": 5}}),
    ("{{ {a: {b: n}}}}", {"a": {"b": 5}}),
    ("{{ '}}' }}", "}}"),
    ("{{ '{{' }}", "{{"),
    ("{{ 'it\\'s }}' }}", "it's }}"),
    ('{{ `{"a": "}}"}` }}', {"a": "}}"}),
    ('{{ box."a" }}', {"b": "c"}),
    ("n = {{ n }}!", "n = 5!"),
    ("{{ n }}{{ name }}", "5Ann"),
    (" {{ n }}", " 5"),
    ("{{ n }}\n", "5\n"),
    ("{{ yes }} {{ half }} {{ list }} {{ box }}", 'true 0.5 [1,"a"] {"a":{"b":"c"}}'),
    ("at {{ instant }}", "at 2030-01-01T00:00:00Z"),
    ("https://x.test/{{ box.a.b }}?q={{ n }}", "https://x.test/c?q=5"),
    ("\\{{ n }}", "{{ n }}"),
    ("a \\{{ n }} {{ n }}", "a {{ n }} 5"),
    ("no { braces } }}", "no { braces } }}"),
    ({"a": ["{{ n }}", {"b": "{{ name }}!"}], "c": 1}, {"a": [5, {"b": "Ann!"}], "c": 1}),
    (["\\{{ n }}", 1], ["{{ n }}", 1]),
    ({"a": {"b": "\\{{ n }}"}}, {"a": {"b": "{{ n }}"}}),
    ((1, "{{ n }}"), [1, 5]),
    (7, 7),
    (None, None),
]


@pytest.mark.parametrize(("value", "expected"), FILLED, ids=[str(value)[:40] for value, _ in FILLED])
def test_a_template_is_filled_in(value: Any, expected: Any) -> None:
    found = filled(value)
    assert found == expected
    assert type(found) is type(expected)


FAULTS = [
    ("{{ n", 0, "{{ is never closed by }}"),
    ("abc {{ n }", 9, "a single } closes nothing"),
    ("abc {{ n", 4, "{{ is never closed by }}"),
    ("{{ 'open }}", 3, "' is never closed"),
    ("{{ `1 }}", 3, "` is never closed"),
    ("{{ }}", 3, "the expression is empty"),
    ("ab {{  n n }}", 9, "'n' was not expected"),
    ("{{ n }} and {{ lenght(n) }}", 15, "did you mean length()?"),
    ("{{ {a: n} }", 10, "a single } closes nothing"),
]


@pytest.mark.parametrize(("text", "offset", "said"), FAULTS, ids=[text for text, _, _ in FAULTS])
def test_a_text_that_can_not_be_compiled_is_told_with_its_place(text: str, offset: int, said: str) -> None:
    ((path, found, message),) = faults({"a": [1, text]})
    assert (path, found) == (("a", 1), offset)
    assert said in message


def test_every_fault_of_a_value_is_told() -> None:
    assert [path for path, _, _ in faults({"a": "{{", "b": ["{{ n }}", "{{ . }}"]})] == [("a",), ("b", 1)]


def test_null_has_no_place_in_a_text_and_the_message_says_what_to_write() -> None:
    with pytest.raises(ValueError, match=re.escape("write default(nothing, 'text')")):
        filled("it is {{ nothing }}")


def test_what_has_no_text_is_an_error() -> None:
    with pytest.raises(ValueError, match="'what' gives a object, which has no text"):
        filled("it is {{ what }}")


def test_data_that_is_nested_without_end_has_no_text() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="which has no text"):
        fill(compiled("it is {{ deep }}"), lambda _expression: deep)


def test_a_filled_value_may_be_changed_without_changing_the_template() -> None:
    template = compiled({"plain": [1], "other": "{{ n }}"})
    fill(template, lambda _: 1)["plain"].append(2)
    assert fill(template, lambda _: 1) == {"plain": [1], "other": 1}
    alone = compiled([1])
    fill(alone, lambda _: 1).append(2)
    assert fill(alone, lambda _: 1) == [1]


def test_a_value_without_expressions_is_a_literal_and_one_expression_is_the_whole() -> None:
    assert isinstance(compiled({"a": [1, "b"]}), Literal)
    assert isinstance(compiled("\\{{ n }}"), Literal)
    assert isinstance(compiled("{{ n }}"), Whole)


def test_the_expressions_of_a_template_are_all_of_them() -> None:
    template = compiled({"a": "{{ n }}", "b": ["x{{ name }}y{{ box.a }}", 1], "c": "plain"})
    assert [each.text for each in expressions_of(template)] == ["n", "name", "box.a"]


@given(st.text(alphabet="ab{}'`\\ \n"))
def test_a_text_is_filled_in_or_a_fault_and_one_without_braces_stays(text: str) -> None:
    found = faults(text)
    assert all(0 <= offset <= len(text) for _, offset, _ in found)
    if "{{" not in text:
        assert not found
        assert filled(text) == text


@given(st.text(), st.text())
def test_the_text_around_an_expression_stays(before: str, after: str) -> None:
    if "{{" in before + after or before.endswith(("{", "\\")) or after.startswith("}"):
        return

    def evaluate_one(_: Expression) -> str:
        return "X"

    expected = f"{before}X{after}"
    assert fill(compiled(f"{before}{{{{ n }}}}{after}"), evaluate_one) == expected
