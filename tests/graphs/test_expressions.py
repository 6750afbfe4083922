"""Expressions: what they take from their context, how strict they are, and what their errors say."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironflow_nb.graphs.language.data import describe
from ironflow_nb.graphs.language.evaluation import EvaluationError
from ironflow_nb.graphs.language.expression import MOST_DEPTH, WHOLE_CONTEXT, ExpressionSyntaxError, compile_expression
from tests.graphs.evaluations import value_of

ALERT: dict[str, Any] = {
    "alert": {"status_code": 201, "body": {"id": 7, "ok": True, "note": None, "tags": ["a", "b"], "odd key": 1}},
    "rows": [{"n": 1, "kind": "x"}, {"n": 2}, {"n": 3, "kind": "y"}],
    "empty": [],
    "none": None,
    "pair": (1, 2),
}

# -- strictness --------------------------------------------------------------------------------------------------

FOUND = [
    ("alert.body.id", 7),
    ('alert.body."odd key"', 1),
    ("alert.body.note", None),
    ("rows[0].n", 1),
    ("rows[-1].n", 3),
    ("rows[1:].n", [2, 3]),
    ("rows[5:]", []),
    ("rows[*].kind", ["x", "y"]),
    ("rows[?kind == 'x'].n", [1]),
    ("rows[?n > `5`].kind", []),
    ("rows[?!kind].n", [2]),
    ("empty[*].whatever", []),
    ("empty[?whatever == `1`]", []),
    ("length(rows)", 3),
    ("sort_by(rows, &n)[-1].n", 3),
    ("map(&n, rows)", [1, 2, 3]),
    ("alert.body.tags | [0]", "a"),
    ("{id: alert.body.id, all: rows[].n}", {"id": 7, "all": [1, 2, 3]}),
    ("default(alert.body.missing, 'x')", "x"),
    ("default(alert.missing.deeper[3], 'x')", "x"),
    ("coalesce(alert.nope, alert.body.note, alert.body.id)", 7),
    ("not_null(alert.nope, 'y')", "y"),
    ("alert.nope || 'z'", "z"),
    ("alert.body.note == `null`", True),
    ("alert.body.nope == `null`", True),
    ("alert.body.nope != `null`", False),
    ("`null` == alert.body.nope", True),
    ("!alert.body.nope", True),
    ("alert.body.nope && `1`", None),
    ("alert.status_code == `201` && alert.body.ok", True),
    ("`1` == `true`", False),
    ("`0` == `false`", False),
    ("alert.*.id", [7]),
    ("pair[1]", 2),
    ("pair[*]", [1, 2]),
    ("length(pair)", 2),
]

MISSING = [
    ("alert.bdy", "alert is an object with status_code, body, without a field bdy"),
    ("alert.body.idd", "alert.body is an object with id, ok, note, tags, odd key, without a field idd"),
    ("nowhere", "the context is an object with alert, rows, empty, none, pair, without a field nowhere"),
    ("none.id", "none is null, without a field id"),
    ("alert.body.id.x", "alert.body.id is a number, without a field x"),
    ("rows[3]", "rows is a list of 3, first an object with n, kind, without an item [3]"),
    ("rows[-4]", "without an item [-4]"),
    ("alert[0]", "alert is an object with status_code, body, without an item [0]"),
    ("rows.n", "rows is a list of 3, first an object with n, kind, without a field n"),
    ("alert[*].x", "alert is an object with status_code, body, without items"),
    ("none[*]", "none is null, without items"),
    ("none[?x]", "none is null, without items"),
    ("alert.status_code.*", "alert.status_code is a number, without values"),
    ("alert.body[]", "without items"),
    ("rows[*].m", "each item of rows is an object with n, kind, without a field m"),
    ("rows[*].n.m", "each item of rows, at n, is a number, without a field m"),
    ("rows[?m == `1`]", "each item of rows is an object with n, kind, without a field m"),
    ("sort_by(rows, &m)", "an item in sort_by() is an object with n, kind, without a field m"),
    ("map(&n.m, rows)", "an item in map(), at n, is a number, without a field m"),
    ("length(alert.nope)", "without a field nope"),
    ("alert.nope == 'x'", "without a field nope"),
    ("alert.body.ok || alert.nope && `1` || rows[9]", None),
    ("alert.nope || alert.never", "without a field never"),
    ("[alert.nope]", "without a field nope"),
    ("{a: alert.nope}", "without a field nope"),
    ("alert.body.note > `1`", "null and a number have no order"),
    ("alert.body.ok > `1`", "a boolean and a number have no order"),
    ("alert.body.tags < alert.body.tags", "have no order"),
    ("'a' < `1`", "a text of 1 characters and a number have no order"),
    ("length(`1`)", "it takes string or array or object, not a number"),
    ("rows[::0]", "slice step cannot be zero"),
]


@pytest.mark.parametrize(("text", "expected"), FOUND, ids=[text for text, _ in FOUND])
def test_an_expression_gives_what_is_there(text: str, expected: Any) -> None:
    assert value_of(text, ALERT) == expected


@pytest.mark.parametrize(("text", "said"), MISSING, ids=[text for text, _ in MISSING])
def test_what_is_not_there_is_an_error_that_says_where(text: str, said: str | None) -> None:
    if said is None:
        assert value_of(text, ALERT) is True
        return
    with pytest.raises(EvaluationError, match=re.escape(said)) as caught:
        value_of(text, ALERT)
    assert repr(text) in str(caught.value)


SECRET = "hunter2-is-the-password"
FAILING = [
    "upper(box)", "length(box.n)", "box.n.x", "sum(box.list)", "box.text.x", "box.list[9]", "box.list[*].x",
    "sort_by(box.list, &x)", "box.text > box.n", "from_json(box.text)", "base64_decode(box.text)",
    "format_date(box.text, '%Y')", "hash('a', box.text)", "regex_match('a', box.open)", "group_by(box.list, box.text)",
    "regex_replace('a', 'a', box.group)", "join(box.text, box.list)", "split(box.text, '').x", "max(box.list)",
    "abs(box.text)", "keys(box.text)", "starts_with(box.n, box.text)", "zip(box.list, box.text)", "range(box.text)",
    "regex_match('a', box.named)",
]  # fmt: skip


@pytest.mark.parametrize("text", FAILING)
def test_a_message_has_shapes_and_no_content(text: str) -> None:
    content = {"text": SECRET, "n": 41977, "list": [SECRET, {"deep": SECRET}]}
    patterns = {"open": f"({SECRET}", "group": f"\\g<{SECRET}>", "named": f"(?P={SECRET})"}
    with pytest.raises(EvaluationError) as caught:
        value_of(text, {"box": content | patterns})
    assert SECRET not in str(caught.value)
    assert SECRET[:7] not in str(caught.value)
    assert "41977" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_shape_of_a_large_object_shows_some_of_its_keys() -> None:
    assert describe({f"k{number}": 0 for number in range(20)}).endswith("k7, ...")
    assert [describe(each) for each in (None, True, 1.5, "ab", {}, [], (1,))] == [
        "null", "a boolean", "a number", "a text of 2 characters", "an empty object", "an empty list",
        "a list of 1, first a number",
    ]  # fmt: skip
    assert describe(object()) == "a object"


def test_a_literal_that_is_changed_by_who_gets_it_stays_as_it_is_written() -> None:
    value_of('`{"list": [1]}`')["list"].append(2)
    assert value_of('`{"list": [1]}`') == {"list": [1]}


# -- what an expression takes from its context -------------------------------------------------------------------

TAKES = [
    ("alert.body.id", {"alert"}, {("alert", "body")}),
    ("a.b == c.d", {"a", "c"}, {("a", "b"), ("c", "d")}),
    ("rows[*].alert.id", {"rows"}, set()),
    ("rows[?alert.id == limit].x", {"rows"}, set()),
    ("rows | alert.id", {"rows"}, set()),
    ("rows[].{n: alert.id}", {"rows"}, set()),
    ("map(&alert.id, rows)", {"rows"}, set()),
    ("length(alert.body)", {"alert"}, {("alert", "body")}),
    ("{x: a.b, y: [c, d[0]]}", {"a", "c", "d"}, {("a", "b")}),
    ("a.{x: b}", {"a"}, set()),
    ("`1`", set(), set()),
    ("'a.b'", set(), set()),
    ("@", {WHOLE_CONTEXT}, set()),
    ("keys(@)", {WHOLE_CONTEXT}, set()),
    ("*", {WHOLE_CONTEXT}, set()),
    ("[0]", {WHOLE_CONTEXT}, set()),
    ("a || b && !c", {"a", "b", "c"}, set()),
    ("sort_by(a, &b)[0].c", {"a"}, set()),
    ('"odd name".x', {"odd name"}, {("odd name", "x")}),
]


@pytest.mark.parametrize(("text", "names", "fields"), TAKES, ids=[text for text, _, _ in TAKES])
def test_the_text_tells_what_is_taken_from_the_context(text: str, names: set[str], fields: set[Any]) -> None:
    compiled = compile_expression(text)
    assert (compiled.names, compiled.fields) == (names, fields)


NAMES = st.sampled_from(["a", "b", "c", "rows"])
LITERALS = st.sampled_from(["`1`", "`null`", "'x'", "`[1, 2]`", '`{"a": 1}`'])


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    two = st.tuples(inner, inner)
    return st.one_of(
        two.map(lambda pair: f"({pair[0]}) | ({pair[1]})"),
        two.map(lambda pair: f"({pair[0]} || {pair[1]})"),
        two.map(lambda pair: f"({pair[0]} && {pair[1]})"),
        two.map(lambda pair: f"({pair[0]} == {pair[1]})"),
        two.map(lambda pair: f"[{pair[0]}, {pair[1]}]"),
        two.map(lambda pair: f"{{a: {pair[0]}, rows: {pair[1]}}}"),
        two.map(lambda pair: f"default({pair[0]}, {pair[1]})"),
        two.map(lambda pair: f"map(&({pair[0]}), to_array({pair[1]}))"),
        two.map(lambda pair: f"to_array({pair[0]})[?{pair[1]}]"),
        st.tuples(inner, NAMES).map(lambda pair: f"({pair[0]}).{pair[1]}"),
        inner.map(lambda text: f"({text})[*]"),
        inner.map(lambda text: f"({text})[]"),
        inner.map(lambda text: f"({text})[0]"),
        inner.map(lambda text: f"({text})[:1]"),
        inner.map(lambda text: f"!({text})"),
        inner.map(lambda text: f"type({text})"),
    )


EXPRESSIONS = st.recursive(st.one_of(NAMES, LITERALS, st.just("@")), _grown, max_leaves=8)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(0, 3), st.sampled_from(["", "x"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=8,
)
CONTEXTS = st.fixed_dictionaries(dict.fromkeys(["a", "b", "c", "rows"], VALUES))


def _outcome(text: str, context: dict[str, Any]) -> Any:
    try:
        return value_of(text, context)
    except EvaluationError:
        return EvaluationError


@given(EXPRESSIONS, CONTEXTS, CONTEXTS)
def test_a_value_depends_on_nothing_but_the_names_that_are_taken(
    text: str, context: dict[str, Any], other: dict[str, Any]
) -> None:
    names = compile_expression(text).names
    if WHOLE_CONTEXT not in names:
        assert _outcome(text, context) == _outcome(text, other | {name: context[name] for name in names})


@given(EXPRESSIONS, CONTEXTS)
def test_a_context_is_not_changed_by_who_looks_at_it(text: str, context: dict[str, Any]) -> None:
    before = repr(context)
    _outcome(text, context)
    assert repr(context) == before


# -- what can't be compiled --------------------------------------------------------------------------------------

WRONG = [
    ("", 0, "the expression is empty"),
    ("  ", 0, "the expression is empty"),
    ("a.", 2, "the end was not expected"),
    ("a b", 2, "'b' was not expected"),
    ("a == ", 5, "the end was not expected"),
    ("a # b", 2, "Unknown token #"),
    ("a.b = c", 4, "Unknown token '='"),
    ("a.'b'", 2, "'b' was not expected"),
    ("'open", 0, "Unclosed ' delimiter"),
    ("join(',' b)", 9, "'b' was not expected"),
    ("join(',', b,)", 12, "')' was not expected"),
    ("{a: b c: d}", 6, "'c' was not expected"),
    ("{a: b, a: c}", 7, "the key 'a' is repeated"),
    ("`text`", 0, "a literal between backquotes must be JSON"),
    ("[a, `NaN`]", 4, "a literal between backquotes must be JSON"),
    ('a || "length"(b)', 5, "'length' was not expected"),
    ("a || lenght(b)", 5, "there is no function lenght(); did you mean length()?"),
    ("'length(a, b)' || length(a, b)", 18, "length() takes 1 argument, not 2"),
    ("upper(a) || upper ( a, b )", 12, "upper() takes 1 argument, not 2"),
    ("concat()", 0, "concat() takes at least 1 argument, not 0"),
    ("range(a, b, c, d)", 0, "range() takes 1 to 3 arguments, not 4"),
    ("zxqwv(a)", 0, "besides JMESPath's own there are: base64_decode"),
    ("&a", 0, "& stands before an argument of map(), max_by(), min_by(), sort_by(), and nowhere else"),
    ("to_string(&a)", 10, "and nowhere else"),
    ("[a, &b]", 4, "and nowhere else"),
    ("a | &b", 4, "and nowhere else"),
    ("sort_by(a, b)", 0, "sort_by() takes an expression as argument 2: a field with & before it"),
    ("sort_by(&a, a)", 8, "and nowhere else"),
    ("a[" + "9" * 5000 + "]", 0, "4300 digits"),
    ("(" * 3000 + "a" + ")" * 3000, 0, "nested too deep"),
    (" || ".join(["a"] * 5000), 0, f"nested deeper than {MOST_DEPTH}"),
    ("a" + "[]" * 3000, 0, f"nested deeper than {MOST_DEPTH}"),
]


@pytest.mark.parametrize(("text", "offset", "said"), WRONG, ids=[text[:40] for text, _, _ in WRONG])
def test_what_is_no_expression_is_an_error_with_its_place(text: str, offset: int, said: str) -> None:
    with pytest.raises(ExpressionSyntaxError, match=re.escape(said)) as caught:
        compile_expression(text)
    assert caught.value.offset == offset
    assert len(str(caught.value)) < 600


@given(st.text(alphabet="ab.[]{}()|&!='`\"0-9,:@*?\\ <>$é", max_size=25))
def test_any_text_is_an_expression_or_an_error_with_a_place_in_it(text: str) -> None:
    offset = 0
    try:
        compile_expression(text)
    except ExpressionSyntaxError as error:
        offset = error.offset
    assert 0 <= offset <= len(text)


def test_an_expression_of_the_greatest_depth_is_evaluated_far_down_the_stack() -> None:
    text = " || ".join(["a.b"] * (MOST_DEPTH - 1))

    def down(n_left: int) -> Any:
        return down(n_left - 1) if n_left else value_of(text, {"a": {"b": 1}})

    assert down(300) == 1


def test_an_expression_is_compiled_once() -> None:
    assert compile_expression("a.b.c") is compile_expression("a.b.c")


# -- defects of others, which ours has not -----------------------------------------------------------------------


def test_an_id_inside_of_a_longer_word_is_no_reference() -> None:
    assert compile_expression("fetched.body || 'fetch.body'").names == {"fetched"}


def test_an_expression_that_fails_is_no_null() -> None:
    with pytest.raises(EvaluationError):
        value_of("{id: input.nope}", {"input": {}})


def test_concat_joins_more_than_texts_and_split_splits_at_its_separator() -> None:
    assert value_of("concat('a', `1`)") == "a1"
    assert value_of("split('a-b', '-')") == ["a", "b"]


def test_capitalize_leaves_the_rest_alone() -> None:
    assert value_of("capitalize('aBc')") == "ABc"


def test_an_error_shows_no_environment() -> None:
    with pytest.raises(EvaluationError) as caught:
        value_of("env.NOPE", {"env": {"TOKEN": SECRET}})
    assert SECRET not in str(caught.value)
