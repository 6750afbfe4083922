"""Recorded steps folded into what nodes show."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ironflow_nb.core.status import RunStatus, StepStatus
from ironflow_nb.diagram.model import Diagram, Handled, NodeKind
from ironflow_nb.diagram.states import (
    IMPORTANCE,
    Caption,
    NodeState,
    caption,
    counts,
    merged,
    node_states,
    state_words,
    state_words_with_time,
    with_recorded,
)
from tests.diagram.drawn import chain, node

DONE, FAILED, RUNNING = StepStatus.COMPLETED, StepStatus.FAILED, StepStatus.RUNNING


def state(*statuses: StepStatus, n_expected: int = 0) -> NodeState:
    return node_states([("a", status, 1, None) for status in statuses], n_expected={"a": n_expected})["a"]


def test_every_status_has_its_importance() -> None:
    assert set(IMPORTANCE) == {*StepStatus, *Handled}


@settings(max_examples=50)
@given(st.lists(st.sampled_from(StepStatus), min_size=1))
def test_a_node_shows_the_most_important_status_whatever_the_order(statuses: list[StepStatus]) -> None:
    shown = state(*statuses).status
    assert IMPORTANCE.index(shown) == min(map(IMPORTANCE.index, statuses))


@settings(max_examples=50)
@given(st.lists(st.sampled_from(StepStatus), min_size=1))
def test_counts_by_status_add_up(statuses: list[StepStatus]) -> None:
    found = state(*statuses)
    assert sum(found.n_by_status.values()) == found.n_total == len(statuses)


def test_names_are_folded_each_for_itself() -> None:
    found = node_states([("a", DONE, 1, 1.0), ("b", FAILED, 1, None), ("a", RUNNING, 1, None), ("a", DONE, 1, 0.5)])
    assert {name: (of.status, of.n_total, of.duration_s) for name, of in found.items()} == {
        "a": (RUNNING, 3, 1.5),
        "b": (FAILED, 1, None),
    }


def test_steps_that_are_expected_and_not_recorded_are_pending() -> None:
    found = state(*[DONE] * 812, *[FAILED] * 3, n_expected=1000)
    assert (found.n_total, found.n(StepStatus.PENDING)) == (1000, 185)
    assert counts(found) == "812 of 1000, 3 failed"


def test_a_map_that_has_not_finished_is_not_completed() -> None:
    assert state(DONE, DONE, n_expected=3).status is StepStatus.PENDING


def test_fewer_expected_than_recorded_changes_nothing() -> None:
    assert state(DONE, DONE, n_expected=1) == state(DONE, DONE)


def test_nothing_recorded_and_nothing_expected_is_no_state() -> None:
    assert node_states([], n_expected={"a": 0}) == {}


@pytest.mark.parametrize(
    ("statuses", "said"),
    [
        ([DONE], ""),
        ([FAILED], "failed"),
        ([DONE, DONE], "2 of 2"),
        ([DONE, RUNNING, FAILED], "1 of 3, 1 failed, 1 running"),
    ],
)
def test_a_state_in_words(statuses: list[StepStatus], said: str) -> None:
    assert state_words(state(*statuses)) == said


def test_a_state_in_words_with_its_time() -> None:
    [one] = node_states([("a", DONE, 1, 3.2)]).values()
    [two] = node_states([("a", FAILED, 1, 0.4)]).values()
    assert (state_words_with_time(one), state_words_with_time(two)) == ("3.2 s", "failed · 400 ms")
    assert state_words_with_time(state(DONE)) == "completed"


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(StepStatus), st.integers(1, 5), st.none() | st.just(1.0)),
        min_size=1,
    )
)
def test_states_merge_into_that_of_all_their_steps(records: list[tuple[str, StepStatus, int, float | None]]) -> None:
    [whole] = node_states([("all", *rest) for _, *rest in records]).values()
    assert merged(node_states(records).values()) == whole


def test_no_states_merge_into_none() -> None:
    assert merged([]) is None


def test_a_state_made_by_hand_counts_as_what_it_says() -> None:
    assert merged([NodeState(status=DONE), NodeState(status=FAILED, n_total=2)]) == state(DONE, FAILED, FAILED)


def test_the_caption_sums_up_the_run() -> None:
    run = Caption(name="", run_status=RunStatus.RUNNING, run_id="k7x2")
    found = caption(chain(1), {"a": state(DONE, DONE, RUNNING)}, run)
    assert (found.name, found.run_status, found.run_id) == ("chain", RunStatus.RUNNING, "k7x2")
    assert found.summary == "2 steps done, 1 running"
    assert caption(chain(1), {"a": state(DONE)}, Caption(name="")).summary == "1 step done"
    assert caption(chain(1), {}, Caption(name="")).summary == ""


def test_recorded_names_that_the_diagram_lacks_hang_from_the_start() -> None:
    found = with_recorded(chain(1), ["s0", "lib.helper.fetch", "lib.helper.fetch"])
    [extra] = found.nodes[3:]
    assert (extra.kind, extra.label, extra.step) == (NodeKind.OTHER, "fetch", "lib.helper.fetch")
    [edge] = found.edges[2:]
    assert (edge.source, edge.target, edge.is_dashed) == ("start", extra.id, True)


def test_a_diagram_that_has_all_names_stays_as_it_is() -> None:
    assert with_recorded(chain(2), ["s1", "s0"]) is not None
    assert with_recorded(chain(2), ["s1"]) == chain(2)


def test_a_diagram_of_a_name_only_gets_a_start() -> None:
    found = with_recorded(Diagram("d"), ["a", "b"])
    assert [node.kind for node in found.nodes] == [NodeKind.START, NodeKind.OTHER, NodeKind.OTHER]


def test_an_id_that_is_taken_is_not_taken_again() -> None:
    taken = Diagram("d", (node("start"), node("recorded:a")))
    assert [found.id for found in with_recorded(taken, ["a"]).nodes] == ["start'", "start", "recorded:a", "recorded:a'"]


@settings(max_examples=50)
@given(st.lists(st.text(max_size=3)))
def test_adding_recorded_names_never_makes_an_id_twice(names: list[str]) -> None:
    found = with_recorded(with_recorded(chain(1), names), [f"{name}'" for name in names])
    assert len({node.id for node in found.nodes}) == len(found.nodes)
