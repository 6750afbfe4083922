"""The card of a run without a browser: what is sent to it, what it shows to who comes late, and what a click does."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import Run, flow, step
from ironflow_nb.core.identity import RunId
from ironflow_nb.core.status import RunStatus
from ironflow_nb.handles.run_picture import view_of
from ironflow_nb.handles.run_progress import progress_of
from ironflow_nb.notebook import live_pictures
from tests.conftest import Lab
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


@flow
def fails() -> None:
    raise ValueError("the service is down")


class FrontEnd:
    """The other end of the comm of a widget."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        import comm

        self.sent: list[dict[str, Any]] = []
        self._heard: Callable[..., None] | None = None
        patch.setattr(comm, "create_comm", self._open)

    def _open(self, **opened: Any) -> Any:
        import comm.base_comm

        front_end = self

        class Comm(comm.base_comm.BaseComm):
            def publish_msg(self, msg_type: str, data: Any = None, *args: Any, **more: Any) -> None:
                if (data or {}).get("method") == "custom":
                    front_end.sent.append(data["content"])

        made = Comm(**opened)
        self.comm = made
        return made

    def send(self, **content: Any) -> None:
        self.comm.handle_msg({"content": {"data": {"method": "custom", "content": content}}, "buffers": []})

    def wait_for(self, name: str) -> Any:
        """Return what was sent under the name, once something was."""
        until(lambda: any(name in each for each in self.sent))
        return next(each[name] for each in self.sent if name in each)


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
    assert set(frame["actions"]) == {"pause", "cancel"}
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


def test_a_run_that_failed_has_the_card_that_was_asked_for_until_the_next_cell(
    lab: Lab, bundles: list[dict[str, Any]]
) -> None:
    run = fails.start().wait(LIMIT_S)
    assert output_of(lab, run).paint() is True
    assert WIDGET not in bundles[-1]
    output = output_of(lab, run, is_asked_for=True)
    assert output.paint() is False
    assert WIDGET in bundles[-1]
    output.settle()
    assert output.paint() is True
    assert WIDGET not in bundles[-1]


def test_without_a_kernel_or_a_person_there_is_no_card() -> None:
    assert not live_pictures.can_show_card()
