"""The slider over a run: its moments are those of snapshots, what came later is a ghost, and two can be compared."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from ironflow_nb import Run, flow, step
from ironflow_nb.diagram.svg import element_id
from ironflow_nb.handles.slider import Moments
from ironflow_nb.history import run_history
from tests.conftest import Lab
from tests.waits.conftest import LIMIT_S

REACHED, GO_ON, IS_BROKEN = threading.Event(), threading.Event(), threading.Event()


@pytest.fixture(autouse=True)
def fresh_events() -> None:
    for event in (REACHED, GO_ON, IS_BROKEN):
        event.clear()


@step
def first(n: int) -> int:
    return n


@step
def second(n: int) -> int:
    if IS_BROKEN.is_set():
        raise ValueError("the service is down")
    return n * 10


@step
def last(n: int) -> int:
    REACHED.set()
    assert GO_ON.wait(LIMIT_S)
    return n + 1


@flow
def chain(n: int) -> int:
    return last(second(first(n)))


@flow
def mapped() -> list[int]:
    return list(first.map(range(5)))


@flow
async def chain_async(n: int) -> int:
    return second(first(n))


def moments(run: Run[Any]) -> Moments:
    found = run.slider().moments
    found.look()
    return found


def version_of(slider: Moments, words: str) -> int:
    return next(each.version for each in slider.changes() if each.words == words)


def test_each_moment_is_the_picture_of_the_snapshot(lab: Lab) -> None:
    GO_ON.set()
    chain(3)
    slider = moments(chain.last)
    view = slider.look()
    assert (view.first, view.newest, view.is_over) == (1, chain.last.at().version, True)
    for version in range(view.first, view.newest + 1):
        shown = slider.moment(version)
        assert shown.draw().text == chain.last.at(version).diagram().text
        assert (shown.status, shown.change.version) == (chain.last.at(version).status, version)


@pytest.mark.parametrize("going", [chain, chain_async], ids=["def", "async"])
def test_what_came_later_is_a_ghost(lab: Lab, going: Any) -> None:
    GO_ON.set()
    run = going.start(3).wait(LIMIT_S)
    slider = moments(run)
    names = {node.id: node.label for node in run.at().view().shown.diagram.nodes}
    ghosts = {label: element_id(node_id, f"iron-moment-{run.id}") for node_id, label in names.items()}
    began = version_of(slider, f"{first.name}[0]: step started")
    assert ghosts["second"] in slider.moment(began).ghosts
    assert ghosts["first"] not in slider.moment(began).ghosts
    assert slider.moment(slider.look().newest).ghosts == ()


def test_what_came_later_took_no_time_yet(lab: Lab) -> None:
    GO_ON.set()
    chain(3)
    view = chain.last.at(1).view()
    states = [each.state for each in view.nodes if each.state is not None]
    assert states
    assert [state.duration_s for state in states] == [None] * len(states)


def test_a_map_that_is_half_done_is_no_ghost(lab: Lab) -> None:
    mapped()
    slider = moments(mapped.last)
    halfway = version_of(slider, f"{first.name}[2]: step completed")
    shown = slider.moment(halfway)
    assert shown.ghosts == ()
    assert "of 5" in shown.draw().text


def test_a_moment_of_a_run_that_goes_on_has_the_end_that_is_known_by_now(lab: Lab) -> None:
    run = chain.start(3)
    assert REACHED.wait(LIMIT_S)
    slider = moments(run)
    before = slider.look()
    assert not before.is_over
    GO_ON.set()
    run.wait(LIMIT_S)
    after = slider.look()
    assert after.is_over
    assert after.newest > before.newest
    assert [each.version for each in slider.changes()] == list(range(1, after.newest + 1))
    assert slider.look() is after, "nothing is read again while nothing happens"


def test_two_moments_are_compared_by_status_and_output(lab: Lab) -> None:
    IS_BROKEN.set()
    run = chain.start(3).wait(LIMIT_S)
    failed = run.at().version
    IS_BROKEN.clear()
    GO_ON.set()
    run.resume().wait(LIMIT_S)
    slider = moments(run)
    found = {each.name: each for each in slider.differences(failed, slider.look().newest)}
    assert found.keys() == {f"{second.name}[0]", f"{last.name}[0]"}
    assert found[f"{second.name}[0]"].before == "failed: ValueError: the service is down"
    assert found[f"{second.name}[0]"].after == "completed, attempt 2: 30"
    assert found[f"{last.name}[0]"].before is None
    assert slider.differences(failed, failed) == []


def test_a_result_by_hand_is_a_mark_and_differs_from_before(lab: Lab) -> None:
    GO_ON.set()
    chain(3)
    run = chain.last
    before = run.at().version
    run.inject("second", 70, reason="it was wrong")
    slider = moments(run)
    [mark] = [each for each in slider.look().marks if each.version > before]
    assert mark.words == f"{second.name}[0]: output injected, attempt 2"
    [found] = slider.differences(before, mark.version)
    assert (found.before, found.after) == ("completed: 30", "completed, attempt 2: 70")


def test_failures_are_marks(lab: Lab) -> None:
    IS_BROKEN.set()
    run = chain.start(3).wait(LIMIT_S)
    failures = [each.words for each in moments(run).look().marks if each.is_failure]
    assert failures == [f"{second.name}[0]: step failed", "run failed"]


def test_the_text_is_the_sequence_of_changes(lab: Lab) -> None:
    GO_ON.set()
    chain(3)
    bundle = chain.last.slider()._repr_mimebundle_()
    assert "chain: completed" in bundle["text/plain"]
    for words in ("run started", f"{first.name}[0]: step started", "run completed"):
        assert words in bundle["text/plain"]
        assert words in bundle["text/html"]


@pytest.mark.parametrize("lab", ["sqlite"], indirect=True)
def test_a_slider_of_a_run_that_is_gone_is_told(lab: Lab) -> None:
    GO_ON.set()
    chain(3)
    slider = chain.last.slider()
    chain.last.delete()
    assert slider._repr_mimebundle_().keys() == {"text/plain"}
    assert "RunNotFound" in repr(slider)


def test_a_move_reads_only_events_since_a_checkpoint(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = flow(lambda: len(first.map(range(2_000))), name="wide")
    wide()
    slider = moments(wide.last)
    newest = slider.look().newest
    assert newest > 4_000
    folded = []
    evolve = run_history.evolve
    monkeypatch.setattr(run_history, "evolve", lambda state, event: folded.append(event) or evolve(state, event))
    shown = slider.moment(newest // 2)
    assert "of 2000" in shown.draw().text
    assert len(folded) <= 1_000
