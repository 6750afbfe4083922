"""Reading YAML: the core schema of version 1.2 and nothing else, and texts that mean harm."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from ironflow_nb.errors import GraphInvalid
from ironflow_nb.graphs.compiler import yaml_composer
from ironflow_nb.graphs.compiler.graph_source import MOST_BYTES, read_yaml
from ironflow_nb.graphs.graph import Graph
from tests.graphs.mistakes import said

MEANINGS: list[tuple[str, Any]] = [
    ("yes", "yes"), ("no", "no"), ("on", "on"), ("Off", "Off"), ("y", "y"), ("=", "="),
    ("true", True), ("True", True), ("FALSE", False), ("tRue", "tRue"),
    ("~", None), ("null", None), ("NULL", None), ("nULL", "nULL"), ("", None),
    ("0", 0), ("-12", -12), ("+3", 3), ("017", 17), ("0o17", 15), ("0x1F", 31), ("0b11", "0b11"), ("1_000", "1_000"),
    ("9007199254740993", 9007199254740993),
    ("1.5", 1.5), (".5", 0.5), ("5.", 5.0), ("1e3", 1000.0), ("-1.5E-2", -0.015), ("1.2.3", "1.2.3"), ("+", "+"),
    ("12:30:00", "12:30:00"), ("2024-01-01", "2024-01-01"), ("2024-01-01T10:00:00Z", "2024-01-01T10:00:00Z"),
    ("'12'", "12"), ('"true"', "true"), ("'it''s'", "it's"), (r'"a\tb\u00e9"', "a\tbé"), ("'{{ a }}'", "{{ a }}"),
    ("|\n  a\n   b\n", "a\n b\n"), (">-\n  a\n  b\n\n  c\n", "a b\nc"), ("a\n  b", "a b"),
    ("!!str 12", "12"), ("!!int '12'", 12), ("!!float 3", 3.0), ("! 12", "12"),
    ("[1, [a, {b: }]]", [1, ["a", {"b": None}]]), ("{a: 1, 'b': [c]}", {"a": 1, "b": ["c"]}),
    ("!!map {a: 1}", {"a": 1}),
    ("{1: a, true: b, 2.50: c, ~: d, : e}", {"1": "a", "true": "b", "2.50": "c", "~": "d", "": "e"}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "meaning"), MEANINGS, ids=[text for text, _ in MEANINGS])
def test_a_value_means_what_yaml_1_2_says(text: str, meaning: Any) -> None:
    found = read_yaml(f"value: {text}\n").data["value"]
    assert found == meaning
    assert type(found) is type(meaning)


REFUSED = [
    (".nan", "is not a number of JSON"),
    ("-.INF", "is not a number of JSON"),
    ("1e999", "is not a number of JSON"),
    ("9" * 5000, "a number can have 1000 digits at most"),
    ("!!python/object:os.system x", "the tag !!python/object:os.system is refused"),
    ("!!python/name:os.system", "the tag !!python/name:os.system is refused"),
    ("!secret x", "the tag !secret is refused"),
    ("!!binary aGk=", "the tag !!binary is refused"),
    ("!!timestamp 2024-01-01", "the tag !!timestamp is refused"),
    ("!!set {a, b}", "the tag !!set is refused"),
    ("!point [1, 2]", "the tag !point is refused"),
    ("!!int word", "the tag !!int does not fit this value"),
    ("{!!int 1: a}", "the tag !!int is refused"),
    ("{a: 1, a: 2}", "a is repeated; it is first in line 1"),
    ("{1: 1, '1': 2}", "1 is repeated; it is first in line 1"),
    ("{[a]: 1}", "a key must be a text, not a list or a mapping"),
    ("{{ a }}", 'a text that begins with {{ must be quoted: "{{ ... }}"'),
    ("{{ a.b[0] }}", 'a text that begins with {{ must be quoted: "{{ ... }}"'),
    ("{{ @ }}", 'a text that begins with {{ must be quoted: "{{ ... }}"'),
    ("[{{ a }} ]", 'a text that begins with {{ must be quoted: "{{ ... }}"'),
    ("*there", "*there has no anchor: there is no &there before it"),
    ("&a [*a]", "*a is inside its own anchor"),
    ("{<<: {a: 1}}", "YAML 1.2 has no merge key <<; write the keys out"),
    ("[", "this is not valid YAML"),
    ("{a: 'b}", "this is not valid YAML"),
    ("a\n---\nvalue: b", "a second document begins here"),
    ("a\x00b", "the character U+0000 is not allowed in YAML"),
    ("\n\t- a", "indent blocks with blanks, not with tabs"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[text[:30] for text, _ in REFUSED])
def test_what_is_no_plain_data_is_refused(text: str, message: str) -> None:
    with pytest.raises(GraphInvalid) as caught:
        read_yaml(f"value: {text}\n")
    assert message in str(caught.value)
    assert "line " in str(caught.value)


def test_an_alias_is_what_it_stands_for() -> None:
    data = read_yaml("a: &x {b: [1]}\nc: *x\n&k key: 1\nd: [*k, *x]\n").data
    assert data == {"a": {"b": [1]}, "c": {"b": [1]}, "key": 1, "d": ["key", {"b": [1]}]}
    data["a"]["b"].append(2)
    assert data["c"] == {"b": [1]}


def test_a_quoted_merge_key_is_a_key_like_others() -> None:
    assert read_yaml("'<<': 1\n").data == {"<<": 1}


def test_keys_that_are_there_twice_are_told_together_with_all_else() -> None:
    assert said("graph: g\ngraph: h\nnodes:\n  - id: a\n    python: f\n    with: {x: 1, x: 2}\n    retries: 3\n") == [
        "line 2, column 1: graph: graph is repeated; it is first in line 1",
        "line 6, column 18: nodes[0].with.x: x is repeated; it is first in line 6",
        "line 7, column 5: nodes[0].retries: a python node has no 'retries'; did you mean retry?",
    ]


@pytest.mark.slow
def test_a_small_text_does_not_become_a_large_graph() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(GraphInvalid, match="with its aliases expanded; this is an attack"):
        read_yaml("\n".join(lines))


@pytest.mark.parametrize("text", ["[" * 5000 + "]" * 5000, "\n".join(" " * n + "a:" for n in range(3000))])
def test_what_is_nested_too_deep_is_refused_where_it_becomes_so(text: str) -> None:
    with pytest.raises(GraphInvalid, match=r"line \d+, column 101: this is nested deeper than 100"):
        read_yaml(text)


def test_aliases_can_not_nest_deeper_than_what_is_written() -> None:
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 150)]
    with pytest.raises(GraphInvalid, match="nested deeper than 100"):
        read_yaml("\n".join(lines))


def test_a_huge_text_and_a_huge_file_are_refused_unread(tmp_path: Path) -> None:
    huge = f"graph: g\nnodes: '{'x' * MOST_BYTES}'\n"
    with pytest.raises(GraphInvalid, match=f"the limit is {MOST_BYTES}"):
        Graph.from_yaml(huge)
    (tmp_path / "huge.yaml").write_text(huge)
    with pytest.raises(GraphInvalid, match=f"more than {MOST_BYTES} bytes"):
        Graph.from_yaml(tmp_path / "huge.yaml")


@pytest.mark.parametrize("text", ["", "  ", "\n", "# nothing\n", "---\n...\n"])
def test_an_empty_text_is_told_how_to_begin(text: str) -> None:
    assert "a graph" in "".join(said(text))


@pytest.mark.parametrize("text", ["- a\n- b\n", "a\nb\n", "12\n", "{}"])
def test_what_is_no_mapping_is_no_graph(text: str) -> None:
    assert "a graph is a mapping with graph: and nodes:" in "".join(said(text))


@pytest.mark.parametrize(
    ("version", "message"), [("1.1", "only YAML 1.2 is read"), ("1.0", "not valid YAML"), ("2.0", "not valid YAML")]
)
def test_a_text_of_another_version_is_refused(version: str, message: str) -> None:
    with pytest.raises(GraphInvalid, match=message):
        read_yaml(f"%YAML {version}\n---\na: yes\n")
    assert read_yaml("%YAML 1.2\n---\na: yes\n").data == {"a": "yes"}


GOOD = "graph: g\nnodes:\n  - {id: a, python: f}\n"


@pytest.mark.parametrize("text", [f"\ufeff{GOOD}", GOOD.replace("\n", "\r\n"), f"---\n{GOOD}...\n", f"# é ✓\n{GOOD}"])
def test_marks_line_ends_and_comments_do_not_matter(text: str, tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    path.write_bytes(text.encode())
    for graph in (Graph.from_yaml(text), Graph.from_yaml(path), Graph.from_yaml(str(path))):
        assert graph.validate().data == {"graph": "g", "nodes": [{"id": "a", "python": "f"}]}


@pytest.mark.parametrize("text", ["graph: g", "{graph: g}", '{"graph":"g"}', "[graph]", "\ngraph: g", "# g"])
def test_one_line_with_a_colon_and_a_blank_or_a_brace_is_a_text(text: str) -> None:
    assert "No such file" not in "".join(said(text))


def test_all_else_is_a_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="a YAML text would have several lines, or a colon") as caught:
        Graph.from_yaml("missing.yaml")
    assert caught.value.filename == "missing.yaml"
    (tmp_path / "latin.yaml").write_bytes("graph: é".encode("latin-1"))
    for path, message in [(".", "is not a file"), ("a\0b", "can't be read"), ("x" * 5000, "can't be read"),
                          ("latin.yaml", "is not a text in UTF-8"), ("/dev/zero", "is not a file")]:  # fmt: skip
        with pytest.raises(GraphInvalid, match=message):
            Graph.from_yaml(path)


def test_relative_paths_start_in_the_folder_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "g.yaml").write_text(GOOD.replace("nodes", "allow: {files: [.]}\nnodes"))
    grants = Graph.from_yaml("data/g.yaml").grants
    assert grants.path("a.txt") == tmp_path.resolve() / "data" / "a.txt"


# -- characters --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["hi 😀", "😀", "a😀b𝄞", "ü"])
def test_json_of_any_writer_is_read_with_its_characters(text: str) -> None:
    data = {"graph": "g", "nodes": [{"id": "a", "transform": {text: [text]}}]}
    for is_ascii in (True, False):
        graph = Graph.from_yaml(json.dumps(data, ensure_ascii=is_ascii))
        assert graph.data == data
        assert Graph.from_yaml(graph.to_yaml()).data == data
    assert Graph.from_dict(data).data == data
    assert Graph.from_yaml(Graph.from_dict(data).to_yaml()).data == data


def test_a_place_behind_a_character_of_two_escapes_is_where_it_stands() -> None:
    text = json.dumps({"graph": "g", "nodes": [{"id": "a", "log": "😀😀 {{ nothing }}"}]})
    (finding,) = Graph.from_yaml(text).findings()
    assert finding.position is not None
    assert finding.position.column == text.index("nothing") + 1


@pytest.mark.parametrize("place", ["value", "key"])
@pytest.mark.parametrize("half", ["\\ud83d", "\\ude00", "\\ude00\\ud83d", "x\\ud800y"])
def test_half_of_a_character_is_told(half: str, place: str) -> None:
    written = f'{{"x": "{half}"}}' if place == "value" else f'{{"{half}": 1}}'
    text = f'{{"graph": "g", "nodes": [{{"id": "a", "transform": {written}}}]}}'
    (said_once,) = said(text)
    assert "half of a character" in said_once
    assert said_once.startswith("line 1, column ")
    assert "half of a character" in said(json.loads(text))[0]


@pytest.mark.parametrize(
    "text",
    [
        "graph:\tg\nnodes:\n- id:\ta\n  log:\t\thello\n",
        "graph:\tg\nnodes:\t\n- id: a\t\n  log: \thello\t# said\n",
        'graph: g\nnodes:\t[{id:\ta,\tlog:\t"hello"}]\t\n',
    ],
)
def test_a_tab_between_words_is_a_blank(text: str) -> None:
    assert Graph.from_yaml(text).data == {"graph": "g", "nodes": [{"id": "a", "log": "hello"}]}


@pytest.mark.parametrize("text", ["graph: g\nnodes:\n\t- id: a\n", "graph: g\nnodes:\n-\tid: a\n", "\tgraph: g\n"])
def test_a_tab_that_indents_is_told(text: str) -> None:
    (told,) = said(text)
    assert "indent blocks with blanks, not with tabs" in told


def test_one_line_with_a_colon_and_a_tab_is_a_text() -> None:
    assert said("graph:\tg") == ["line 1, column 1: nodes: is missing"]


@pytest.mark.parametrize(
    "text", ["- a\n- b\n", "# nothing\n5\n", "graph: g\nnodes: 3\n", "graph: [g]\nnodes: {}\n", "null\n"]
)
def test_a_text_that_is_no_graph_has_a_repr_and_says_what_it_is_not_whatever_is_asked_of_it(text: str) -> None:
    graph = Graph.from_yaml(text)
    assert repr(graph).endswith("0 nodes>")
    assert graph.to_yaml() == text
    assert graph.grants.allowed == {}
    for ask in (graph, graph.start, graph.plan, graph.validate, lambda: graph.node("a", log="x").validate()):
        with pytest.raises(GraphInvalid):
            ask()
    assert "wrong with graph" in graph._repr_mimebundle_()["text/plain"]


@pytest.mark.parametrize("text", [text for text, _ in MEANINGS])
def test_the_events_are_those_of_the_library(text: str) -> None:
    library = YAML(typ="safe", pure=True)
    whole = f"a: {text}\nb: [x, {{y: &z 1}}]\nc:\n- *z\n- ? d\n  : e\n"
    assert [repr(event) for event in yaml_composer._events(whole)] == [repr(event) for event in library.parse(whole)]


def n_calls_of_reading(n_nodes: int) -> int:
    node = "- id: n{}\n  log: {{a: [1, two]}}\n  # a comment\n  when: '{{{{ x }}}}'\n"
    text = "graph: g\nnodes:\n" + "".join(node.format(number) for number in range(n_nodes))
    counts: Counter[str] = Counter()
    sys.setprofile(lambda _frame, event, _argument: counts.update([event]))
    try:
        read_yaml(text)
    finally:
        sys.setprofile(None)
    return counts["call"]


def test_reading_takes_as_many_calls_a_node_of_a_long_text_as_of_a_short_one() -> None:
    read_yaml("a: 1")
    few, many = n_calls_of_reading(50), n_calls_of_reading(200)
    assert many <= 4 * few
    assert few <= 50 * 1_600
