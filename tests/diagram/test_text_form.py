"""The plain-text form: stable, so that notebooks can be tested against it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ironflow_nb.core.status import RunStatus, StepStatus
from ironflow_nb.diagram.draw import draw
from ironflow_nb.diagram.model import Diagram, Edge, Node, NodeKind
from ironflow_nb.diagram.states import NodeState, node_states
from tests.diagram.drawn import ANY_TEXT, chain, diagrams, looped, states


def text(diagram: Diagram, of_steps: dict[str, NodeState] | None = None, status: RunStatus | None = None) -> str:
    return draw(diagram, of_steps or {}, run_status=status, run_id="k7x2mq9d4tzc").text


def renamed(diagram: Diagram, prefix: str) -> Diagram:
    """Return the same diagram with other ids."""
    nodes = tuple(replace(node, id=prefix + node.id) for node in diagram.nodes)
    edges = tuple(replace(edge, source=prefix + edge.source, target=prefix + edge.target) for edge in diagram.edges)
    return Diagram(diagram.name, nodes, edges)


def test_a_run_has_a_line_for_itself_and_one_for_every_node() -> None:
    found = node_states(
        [("s0", StepStatus.COMPLETED, 1, 1.0), ("s1", StepStatus.COMPLETED, 1, 1.0), ("s1", StepStatus.FAILED, 1, 1.0)],
        n_expected={"s1": 4},
    )
    assert text(chain(3), found, RunStatus.FAILED).splitlines() == [
        "chain: failed",
        "  ✓ s0: completed",
        "  ✗ s1: 1 of 4, 1 failed",
        "  · s2",
    ]


def test_branches_and_loops_are_indented_and_say_when_they_are_taken() -> None:
    inner = {"ask": 1, "left": 2, "right": 2, "join": 1}
    nodes = tuple(replace(node, depth=inner.get(node.id, 0)) for node in looped().nodes)
    assert text(Diagram("looped", nodes, looped().edges)).splitlines() == [
        "looped",
        "  ↺ head",
        "    ◇ ask",
        "      [yes] · left",
        "      [no] · right (map)",
        "    · join",
        "  [done] · after",
    ]


def test_a_way_to_the_end_is_said_where_it_begins() -> None:
    nodes = (
        Node(id="ask", kind=NodeKind.CONDITION, label="ok"),
        Node(id="do", kind=NodeKind.STEP, label="do"),
        Node(id="end", kind=NodeKind.END, label="end"),
    )
    edges = (Edge(source="ask", target="end", label="no"), Edge(source="ask", target="do", label="yes"))
    assert text(Diagram("d", nodes, edges)).splitlines() == ["d", "  ◇ ok (no: end)", "  [yes] · do"]


def test_a_loop_that_comes_last_just_ends() -> None:
    nodes = (Node(id="head", kind=NodeKind.LOOP, label="for x in xs"), Node(id="end", kind=NodeKind.END, label="end"))
    assert text(Diagram("d", nodes, (Edge(source="head", target="end", label="done"),))) == "d\n  ↺ for x in xs"


@settings(max_examples=40)
@given(diagrams(max_nodes=8), states(), st.sampled_from(RunStatus), st.text("xyz", max_size=3), st.floats(0, 1e6))
def test_the_text_depends_on_no_id_and_no_time(
    diagram: Diagram, of_steps: dict[str, NodeState], status: RunStatus, prefix: str, duration_s: float
) -> None:
    of_others = {
        name: NodeState(
            status=state.status, n_total=state.n_total, n_by_status=state.n_by_status, duration_s=duration_s
        )
        for name, state in of_steps.items()
    }
    assert text(diagram, of_steps, status) == text(renamed(diagram, prefix), of_others, status)


@settings(max_examples=40)
@given(diagrams(max_nodes=8, labels=ANY_TEXT))
def test_every_node_is_one_line_whatever_its_label(diagram: Diagram) -> None:
    n_shown = sum(node.kind not in {NodeKind.START, NodeKind.END} for node in diagram.nodes)
    assert len(text(diagram).split("\n")) == 1 + n_shown
    text(diagram).encode()


def test_the_text_says_no_id_of_the_run() -> None:
    assert "k7x2" not in text(chain(2), {}, RunStatus.RUNNING)
