"""The diagram in DOT, read back by Graphviz, and in Mermaid, read by its grammar as far as we use it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from pygraphviz import AGraph

from ironflow_nb.core.status import StepStatus
from ironflow_nb.diagram.model import Diagram, NodeKind, without_dangling_edges
from ironflow_nb.diagram.palette import step_look
from ironflow_nb.diagram.sizes import one_line
from ironflow_nb.diagram.states import NodeState, node_states
from ironflow_nb.diagram.text_forms import to_dot, to_mermaid
from tests.diagram.drawn import diagrams, looped, node, states

STATES = node_states([("left", StepStatus.FAILED, 1, 1.0), ("join", StepStatus.COMPLETED, 1, 1.0)])

LABEL = r'"(?:[^"#`<>\\&;\n]|#\d+;|<br>)+"'
SHAPES = [
    r"\(\[",
    r"\]\)",
    r"\(",
    r"\)",
    r"\(\(",
    r"\)\)",
    r"\(\(\(",
    r"\)\)\)",
    r"\[\[",
    r"\]\]",
    r"\{\{",
    r"\}\}",
    r"\[/",
    r"\\\]",
    r"\[/",
    r"/\]",
    r">",
    r"\]",
]
NODE = rf"n\d+(?:{'|'.join(SHAPES[::2])}){LABEL}(?:{'|'.join(SHAPES[1::2])})(?::::[a-z_]+)?"
EDGE = rf"n\d+ (?:-->|-\.->)(?:\|{LABEL}\|)? n\d+"
CLASS = r"classDef [a-z_]+ fill:#[0-9a-f]{6},stroke:#[0-9a-f]{6},color:#[0-9a-f]{6}"
LINK = r"linkStyle \d+ stroke:#[0-9a-f]{6},color:#[0-9a-f]{6}"
LINE = re.compile(rf"    (?:{NODE}|{EDGE}|{CLASS}|{LINK})")


@settings(max_examples=40)
@given(diagrams(max_nodes=8), states())
def test_any_diagram_is_dot_that_graphviz_reads(diagram: Diagram, of_steps: dict[str, NodeState]) -> None:
    diagram = without_dangling_edges(diagram)
    graph = AGraph(string=to_dot(diagram, of_steps))
    assert graph.number_of_nodes() == len(diagram.nodes)
    assert graph.number_of_edges() == len(diagram.edges)


def test_dot_says_what_the_diagram_says() -> None:
    diagram = looped()
    graph = AGraph(string=to_dot(diagram, STATES))
    by_id = {found.attr["id"]: found for found in graph.nodes()}
    assert set(by_id) == {node.id for node in diagram.nodes}
    assert by_id["left"].attr["label"] == "✗ left: failed · 1.0 s"
    assert by_id["left"].attr["fillcolor"] == step_look(StepStatus.FAILED).fill
    assert by_id["ask"].attr["shape"] == "hexagon"
    assert {edge.attr["label"] for edge in graph.edges() if edge.attr["label"]} == {"yes", "no", "done"}
    assert [edge.attr["constraint"] for edge in graph.edges() if edge.attr["constraint"]] == ["false"]


@pytest.mark.parametrize("label", [r"\N", "<b>bold</b>", 'say "hi"', "a:b", "\\", "\x00", "{|}"])
def test_dot_shows_labels_as_they_are(label: str) -> None:
    graph = AGraph(string=to_dot(Diagram("d", (node(label),)), {}))
    [found] = graph.nodes()
    # Graphviz keeps a backslash doubled until it draws.
    assert found.attr["label"].replace("\\\\", "\\") == one_line(label)


@pytest.mark.parametrize("name", ["", "<a<b>", "strict", "a b", "\\", '"', "7up"])
def test_any_name_is_the_name_of_a_dot_graph(name: str) -> None:
    assert AGraph(string=to_dot(Diagram(name, (node("a"),)), {})).number_of_nodes() == 1


def test_dot_is_drawn_without_complaint(capfd: pytest.CaptureFixture[str]) -> None:
    svg = AGraph(string=to_dot(looped(), STATES)).draw(format="svg", prog="dot").decode()
    assert 'id="left"' in svg
    assert "Error" not in capfd.readouterr().err


@settings(max_examples=40)
@given(diagrams(max_nodes=8), states())
def test_every_line_of_mermaid_follows_the_grammar(diagram: Diagram, of_steps: dict[str, NodeState]) -> None:
    first, *lines = to_mermaid(diagram, of_steps).splitlines()
    assert first == "flowchart TD"
    assert not [line for line in lines if not LINE.fullmatch(line)]


def test_mermaid_says_what_the_diagram_says() -> None:
    lines = [line.strip() for line in to_mermaid(looped(), STATES).splitlines()]
    names = {found.id: f"n{place}" for place, found in enumerate(looped().nodes)}
    assert f'{names["left"]}("✗ left<br>failed"):::failed' in lines
    assert f'{names["ask"]} -->|"yes"| {names["left"]}' in lines
    assert f'{names["ask"]}{{{{"ask"}}}}' in lines
    look = step_look(StepStatus.FAILED)
    assert f"classDef failed fill:{look.fill},stroke:{look.stroke},color:{look.text}" in lines


def test_no_label_is_a_list_to_mermaid() -> None:
    diagram = Diagram("d", tuple(node(label) for label in ("1. one", "- two", "+ three", "2) four")))
    labels = [line.partition('"')[2][:2] for line in to_mermaid(diagram, {}).splitlines()[1:]]
    assert labels == ["#4", "#4", "#4", "#5"]


def test_both_leave_out_edges_to_nowhere() -> None:
    diagram = Diagram("d", looped().nodes[:2], looped().edges)
    assert AGraph(string=to_dot(diagram, {})).number_of_edges() == 1
    assert to_mermaid(diagram, {}).count("-->") == 1


def test_every_kind_has_its_shape_in_both() -> None:
    diagram = Diagram("d", tuple(node(str(kind), kind) for kind in NodeKind))
    graph = AGraph(string=to_dot(diagram, {}))
    shapes = {tuple(found.attr[name] for name in ("shape", "style", "peripheries")) for found in graph.nodes()}
    # Start and end are alike, and so are steps and states, of which no diagram has both.
    assert len(shapes) == len(NodeKind) - 2
    assert len(to_mermaid(diagram, {}).splitlines()) == 1 + len(NodeKind)


def test_both_say_why_a_step_was_skipped() -> None:
    skipped = node_states([("left", StepStatus.SKIPPED, 1, None)], reasons={"left": ["when is false"]})
    graph = AGraph(string=to_dot(looped(), skipped))
    assert graph.get_node("n3").attr["tooltip"] == "skipped (when is false): left"
    assert '("↷ left<br>skipped (when is false)"):::skipped' in to_mermaid(looped(), skipped)
