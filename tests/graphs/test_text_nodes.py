"""The kinds parse, format, template, hash and log."""

from __future__ import annotations

import hashlib
import logging
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironflow_nb.errors import NodeFailed
from ironflow_nb.graphs.compiler.schema_check import problems
from ironflow_nb.graphs.nodes.templating import MOST_ROUNDS
from ironflow_nb.graphs.nodes.texts import FORMAT, HASH, LOG, PARSE, TEMPLATE
from tests.graphs.evaluations import context_of


def parsed(**options: Any) -> Any:
    return PARSE.perform(options, context_of())


def formatted(**options: Any) -> Any:
    return FORMAT.perform(options, context_of())


def rendered(text: str, *, autoescape: bool = False, **values: Any) -> Any:
    return TEMPLATE.perform({"text": text, "values": values, "autoescape": autoescape}, context_of())


# -- parse -------------------------------------------------------------------------------------------------------

PARSED = [
    ({"json": '{"a": [1, null, "ü"]}'}, {"a": [1, None, "ü"]}),
    ({"json": "\ufeff1"}, 1),
    ({"yaml": "a: [1, yes, 2026-01-01, ~]\nb: {c: 'x'}"}, {"a": [1, "yes", "2026-01-01", None], "b": {"c": "x"}}),
    ({"yaml": "- &x {a: 1}\n- *x"}, [{"a": 1}, {"a": 1}]),
    ({"yaml": "{{ no }}".replace("{{ no }}", "just text")}, "just text"),
    ({"yaml": "# nothing\n---\n"}, None),
    ({"csv": "a,b\n1,x\n2,\"y, \"\"z\"\"\nw\"\n"}, [{"a": "1", "b": "x"}, {"a": "2", "b": 'y, "z"\nw'}]),
    ({"csv": "a;b\r\n1;2\r\n", "delimiter": ";"}, [{"a": "1", "b": "2"}]),
    ({"csv": "1,2\n3", "header": False}, [["1", "2"], ["3"]]),
    ({"csv": "\ufeffa\n\n1\n"}, [{"a": "1"}]),
    ({"csv": ""}, []),
    ({"csv": "a,b"}, []),
]  # fmt: skip


@pytest.mark.parametrize(("options", "expected"), PARSED, ids=[str(options)[:40] for options, _ in PARSED])
def test_parse_gives_the_data_of_a_text(options: Any, expected: Any) -> None:
    assert list(problems(PARSE.schema, options, allows_expressions=False)) == []
    assert parsed(**options) == expected


LAUGHS = "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
UNPARSED = [
    ({"json": "{'a': 1}"}, "the text of 8 characters is no JSON: Expecting property name"),
    ({"json": "[NaN]"}, "is no JSON: NaN is not JSON"),
    ({"json": "[" * 100_000}, "is no JSON"),
    ({"json": {"a": 1}}, "json is an object with a, and not a text; what is data already needs no parse"),
    ({"json": b"{}"}, "json is a bytes, and not a text"),
    ({"yaml": "a: [1"}, "is no YAML: line "),
    ({"yaml": "a: 1\na: 2"}, "a is repeated; it is first in line 1"),
    ({"yaml": "a: !!python/name:os.system x"}, "is no YAML"),
    ({"yaml": LAUGHS}, "too many values, or is nested too deep"),
    ({"yaml": "[" * 5000}, "is no YAML"),
    ({"csv": "a,b\n1"}, "the row that ends in line 2 has 1 cells, and the header 2"),
    ({"csv": "a,b\n1,2,3"}, "has 3 cells, and the header 2"),
    ({"csv": "a,a\n1,2"}, "the header names 'a' twice"),
    ({"csv": 'a\n"open'}, "is no CSV: line 2: unexpected end of data"),
    ({}, "one of json, csv, yaml, xml is to be given, and not 0"),
    ({"json": "1", "yaml": "1"}, "one of json, csv, yaml, xml is to be given, and not 2"),
]


@pytest.mark.parametrize(("options", "said"), UNPARSED, ids=[str(options)[:40] for options, _ in UNPARSED])
def test_parse_says_what_is_wrong_with_a_text_and_where(options: Any, said: str) -> None:
    with pytest.raises(NodeFailed, match=re.escape(said)) as caught:
        parsed(**options)
    assert caught.value.is_retryable is False


# -- format ------------------------------------------------------------------------------------------------------

SOMETHING = object()
FORMATTED = [
    ({"json": {"a": ["ü", None]}}, '{"a": ["ü", null]}'),
    ({"json": {"a": 1}, "indent": 2}, '{\n  "a": 1\n}'),
    ({"json": None}, "null"),
    ({"json": {"at": datetime(2026, 1, 1, tzinfo=UTC)}}, '{"at": "2026-01-01T00:00:00Z"}'),
    ({"yaml": {"b": [1, "x"], "a": None}}, "b:\n- 1\n- x\na: null\n"),
    ({"csv": [{"a": 1, "b": True}, {"a": None, "c": [1]}]}, "a,b,c\n1,true,\n,,[1]\n"),
    ({"csv": [{"a": 1, "b": 2}], "columns": ["b", "x"]}, "b,x\n2,\n"),
    ({"csv": [{"a": 1}], "header": False, "delimiter": ";"}, "1\n"),
    ({"csv": [["x", 'a "b"'], ["y", "c,d"]]}, 'x,"a ""b"""\ny,"c,d"\n'),
    ({"csv": [[1]], "columns": ["n"]}, "n\n1\n"),
    ({"csv": []}, ""),
]
UNFORMATTED = [
    ({"json": {"at": SOMETHING}}, "an object with at can't be written as JSON"),
    ({"json": [float("nan")]}, "can't be written as JSON"),
    ({"yaml": SOMETHING}, "a object can't be written as YAML"),
    ({"csv": {"a": 1}}, "it takes a list of objects, or of lists"),
    ({"csv": [{"a": 1}, 2]}, "row 1 is a number, and not an object as others are"),
    ({"csv": [[SOMETHING]]}, "can't be written as CSV"),
    ({}, "one of json, csv, yaml"),
]


@pytest.mark.parametrize(("options", "expected"), FORMATTED, ids=range(len(FORMATTED)))
def test_format_gives_a_text_of_data(options: Any, expected: str) -> None:
    assert list(problems(FORMAT.schema, options, allows_expressions=False)) == []
    assert formatted(**options) == expected


@pytest.mark.parametrize(("options", "said"), UNFORMATTED, ids=range(len(UNFORMATTED)))
def test_format_says_what_can_not_be_written(options: Any, said: str) -> None:
    with pytest.raises(NodeFailed, match=re.escape(said)) as caught:
        formatted(**options)
    assert caught.value.is_retryable is False


def test_data_without_end_is_an_error_and_no_crash() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for form in ("json", "yaml"):
        with pytest.raises(NodeFailed, match="nested too deep"):
            formatted(**{form: deep})


PLAIN = st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
DATA = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**40), 2**40), PLAIN),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(PLAIN, inner, max_size=3)),
    max_leaves=8,
)


@given(DATA)
def test_what_is_formatted_is_parsed_again(data: Any) -> None:
    assert parsed(json=formatted(json=data)) == data
    if isinstance(data, dict | list):
        assert parsed(yaml=formatted(yaml=data)) == data


@given(st.lists(st.fixed_dictionaries({"a": st.text(max_size=5), "b": st.text(min_size=1, max_size=5)}), min_size=1))
def test_rows_of_texts_come_back_from_csv(rows: list[dict[str, str]]) -> None:
    rows = [{key: value.replace("\0", "") or "x" for key, value in row.items()} for row in rows]
    assert parsed(csv=formatted(csv=rows)) == rows


# -- template ----------------------------------------------------------------------------------------------------


def test_a_template_sees_its_values_and_knows_loops_filters_and_macros() -> None:
    text = "{% for row in rows %}{{ loop.index }}/{{ loop.length }} {{ row.name|upper }}\n{% endfor %}"
    assert rendered(text, rows=[{"name": "a"}, {"name": "b"}]) == "1/2 A\n2/2 B\n"
    assert rendered("{% macro hi(x) %}hi {{ x }}{% endmacro %}{{ hi('a') }}{{ '%.2f'|format(1) }}") == "hi a1.00"
    assert rendered("{% set x %}a{{ n }}{% endset %}{{ x }}{% set y = n %}{{ y }}", n=1) == "a11"
    assert rendered("{{ a if b else c }}", a=1, b=False, c=2) == "2"


def test_a_template_escapes_where_it_is_asked_to() -> None:
    assert rendered("{{ a }}", a="<b>") == "<b>"
    assert rendered("{{ a }}", a="<b>", autoescape=True) == "&lt;b&gt;"


def test_the_braces_of_a_template_are_not_those_of_the_graph() -> None:
    assert TEMPLATE.verbatim == {"text"}


GROWING = [
    "{% for i in range(90) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
    "{% for i in range(90) %}{% set n.x = {1: n.x, 2: n.x} %}{% endfor %}{{ n.x == 1 }}",
    "{% macro f(x, n) %}{% if n %}{{ f([x, x], n - 1) }}{% else %}{{ x }}{% endif %}{% endmacro %}{{ f(1, 90) }}",
    "{% set x = [1] %}" + "{% with x = [x, x] %}" * 60 + "{{ x }}" + "{% endwith %}" * 60,
    "{% set y = [1] %}" + "{% for y in [[y, y, y, y]] %}" * 15 + "{{ y }}" + "{% endfor %}" * 15,
    "{{ (" + " ~ ".join("t" * 40) + ")|length }}",
    "{{ (t + t)|length }}",
    "{% set x %}{% for i in range(1000) %}{{ t }}{% endfor %}{% endset %}{{ x|length }}",
    "{% macro m() %}{% for i in range(100000) %}" + "x" * 5000 + "{% endfor %}{% endmacro %}{{ m()|length }}",
]


@pytest.mark.parametrize("text", GROWING, ids=range(len(GROWING)))
def test_a_template_in_which_something_grows_without_end_is_refused(text: str) -> None:
    with pytest.raises(NodeFailed, match=r"makes something of more|is too much work: it makes more|multiplies"):
        rendered("{% set n = namespace(x=[1]) %}{% set t = 'a' * 3000000 %}" + text)


REFUSED = [
    ("{{ nope }}", "'nope' is undefined"),
    ("{{ a.b }}", "has no attribute 'b'"),
    ("{{ x }", "can't be read, line 1"),
    ("\n{% if %}", "can't be read, line 2"),
    ("{{ ''.__class__.__mro__ }}", "is unsafe"),
    ("{{ a.__init__.__globals__ }}", "is unsafe"),
    ("{{ a.update({'x': 1}) }}", "is unsafe"),
    ("{% include '/etc/passwd' %}", "no loader"),
    ("{% import 'os' as os %}", "no loader"),
    ("{{ lipsum() }}", "'lipsum' is undefined"),
    ("{{ [1, 2]|random }}", "No filter named 'random'"),
    ("{% for x in range(90000) %}{% for y in range(9000) %}{% endfor %}{% endfor %}", f"more than {MOST_ROUNDS} times"),
    ("{% for x in range(90000) %}{% for y in range(90000) if false %}{% endfor %}{% endfor %}", "goes round its loops"),
    ("{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(40) }}", "goes round its loops"),
    ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "is nested too deep"),
    ("{% for x in [40] recursive %}{% if x %}{{ loop([x-1, x-1]) }}{% endif %}{% endfor %}", "goes round its loops"),
    ("{% set n = namespace(s='ab') %}{% for x in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}", "makes something"),
    ("{% for x in range(60000) %}" + "x" * 100 + "{% endfor %}", "makes more than 5000000 characters"),
    ("{{ 'a' * 10**9 }}", "multiplies something"),
    ("{{ 9 ** 9999999 }}", "numbers that are too large"),
    ("{{ 'a'|center(1000000000) }}", "pads or indents by more than"),
    ("{{ 'a'.ljust(1000000000) }}", "is unsafe"),
    ("{{ '{:>999999999}'.format(1) }}", "is unsafe"),
    ("{{ '%0999999999d'|format(1) }}", "with a width of more than 3 digits"),
    ("{{ '%*d' % (999999999, 1) }}", "with a width of more than 3 digits"),
    ("{{ 1 / 0 }}", "ZeroDivisionError"),
    ("{{ '%(a)999999999d' % {'a': 1} }}", "with a width of more than 3 digits"),
    ("{{ '%(a(b))999999999d' % {'a(b)': 1} }}", "with a width of more than 3 digits"),
    ("{{ '%.999999999f'|format(1) }}", "with a width of more than 3 digits"),
    ("{{ ('%s' * 100000) % (('a' * 100000,) * 100000) }}", "makes something of more"),
    ("{{ 'a'.encode() }}", "is unsafe"),
    ("{{ b * 1000000000 }}", "reckons with bytes"),
    ("{{ b.center(1000000000) }}", "is unsafe"),
    ("{{ 5 .to_bytes(1000000000, 'big') }}", "is unsafe"),
    ("{{ ('a' * 5000)|replace('', 'b' * 5000) }}", "makes something of more"),
    ("{{ ('a' * 5000).replace('a', 'b' * 5000) }}", "makes something of more"),
    ("{{ ('a' * 5000).join('b' * 5000) }}", "makes something of more"),
    ("{{ ('b' * 5000)|join('a' * 5000) }}", "makes something of more"),
    ("{{ range(5000)|map('string')|join('a' * 5000) }}", "makes something of more"),
    ("{{ ('b' * 5000)|map('replace', 'b', 'a' * 5000)|list }}", "is too much work"),
    ("{{ ('b\n' * 5000)|indent('a' * 5000) }}", "makes something of more"),
    ("{{ ('b ' * 5000)|wordwrap(1, true, 'a' * 5000) }}", "makes something of more"),
    ("{{ 'aa'.translate({97: 'a' * 5000}) }}", "is unsafe"),
    ("{{ [[1], [2]]|sum(start=[]) }}", "sums what are no numbers"),
    ("{{ (10 ** 12) ** 1000 ** 1 * 10 ** 13 }}", "numbers that are too large"),
    ("{{ [1] * 99999999 }}", "multiplies something"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), REFUSED, ids=[text[:50] for text, _ in REFUSED])
def test_a_template_that_looks_out_or_makes_too_much_is_refused(text: str, said: str) -> None:
    with pytest.raises(NodeFailed, match=re.escape(said)) as caught:
        rendered(text, a={}, b=b"bytes")
    assert str(caught.value).startswith("n: the template ")
    assert caught.value.is_retryable is False


ALLOWED = [
    ("{{ '%5.2f|%-4s|%d%%' % (1.5, 'a', 3) }}", " 1.50|a   |3%"),
    ("{{ '%(year)s 20261128: %(n)d'|format(year=2026, n=1) }}", "2026 20261128: 1"),
    ("{{ 'a,b'.split(',')|join('; ') }} {{ ' x '.strip().upper() }} {{ 'abc'.replace('b', '-') }}", "a; b X a-c"),
    ("{{ rows|map(attribute='n')|select('gt', 1)|sum }} {{ rows|sum(attribute='n') }}", "5 6"),
    ("{{ rows|groupby('n')|length }} {{ rows|tojson|length > 3 }} {{ (rows|last).n ** 2 }}", "3 True 9"),
    ("{% for k, v in {'a': 1}|dictsort %}{{ k ~ v ~ loop.index }}{% endfor %}", "a11"),
    ("{% for n in [1, 2, 3]|reverse %}{{ n }}{{ ', ' if not loop.last }}{% endfor %}", "3, 2, 1"),
    ("{{ 'a' + 'b' }}{{ [1] + [2] }}{{ 'ab' * 2 }}{{ 7 % 4 }}{{ 2 * 3.5 }}", "ab[1, 2]abab37.0"),
    ("{% call(x) f() %}<{{ x }}>{% endcall %}{% macro f() %}{{ caller('a') }}{% endmacro %}", None),
    ("{% macro f() %}{{ caller('a') }}{% endmacro %}{% call(x) f() %}<{{ x }}>{% endcall %}", "<a>"),
    ("{% filter upper %}abc{% endfilter %}{% with a = 1 %}{{ a }}{% endwith %}", "ABC1"),
    ("{{ 'x'|center(5) }}|{{ 'a b c'|wordwrap(3) }}|{{ 'abcdef'|truncate(5, true, '..', 0) }}", "  x  |a b\nc|abc.."),
]


@pytest.mark.parametrize(("text", "expected"), ALLOWED, ids=range(len(ALLOWED)))
def test_what_templates_usually_do_is_done(text: str, expected: str | None) -> None:
    values = {"rows": [{"n": 1}, {"n": 2}, {"n": 3}]}
    if expected is None:
        with pytest.raises(NodeFailed, match="is undefined"):
            rendered(text, **values)
    else:
        assert rendered(text, **values) == expected


def test_a_large_table_is_rendered() -> None:
    rows = [{"id": number, "name": f"name {number}"} for number in range(20_000)]
    text = (
        "{% for row in rows %}{{ row.id }};{{ row.name|upper }};{{ rows|length }};{{ '%05d' % row.id }}\n{% endfor %}"
    )
    assert rendered(text, rows=rows).count("\n") == 20_000


def test_one_rendering_does_not_use_up_the_loops_of_the_next() -> None:
    text = "{% for x in range(50000) %}{% endfor %}done"
    assert [rendered(text) for _ in range(4)] == ["done"] * 4


# -- hash and log ------------------------------------------------------------------------------------------------


def test_hash_gives_the_digest_of_texts_bytes_and_data() -> None:
    def digest(value: Any, **more: Any) -> Any:
        return HASH.perform({"value": value, **more}, context_of())

    assert digest("ü") == digest("ü".encode()) == hashlib.sha256("ü".encode()).hexdigest()
    assert digest("a", algorithm="md5") == hashlib.md5(b"a").hexdigest()
    assert digest({"b": 1, "a": [None]}) == hashlib.sha256(b'{"a":[null],"b":1}').hexdigest()
    for value, more in ((object(), {}), ("a", {"algorithm": "rot13"}), ([float("nan")], {})):
        with pytest.raises(NodeFailed, match="has no digest"):
            digest(value, **more)


def test_log_tells_the_message_and_gives_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="ironflow_nb.graph"):
        assert LOG.perform({"message": "hello"}, context_of()) == "hello"
        assert LOG.perform({"message": {"a": [1]}, "level": "warning"}, context_of()) == {"a": [1]}
    assert [(each.levelname, each.getMessage()) for each in caplog.records] == [
        ("INFO", "n: hello"), ("WARNING", 'n: {"a": [1]}'),
    ]  # fmt: skip


def test_shorthands_mean_the_option_that_matters() -> None:
    assert LOG.options_of("hello") == {"message": "hello"}
    assert HASH.options_of("x") == {"value": "x"}


def test_every_kind_and_option_is_described() -> None:
    for kind in (PARSE, FORMAT, TEMPLATE, HASH, LOG):
        assert kind.description.endswith(".")
        assert all(option["description"].endswith(".") for option in kind.schema["properties"].values())
        assert list(problems(kind.schema, {"nope": 1}, allows_expressions=True))
