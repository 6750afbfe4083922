"""The view of a run: what it shows of real runs, and that what it offers can be done."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import Run, flow, step
from ironflow_nb.core.identity import RunId
from ironflow_nb.core.status import RunStatus, StepStatus
from ironflow_nb.diagram import draw
from ironflow_nb.errors import IronflowError
from ironflow_nb.handles.run_picture import drawn, view_of
from ironflow_nb.handles.run_progress import earlier_durations, progress_of
from ironflow_nb.views.run_view import NodeView, ProgressView, RunAction, RunView, expected_end
from tests.conftest import Lab
from tests.waits.conftest import LIMIT_S, until

BY_HAND = RunAction.INJECT, RunAction.FORK
REACHED, GO_ON, IS_BROKEN = threading.Event(), threading.Event(), threading.Event()


@pytest.fixture(autouse=True)
def fresh_events() -> None:
    for event in (REACHED, GO_ON, IS_BROKEN):
        event.clear()


@step
def double(n: int) -> int:
    if n == 2:
        REACHED.set()
        assert GO_ON.wait(LIMIT_S)
    return 2 * n


@step
def call() -> None:
    if IS_BROKEN.is_set():
        raise ValueError("the service is down")


@step(lane="api")
def hold(n: int) -> int:
    REACHED.set()
    assert GO_ON.wait(LIMIT_S)
    return n


@flow
def mapped() -> int:
    return sum(double.map(range(5), concurrency=1))


@flow
def held(n: int) -> int:
    return hold(n)


@flow
def asks() -> Any:
    return iron.ask("Who?", choices=["ann", "bob"], timeout_s=3600)


@flow
async def asks_async() -> Any:
    return await iron.aio.ask("Who?", choices=["ann", "bob"], timeout_s=3600)


@flow
def hears() -> Any:
    return iron.wait_for("go")


@flow
def calls() -> None:
    call()


@flow
def lives_with_it() -> None:
    with suppress(ValueError):
        call()


def view(lab: Lab, run: Run[Any]) -> RunView:
    progress = progress_of(lab.engine, RunId(run.id))
    assert progress.run is not None
    return view_of(RunId(run.id), progress, earlier_durations(lab.engine, progress.run))


def node(found: RunView, label: str) -> NodeView:
    return next(each for each in found.nodes if each.node.label == label)


def is_waiting(run: Run[Any]) -> Run[Any]:
    until(lambda: run.status is RunStatus.WAITING)
    return run


def test_a_map_is_one_node_that_counts_its_items_and_a_delta_follows_it(lab: Lab) -> None:
    run = mapped.start()
    assert REACHED.wait(LIMIT_S)
    until(lambda: "2 of 5, 1 running" in run.diagram().text)
    before = view(lab, run)
    state = node(before, "double").state
    assert state is not None
    assert (state.n(StepStatus.COMPLETED), state.n(StepStatus.RUNNING), state.n_total) == (2, 1, 5)
    assert (before.progress.n_done, before.progress.n_known) == (2, 5)
    GO_ON.set()
    run.wait(LIMIT_S)
    after = view(lab, run)
    change = after.delta(before)
    assert set(change.parts) <= {"nodes", "edges"}
    assert node(before, "double").node.id in change.parts["nodes"].items
    assert before.after(change) == after
    assert (after.progress.n_done, after.progress.n_known, after.actions) == (5, 5, BY_HAND)


def test_the_text_of_a_run_is_made_from_its_view(lab: Lab) -> None:
    run = is_waiting(asks.start())
    until(lambda: drawn(view(lab, run)).text == run.diagram().text)  # the time that it has taken is in it
    assert 'it asks "Who?"' in run.diagram().text
    run.cancel().wait(LIMIT_S)
    assert drawn(view(lab, run)).text == run.diagram().text


@pytest.mark.parametrize("asking", [asks, asks_async], ids=["def", "async"])
def test_a_question_is_a_wait_with_its_choices_and_its_end(lab: Lab, asking: Any) -> None:
    run = is_waiting(asking.start())
    found = view(lab, run)
    [wait] = found.waits
    assert (wait.step, wait.question, wait.choices, wait.signals) == ("iron.ask[0]", "Who?", ("ann", "bob"), ())
    assert wait.due_at is not None
    assert wait.due_at >= wait.since_at
    assert set(found.actions) == {RunAction.PAUSE, RunAction.CANCEL, RunAction.ANSWER, *BY_HAND}
    run.answer("bob")
    assert run.result(LIMIT_S) == "bob"
    assert view(lab, run).waits == ()


def test_a_wait_for_a_signal_names_it(lab: Lab) -> None:
    run = is_waiting(hears.start())
    found = view(lab, run)
    assert [wait.signals for wait in found.waits] == [("go",)]
    assert RunAction.SIGNAL in found.actions
    run.signal("go", 7)
    assert run.result(LIMIT_S) == 7


def test_a_lane_counts_who_holds_it_and_who_waits(lab: Lab) -> None:
    first = held.start(1)
    assert REACHED.wait(LIMIT_S)
    second = held.start(2)
    until(lambda: view(lab, second).lanes)
    [lane] = view(lab, second).lanes
    assert (lane.lane, lane.n_held, lane.n_waiting) == ("api", 1, 1)
    assert view(lab, first).lanes == ()
    GO_ON.set()
    assert (first.result(LIMIT_S), second.result(LIMIT_S)) == (1, 2)
    assert view(lab, second).lanes == ()


def test_a_run_is_expected_to_take_as_long_as_an_earlier_one(lab: Lab) -> None:
    GO_ON.set()
    mapped()
    earlier = view(lab, mapped.last)
    assert earlier.ended_at is not None
    assert earlier.began_at is not None
    for event in (GO_ON, REACHED):
        event.clear()
    run = mapped.options(fresh=True).start()
    assert REACHED.wait(LIMIT_S)
    until(lambda: view(lab, run).began_at is not None)
    found = view(lab, run)
    assert found.began_at is not None
    assert found.progress.expected_end_at == found.began_at + earlier.ended_at - earlier.began_at
    GO_ON.set()
    run.wait(LIMIT_S)
    assert view(lab, run).progress.expected_end_at is None


def test_a_map_whose_flow_never_completed_tells_its_end_by_its_own_pace() -> None:
    done = ProgressView(n_done=30, n_known=100)
    assert expected_end(done, 0, 1_000, 4_000) == 4_000 + 7_000
    assert expected_end(done, 20, 1_000, 4_000) == 4_000 + 21_000, "what was done before tells nothing of the pace"
    assert expected_end(done, 30, 1_000, 4_000) is None
    assert expected_end(ProgressView(n_done=5, n_known=5), 0, 1_000, 4_000) is None


@pytest.mark.parametrize("asking", [asks, asks_async], ids=["def", "async"])
def test_a_paused_run_has_no_open_wait_and_asks_again_once_it_is_resumed(lab: Lab, asking: Any) -> None:
    run = is_waiting(asking.start())
    run.pause().wait(LIMIT_S)
    assert (view(lab, run).status, view(lab, run).waits) == (RunStatus.PAUSED, ())
    is_waiting(run.resume())
    assert [wait.question for wait in view(lab, run).waits] == ["Who?"]
    run.cancel().wait(LIMIT_S)


def test_a_diagram_that_cannot_be_shown_leaves_the_caption(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("no diagram today")

    monkeypatch.setattr(draw, "with_recorded", fail)
    GO_ON.set()
    mapped()
    found = view(lab, mapped.last)
    assert (found.status, found.nodes) == (RunStatus.COMPLETED, ())
    assert drawn(found).text.startswith("test_run_view.mapped: completed")


def broken(which: Any) -> Run[Any]:
    IS_BROKEN.set()
    run: Run[Any] = which.start().wait(LIMIT_S)
    IS_BROKEN.clear()
    return run


def forked(run: Run[Any]) -> None:
    made = run.fork()
    with suppress(IronflowError):  # it may have completed
        made.cancel()
    made.wait(LIMIT_S)


BEGINNINGS: dict[str, Callable[[], Run[Any]]] = {
    "paused": lambda: is_waiting(hears.start()).pause().wait(LIMIT_S),
    "failed": lambda: broken(calls),
    "completed with a failure": lambda: broken(lives_with_it),
    "cancelled": lambda: is_waiting(hears.start()).cancel().wait(LIMIT_S),
    "with a question": lambda: is_waiting(asks.start()),
    "with a wait for a signal": lambda: is_waiting(hears.start()),
}
DO: dict[RunAction, Callable[[Run[Any]], object]] = {
    RunAction.PAUSE: Run.pause,
    RunAction.RESUME: Run.resume,
    RunAction.CANCEL: Run.cancel,
    RunAction.RETRY: lambda run: run.resume(retry="failed"),
    RunAction.ANSWER: lambda run: run.answer("ann"),
    RunAction.SIGNAL: lambda run: run.signal("go"),
    RunAction.INJECT: lambda run: run.inject(run.steps()["step"].iloc[0], "ann", reason="a test"),
    RunAction.FORK: forked,
}
OFFERED = {
    "paused": (RunAction.RESUME, RunAction.CANCEL, *BY_HAND),
    "failed": (RunAction.RESUME, RunAction.CANCEL, *BY_HAND),
    "completed with a failure": (RunAction.RETRY, *BY_HAND),
    "cancelled": (RunAction.FORK,),
    "with a question": (RunAction.PAUSE, RunAction.CANCEL, RunAction.ANSWER, *BY_HAND),
    "with a wait for a signal": (RunAction.PAUSE, RunAction.CANCEL, RunAction.SIGNAL, *BY_HAND),
}


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_what_a_view_offers_can_be_done(lab: Lab, beginning: str) -> None:
    offered = view(lab, run := BEGINNINGS[beginning]()).actions
    assert offered == OFFERED[beginning]
    with suppress(IronflowError):
        run.cancel()
    run.wait(LIMIT_S)
    for action in offered:
        again = BEGINNINGS[beginning]()
        DO[action](again)
        with suppress(IronflowError):  # it may have completed
            again.cancel()
        again.wait(LIMIT_S)
