"""The model of a diagram, and its form in the journal."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ironflow_nb.diagram.model import Diagram, Edge, NodeKind, decode_diagram, encode_diagram, without_dangling_edges
from tests.diagram.drawn import diagrams, looped, node


@settings(max_examples=40)
@given(diagrams())
def test_a_diagram_survives_being_encoded(diagram: Diagram) -> None:
    assert decode_diagram(encode_diagram(diagram)) == without_dangling_edges(diagram)


@settings(max_examples=40)
@given(diagrams())
def test_equal_diagrams_have_equal_texts_of_plain_ascii(diagram: Diagram) -> None:
    text = encode_diagram(diagram)
    assert text.isascii()
    assert text == encode_diagram(Diagram(diagram.name, diagram.nodes, diagram.edges))


def test_the_keys_of_the_text_are_sorted() -> None:
    def assert_sorted(pairs: list[tuple[str, object]]) -> dict[str, object]:
        assert [key for key, _ in pairs] == sorted(key for key, _ in pairs)
        return dict(pairs)

    json.loads(encode_diagram(looped()), object_pairs_hook=assert_sorted)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "null", "[" * 100_000, '{"nodes": 3}', "\x00", '{"name": 3}'])
def test_a_text_that_is_no_diagram_is_one_without_a_name(text: str) -> None:
    assert decode_diagram(text) == Diagram("")


def test_a_damaged_diagram_keeps_its_name() -> None:
    assert decode_diagram('{"name": "digest", "nodes": [{"id": 1}]}') == Diagram("digest")


def test_a_kind_that_is_not_known_here_leaves_the_name() -> None:
    text = encode_diagram(looped()).replace('"condition"', '"from the future"')
    assert decode_diagram(text) == Diagram("looped")


@settings(max_examples=40)
@given(st.text(max_size=200))
def test_decoding_never_raises(text: str) -> None:
    assert isinstance(decode_diagram(text), Diagram)


def test_a_sound_diagram_has_one_node_for_an_id_and_no_edge_to_nowhere() -> None:
    first, second = node("a"), node("a", NodeKind.MAP)
    edges = (Edge(source="a", target="a"), Edge(source="a", target="b"), Edge(source="b", target="a"))
    assert without_dangling_edges(Diagram("d", (first, second), edges)) == Diagram("d", (first,), edges[:1])
