"""The law of deltas: what has changed, applied to the view before, is the view after."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from ironflow_nb.core.identity import RunId, StepRef
from ironflow_nb.core.status import RunStatus
from ironflow_nb.diagram.draw import shown_diagram
from ironflow_nb.diagram.states import Caption
from ironflow_nb.views.run_view import BreakerView, LaneView, ProgressView, RunAction, RunView, WaitView, node_views
from tests.diagram.drawn import diagrams, states

NUMBERS = st.integers(0, 3)
NAMES = st.sampled_from("abc")
WAITS = st.builds(WaitView, step=NAMES.map(StepRef), kind=NAMES, since_at=NUMBERS, due_at=st.none() | NUMBERS)
LANES = st.builds(LaneView, lane=NAMES, key=NAMES, limit=NUMBERS, n_held=NUMBERS, n_waiting=NUMBERS)
BREAKERS = st.builds(BreakerView, name=NAMES, n_failed=NUMBERS, open_until=st.none() | NUMBERS)


def parts(item: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(item, max_size=4).map(tuple)


@st.composite
def views(draw: st.DrawFn) -> RunView:
    status = draw(st.sampled_from(RunStatus))
    shown = shown_diagram(draw(diagrams(max_nodes=6)), draw(states()), Caption(name="main", run_status=status))
    return RunView(
        run_id=RunId("a"),
        kind="flow",
        status=status,
        caption=shown.caption,
        ended_at=draw(st.none() | NUMBERS),
        progress=draw(st.builds(ProgressView, n_done=NUMBERS, n_known=NUMBERS)),
        nodes=draw(st.permutations(node_views(shown)).map(tuple)),
        edges=shown.diagram.edges,
        waits=draw(parts(WAITS)),
        lanes=draw(parts(LANES)),
        breakers=draw(parts(BREAKERS)),
        actions=draw(parts(st.sampled_from(RunAction))),
    )


@settings(max_examples=30)
@given(views(), views())
def test_a_delta_makes_the_view_before_into_the_view_after(before: RunView, after: RunView) -> None:
    assert before.after(after.delta(before)) == after


@settings(max_examples=10)
@given(views(), views())
def test_a_delta_is_empty_just_if_nothing_has_changed(before: RunView, after: RunView) -> None:
    assert not before.delta(before)
    assert bool(after.delta(before)) == (before != after)


@settings(max_examples=10)
@given(views(), views())
def test_a_delta_is_json(before: RunView, after: RunView) -> None:
    assert json.dumps(msgspec.to_builtins(after.delta(before))) is not None


def test_items_with_the_same_key_stay_apart() -> None:
    two = tuple(WaitView(step=StepRef("a"), kind="sleep", since_at=at) for at in (1, 2))
    before = RunView(run_id=RunId("a"), kind="flow", status=RunStatus.WAITING, caption=Caption(name=""), waits=two)
    after = msgspec.structs.replace(before, waits=(two[0], msgspec.structs.replace(two[1], due_at=7)))
    change = after.delta(before)
    assert change.parts["waits"].keys is None
    assert before.after(change) == after
