"""The card of a run without a browser: what is sent to it, what it shows to who comes late, and what a click does."""

from __future__ import annotations

import datetime as dt
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import Run, flow, step
from ironflow_nb.core.identity import RunId
from ironflow_nb.core.status import RunStatus
from ironflow_nb.handles.run_picture import view_of
from ironflow_nb.handles.run_progress import progress_of
from ironflow_nb.notebook import live_pictures
from tests.cells import run_cell
from tests.conftest import Lab
from tests.notebook.front_ends import FrontEnd
from tests.waits.conftest import LIMIT_S, until

pytest.importorskip("anywidget", reason="the card is a widget")
run_card = pytest.importorskip("ironflow_nb.notebook.run_card")

REACHED, GO_ON = threading.Event(), threading.Event()


@step
def first(n: int) -> int:
    return n


@step
def second(n: int) -> int:
    REACHED.set()
    assert GO_ON.wait(LIMIT_S)
    return n


@flow
def held() -> int:
    return second(first(3))


@flow
def asks() -> Any:
    when = iron.ask("When?", type=dt.date, timeout_s=3600)
    return when, iron.ask("Who?", choices=["ann", "bob"]), iron.wait_for("go")


@flow
async def asks_async() -> Any:
    return await iron.aio.approve("Publish?")


@step
def write(n: int) -> None:
    sys.stdout.write(f"line {n}\n")


@flow
def writes() -> None:
    sys.stdout.write("it begins\n")
    write(1)
    write(2)


SPACE: dict[str, Any] = {}
CELL = """
from ironflow_nb import flow, step

@step(name="load")
def load(n):
    return n

@step(name="convert")
def convert(n):
    {body}

@flow(name="parse")
def parse(n):
    return convert(load(n))
"""


def define(*, broken: bool) -> None:
    """Run the cell that defines the flow, as it is before or after its edit."""
    run_cell(CELL.format(body="raise ValueError('bad number')" if broken else "return n * 10"), SPACE)


@flow
def fails() -> None:
    raise ValueError("the service is down")


@pytest.fixture
def front_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[FrontEnd]:
    REACHED.clear()
    GO_ON.clear()
    yield FrontEnd(monkeypatch)
    GO_ON.set()


class Shown:
    """A card of a run that is shown again whenever the test says so."""

    def __init__(self, lab: Lab, run: Run[Any]) -> None:
        from ironflow_nb.notebook.run_card import RunCard

        self._lab, self._run = lab, run
        self.card = RunCard(lab.engine, self.view(), lambda: None)

    def view(self) -> Any:
        return view_of(RunId(self._run.id), progress_of(self._lab.engine, RunId(self._run.id)))

    def again(self) -> None:
        self.card.show(self.view())


def test_only_what_has_changed_is_sent_and_a_view_that_comes_late_gets_all(lab: Lab, front_end: FrontEnd) -> None:
    run = held.start()
    assert REACHED.wait(LIMIT_S)
    until(lambda: "second: running" in run.diagram().text)
    shown = Shown(lab, run)
    frame = shown.card._widget.get_state()["frame"]
    assert frame["svg"].startswith("<svg")
    assert set(frame["actions"]) == {"pause", "cancel", "inject", "fork"}
    GO_ON.set()
    run.wait(LIMIT_S)
    shown.again()
    [sent] = front_end.sent
    assert "svg" not in sent["change"]
    assert sent["change"]["status"] == "completed"
    nodes = {name for name in sent["elements"] if "-n-" in name}
    assert {name.rpartition("-n-")[2] for name in frame["elements"] if "-n-" in name} - {
        name.rpartition("-n-")[2] for name in nodes
    }, "what stayed as it was is not sent"
    latest = shown.card._widget.get_state()["frame"]
    assert latest["status"] == "completed"
    assert all(latest["elements"][name] == text for name, text in sent["elements"].items())
    front_end.send(do="hello")
    assert front_end.wait_for("frame") == latest
    assert shown.card.is_heard


def test_nothing_is_sent_while_nothing_happens(lab: Lab, front_end: FrontEnd) -> None:
    lab.simulate_time()
    run = held.start()
    assert REACHED.wait(LIMIT_S)
    until(lambda: "second: running" in run.diagram().text)
    shown = Shown(lab, run)
    shown.again()
    shown.again()
    assert front_end.sent == []


def test_a_click_on_a_node_is_answered_with_its_details(lab: Lab, front_end: FrontEnd) -> None:
    run = held.start()
    assert REACHED.wait(LIMIT_S)
    until(lambda: len(run.steps()) == 2)
    shown = Shown(lab, run)
    element = next(name for name, text in shown.card._parts.elements.items() if ">first:" in text)
    front_end.send(do="details", element=element)
    details = front_end.wait_for("details")
    assert (details["label"], details["steps"][0]["output"], details["steps"][0]["inputs"]) == ("first", "3", "n=3")
    assert "def first" in details["source"]


def test_a_run_is_paused_resumed_and_cancelled_by_clicks(lab: Lab, front_end: FrontEnd) -> None:
    run = asks.start()
    until(lambda: run.status is RunStatus.WAITING)
    Shown(lab, run)
    front_end.send(do="pause")
    until(lambda: run.status is RunStatus.PAUSED)
    front_end.send(do="resume")
    until(lambda: run.status is RunStatus.WAITING)
    front_end.send(do="cancel")
    until(lambda: run.status is RunStatus.CANCELLED)
    assert [name for name in run.events()["type"] if name in {"RunPaused", "RunContinued", "RunCancelled"}] == [
        "RunPaused", "RunContinued", "RunCancelled",
    ]  # fmt: skip


def test_questions_are_answered_and_signals_sent_and_what_does_not_fit_is_told(lab: Lab, front_end: FrontEnd) -> None:
    run = asks.start()
    until(lambda: run.status is RunStatus.WAITING)
    shown = Shown(lab, run)
    [wait] = shown.card._widget.get_state()["frame"]["waits"]
    assert (wait["question"], wait["form"]) == ("When?", "date")
    front_end.send(do="answer", step=wait["step"], line="tomorrow")
    assert "takes a date such as" in front_end.wait_for("error")
    front_end.send(do="answer", step=wait["step"], line="2026-12-24")
    until(lambda: "Who?" in [wait.question for wait in shown.view().waits])
    front_end.send(do="answer", step="iron.ask[1]", line="bob")
    front_end.send(do="signal", name="go", line='{"n": 1}')
    assert run.result(LIMIT_S) == (dt.date(2026, 12, 24), "bob", {"n": 1})


def test_an_async_flow_is_approved_by_a_click(lab: Lab, front_end: FrontEnd) -> None:
    run = asks_async.start()
    until(lambda: run.status is RunStatus.WAITING)
    shown = Shown(lab, run)
    [wait] = shown.card._widget.get_state()["frame"]["waits"]
    assert (wait["form"], wait["choices"]) == ("choice", ("yes", "no"))
    front_end.send(do="answer", step=wait["step"], line="yes")
    assert run.result(LIMIT_S) is True


@pytest.mark.parametrize("content", [{"do": "explode"}, {"do": "answer"}, {"do": "details", "element": "none"}, {}])
def test_a_message_that_no_card_sends_does_no_harm(lab: Lab, front_end: FrontEnd, content: dict[str, Any]) -> None:
    run = asks.start()
    until(lambda: run.status is RunStatus.WAITING)
    Shown(lab, run)
    front_end.send(**content)
    front_end.send(do="hello")
    front_end.wait_for("frame")
    assert run.status is RunStatus.WAITING
    run.cancel().wait(LIMIT_S)


def test_a_result_is_injected_after_its_plan_was_shown(lab: Lab, front_end: FrontEnd) -> None:
    GO_ON.set()
    run = held.start().wait(LIMIT_S)
    Shown(lab, run)
    form = {"step": "test_run_cards.first[0]", "line": "5", "reason": "counted again"}
    planned = front_end.ask("planned", do="plan", edit="inject", **form)
    assert "1 done again" in planned["summary"]
    assert planned["again"][0].startswith("test_run_cards.second[0]: its argument `n` has the result of")
    assert run.value("first") == 3, "a plan records nothing"
    assert "by hand" in front_end.ask("told", do="inject", **form)
    assert (run.value("first"), run.resume().result(LIMIT_S)) == (5, 5)
    assert "counted again" in str(run.explain("first"))


@pytest.mark.parametrize("line", ["", "date(2026, 1, 1)", "{", "x"])
def test_what_is_no_value_is_refused_and_nothing_is_injected(lab: Lab, front_end: FrontEnd, line: str) -> None:
    GO_ON.set()
    run = held.start().wait(LIMIT_S)
    Shown(lab, run)
    form = {"step": "test_run_cards.first[0]", "line": line, "reason": "r"}
    assert "is no JSON and no literal of Python" in front_end.ask("error", do="plan", edit="inject", **form)
    assert "is no JSON" in front_end.ask("error", do="inject", **form)
    assert run.value("first") == 3


@pytest.mark.parametrize(("line", "result"), [("(5)", 5), ("", 3)], ids=["with another result", "from the step on"])
def test_a_fork_begins_at_a_step(lab: Lab, front_end: FrontEnd, line: str, result: int) -> None:
    GO_ON.set()
    run = held.start().wait(LIMIT_S)
    Shown(lab, run)
    form = {"step": "test_run_cards.second[0]" if not line else "test_run_cards.first[0]", "line": line}
    assert front_end.ask("planned", do="plan", edit="fork", **form)["summary"]
    told = front_end.ask("told", do="fork", **form)
    forked = iron.get_run(told.split()[1])
    assert forked.result(LIMIT_S) == result
    assert run.value("first") == 3


def test_the_log_of_the_run_and_of_a_node_is_shown(lab: Lab, front_end: FrontEnd) -> None:
    run = writes.start().wait(LIMIT_S)
    shown = Shown(lab, run)
    steps = "test_run_cards.write[0]: line 1", "test_run_cards.write[1]: line 2"
    assert front_end.ask("log", do="log") == ("flow: it begins", *steps)
    element = next(name for name, text in shown.card._parts.elements.items() if ">write" in text)
    assert front_end.ask("details", do="details", element=element)["log"] == ("line 1",)


def test_after_an_edit_the_card_of_a_failed_run_says_what_resuming_would_do(lab: Lab, front_end: FrontEnd) -> None:
    define(broken=True)
    run = SPACE["parse"].start(3).wait(LIMIT_S)
    shown = Shown(lab, run)
    shown.card.look_at_code()
    before = front_end.wait_for("change")["continuation"]
    assert [each["step"] for each in before["failed"]] == ["convert[0]"]
    assert "bad number" in before["failed"][0]["error"]
    assert (before["edits"], before["missing"]) == ((), ())
    front_end.sent.clear()
    shown.card.look_at_code()
    assert front_end.sent == [], "nothing was edited"
    define(broken=False)
    shown.card.look_at_code()
    after = front_end.wait_for("change")["continuation"]
    [edit] = after["edits"]
    assert edit["name"] == "convert"
    assert "-    raise ValueError('bad number')" in edit["diff"].splitlines()
    assert "+    return n * 10" in edit["diff"].splitlines()
    assert after["summary"].startswith("1 reused (")
    assert "1 tried again (" in after["summary"]
    assert front_end.ask("done", do="resume") == "resume"
    assert run.result(LIMIT_S) == 30
    shown.again()
    shown.card.look_at_code()
    assert front_end.wait_for("change")["continuation"] is None


# -- the output that it stands in ----------------------------------------------------------------------------------

WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def bundles(front_end: FrontEnd, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the output shows, one bundle after the other, where a person sits at a front end with widgets."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(live_pictures, "can_show_card", lambda: True)
    monkeypatch.setattr(live_pictures, "CARD_AFTER_S", 0.0)
    monkeypatch.setattr(live_pictures, "update", lambda _, bundle: found.append(bundle))
    return found


def output_of(lab: Lab, run: Run[Any], **options: bool) -> live_pictures.LiveOutput:
    output = live_pictures.LiveOutput(lab.engine, "an id", **options)
    output._run_id, output._began_s = RunId(run.id), lab.engine.clock.monotonic()
    return output


def test_the_output_is_the_card_while_the_run_goes_on_and_the_picture_at_the_end(
    lab: Lab, front_end: FrontEnd, bundles: list[dict[str, Any]]
) -> None:
    run = held.start()
    assert REACHED.wait(LIMIT_S)
    output = output_of(lab, run)
    assert output.paint() is False
    assert {WIDGET, "image/svg+xml", "text/plain"} <= bundles[-1].keys()
    front_end.send(do="hello")
    front_end.wait_for("frame")
    n_shown = len(bundles)
    GO_ON.set()
    run.wait(LIMIT_S)
    assert output.paint() is True
    assert len(bundles) == n_shown + 1
    assert WIDGET not in bundles[-1]
    assert "held: completed" in bundles[-1]["text/plain"]


def test_without_a_word_of_the_front_end_the_output_is_the_picture(
    lab: Lab, bundles: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = held.start()
    assert REACHED.wait(LIMIT_S)
    monkeypatch.setattr(run_card, "UNHEARD_S", -1.0)
    output = output_of(lab, run)
    output.paint()
    output.paint()
    assert WIDGET not in bundles[-1]
    assert "image/svg+xml" in bundles[-1]


def test_a_paused_run_keeps_its_card(lab: Lab, front_end: FrontEnd, bundles: list[dict[str, Any]]) -> None:
    run = asks.start()
    until(lambda: run.status is RunStatus.WAITING)
    output = output_of(lab, run)
    output.paint()
    front_end.send(do="hello")
    front_end.wait_for("frame")
    run.pause().wait(LIMIT_S)
    assert output.paint() is False
    assert WIDGET in bundles[-1]
    run.cancel()
    assert output.paint() is True
    assert WIDGET not in bundles[-1]


def test_a_run_that_failed_keeps_its_card_until_it_is_settled(lab: Lab, bundles: list[dict[str, Any]]) -> None:
    run = fails.start().wait(LIMIT_S)
    output = output_of(lab, run)
    assert output.paint() is False
    assert WIDGET in bundles[-1]
    output.settle()
    assert output.paint() is True
    assert WIDGET not in bundles[-1]


def test_a_run_that_failed_leaves_its_card_when_nothing_happens_for_long(
    lab: Lab, bundles: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = output_of(lab, fails.start().wait(LIMIT_S))
    output.paint()
    monkeypatch.setattr(live_pictures, "KEPT_S", -1.0)
    assert output.paint() is True
    assert WIDGET not in bundles[-1]


def test_a_run_that_is_continued_by_another_cell_leaves_its_card_with_the_picture_that_was_shown(
    lab: Lab, bundles: list[dict[str, Any]]
) -> None:
    run = fails.start().wait(LIMIT_S)
    output = output_of(lab, run)
    output.finish()
    assert WIDGET in bundles[-1]
    run.resume().wait(LIMIT_S)
    assert output.paint() is True
    assert WIDGET not in bundles[-1]
    assert "failed" in bundles[-1]["text/plain"]


def test_a_completed_run_has_the_card_that_was_asked_for_and_none_at_the_end_of_its_cell(
    lab: Lab, bundles: list[dict[str, Any]]
) -> None:
    GO_ON.set()
    run = held.start().wait(LIMIT_S)
    assert output_of(lab, run).paint() is True
    assert WIDGET not in bundles[-1]
    output = output_of(lab, run, is_asked_for=True)
    assert output.paint() is False
    assert WIDGET in bundles[-1]


def test_without_a_kernel_or_a_person_there_is_no_card() -> None:
    assert not live_pictures.can_show_card()
