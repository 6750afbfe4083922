"""The diagram of a flow, read from any source that Hypothesis thinks of."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ironflow_nb.diagram.draw import draw
from ironflow_nb.diagram.model import NodeKind, without_dangling_edges
from ironflow_nb.flows.diagram_statements import extract
from tests.flows.sources import describe, function, read

ATOMS = ["x", "1", "fetch(x)", "parse.map(xs)", "unknown(x)", "lib.fetch(x)", "(lambda: fetch(x))", "fetch.fn"]
EXPRESSIONS = st.recursive(
    st.sampled_from(ATOMS),
    lambda inner: st.one_of(
        st.builds("publish({}, y={})".format, inner, inner),
        st.builds("({} if {} else {})".format, inner, inner, inner),
        st.builds("({} and {} or {})".format, inner, inner, inner),
        st.builds("[{} for y in {} if {}]".format, inner, inner, inner),
        st.builds("{{{}: {}}}".format, inner, inner),
        st.builds("({})[{}:{}]".format, inner, inner, inner),
        st.builds("f'{{{}}}'".format, st.sampled_from(["x", "fetch(x)"])),
        st.builds("clean.options(name={})({})".format, inner, inner),
    ),
    max_leaves=6,
)


def indented(block: str) -> str:
    return "\n".join(f"    {line}" for line in block.splitlines())


def compound(block: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    inner = block.map(indented)
    deeper = inner.map(indented)
    return st.one_of(
        st.builds("{}\n{}".format, block, block),
        st.builds("if {}:\n{}\nelse:\n{}".format, EXPRESSIONS, inner, inner),
        st.builds("for y in {}:\n{}\nelse:\n{}".format, EXPRESSIONS, inner, inner),
        st.builds("while {}:\n{}".format, EXPRESSIONS, inner),
        st.builds("while True:\n{}".format, inner),
        st.builds("try:\n{}\nexcept ValueError:\n{}\nelse:\n{}\nfinally:\n{}".format, inner, inner, inner, inner),
        st.builds("try:\n{}\nexcept* ValueError:\n    pass".format, EXPRESSIONS.map(indented)),
        st.builds("with {} as z:\n{}".format, EXPRESSIONS, inner),
        st.builds("match {}:\n    case 1:\n{}\n    case _:\n{}".format, EXPRESSIONS, deeper, deeper),
        st.builds("for y in xs:\n{}\n    {}".format, inner, st.sampled_from(["break", "continue"])),
        st.builds("def nested():\n{}".format, inner),
    )


BLOCKS = st.recursive(
    EXPRESSIONS | st.builds("y = {}".format, EXPRESSIONS) | st.sampled_from(["pass", "return", "raise", "raise E(x)"]),
    compound,
    max_leaves=8,
)


@settings(max_examples=50)
@given(BLOCKS)
def test_any_source_has_a_sound_diagram_that_can_be_drawn(block: str) -> None:
    diagram = read(block)
    assert without_dangling_edges(diagram) == diagram
    assert [node.kind for node in (diagram.nodes[0], diagram.nodes[-1])] == [NodeKind.START, NodeKind.END]
    assert draw(diagram, {}).svg is not None


@settings(max_examples=50)
@given(BLOCKS)
def test_every_node_of_any_source_is_reached_from_the_start(block: str) -> None:
    diagram = read(block)
    reached, ready = {"start"}, ["start"]
    while ready:
        here = ready.pop()
        following = {edge.target for edge in diagram.edges if edge.source == here} - reached
        reached |= following
        ready += following
    assert {node.id for node in diagram.nodes} - reached <= {"end"}


@settings(max_examples=50)
@given(BLOCKS)
def test_only_ways_back_lead_up_in_any_source(block: str) -> None:
    diagram = read(block)
    places = {node.id: place for place, node in enumerate(diagram.nodes)}
    assert all((places[edge.source] >= places[edge.target]) is edge.is_back for edge in diagram.edges)


@settings(max_examples=20)
@given(BLOCKS)
def test_reading_twice_gives_the_same_diagram(block: str) -> None:
    main = function(f"def main(xs, x=0):\n{indented(block)}\n")
    assert extract(main, describe) == extract(main, describe)
