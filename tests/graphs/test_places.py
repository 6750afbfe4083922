"""Places: the line and column of values, keys, and of what stands inside of a text however it is quoted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironflow_nb.graphs.compiler.compiler_findings import Key
from ironflow_nb.graphs.compiler.graph_source import read_yaml, write_yaml
from ironflow_nb.graphs.graph import Graph
from tests.graphs.mistakes import fetching, graph_text, said, said_of


def test_a_value_is_where_it_begins_and_a_key_where_it_is() -> None:
    text = "a: 1\nb:\n  c: 'x'\n  'd' : [1, {e: 2}]\n? f\n: &x !!str g\nh: *x\n"
    spans = read_yaml(text).spans
    assert spans.position_of(("a",)) == (1, 4)
    assert spans.position_of(("b",)) == (3, 3)
    assert spans.position_of(("b", "c")) == (3, 6)
    assert spans.position_of(("b", "d")) == (4, 9)
    assert spans.position_of(("b", "d", 1, "e")) == (4, 17)
    assert spans.position_of(("b", Key("d"))) == (4, 3)
    assert spans.position_of(("f",)) == (6, 3)
    assert spans.position_of((Key("f"),)) == (5, 3)
    assert spans.position_of(("h",)) == (7, 4)


def test_what_is_nowhere_is_in_what_is_around_it() -> None:
    spans = read_yaml("a: {b: [1]}\n").spans
    assert spans.position_of(("a", "b", 7, "x")) == (1, 8)
    assert spans.position_of(("a", Key("x"))) == (1, 4)
    assert spans.position_of(("z",)) == (1, 1)


STYLES = [
    ("'{{ @bad }}'", 1, 5),
    ('"{{ @bad }}"', 1, 5),
    ("some more {{ @bad }}", 1, 14),
    ("'it''s {{ @bad }}'", 1, 11),
    (r'"tab\t\"\u00e9\U0001F600 {{ @bad }}"', 1, 29),
    (r'"\x20\ \_{{ @bad }}"', 1, 13),
    ('"on\n  two {{ @bad }}"', 2, 10),
    ('"on \\\n  two {{ @bad }}"', 2, 10),
    ("'on\n\n\n  two {{ @bad }}'", 4, 10),
    ("on\n  two\n  {{ @bad }}", 3, 6),
    ("|\n  one\n    {{ @bad }}\n", 3, 8),
    ("|2-  # said\n    {{ @bad }}\n", 2, 8),
    (">\n  one\n  two\n\n  {{ @bad }}\n", 5, 6),
    ("&a '{{ @bad }}'", 1, 8),
    ("!!str '{{ @bad }}'", 1, 11),
    ("&a !!str |\n  {{ @bad }}\n", 2, 6),
    ("é✓😀 {{ @bad }}", 1, 8),
]


@pytest.mark.parametrize(("written", "line", "column"), STYLES, ids=[written for written, _, _ in STYLES])
def test_a_character_is_found_in_every_way_to_quote(written: str, line: int, column: int) -> None:
    source = read_yaml(f"x: {written}")
    value = source.data["x"]
    assert source.spans.position_of_character(("x",), value, value.index("@bad")) == (
        line,
        column if line > 1 else column + 3,
    )


@pytest.mark.parametrize(("written", "line", "column"), STYLES, ids=[written for written, _, _ in STYLES])
def test_it_is_so_with_other_ends_of_lines(written: str, line: int, column: int) -> None:
    source = read_yaml(f"x: {written}".replace("\n", "\r\n"))
    value = source.data["x"]
    assert source.spans.position_of_character(("x",), value, value.index("@bad")) == (
        line,
        column if line > 1 else column + 3,
    )


@given(st.text("ab \n\t'\"\\:#é{}\x85\u2028-", max_size=20), st.text("ab \n'\"\\", max_size=8))
def test_every_character_that_is_no_blank_is_found(before: str, after: str) -> None:
    value = f"{before}Z{after}"
    source = read_yaml(write_yaml({"x": [value]}))
    line, column = source.spans.position_of_character(("x", 0), value, len(before)) or (0, 0)
    assert source.text is not None
    assert source.text.split("\n")[line - 1][column - 1] == "Z"


# -- of findings -------------------------------------------------------------------------------------------------


def test_a_finding_about_a_key_points_to_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    fetching(monkeypatch)
    assert said("graph: g\nnods: []\nnodes:\n  - id: a\n    fetch: {url: x, methud: GET}\n    retri: {}\n") == [
        "line 2, column 1: nods: 'nods' is not known here; did you mean nodes?",
        "line 5, column 21: nodes[0].fetch.methud: 'methud' is not known here; did you mean method?",
        "line 6, column 5: nodes[0].retri: a fetch node has no 'retri'; did you mean retry?",
    ]


def test_a_finding_about_an_expression_points_into_it(monkeypatch: pytest.MonkeyPatch) -> None:
    fetching(monkeypatch)
    text = graph_text("""
  - id: a
    fetch:
      url: "https://example.org/{{ input.x }}/{{ y..z }}"
      json: |
        first
        {{ input.x }} and {{ nothing.here }}
      headers:
        a: x input.a {{ input.x || gone }}
""")
    assert [line.partition(": ")[0] for line in said(text)] == [
        "line 5, column 52",
        "line 8, column 30",
        "line 10, column 36",
    ]


def test_a_finding_about_what_an_alias_stands_for_points_to_the_alias() -> None:
    assert said_of("  - {id: a, python: f, with: &w ['{{ x }}']}\n  - {id: b, python: f, with: *w}") == [
        "nodes[0].with[0]: there is no 'x' here (there are: env, input)",
        "nodes[1].with[0]: there is no 'x' here (there are: env, input, a)",
    ]
    text = graph_text("  - &a {id: a, python: f}\n  - *a\n")
    assert said(text) == [
        "line 4, column 5: nodes[1].id: the id 'a' is taken in line 3; ids are unique in the whole graph"
    ]


def test_a_graph_of_data_has_no_lines() -> None:
    (found,) = Graph.from_dict({"graph": "g", "nodes": [{"id": "a", "pyton": "f"}]}).findings()
    assert found.position is None
    assert str(found) == "nodes[0].pyton: there is no kind of node 'pyton'; did you mean python?"
