"""A decider from its first command to its last: decided, charged, expired, failed, remembered."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

import ironflow_nb as iron
from tests.conftest import Lab
from tests.deciders.orders import Expire, Expired, GiveUp, Order, Paid, Pay, Place, Placed, charging, orders


def test_commands_are_accepted_rejected_or_too_late(lab: Lab) -> None:
    order = orders()
    assert order.send(Pay("o-1")) == iron.Rejected("Pay is not valid for an order that is new")
    assert len(order.instances()) == 0
    accepted = order.send(Place("o-1", 5.0))
    assert isinstance(accepted, iron.Accepted)
    assert accepted.n_events == 1
    assert isinstance(order.send(Place("o-1", 5.0)), iron.Rejected)
    assert isinstance(order.send(Pay("o-1")), iron.Accepted)
    assert order.send(Pay("o-1")) == iron.AlreadyCompleted("o-1")
    assert order.state("o-1") == Order("paid", 5.0)
    assert list(iron.runs()["status"]) == ["completed"]
    assert list(order.observations()["outcome"]) == [
        "rejected", "accepted", "rejected", "accepted", "already_completed",
    ]  # fmt: skip


def test_an_effect_is_performed_when_its_handler_is_there_and_what_it_returns_is_decided(lab: Lab) -> None:
    order, log = orders(), []
    order.send(Place("o-1", 5.0))
    assert order.run_until_idle() == 0
    charging(order, log)
    assert order.run_until_idle() == 1
    assert [(amount, attempt) for amount, attempt, _ in log] == [(5.0, 1)]
    assert order.state("o-1").status == "paid"
    assert order.run_until_idle() == 0


def test_an_effect_that_fails_is_tried_again_with_the_same_key_and_becomes_a_dead_letter(lab: Lab) -> None:
    clock = lab.simulate_time()
    order, log = orders(), []
    broken = [True]
    charging(order, log, lambda _: broken[0], attempts=3)
    order.send(Place("o-1", 5.0))
    order.run_until_idle(wait="10s")
    assert [attempt for _, attempt, _ in log] == [1, 2, 3]
    assert len({key for _, _, key in log}) == 1
    dead = order.dead_letters()
    assert list(dead["name"]) == ["Charge"]
    assert dead["error"][0] == "ConnectionError: the bank is closed"
    broken.clear()
    broken.append(False)
    assert order.requeue() == 1
    order.run_until_idle()
    assert order.state("o-1").status == "paid"
    assert len(order.dead_letters()) == 0
    assert clock.now() > 0


def test_a_dead_letter_can_be_answered_so_that_no_instance_waits_for_ever(lab: Lab) -> None:
    order, log = orders(), []
    charging(
        order, log, lambda _: True, attempts=1,
        on_dead_letter=lambda effect, error: GiveUp("o-1", f"{effect.amount}: {error}"),
    )  # fmt: skip
    order.send(Place("o-1", 5.0))
    order.run_until_idle()
    assert order.state("o-1").status == "failed"
    assert order.history("o-1")["data"].iloc[-1] == {"why": "5.0: the bank is closed"}


def test_a_timer_fires_when_it_is_due_and_not_before(lab: Lab) -> None:
    clock = lab.simulate_time()
    order = orders()
    order.send(Place("o-1", 5.0))
    clock.advance(3599)
    assert order.run_until_idle() == 0
    clock.advance(2)
    assert order.run_until_idle() == 1
    assert order.state("o-1").status == "expired"
    assert list(order.observations()["source"]) == ["user", "timer pay-by"]


def test_a_command_with_a_key_is_decided_once(lab: Lab) -> None:
    order = orders()
    first = order.send(Place("o-1", 5.0), key="k")
    again = order.send(Place("o-1", 5.0), key="k")
    assert (again.n_events, again.version, again.is_repeated) == (first.n_events, first.version, True)
    with pytest.raises(iron.errors.DuplicateKey, match="another command"):
        order.send(Place("o-1", 6.0), key="k")
    assert len(order.history("o-1")) == 1


def test_an_instance_is_the_same_after_the_process(lab: Lab) -> None:
    order = orders()
    order.send(Place("o-1", 5.0))
    lab.die()
    assert orders().state("o-1") == Order("placed", 5.0)
    log: list[Any] = []
    order = orders()
    charging(order, log)
    assert order.run_until_idle() == 1


def test_the_past_can_be_asked_and_nothing_is_written_by_asking_what_if(lab: Lab) -> None:
    order = orders()
    order.send(Place("o-1", 5.0))
    order.send(Expire("o-1"))
    n_events = len(iron.events())
    assert order.state("o-1", at=2).status == "placed"
    assert order.what_if("o-1", Expire("o-1"), at=2).decision.events == (Expired(),)
    assert isinstance(order.what_if("o-1", Pay("o-1"), at=2).decision.events[0], Paid)
    assert len(iron.events()) == n_events
    with pytest.raises(iron.errors.InstanceNotFound, match="there is no order 'nobody'; see"):
        order.state("nobody")


def test_deciders_are_tested_without_a_journal() -> None:
    order = orders("pure")
    at = datetime.fromisoformat("2030-01-01T00:00:00+00:00")
    placed = order.given().when(Place("o-1", 5.0)).then(Placed(5.0), timers=["pay-by"])
    placed.when(Pay("o-1")).then(Paid(at), state=Order("paid", 5.0))
    placed.when(Place("o-1", 1.0)).then(rejected="Place is not valid for an order that is placed")
    with pytest.raises(AssertionError, match="the events differ") as caught:
        placed.when(Pay("o-1")).then(Expired())
    assert "+ [Paid(" in str(caught.value)
