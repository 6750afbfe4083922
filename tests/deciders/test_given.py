"""Given events, when a command comes, then nothing of what was expected is left unchecked."""

from __future__ import annotations

from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.deciders.given_when_then import Given
from ironflow_nb.testing.invariants import check_invariants
from tests.conftest import Lab
from tests.deciders.counters import Add, Added, Ask, Call, Close, Count, Remind, counters
from tests.deciders.orders import Order, Paid, Pay, Place, orders


def returning(decision: Any) -> Any:
    """Return a decider that decides always the same."""
    decider: Any = iron.Decider("told", initial=Count())
    decider.evolve(lambda state, event: Count(state.n + event.n))
    decider.decide(lambda state, command: decision)
    return decider


@pytest.mark.parametrize("returned", [None, [Added(1)], Added(1), "no"])
def test_what_is_no_decision_passes_no_test(returned: Any) -> None:
    decider = returning(returned)
    with pytest.raises(iron.errors.DecisionError, match=r"decide of told returned .* for Add.*state, then the command"):
        decider.given().when(Add("c"))
    with pytest.raises(iron.errors.DecisionError, match=r"decide of told returned .* for Add"):
        check_invariants(decider, [Add("c")], lambda state: True)


@pytest.mark.parametrize("reason", ["no", None, {"n": 0}])
@pytest.mark.parametrize(
    ("events", "expected", "what"),
    [
        ([Added(1)], {}, "the events"), ([], {"effects": [Call("x")]}, "the effects"),
        ([], {"timers": ["bell"]}, "the timers"), ([], {"state": Count(1)}, "the state"),
    ],
)  # fmt: skip
def test_what_should_follow_does_not_follow_from_a_rejection(
    events: list[Any], expected: dict[str, Any], what: str, reason: Any
) -> None:
    rejected = returning(iron.reject(reason)).given().when(Add("c"))
    with pytest.raises(AssertionError, match=f"{what} differ"):
        rejected.then(*events, rejected=reason, **expected)


def test_a_rejection_leaves_the_state_and_the_events_as_they_were() -> None:
    after = counters().given(Added(2)).when(Add("c", 0)).then(rejected={"n": 0}, effects=[], timers=[], state=Count(2))
    assert after.events == (Added(2),)


def test_a_rejection_and_another_one_differ_and_so_do_a_rejection_and_events() -> None:
    counter = counters()
    with pytest.raises(AssertionError, match="the rejection differ"):
        counter.given().when(Add("c", 0)).then(rejected="another")
    with pytest.raises(AssertionError, match=r"the rejection differ.*it was rejected: \{'n': 0\}"):
        counter.given().when(Add("c", 0)).then()
    with pytest.raises(AssertionError, match="the rejection differ"):
        counter.given().when(Add("c")).then(Added(1), rejected="no")


@pytest.mark.parametrize(
    ("command", "events", "expected", "what"),
    [
        (Add("c"), [], {}, "the events"), (Add("c"), [Added(2)], {}, "the events"),
        (Add("c"), [Added(1)], {"effects": [Call("x")]}, "the effects"),
        (Ask("c", "x"), [Added(0)], {"effects": []}, "the effects"),
        (Remind("c", 1), [Added(0)], {"timers": ["gong"]}, "the timers"),
        (Add("c"), [Added(1)], {"state": Count(2)}, "the state"),
    ],
)  # fmt: skip
def test_what_follows_from_an_accepted_command_is_compared(
    command: Any, events: list[Any], expected: dict[str, Any], what: str
) -> None:
    with pytest.raises(AssertionError, match=f"{what} differ"):
        counters().given().when(command).then(*events, **expected)


def test_what_an_instance_would_decide_follows_from_its_state_and_the_time_of_now(lab: Lab) -> None:
    clock, order = lab.simulate_time(), orders()
    order.send(Place("o-1", 5.0))
    clock.advance(60)
    paid = order.what_if("o-1", Pay("o-1")).then(Paid(lab.engine.access.instant(clock.now())), state=Order("paid", 5.0))
    paid.when(Pay("o-1")).then(rejected="Pay is not valid for an order that is paid", state=Order("paid", 5.0))
    assert order.state("o-1").status == "placed"


def test_what_is_as_expected_leads_to_the_next_command() -> None:
    counted: Given = counters().given(Added(2)).when(Ask("c", "x")).then(Added(0), effects=[Call("x")], state=Count(2))
    counted.when(Remind("c", 1)).then(Added(0), timers=["bell"])
    assert counted.when(Close("c")).decision.events
