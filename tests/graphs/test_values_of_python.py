"""Values of Python in graphs: relatives of JSON's types, and what has an obvious meaning, are what they stand for."""

from __future__ import annotations

import json
from collections import namedtuple
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID

import attrs
import msgspec
import numpy as np
import pandas as pd
import pytest

from ironflow_nb.errors import ExpressionFailed
from ironflow_nb.graphs.language.data import as_data, coerce
from ironflow_nb.graphs.nodes.texts import FORMAT
from tests.conftest import Lab
from tests.graphs.asking import perform
from tests.graphs.evaluations import value_of
from tests.graphs.playing import graph_of
from tests.graphs.servers import replying, serving
from tests.values.catalogue_frames import NAT_WITHOUT_UNIT


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Way(Enum):
    UP = "up"


Point = namedtuple("Point", "x y")


@attrs.frozen
class Size:
    width: int
    level: Level = Level.HIGH


@attrs.define
class Unset:
    here: int = 1
    later: int = attrs.field(init=False)


class Entry(msgspec.Struct):
    n: int = 1


RELATIVES = [
    (np.float64(5.5), 5.5),
    (np.float32(5.5), 5.5),
    (np.float16(5.5), 5.5),
    (np.longdouble(5.5), 5.5),
    (pd.Series([5.0, 6.0]).mean(), 5.5),
    (np.int8(5), 5),
    (np.uint64(2**63), 2**63),
    (np.bool_(True), True),
    (np.array(5), 5),
    (np.str_("a"), "a"),
    (Colour.RED, "red"),
    (Level.HIGH, 3),
    (Point(1, Level.HIGH), {"x": 1, "y": 3}),
    (Size(2), {"width": 2, "level": 3}),
    ([Unset()], [{"here": 1}]),
    (Entry(), {"n": 1}),
    ((1, (2, np.int8(3))), [1, [2, 3]]),
    ({np.str_("k"): Colour.RED}, {"k": "red"}),
    (pd.NA, None),
    (pd.NaT, None),
    (np.datetime64("NaT", "ns"), None),
    (NAT_WITHOUT_UNIT, None),
    (MappingProxyType({"a": (1,)}), {"a": [1]}),
    (np.datetime64("2026-01-02", "ns"), datetime(2026, 1, 2)),
]

MEANINGS = [
    (datetime(2026, 1, 2, 3, tzinfo=UTC), "2026-01-02T03:00:00Z"),
    (date(2026, 1, 2), "2026-01-02"),
    (pd.Timestamp("2026-01-02"), "2026-01-02T00:00:00"),
    (Path("a/b"), "a/b"),
    (UUID(int=1), str(UUID(int=1))),
    (Decimal("19.99"), 19.99),
    (Decimal("5.00"), 5),
    (Decimal("1e3"), 1000),
    (Way.UP, "up"),
    (np.array([1.5, 2.0]), [1.5, 2.0]),
    (np.array([[1], [2]]), [[1], [2]]),
    (pd.Series([1, 2]), [1, 2]),
    (pd.Index(["a"]), ["a"]),
    (np.array(["a", "b"]), ["a", "b"]),
]


def types_of(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: types_of(each) for key, each in value.items()}
    return [types_of(each) for each in value] if isinstance(value, list) else type(value)


@pytest.mark.parametrize(("given", "expected"), RELATIVES, ids=range(len(RELATIVES)))
def test_a_relative_of_a_type_of_json_is_that_type_in_a_graph(given: Any, expected: Any) -> None:
    found = as_data(given)
    assert found == expected
    assert types_of(found) == types_of(expected)
    assert type(coerce(given)) is type(coerce(expected))


@pytest.mark.parametrize(("given", "expected"), MEANINGS, ids=range(len(MEANINGS)))
def test_what_json_has_no_type_for_is_passed_on_as_it_is_and_means_something_to_an_expression(
    given: Any, expected: Any
) -> None:
    assert as_data(given) is given
    assert types_of(coerce(given)) == types_of(expected)
    context = {"x": given, "same": expected, "all": [given]}
    assert value_of("x == same && same == x && all[0] == same", context) is True
    assert value_of("to_string(x)", context) == value_of("to_string(same)", context)
    assert value_of("to_string({a: all})", context) == value_of("to_string({a: [same]})", context)
    assert value_of("type(x)", context) == value_of("type(same)", context)
    assert value_of("hash(all)", context) == value_of("hash([same])", context)
    assert value_of("contains([same], x) && contains(['a', x], same)", context) is True


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (pd.DataFrame({"a": [1]}), "DataFrame"),
        ({1, 2}, "set"),
        (b"x", "bytes"),
        (timedelta(1), "timedelta"),
        (ValueError("x"), "ValueError"),
        (Size(1), "object"),
        ([Size(1)], "array"),
        (None, "null"),
        (pd.NaT, "null"),
    ],
    ids=range(9),
)
def test_the_type_of_a_value_is_null_for_nothing_but_null(given: Any, expected: str) -> None:
    assert value_of("type(x)", {"x": as_data(given)}) == expected
    assert value_of("type(x) == 'null'", {"x": given}) is (expected == "null")


def test_a_graph_reads_the_fields_of_a_class_of_attrs_and_knows_a_frame(lab: Lab) -> None:
    functions = {"size": lambda: Size(7), "frame": lambda: pd.DataFrame({"a": [1]}), "rows": len}
    graph = graph_of(
        {"id": "size", "python": "size"},
        {"id": "frame", "python": "frame"},
        {"id": "rows", "python": "rows", "with": ["{{ frame }}"]},
        functions=functions,
        output="{{ [size.width, type(size), type(frame), rows] }}",
    )
    assert graph() == [7, "object", "DataFrame", 1]


FUNCTIONS = [
    ("sum(numbers)", 6.5),
    ("avg(numbers)", 3.25),
    ("max(numbers)", 4.0),
    ("min(numbers)", 2.5),
    ("ceil(n)", 3),
    ("floor(n)", 2),
    ("abs(n)", 2.5),
    ("to_number(text)", 25),
    ("to_string(n)", "2.5"),
    ("length(numbers)", 2),
    ("sort(numbers)", [2.5, 4.0]),
    ("reverse(numbers)", [4.0, 2.5]),
    ("join('-', words)", "a-b"),
    ("n > `2` && n < `3`", True),
    ("numbers[0]", 2.5),
    ("numbers[::-1]", [4.0, 2.5]),
    ("numbers[?@ > `3`]", [4.0]),
    ("[numbers, numbers][]", [2.5, 4.0] * 2),
    ("concat('n', n)", "n2.5"),
    ("sort_by(rows, &n)[0].k", "a"),
    ("max_by(rows, &n).k", "b"),
    ("map(&ceil(@), numbers)", [3, 4]),
    ("upper(word)", "A"),
    ("sort(keys(group_by(rows, 'k')))", ["a", "b"]),
    ("zip(numbers, words)", [[2.5, "a"], [4.0, "b"]]),
    ("!none", True),
    ("none || n", 2.5),
    ("flag && word", "a"),
    ("range(whole)", [0, 1]),
    ("type(flag)", "boolean"),
    ("starts_with(word, word)", True),
    ("default(none, n)", 2.5),
    ("not_null(none, word)", "a"),
    ("hash(word) == hash('a')", True),
]


@pytest.mark.parametrize("number", [np.float64, np.float32, float, Decimal], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("is_array", [True, False])
@pytest.mark.parametrize(("text", "expected"), FUNCTIONS, ids=[text for text, _ in FUNCTIONS])
def test_every_function_takes_them(text: str, expected: Any, number: Any, is_array: bool) -> None:
    numbers = [number(2.5), number(4.0)]
    context = as_data(
        {
            "n": number(2.5),
            "numbers": np.array(numbers, dtype=object if number is Decimal else None) if is_array else numbers,
            "text": np.str_("25"),
            "words": (np.str_("a"), np.str_("b")),
            "word": np.str_("a"),
            "whole": np.int64(2),
            "flag": np.bool_(True),
            "none": pd.NA,
            "rows": [{"k": "b", "n": number(4.0)}, {"k": "a", "n": number(2.5)}],
        }
    )
    found = value_of(text, context)
    assert (
        json.loads(value_of("to_string(@.x)", {"x": found}) if not isinstance(found, str) else json.dumps(found))
        == expected
    )


def test_times_are_ordered_by_the_moment_and_not_by_how_it_is_written() -> None:
    early = datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))
    context = {"early": early, "late": datetime(2026, 1, 1, 0, 30, tzinfo=UTC), "path": Path("b")}
    assert value_of("early < late && late > early && early != late", context) is True
    assert value_of("path > 'a'", context) is True
    assert value_of("format_date(late, '%H:%M')", context) == "00:30"


def test_a_decimal_that_no_number_of_json_is_is_an_error_and_still_passed_on() -> None:
    exact = Decimal("0.1234567890123456789012345")
    assert value_of("x", {"x": exact}) is exact
    with pytest.raises(ValueError, match="it is a Decimal that JSON can't represent exactly"):
        value_of("x > `0`", {"x": exact})
    with pytest.raises(ValueError, match="it is a Decimal that JSON can't represent exactly"):
        value_of("sum(x)", {"x": [exact]})


def decided(condition: str, value: Any, *, is_input: bool) -> Any:
    """Return what condition, when, switch, assert, branch, while, loop and texts make of a value of Python."""
    first = {"id": "x", "transform": "{{ input.x }}"} if is_input else {"id": "x", "python": "give"}
    graph = graph_of(
        first,
        {"id": "c", "condition": condition, "then": [{"id": "yes", "log": "yes"}], "else": [{"id": "no", "log": "no"}]},
        {"id": "w", "when": condition, "transform": "ran"},
        {"id": "b", "branch": {"way": {"when": condition, "do": [{"id": "took", "transform": 1}]}}},
        {"id": "s", "switch": "{{ x.key }}", "cases": {"red": [{"id": "red", "log": "red"}]}},
        {"id": "l", "loop": "{{ x.list }}", "do": [{"id": "each", "transform": "{{ item }}"}]},
        {"id": "f", "filter": {"items": "{{ x.list }}", "where": "{{ item > `1` }}"}},
        {
            "id": "a",
            "assert": [{"holds": condition}, {"equals": ["{{ x.list }}", [1, 2]]}, {"matches": ["{{ x.key }}", "^r"]}],
        },
        {
            "id": "q",
            "sql": {
                "database": ":memory:",
                "query": "SELECT ? AS n, ? AS k",
                "parameters": ["{{ x.n }}", "{{ x.key }}"],
            },
        },
        {"id": "t", "template": {"text": "{{ n }} {{ k }}", "values": {"n": "{{ x.n }}", "k": "{{ x.key }}"}}},
        functions={"give": lambda: value},
        output={
            "said": "{{ x.n }}/{{ x.key }}/{{ x.list }}",
            "rows": "{{ q.rows }}",
            "template": "{{ t }}",
            "items": "{{ f }}",
            "taken": ["{{ c.taken }}", "{{ w }}", "{{ b.way.took }}", "{{ s.taken }}", "{{ l[].each }}"],
        },
    )
    return graph(x=value) if is_input else graph()


@pytest.mark.usefixtures("lab")
@pytest.mark.parametrize("is_input", [True, False])
@pytest.mark.parametrize(
    "value",
    [
        {"n": np.float64(5.5), "key": np.str_("red"), "list": (np.int64(1), np.int64(2))},
        {"n": np.float32(5.5), "key": Colour.RED, "list": np.array([1, 2])},
        {"n": Decimal("5.5"), "key": Colour.RED, "list": pd.Series([1, 2])},
    ],
    ids=["scalars", "array", "decimal"],
)
def test_every_node_takes_them(value: Any, is_input: bool) -> None:
    assert decided("{{ x.n > `5` }}", value, is_input=is_input) == {
        "said": "5.5/red/[1,2]",
        "rows": [{"n": 5.5, "k": "red"}],
        "template": "5.5 red",
        "items": [2],
        "taken": ["then", "ran", 1, "red", [1, 2]],
    }


@pytest.mark.usefixtures("lab")
def test_a_boolean_of_numpy_is_a_boolean() -> None:
    graph = graph_of(
        {"id": "x", "python": "give"},
        {"id": "c", "condition": "{{ x }}", "then": [{"id": "yes", "log": "yes"}], "else": [{"id": "no", "log": "no"}]},
        functions={"give": lambda: np.float64(6) > 5},
    )
    assert graph()["taken"] == "then"


@pytest.mark.usefixtures("lab")
def test_bodies_headers_and_parameters_of_requests_hold_what_values_stand_for() -> None:
    body = {"at": datetime(2026, 1, 2, tzinfo=UTC), "n": np.array([1, 2]), "cost": Decimal("19.99"), "path": Path("a")}
    with serving() as server:
        options = {
            "url": server.answers("/", replying(200, {})),
            "method": "POST",
            "json": "{{ body }}",
            "headers": {"x-cost": "{{ body.cost }}"},
            "params": {"at": "{{ body.at }}", "n": "{{ body.n }}"},
        }
        graph_of({"id": "body", "python": "give"}, {"id": "h", "http": options}, functions={"give": lambda: body})()
        assert json.loads(server.last.body) == {"at": "2026-01-02T00:00:00Z", "n": [1, 2], "cost": 19.99, "path": "a"}
        assert server.last.target == "/?at=2026-01-02T00%3A00%3A00Z&n=1&n=2"
        assert server.last.headers["x-cost"] == "19.99"
    assert json.loads(perform(FORMAT, {"json": body})) == json.loads(server.last.body)


# -- conditions --------------------------------------------------------------------------------------------------

NO_BOOLEANS = [1, 0, "yes", "", [1], [], {"a": 1}, 0.5]


@pytest.mark.usefixtures("lab")
@pytest.mark.parametrize("value", NO_BOOLEANS, ids=map(repr, NO_BOOLEANS))
@pytest.mark.parametrize(
    "node",
    [
        {"condition": "{{ input.x }}", "then": [{"id": "t", "log": "t"}]},
        {"when": "{{ input.x }}", "log": "ran"},
        {"branch": {"b": {"when": "{{ input.x }}", "do": []}}},
        {"loop": {"while": "{{ input.x }}", "max_rounds": 2}, "do": []},
        {"filter": {"items": [1], "where": "{{ values.x }}", "values": {"x": "{{ input.x }}"}}},
        {"assert": [{"holds": "{{ input.x }}"}]},
    ],
    ids=lambda node: next(iter(node)),
)
def test_a_condition_that_is_no_boolean_is_refused_with_words(node: Any, value: Any) -> None:
    with pytest.raises(Exception, match="which is neither true nor false; compare it with something") as caught:
        graph_of({"id": "n", **node})(x=value)
    assert "n" in str(caught.value)
    assert isinstance(caught.value, ExpressionFailed) or "filter" in node or "assert" in node


@pytest.mark.usefixtures("lab")
def test_null_is_no_true_condition_for_and_gives_it_of_what_is_missing() -> None:
    graph = graph_of({"id": "n", "condition": "{{ input.a && input.a.b }}", "else": [{"id": "e", "log": "e"}]})
    assert graph()["taken"] == "else"
    assert graph(a={"b": True})["taken"] == "then"
