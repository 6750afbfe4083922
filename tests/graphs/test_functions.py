"""The functions of expressions: what each gives, and what each says of what it can't take."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironflow_nb.graphs.language.evaluation import EvaluationError
from ironflow_nb.graphs.language.expression import NONDETERMINISTIC, ExpressionSyntaxError, compile_expression
from ironflow_nb.graphs.language.functions import EXTRA_FUNCTIONS, MOST_ITEMS, known_functions
from ironflow_nb.graphs.language.patterns import MOST_CHARACTERS
from tests.graphs.evaluations import ID, NOW, value_of

GOOD = [
    ("base64_encode('Grüße')", "R3LDvMOfZQ=="),
    ("base64_encode('')", ""),
    ("base64_decode('R3LDvMOfZQ==')", "Grüße"),
    ("upper('straße')", "STRASSE"),
    ("lower('ÄB')", "äb"),
    ("capitalize('hello World')", "Hello World"),
    ("capitalize('')", ""),
    ("split('a,b,,c', ',')", ["a", "b", "", "c"]),
    ("split('', ',')", [""]),
    ("concat('a', `1`, '-', `2.5`)", "a1-2.5"),
    ("concat(`[1]`, `[]`, `[[2]]`)", [1, [2]]),
    ("regex_match('order 66', '[0-9]+$')", True),
    ("regex_match('order', '[0-9]')", False),
    ("regex_replace('a1b22', '[0-9]+', '<\\g<0>>')", "a<1>b<22>"),
    ("regex_replace('John Smith', '(\\w+) (\\w+)', '\\2 \\1')", "Smith John"),
    ("hash('abc')", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    ("hash('abc', 'md5')", "900150983cd24fb0d6963f7d28e17f72"),
    ("hash(`{\"b\": 1, \"a\": 2}`) == hash(`{\"a\": 2, \"b\": 1}`)", True),
    ("from_json('{\"a\": [1, null]}')", {"a": [1, None]}),
    ("now()", NOW.isoformat()),
    ("uuid()", ID),
    ("format_date('2026-03-01T12:30:00+00:00', '%d.%m.%Y %H:%M')", "01.03.2026 12:30"),
    ("format_date(`0`, '%Y-%m-%d')", "1970-01-01"),
    ("format_date(now(), '%Y')", "2030"),
    ("default(`null`, 'x')", "x"),
    ("default(`false`, 'x')", False),
    ("default('', 'x')", ""),
    ("coalesce(`null`, `null`, `0`, `1`)", 0),
    ("coalesce(`null`)", None),
    ("zip(`[1, 2]`, `[\"a\", \"b\"]`)", [[1, "a"], [2, "b"]]),
    ("zip(`[]`, `[]`)", []),
    ("group_by(`[{\"k\": \"x\", \"n\": 1}, {\"k\": \"y\", \"n\": 2}, {\"k\": \"x\", \"n\": 3}]`, 'k')",
     {"x": [{"k": "x", "n": 1}, {"k": "x", "n": 3}], "y": [{"k": "y", "n": 2}]}),
    ("group_by(`[{\"k\": 1}, {\"k\": null}, {\"k\": true}]`, 'k') | keys(@)", ["1", "null", "true"]),
    ("range(`3`)", [0, 1, 2]),
    ("range(`1`, `4`)", [1, 2, 3]),
    ("range(`4`, `0`, `-2`)", [4, 2]),
    ("range(`3`, `1`)", []),
    ("round(`2.6`)", 3),
    ("round(`1.2345`, `2`)", 1.23),
    ("round(`1234`, `-2`)", 1200),
    ("truthy(`0`)", True),
    ("truthy(`{}`)", False),
    ("unique(`[1, 1.0, \"1\", true, [1], [1.0]]`)", [1, "1", True, [1]]),
    ("unique(`[{\"k\": 1, \"n\": 2}, {\"k\": 1}]`, 'k')", [{"k": 1, "n": 2}]),
    ("rename(`{\"k\": 1, \"n\": 2}`, `{\"k\": \"n\", \"n\": \"k\"}`)", {"n": 1, "k": 2}),
    ("rename(`[{\"k\": 1}, {\"n\": 2}]`, `{\"k\": \"key\"}`)", [{"key": 1}, {"n": 2}]),
    ("rename(`[]`, `{\"k\": \"key\"}`)", []),
]  # fmt: skip

BAD = [
    ("base64_encode(`1`)", "its argument must be a text, not a number"),
    ("base64_encode(from_json('\"\\ud800\"'))", "a lone surrogate"),
    ("base64_decode('***')", "not base64 of a text"),
    ("base64_decode('ü')", "not base64 of a text"),
    ("base64_decode('/w==')", "not base64 of a text"),
    ("upper(`[1]`)", "its argument must be a text, not a list of 1"),
    ("lower(`null`)", "its argument must be a text, not null"),
    ("capitalize(`true`)", "its argument must be a text, not a boolean"),
    ("split('a', '')", "the separator is empty"),
    ("split(`1`, ',')", "its first argument must be a text, not a number"),
    ("concat('a', `null`)", "it takes texts and numbers, or lists, not null"),
    ("concat('a', `true`)", "it takes texts and numbers, or lists, not a boolean"),
    ("concat(`[1]`, 'a')", "it takes texts and numbers, or lists, not a list of 1"),
    ("regex_match(`1`, 'a')", "its first argument must be a text"),
    ("regex_match('a', '(')", "the pattern is not a regular expression"),
    ("regex_match('a', `1`)", "the pattern must be a text, not a number"),
    ("regex_replace('a', 'a', '\\9')", "the replacement does not fit the pattern"),
    ("regex_replace('a', 'a', `1`)", "the replacement must be a text, not a number"),
    ("hash('a', 'rot13')", "the algorithm must be one of sha256"),
    ("hash('a', `[]`)", "the algorithm must be one of sha256"),
    ("from_json('{')", "its argument is not JSON"),
    ("from_json('NaN')", "its argument is not JSON"),
    ("from_json(`{}`)", "its argument must be a text, not an empty object"),
    ("format_date('yesterday', '%Y')", "neither ISO 8601 nor seconds"),
    ("format_date(`true`, '%Y')", "the instant must be a text, not a boolean"),
    ("format_date(`1e300`, '%Y')", "format_date()"),
    ("format_date(`0`, `1`)", "the format must be a text, not a number"),
    ("zip(`[1]`, `[1, 2]`)", "1, 2 items; they must have the same number"),
    ("zip(`[1]`, 'ab')", "a list, not a text of 2 characters"),
    ("group_by(`[{\"a\": 1}]`, 'k')", "item 0 of the list is an object with a, without the field"),
    ("group_by(`[1]`, 'k')", "item 0 of the list is a number, without the field"),
    ("group_by(`{}`, 'k')", "its first argument must be a list, not an empty object"),
    ("group_by(`[]`, `1`)", "the field must be a text, not a number"),
    ("group_by(`[{\"k\": \"1\"}, {\"k\": 1}]`, 'k')", "with the same text"),
    ("range(`1`, `2`, `0`)", "the step is 0"),
    ("range(`1.5`)", "the stop must be a whole number"),
    ("range(`5`, `null`)", "the stop must be a whole number, not null"),
    ("range(`true`)", "the stop must be a whole number, not a boolean"),
    (f"range(`{MOST_ITEMS + 1}`)", f"more than {MOST_ITEMS}"),
    ("range(`1" + "0" * 40 + "`)", f"more than {MOST_ITEMS}"),
    ("round('1.5')", "its first argument must be a number, not a text of 3 characters"),
    ("round(`true`)", "its first argument must be a number, not a boolean"),
    ("round(`1.5`, `1.5`)", "digits must be a whole number, not a number"),
    ("round(`1`, `-1000000000`)", "digits must be between -300 and 300"),
    ("unique('a')", "its first argument must be a list, not a text"),
    ("unique(`[{\"k\": 1}]`, 'x')", "item 0 of the list is an object with k, without the field"),
    ("unique(`[{\"k\": 1}]`, `1`)", "the field must be a text, not a number"),
    ("rename(`[{\"k\": 1}]`, `{\"x\": \"y\"}`)", "there is no field 'x'"),
    ("rename(`{\"k\": 1, \"n\": 2}`, `{\"k\": \"n\"}`)", "two fields would have one name"),
    ("rename(`{}`, `{\"k\": 1}`)", "the names must be an object of texts"),
    ("rename(`[1]`, `{\"k\": \"n\"}`)", "item 0 of the list is a number, and not an object"),
    ("sum(`[1e308, 1e308]`)", "not a number of JSON"),
    ("to_number('nan')", "not a number of JSON"),
    ("sum(`[\"a\"]`)", "it takes array-number, not a text of 1 characters"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), GOOD, ids=[text for text, _ in GOOD])
def test_a_function_gives_what_it_promises(text: str, expected: Any) -> None:
    found = value_of(text)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(("text", "said"), BAD, ids=[text[:60] for text, _ in BAD])
def test_a_function_says_what_it_can_not_take(text: str, said: str) -> None:
    with pytest.raises(EvaluationError, match=re.escape(said)) as caught:
        value_of(text)
    assert text.partition("(")[0] in str(caught.value)


def test_every_function_stands_in_both_tables() -> None:
    called = [set(re.findall(r"(\w+)\(", text)) for table in (GOOD, BAD) for text, _ in table]
    good, bad = set().union(*called[: len(GOOD)]), set().union(*called[len(GOOD) :])
    assert EXTRA_FUNCTIONS.keys() <= good
    # These take anything.
    assert EXTRA_FUNCTIONS.keys() - bad == {"now", "uuid", "default", "coalesce", "truthy"}


@pytest.mark.parametrize("name", sorted(EXTRA_FUNCTIONS))
def test_a_function_with_too_many_or_few_arguments_is_an_error_of_the_text(name: str) -> None:
    function = EXTRA_FUNCTIONS[name]
    wrong = [function.n_least - 1] * (function.n_least > 0)
    wrong += [int(function.n_most) + 1] if math.isfinite(function.n_most) else []
    assert wrong
    for n_given in wrong:
        with pytest.raises(ExpressionSyntaxError, match=re.escape(f"{name}() takes {function.arity}, not {n_given}")):
            compile_expression(f"{name}({', '.join(['a'] * n_given)})")


@pytest.mark.parametrize("name", sorted(EXTRA_FUNCTIONS))
def test_a_function_is_described_by_one_sentence_and_its_signature(name: str) -> None:
    function = EXTRA_FUNCTIONS[name]
    assert function.signature.startswith(f"{name}(")
    assert function.description.endswith(".")
    assert "\n" not in function.description


def test_only_the_functions_that_are_recorded_vary() -> None:
    assert known_functions().keys() >= NONDETERMINISTIC
    assert {
        name for name in EXTRA_FUNCTIONS if compile_expression(f"[{name}({_arguments(name)})]").is_nondeterministic
    } == NONDETERMINISTIC


def _arguments(name: str) -> str:
    return ", ".join(["'a'"] * EXTRA_FUNCTIONS[name].n_least)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_base64_comes_back(text: str) -> None:
    assert value_of("base64_decode(base64_encode(t))", {"t": text}) == text


@given(st.text(max_size=30), st.sampled_from([",", "--", " "]))
def test_what_is_split_is_joined_again(text: str, separator: str) -> None:
    assert value_of("join(s, split(t, s))", {"t": text, "s": separator}) == text


def test_a_pattern_does_not_look_at_a_very_long_text() -> None:
    with pytest.raises(EvaluationError, match=f"at most {MOST_CHARACTERS}"):
        value_of("regex_match(t, 'a')", {"t": "a" * (MOST_CHARACTERS + 1)})
