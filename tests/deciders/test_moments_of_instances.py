"""The slider over an instance of a decider: its state and its way at each moment, and what came later as ghosts."""

from __future__ import annotations

import pytest

from ironflow_nb.deciders.state_diagram import state_element_id
from ironflow_nb.errors import InstanceNotFound
from tests.conftest import Lab
from tests.deciders.orders import Pay, Place, orders


def test_each_moment_has_the_state_and_the_way_until_then(lab: Lab) -> None:
    order = orders()
    order.send(Place("a", 3.0)).unwrap()
    placed = order.history("a")["version"].iloc[-1]
    order.send(Pay("a")).unwrap()
    slider = order.slider("a").moments
    view = slider.look()
    assert (view.first, view.is_over, view.title) == (0, True, "order a")
    before, then, now = (slider.moment(version) for version in (0, int(placed), view.newest))
    assert [each.status for each in (before, then, now)] == ["new", "placed", "paid"]
    assert "①" not in before.draw().text
    assert "①" in then.draw().text
    assert "②" not in then.draw().text
    assert "②" in now.draw().text
    assert now.draw().text == order.diagram(id="a").text
    ghost = state_element_id(order.diagram(id="a"), "paid").rpartition("-n-")[2]
    assert [each.rpartition("-n-")[2] for each in then.ghosts] == [ghost]
    assert now.ghosts == ()


def test_two_moments_differ_in_the_fields_of_the_state(lab: Lab) -> None:
    order = orders()
    order.send(Place("a", 3.0)).unwrap()
    slider = order.slider("a").moments
    newest = slider.look().newest
    found = {each.name: (each.before, each.after) for each in slider.differences(0, newest)}
    assert found == {"status": ("'new'", "'placed'"), "total": ("0.0", "3.0")}


def test_new_events_are_seen_at_the_next_look(lab: Lab) -> None:
    order = orders()
    order.send(Place("a", 3.0)).unwrap()
    slider = order.slider("a").moments
    before = slider.look()
    order.send(Pay("a")).unwrap()
    after = slider.look()
    assert (before.is_over, after.is_over) == (False, True)
    assert slider.moment(after.newest).status == "paid"
    assert any("Paid" in each.words for each in slider.changes())


def test_the_text_names_the_events(lab: Lab) -> None:
    order = orders()
    order.send(Place("a", 3.0)).unwrap()
    bundle = order.slider("a")._repr_mimebundle_()
    assert 'Placed {"total":3.0}' in bundle["text/plain"]


def test_an_instance_that_is_not_there_has_no_slider(lab: Lab) -> None:
    with pytest.raises(InstanceNotFound):
        orders().slider("nobody")
