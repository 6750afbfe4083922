"""The card of a decider without a browser: what is chosen and typed there, and what is shown of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Lab
from tests.deciders.orders import Charge, Place, charging, orders
from tests.notebook.front_ends import FrontEnd
from tests.waits.conftest import until

pytest.importorskip("anywidget", reason="the card is a widget")
watched_card = pytest.importorskip("ironflow_nb.notebook.watched_card")
decider_card = pytest.importorskip("ironflow_nb.notebook.decider_card")

pytestmark = pytest.mark.parametrize("lab", ["sqlite"], indirect=True)


class Page:
    """The front end of one notebook with the card of an order."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.outputs: list[dict[str, Any]] = []
        self.front_end = FrontEnd(patch)
        for name in ("show_bundle", "update"):
            patch.setattr(watched_card, name, lambda _, bundle: self.outputs.append(bundle))
        patch.setattr(watched_card, "can_show_card", lambda: True)
        self.cards: list[Any] = []

    def show(self, decider: Any) -> dict[str, Any]:
        """Show the decider; return its view."""
        self.cards.append(decider_card.show_decider(decider))
        self.front_end.send(do="show")
        frame: dict[str, Any] = self.front_end.ask("frame", do="hello")
        assert "<svg" in frame["svg"]
        view: dict[str, Any] = frame["view"]
        return view

    def view_where(self, holds: Any) -> dict[str, Any]:
        """Wait for a view that holds, and return it."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            views = [each["change"]["view"] for each in self.front_end.sent if "change" in each]
            found[:] = [view for view in views if holds(view)]
            return bool(found)

        until(look)
        return found[-1]


@pytest.fixture
def page(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    made = Page(monkeypatch)
    yield made
    for card in made.cards:
        card.settle()
    until(lambda: not [each for each in threading.enumerate() if each.name.startswith("ironflow-watched-card")])


def commands(view: dict[str, Any]) -> dict[str, list[str]]:
    return {each["name"]: [field["name"] for field in each["fields"]] for each in view["commands"]}


def expected(view: dict[str, Any]) -> list[str]:
    return [each["name"] for each in view["commands"] if each["targets"]]


def test_an_instance_is_begun_chosen_and_led_by_forms(page: Page) -> None:
    order = orders()
    view = page.show(order)
    assert commands(view)["Place"] == ["id", "total"]
    assert expected(view) == ["Place"]
    told = page.front_end.ask("told", do="send", command="Place", fields={"id": "o-1", "total": "5"})
    assert told == "Place was accepted, with 1 event"
    view = page.view_where(lambda view: view["chosen"] == "o-1")
    assert (view["status"], dict(view["state"])["total"]) == ("placed", "5.0")
    assert commands(view)["GiveUp"] == ["why"]
    assert set(expected(view)) == {"Pay", "Expire", "GiveUp"}
    assert {(each["kind"], each["name"]) for each in view["work"]} == {("effect", "Charge"), ("timer", "Expire")}
    page.front_end.ask("told", do="send", command="GiveUp", fields={"why": "too slow"})
    view = page.view_where(lambda view: view["status"] == "failed")
    assert view["instances"][0]["is_completed"]
    assert order.state("o-1").status == "failed"


def test_a_rejection_and_what_does_not_fit_are_told(page: Page) -> None:
    order = orders()
    order.send(Place("o-1", 5.0))
    page.show(order)
    assert "total takes" in page.front_end.ask(
        "error", do="send", command="Place", fields={"id": "o-2", "total": "much"}
    )
    page.front_end.send(do="choose", instance="o-1")
    page.view_where(lambda view: view["chosen"] == "o-1")
    told = page.front_end.ask("told", do="send", command="Place", fields={"total": "5"})
    assert told == "Place was rejected: Place is not valid for an order that is placed"


def test_a_command_of_another_process_and_a_dead_letter_are_seen(page: Page) -> None:
    order = orders()
    log: list[Any] = []
    charging(order, log, lambda _: len(log) == 1, attempts=1)
    page.show(order)
    order.send(Place("o-1", 5.0))
    page.view_where(lambda view: [each["instance"] for each in view["instances"]] == ["o-1"])
    assert page.front_end.ask("told", do="perform") == "1 performed"
    view = page.view_where(lambda view: any(each["dead_at"] for each in view["work"]))
    [dead] = [each for each in view["work"] if each["dead_at"]]
    assert (dead["name"], "the bank is closed" in dead["error"]) == (Charge.__name__, True)
    page.front_end.ask("told", do="requeue", instance="o-1", key=dead["key"])
    page.front_end.ask("told", do="perform")
    page.view_where(lambda view: view["instances"][0]["is_completed"])
    assert order.state("o-1").status == "paid"


def test_the_saved_notebook_has_the_diagram(page: Page) -> None:
    order = orders()
    page.show(order)
    page.cards[0].settle()
    assert set(page.outputs[-1]) >= {"text/plain", "image/svg+xml"}
    assert watched_card.WIDGET not in page.outputs[-1]
