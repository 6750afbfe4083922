"""Cards of a journal without a browser: the runs that somebody has to look after, and the inbox."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pandas as pd
import pytest

import ironflow_nb as iron
from ironflow_nb import Run, flow, step
from ironflow_nb.core.status import RunStatus
from ironflow_nb.notebook import unfinished_card
from tests.conftest import Lab
from tests.notebook.front_ends import FrontEnd
from tests.waits.conftest import LIMIT_S, until

pytest.importorskip("anywidget", reason="the card is a widget")
journal_card = pytest.importorskip("ironflow_nb.notebook.journal_card")
inbox_card = pytest.importorskip("ironflow_nb.notebook.inbox_card")

WIDGET = "application/vnd.jupyter.widget-view+json"
IS_BROKEN = threading.Event()


@step
def fetch(n: int) -> int:
    return n


@step
def send(n: int) -> int:
    if IS_BROKEN.is_set():
        raise ValueError("the service is down")
    return n


@flow
def sends() -> int:
    return send(fetch(1) + fetch(2))


@flow
def asks() -> Any:
    return iron.ask("Who?", choices=["ann", "bob"], timeout_s=3600)


@flow
def edits() -> Any:
    frame = pd.DataFrame({"name": ["ann", "bob"], "n": [1, 2]})
    return iron.ask("Is this right?", frame, type=pd.DataFrame)


@pytest.fixture
def bundles(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the output shows, one bundle after the other."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(journal_card, "show_bundle", lambda _, bundle: found.append(bundle))
    monkeypatch.setattr(journal_card, "update", lambda _, bundle: found.append(bundle))
    return found


@pytest.fixture
def front_end(monkeypatch: pytest.MonkeyPatch, bundles: list[dict[str, Any]]) -> FrontEnd:
    IS_BROKEN.clear()
    return FrontEnd(monkeypatch)


@pytest.fixture
def shown(front_end: FrontEnd) -> Iterator[list[Any]]:
    """The cards that the test shows; they are settled at its end."""
    cards: list[Any] = []
    yield cards
    for card in cards:
        card.settle()
    until(lambda: not any(each.name == "ironflow-journal-card" for each in threading.enumerate()))


def broken(which: Any) -> Run[Any]:
    IS_BROKEN.set()
    run: Run[Any] = which.start().wait(LIMIT_S)
    IS_BROKEN.clear()
    return run


def unfinished_of(lab: Lab) -> tuple[Any, Any]:
    """Return what the card of loading reads, and how it puts it in words."""
    first = unfinished_card.unfinished(lab.engine)
    return partial(unfinished_card.look_again, lab.engine, first), partial(unfinished_card._bundle, lab.engine)


def show_unfinished(lab: Lab, shown: list[Any], front_end: FrontEnd) -> dict[str, Any]:
    """Show the card of what is unfinished, and return the frame that a front end is sent."""
    shown.append(journal_card.show_card(lab.engine, *unfinished_of(lab)))
    until(lambda: shown[-1]._widget is not None)
    frame: dict[str, Any] = front_end.ask("frame", do="hello")
    return frame


def test_a_run_that_failed_is_resumed_by_a_click(
    lab: Lab, shown: list[Any], front_end: FrontEnd, bundles: list[dict[str, Any]]
) -> None:
    run = broken(sends)
    [found] = show_unfinished(lab, shown, front_end)["runs"]
    assert (found["run_id"], found["status"], found["n_safe"]) == (run.id, "failed", 2)
    assert "the service is down" in found["error"]
    assert "2 finished steps are safe" in bundles[0]["text/plain"]
    assert WIDGET not in bundles[0]
    until(lambda: WIDGET in bundles[-1])
    assert bundles[-1]["text/plain"] == bundles[0]["text/plain"]
    assert front_end.ask("done", do="resume", run_id=run.id) == "resume"
    assert run.result(LIMIT_S) == 3
    until(lambda: front_end.wait_for("frame")["runs"][0]["status"] == "completed")


def test_a_run_is_inspected_before_it_is_resumed(lab: Lab, shown: list[Any], front_end: FrontEnd) -> None:
    run = broken(sends)
    show_unfinished(lab, shown, front_end)
    found = front_end.ask("inspected", do="inspect", run_id=run.id)
    assert found["svg"].startswith("<svg")
    assert "2 reused" in found["continuation"]["summary"]
    assert [each["step"] for each in found["continuation"]["failed"]] == ["test_journal_cards.send[0]"]
    assert run.status is RunStatus.FAILED


def test_a_run_is_discarded_by_a_click_and_its_history_stays(lab: Lab, shown: list[Any], front_end: FrontEnd) -> None:
    run = broken(sends)
    show_unfinished(lab, shown, front_end)
    front_end.ask("done", do="cancel", run_id=run.id)
    assert run.status is RunStatus.CANCELLED
    assert run.value("fetch[0]") == 1
    assert not unfinished_card.unfinished(lab.engine)


def test_a_question_is_answered_on_the_card_and_what_does_not_fit_is_told(
    lab: Lab, shown: list[Any], front_end: FrontEnd
) -> None:
    run = asks.start()
    until(lambda: run.status is RunStatus.WAITING)
    [asked] = show_unfinished(lab, shown, front_end)["questions"]
    assert (asked["run_id"], asked["wait"]["question"], asked["wait"]["choices"]) == (run.id, "Who?", ("ann", "bob"))
    assert asked["wait"]["due_at"] is not None
    answer = {"do": "answer", "run_id": run.id, "step": asked["wait"]["step"]}
    assert "takes one of 'ann', 'bob'" in front_end.ask("error", **answer, line="eve")
    front_end.ask("done", **answer, line="bob")
    assert run.result(LIMIT_S) == "bob"


@pytest.mark.parametrize(
    "content", [{"do": "explode", "run_id": "x"}, {"do": "resume"}, {"do": "answer", "run_id": "x"}, {}]
)
def test_a_message_that_no_card_sends_does_no_harm(
    lab: Lab, shown: list[Any], front_end: FrontEnd, content: dict[str, Any]
) -> None:
    run = broken(sends)
    show_unfinished(lab, shown, front_end)
    front_end.ask("error", **content)
    assert front_end.ask("frame", do="hello")["runs"][0]["run_id"] == run.id


def test_the_card_becomes_text_when_no_front_end_has_shown_it(
    lab: Lab, shown: list[Any], bundles: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(sends)
    monkeypatch.setattr(journal_card, "UNHEARD_S", -1.0)
    shown.append(journal_card.show_card(lab.engine, *unfinished_of(lab)))
    until(lambda: len(bundles) == 2)
    assert WIDGET not in bundles[-1]


def test_the_inbox_shows_new_questions_and_edits_a_frame(
    lab: Lab, shown: list[Any], front_end: FrontEnd, bundles: list[dict[str, Any]]
) -> None:
    run = edits.start()
    until(lambda: run.status is RunStatus.WAITING)
    found = iron.waiting()
    assert isinstance(found, pd.DataFrame)
    shown.append(inbox_card.show_inbox(found))
    until(lambda: shown[-1]._widget is not None)
    [asked] = front_end.ask("frame", do="hello")["questions"]
    assert asked["wait"]["form"] == "frame"
    assert "Is this right?" in bundles[0]["text/html"]
    place = {"run_id": run.id, "step": asked["wait"]["step"]}
    table = front_end.ask("table", do="table", **place)
    assert (table["columns"], table["rows"]) == (("name", "n"), (("ann", "1"), ("bob", "2")))
    rows = [{"from": 1, "cells": ["bob", "many"]}]
    assert "'many' in row 1 of n is no int64" in front_end.ask("error", do="answer", **place, rows=rows)
    rows = [{"from": 1, "cells": ["bob", "20"]}, {"from": None, "cells": ["eve", "3"]}]
    other = asks.start()
    front_end.ask("done", do="answer", **place, rows=rows)
    pd.testing.assert_frame_equal(run.result(LIMIT_S), pd.DataFrame({"name": ["bob", "eve"], "n": [20, 3]}))
    until(lambda: [each["run_id"] for each in front_end.wait_for("frame")["questions"]] == [other.id])
    other.cancel().wait(LIMIT_S)


def test_what_is_derived_from_the_inbox_is_a_table(lab: Lab) -> None:
    run = asks.start()
    until(lambda: not iron.waiting().empty)
    from ironflow_nb.handles.inbox_frame import Inbox

    found = iron.waiting()
    assert type(found) is Inbox
    assert type(found[["question"]]) is not Inbox
    assert found.to_dict("records")[0]["question"] == "Who?"
    run.cancel().wait(LIMIT_S)
