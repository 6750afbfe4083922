"""The live dashboard and the slider without a browser: what is sent, what a click does, and what a notebook keeps."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import Run, flow, step
from ironflow_nb.core.status import RunStatus
from ironflow_nb.notebook import watched_card
from tests.conftest import Lab
from tests.notebook.front_ends import FrontEnd
from tests.waits.conftest import LIMIT_S, until

pytest.importorskip("anywidget", reason="the card is a widget")
dashboard_card = pytest.importorskip("ironflow_nb.notebook.dashboard_card")
slider_card = pytest.importorskip("ironflow_nb.notebook.slider_card")

pytestmark = pytest.mark.parametrize("lab", ["sqlite"], indirect=True)
WIDGET = watched_card.WIDGET
REACHED, GO_ON = threading.Event(), threading.Event()


@step
def first(n: int) -> int:
    if n < 0:
        raise ValueError("it is negative")
    return n


@step
def hold(n: int) -> int:
    REACHED.set()
    assert GO_ON.wait(LIMIT_S)
    return n


@flow
def main(n: int) -> int:
    return first(n)


@flow
def held(n: int) -> int:
    return hold(first(n))


class Page:
    """The front end of one notebook: its outputs, and the other end of the comm."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.outputs: list[dict[str, Any]] = []
        self.front_end = FrontEnd(patch)
        for name in ("show_bundle", "update"):
            patch.setattr(watched_card, name, lambda _, bundle: self.outputs.append(bundle))
        patch.setattr(watched_card, "can_show_card", lambda: True)

    def send(self, **content: Any) -> None:
        self.front_end.send(**content)

    def sent(self, name: str) -> list[Any]:
        return [each[name] for each in self.front_end.sent if name in each]

    @property
    def shows_card(self) -> bool:
        return WIDGET in self.outputs[-1]


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    REACHED.clear()
    GO_ON.clear()
    yield Page(monkeypatch)
    GO_ON.set()


@pytest.fixture
def shown(lab: Lab, page: Page) -> Iterator[list[watched_card.WatchedCard]]:
    cards: list[watched_card.WatchedCard] = []
    yield cards
    for card in cards:
        card.settle()
    until(lambda: not [each for each in threading.enumerate() if each.name.startswith("ironflow-watched-card")])


def opened_dashboard(page: Page, shown: list[Any], **options: Any) -> None:
    shown.append(dashboard_card.show_dashboard(iron.dashboard(**options)))
    page.send(do="hello")
    page.send(do="show")
    until(lambda: page.sent("frame"))


def runs_of(page: Page) -> set[str]:
    found: set[str] = set()
    for change in page.sent("change"):
        found |= set(runs_in(change).get("items", {}))
    return found


def runs_in(change: dict[str, Any]) -> dict[str, Any]:
    part: dict[str, Any] = change.get("parts", {}).get("runs", {})
    return part


def test_a_dashboard_sends_all_at_first_and_then_only_what_changed(lab: Lab, page: Page, shown: list[Any]) -> None:
    main(1)
    opened_dashboard(page, shown)
    [frame] = page.sent("frame")
    assert main.last.id in frame["change"]["parts"]["runs"]["items"]
    assert frame["looks"]["failed"]["glyph"] == "✗"
    before = main.last.id
    main.options(fresh=True)(2)
    until(lambda: main.last.id in runs_of(page))
    assert before not in runs_of(page)


def test_a_filter_is_asked_for_by_a_click(lab: Lab, page: Page, shown: list[Any]) -> None:
    main(1)
    bad = main.start(-1).wait(LIMIT_S)
    opened_dashboard(page, shown)
    page.send(do="filter", of="", status="failed", since="24h", order="newest")
    until(lambda: any(each.get("filter", {}).get("status") == "failed" for each in page.sent("about")))
    until(lambda: [bad.id] in [list(runs_in(each).get("keys") or ()) for each in page.sent("change")])
    assert page.sent("error") == []


def test_a_run_is_opened_as_its_card_and_steered_there(lab: Lab, page: Page, shown: list[Any]) -> None:
    run = held.start(3)
    assert REACHED.wait(LIMIT_S)
    opened_dashboard(page, shown)
    page.send(do="open", run=run.id)
    until(lambda: page.sent("run_frame"))
    [frame] = page.sent("run_frame")
    assert frame["run_id"] == run.id
    assert "<svg" in frame["svg"]
    page.send(do="run", run=run.id, content={"do": "hello"})
    page.send(do="run", run=run.id, content={"do": "cancel"})
    until(lambda: run.status in {RunStatus.CANCELLING, RunStatus.CANCELLED})
    GO_ON.set()
    run.wait(LIMIT_S)
    until(lambda: any(each["content"].get("change", {}).get("status") == "cancelled" for each in inner(page)))
    page.send(do="close", run=run.id)


def inner(page: Page) -> list[dict[str, Any]]:
    return [each for each in page.front_end.sent if "of_run" in each]


def test_a_run_that_is_not_there_is_told(lab: Lab, page: Page, shown: list[Any]) -> None:
    opened_dashboard(page, shown)
    page.send(do="open", run="zzzz")
    until(lambda: page.sent("error"))
    assert "no run begins with" in page.sent("error")[0]


def test_a_card_that_nobody_shows_becomes_text_and_follows_the_journal(
    lab: Lab, page: Page, shown: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched_card, "UNHEARD_S", 0.0)
    shown.append(dashboard_card.show_dashboard(iron.dashboard()))
    until(lambda: not page.shows_card)
    main(1)
    until(lambda: main.last.id in page.outputs[-1]["text/plain"])
    assert not page.shows_card


def test_a_card_that_was_not_looked_at_for_long_becomes_text(
    lab: Lab, page: Page, shown: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched_card, "UNSEEN_S", 0.5)
    opened_dashboard(page, shown)
    assert page.shows_card
    until(lambda: not page.shows_card)


def test_a_settled_card_leaves_its_text(lab: Lab, page: Page, shown: list[Any]) -> None:
    main(1)
    opened_dashboard(page, shown)
    assert page.shows_card
    shown[0].settle()
    assert page.outputs[-1].keys() == {"text/plain", "text/html"}
    assert main.last.id in page.outputs[-1]["text/plain"]


def opened_slider(page: Page, shown: list[Any], run: Run[Any]) -> dict[str, Any]:
    shown.append(slider_card.show_slider(run.slider()))
    page.send(do="hello")
    until(lambda: page.sent("frame"))
    frame: dict[str, Any] = page.sent("frame")[-1]
    return frame


def test_a_slider_moves_to_a_moment_and_sends_what_differs(lab: Lab, page: Page, shown: list[Any]) -> None:
    main(7)
    frame = opened_slider(page, shown, main.last)
    assert (frame["at"], frame["is_live"], frame["other"]) == (frame["view"]["newest"], True, None)
    page.send(do="move", at=1, other=None, is_live=False)
    until(lambda: page.sent("moved"))
    change = page.sent("change")[-1]
    assert (change["at"], change["change_at"]["words"], change["status"]) == (1, "run started", "running")
    assert len(change["ghosts"]) == 1
    assert "svg" not in change
    assert 0 < len(change["elements"]) < len(frame["elements"])


def test_two_handles_compare_two_moments(lab: Lab, page: Page, shown: list[Any]) -> None:
    main(7)
    frame = opened_slider(page, shown, main.last)
    page.send(do="move", at=1, other=frame["view"]["newest"], is_live=False)
    until(lambda: page.sent("moved"))
    [difference] = page.sent("change")[-1]["differences"]
    assert difference == {"name": f"{first.name}[0]", "before": None, "after": "completed: 7"}


def test_a_live_slider_follows_the_run_and_ends_with_it(lab: Lab, page: Page, shown: list[Any]) -> None:
    run = held.start(3)
    assert REACHED.wait(LIMIT_S)
    frame = opened_slider(page, shown, run)
    assert not frame["view"]["is_over"]
    GO_ON.set()
    run.wait(LIMIT_S)
    until(lambda: any(each.get("status") == "completed" for each in page.sent("change")))
    assert page.sent("change")[-1]["view"]["is_over"]
    page.send(do="move", at=10**9, other=None, is_live=False)
    until(lambda: page.sent("moved"))
    assert page.sent("change")[-1]["at"] == run.at().version
