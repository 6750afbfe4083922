"""Large diagrams, reduced to what is worth looking at."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from ironflow_nb.core.status import StepStatus
from ironflow_nb.diagram.collapse import MAX_NODES, reduced
from ironflow_nb.diagram.model import Diagram, without_dangling_edges
from ironflow_nb.diagram.states import NodeState, node_states
from tests.diagram.drawn import chain, diagrams, fan, states

BIG = chain(200)


def after(n_done: int, *others: tuple[int, StepStatus]) -> dict[str, NodeState]:
    done = [(f"s{i}", StepStatus.COMPLETED, 1, 1.0) for i in range(n_done)]
    return node_states(done + [(f"s{i}", status, 1, None) for i, status in others])


def ids(diagram: Diagram) -> list[str]:
    return [node.id for node in diagram.nodes]


def test_a_diagram_that_is_small_enough_stays_as_it_is() -> None:
    small = chain(MAX_NODES - 2)
    assert reduced(small, {}).diagram is small


def test_what_failed_or_runs_is_kept_with_its_neighbours_and_so_are_both_ends() -> None:
    found = reduced(BIG, after(118, (40, StepStatus.FAILED), (118, StepStatus.RUNNING)))
    kept = [node_id for node_id in ids(found.diagram) if not node_id.startswith("more:")]
    assert kept == [
        *("start", "s0", "s1", "s2"),
        *("s39", "s40", "s41"),
        *("s117", "s118", "s119", "s120"),
        *("s197", "s198", "s199", "end"),
    ]


def test_the_frontier_is_kept_when_nothing_runs() -> None:
    assert {"s117", "s118"} <= set(ids(reduced(BIG, after(118)).diagram))


def test_what_is_left_out_is_counted_and_has_the_states_of_all_of_it() -> None:
    found = reduced(BIG, after(118, (118, StepStatus.RUNNING)))
    more = [node for node in found.diagram.nodes if node.id.startswith("more:")]
    assert [node.label for node in more] == ["… 114 more", "… 76 more"]
    first = found.states[more[0].step or ""]
    assert (first.status, first.n_total, first.duration_s) == (StepStatus.COMPLETED, 114, 114.0)
    assert more[1].step not in found.states
    assert "s3, s4" in more[0].title


def test_a_chain_stays_a_chain() -> None:
    found = reduced(BIG, after(118, (40, StepStatus.FAILED))).diagram
    names = ids(found)
    assert [(edge.source, edge.target) for edge in found.edges] == list(pairwise(names))


def test_when_all_failed_the_picture_is_still_small() -> None:
    found = reduced(BIG, node_states([(f"s{i}", StepStatus.FAILED, 1, None) for i in range(200)])).diagram
    assert len(found.nodes) <= 130


def test_a_wide_fan_keeps_what_failed() -> None:
    found = reduced(fan(300), after(200, (250, StepStatus.FAILED))).diagram
    assert "s250" in ids(found)
    assert len(found.nodes) < 20


@settings(max_examples=60)
@given(diagrams(max_nodes=30), states(), st.integers(0, 10))
def test_a_reduced_diagram_is_sound_and_loses_no_node_uncounted(
    diagram: Diagram, of_steps: dict[str, NodeState], max_nodes: int
) -> None:
    diagram = without_dangling_edges(diagram)
    found = reduced(diagram, of_steps, max_nodes=max_nodes).diagram
    assert without_dangling_edges(found) == found
    labels = [node.label for node in found.nodes if node.id.startswith("more:") and node not in diagram.nodes]
    n_more = sum(int(label.split()[1]) for label in labels)
    assert len(found.nodes) - len(labels) + n_more == len(diagram.nodes)
    assert len(found.nodes) <= max(MAX_NODES, len(diagram.nodes))
