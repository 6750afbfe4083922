"""What is found before a graph runs: keys, ids, kinds, order, and what each key may be."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ironflow_nb.errors import GraphInvalid
from ironflow_nb.graphs.graph import Graph
from ironflow_nb.graphs.kinds import kind_from_function
from tests.graphs.mistakes import fetching, messages, said, said_of, work


@pytest.fixture(autouse=True)
def fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    fetching(monkeypatch)


def one(**keys: Any) -> list[str]:
    """Return what is wrong with one node of some kind."""
    return messages({"id": "a", **keys})


def test_everything_is_told_together_in_the_order_of_the_text_and_once() -> None:
    text = """graph: my graph
nodes:
  - id: a
    fetch: {url: 3, methud: GET}
    retry: {attempts: 0}
  - id: a
    pyton: f
  - id: b
    python: f
    depends_on: [aa, b]
    with: "{{ c.x }} {{ c.y }} {{ broken( }}"
surplus: 1
"""
    with pytest.raises(GraphInvalid) as caught:
        Graph.from_yaml(text).validate()
    first, *lines = str(caught.value).splitlines()
    assert first == "10 things are wrong with graph my graph:"
    assert [line.partition(": ")[0] for line in lines] == [
        "  line 1, column 8", "  line 4, column 18", "  line 4, column 21", "  line 5, column 23", "  line 6, column 9",
        "  line 7, column 5", "  line 10, column 17", "  line 10, column 18", "  line 11, column 42",
        "  line 12, column 1",
    ]  # fmt: skip
    assert lines[2] == "  line 4, column 21: nodes[0].fetch.methud: 'methud' is not known here; did you mean method?"
    assert [str(each) for each in caught.value.findings] == [line.strip() for line in lines]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("top", "message"),
    [
        ({"graph": 3}, "must be a text, not a whole number"),
        (
            {"graph": "a b"},
            "must be letters, digits, underscores, dots and dashes, with a letter or an underscore first",
        ),
        ({"nodes": {}}, "must be a list, not a mapping"),
        ({"concurrency": 0}, "must be at least 1"),
        ({"concurrency": 1001}, "must be at most 1000"),
        ({"concurrency": 1.5}, "must be a whole number, not a number with a fraction"),
        ({"concurrency": "{{ input.n }}"}, "must be a whole number, not a text; an expression can't stand here"),
        ({"allow": "all"}, "must be true or a mapping, not a text"),
        ({"allow": {"htp": []}}, "'htp' is not known here; did you mean http?"),
        ({"allow": {"shell": [1]}}, "must be a text, not a whole number"),
        (
            {"allow": {"http": ["https://a.org/x"]}},
            "must be a host, such as example.org, example.org:8080 or *.example.org",
        ),
        ({"secrets": {"a": {"evn": "x"}}}, "'evn' is not known here; did you mean env?"),
        (
            {"secrets": {"a": {"prompt": "x", "keyring": "y"}}, "allow": {"keyring": ["y"]}},
            "it has prompt, keyring; at most 1 of them is allowed",
        ),
        ({"secrets": {"a": "x"}}, "must be a mapping, not a text"),
    ],
)
def test_the_keys_of_a_graph_are_checked(top: dict[str, Any], message: str) -> None:
    assert messages(**top) == [message]


def test_a_graph_needs_a_name_and_nodes() -> None:
    assert said({"description": "x"}) == ["graph: is missing", "nodes: is missing"]


# -- nodes -------------------------------------------------------------------------------------------------------


def test_a_node_is_a_mapping_with_an_id_and_one_kind() -> None:
    assert messages("a", None, {"python": "f"}, {"id": 3, "python": "f"}) == [
        "a node is a mapping with id: and its kind", "a node is a mapping with id: and its kind",
        "id: is missing", "an id is a text of letters, digits, underscores and dashes",
    ]  # fmt: skip
    (several,) = one(python="f", fetch="x")
    assert several == "a node has one kind, and this one has python and fetch"
    (none,) = one()
    assert none.startswith("the node has no kind (there are: approve, assert, batch, branch, cache_get, ")


def test_an_unknown_kind_is_told_with_what_was_perhaps_meant() -> None:
    assert one(fech="x") == ["there is no kind of node 'fech'; did you mean fetch?"]
    assert one(depend_on=[]) == ["'depend_on' is not known here; did you mean depends_on?"]
    assert one(zzz="x")[0].startswith("there is no kind of node 'zzz' (there are: approve, assert, batch, branch")
    assert one(cases={}) == ["cases belongs to a switch node, and this node has no kind"]
    assert one(**{"with": {}}) == ["with belongs to a python node, and this node has no kind"]


@pytest.mark.parametrize("key", ["ask", "wait_for", "sleep", "sleep_until"])
def test_keys_of_a_later_version_are_refused_by_name(key: str) -> None:
    message = f"{key} is reserved for a later version"
    assert one(**{key: 1}) == [message]
    assert one(python="f", **{key: 1}) == [message]


def test_ids_are_names_and_unique_in_the_whole_graph() -> None:
    def wrong(name: str) -> str:
        (message,) = messages(work(name))
        return message.partition("; ")[2]

    assert wrong("a b") == "'a b' could be a_b"
    assert wrong("1x") == "'1x' could be node_1x"
    assert wrong("é") == "'é' could be node"
    for name in ("input", "env", "secrets", "error", "item", "index"):
        assert wrong(name) == "choose another id"
    assert said_of("""
  - {id: x, python: f}
  - {id: c, condition: true, then: [{id: d, loop: [1], do: [{id: x, python: f}]}]}
  - {id: h, python: f, on_error: [{id: c, python: f}]}
""") == [
        "nodes[1].then[0].do[0].id: the id 'x' is taken in line 3; ids are unique in the whole graph",
        "nodes[2].on_error[0].id: the id 'c' is taken in line 4; ids are unique in the whole graph",
    ]


def test_an_id_inside_of_a_loop_is_not_that_of_the_item() -> None:
    loop = {"id": "l", "loop": [1], "as": "team", "do": [work("team")]}
    assert messages(loop) == ["'team' has another meaning in expressions; choose another id"]


# -- order -------------------------------------------------------------------------------------------------------


def test_a_node_waits_for_nodes_of_its_own_list() -> None:
    inside = {"id": "c", "condition": True, "then": [work("x", depends_on=["a"]), work("y", depends_on=["z"])]}
    assert messages(work("a"), inside, work("b", depends_on=["x", "cc", 3, "a", "a"])) == [
        "a is in an outer list; make the node that contains this one depend on it",
        "there is no node 'z' (there are: x, y)",
        "it has a repeated item",
        "x is in another list of nodes, inside c; depend on c",
        "there is no node 'cc'; did you mean c?",
        "must be a text, not a whole number",
    ]  # fmt: skip


def test_nodes_that_wait_for_each_other_are_named_and_nothing_is_said_of_what_they_see() -> None:
    circle = [
        work("a", depends_on=["c"], **{"with": "{{ c }}"}),
        work("b", depends_on=["a"]),
        work("c", depends_on=["b"]),
    ]
    assert messages(*circle) == ["the nodes wait for each other: a -> c -> b -> a"]
    assert messages(work("a", depends_on=["a"])) == ["a waits for itself"]
    (message,) = messages(work("a", depends_on=["b"]), work("b"))
    assert message.endswith(
        "a -> b -> a (b has no depends_on, so it waits for the node above it; depends_on: [] would not)"
    )


# -- what every node may have ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("depends_on", "a", "must be a list, not a text"),
        ("when", "maybe", "must be true or false or an expression in {{ }}, not a text"),
        ("when", "not {{ input.x }}", "must be exactly one expression; with other text beside it the result is a text"),
        ("retry", 3, "must be a mapping, not a whole number"),
        ("retry", {"attempts": 0}, "must be at least 1"),
        ("retry", {"attempts": 101}, "must be at most 100"),
        ("retry", {"attempts": True}, "must be a whole number, not true"),
        ("retry", {"attempts": "{{ n }}"}, "must be a whole number, not a text; an expression can't stand here"),
        ("retry", {"delay_s": -1}, "must be at least 0"),
        ("retry", {"delay_s": math.nan}, "nan is not a number of JSON"),
        ("retry", {"max_delay_s": 1e9}, "must be at most 86400"),
        ("retry", {"factor": 0.5}, "must be at least 1"),
        ("retry", {"jitter": 2}, "must be at most 1"),
        ("retry", {"on_status": [503]}, "on_status is about requests, and a python node sends none"),
        ("retry", {"on_methods": ["GET"]}, "on_methods is about requests, and a python node sends none"),
        ("retry", {"attempt": 3}, "'attempt' is not known here; did you mean attempts?"),
        ("timeout_s", 0, "must be more than 0"),
        ("timeout_s", -1, "must be more than 0"),
        ("timeout_s", 1e300, "must be at most 604800"),
        ("timeout_s", math.inf, "inf is not a number of JSON"),
        ("timeout_s", "{{ input.t }}", "must be a number, not a text; an expression can't stand here"),
        ("on_error", "stop", 'must be "continue" or a list, not a text'),
        ("once", "yes", "must be true or false, not a text"),
        ("cache", "7 parsecs", 'must be true, false, seconds, or a duration such as "90s", "2h 30m" or "7d"'),
        ("cache", -1, "must be at least 0"),
        ("description", 3, "must be a text, not a whole number"),
    ],
)  # fmt: skip
def test_what_every_node_may_have_is_checked(key: str, value: Any, message: str) -> None:
    assert one(python="f", **{key: value}) == [message]


@pytest.mark.parametrize("cache", [True, False, 0, 1.5, "90s", "7d", "2h 30m", "1.5 h"])
def test_what_a_cache_may_be(cache: Any) -> None:
    assert one(python="f", cache=cache) == []


def test_keys_that_contradict_each_other_are_found() -> None:
    assert one(python="f", once=True, retry={"attempts": 2}) == ["a node with once: true is not retried"]
    assert one(python="f", once=True, cache=True)[0].startswith("cache may take a result of another run")
    assert one(python="f", once=True, retry={"attempts": 1}, cache=False) == []


@pytest.mark.parametrize("key", ["retry", "timeout_s", "once", "cache"])
def test_what_a_node_that_only_decides_can_not_have(key: str) -> None:
    value = {"retry": {}, "timeout_s": 1}.get(key, True)
    message = f"a condition node has no '{key}': it does no work itself; set it on the nodes that do"
    assert one(condition=True, **{key: value}) == [message]


# -- work --------------------------------------------------------------------------------------------------------


def test_options_are_checked_with_expressions_for_what_is_not_known_yet() -> None:
    assert one(fetch={"url": "{{ input.u }}", "method": "{{ input.m }}", "times": "{{ input.n }}"}) == []
    assert one(fetch="x") == one(fetch={"url": "x"}) == []
    assert one(fetch={"url": 3, "method": "GTE", "times": 0, "json": 1, "foo": 1}) == [
        "must be a text, not a whole number",
        "must be one of GET, POST; did you mean GET?",
        "must be at least 1",
        "'foo' is not known here (there are: url, method, times, json, headers)",
    ]
    assert one(fetch={}) == ["url is missing"]
    assert one(fetch="x", retry={"on_status": [202, 503]}) == []
    assert one(fetch="x", retry={"on_status": [99]}) == ["must be at least 100"]
    assert one(fetch={"url": "x", "headers": {"a": 1}}) == ["must be a text, not a whole number"]


def test_a_function_of_open_options_has_no_short_form_of_them() -> None:
    assert kind_from_function("k", lambda **options: options).shorthand is None
    assert kind_from_function("k", lambda url, **options: options).shorthand == "url"


@pytest.mark.parametrize("given", [None, {}, [], {"x": "{{ input.x }}"}, ["{{ input.x }}"], "{{ input.x }}", 3, "text"])
def test_a_function_takes_values_by_name_in_order_or_one(given: Any) -> None:
    assert one(python="notify", **{"with": given}) == []
    assert one(python="package.module.notify", **{"with": given}) == []


@pytest.mark.parametrize("name", ["a b", "f()", "", "a..b", "{{ input.f }}"])
def test_a_function_is_a_name(name: str) -> None:
    assert one(python=name) != []
