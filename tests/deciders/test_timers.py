"""Timers: due, replaced, cancelled, set again while they fire, too late, and failing."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.deciders.effects import Performer
from ironflow_nb.journal.ports import QueueItem, QueueSelect
from tests.conftest import Lab
from tests.deciders.counters import Add, Added, Close, Count, Forget, Remind, Tick, counters
from tests.deciders.orders import Pay, Place, orders


def timers(lab: Lab) -> list[QueueItem]:
    with lab.engine.reading() as reader:
        return reader.work(QueueSelect(kind="timer"))


def kinds(instance: str = "c") -> list[str]:
    """Return the types of what happened around timers."""
    return [kind for kind in iron.events()["type"] if kind.startswith("Timer")]


@pytest.mark.parametrize("delay_s", [0.5, 10, 3600 * 24 * 365])
def test_a_timer_fires_when_its_time_has_come_and_not_a_microsecond_before(lab: Lab, delay_s: float) -> None:
    clock = lab.simulate_time()
    counter = counters()
    counter.send(Remind("c", delay_s))
    clock.advance(delay_s - 0.000001)
    assert counter.run_until_idle() == 0
    clock.advance(0.000001)
    assert counter.run_until_idle() == 1
    assert counter.state("c").n == 1
    assert timers(lab) == []


def test_timers_fire_in_the_order_in_which_they_are_due(lab: Lab) -> None:
    clock = lab.simulate_time()
    counter = counters()
    for delay_s, key in ((3, "three"), (1, "one"), (2, "two")):
        counter.send(Remind("c", delay_s, key))
    clock.advance(10)
    assert counter.run_until_idle() == 3
    assert list(counter.observations()["source"])[3:] == ["timer one", "timer two", "timer three"]


def test_a_timer_of_the_same_key_takes_the_place_of_the_one_before(lab: Lab) -> None:
    clock = lab.simulate_time()
    counter = counters()
    counter.send(Remind("c", 10, n=1))
    counter.send(Remind("c", 20, n=5))
    assert len(timers(lab)) == 1
    clock.advance(15)
    assert counter.run_until_idle() == 0
    clock.advance(5)
    assert counter.run_until_idle() == 1
    assert counter.state("c").n == 5


def test_a_timer_set_again_begins_with_its_first_attempt(lab: Lab) -> None:
    clock = lab.simulate_time()
    counter = counters()
    counter.send(Remind("c", 1))
    decide = counter._decide
    counter._decide = lambda state, command: 1 / 0
    clock.advance(1)
    counter.run_until_idle(wait=8)
    assert [work.attempts for work in timers(lab)] == [4]
    counter._decide = decide
    counter.send(Remind("c", 1))
    (work,) = timers(lab)
    assert (work.attempts, work.error_id, work.owner, work.dead_at) == (0, None, None, None)
    assert work.due_at == clock.now() + 1_000_000


def test_keys_of_timers_are_those_of_one_instance(lab: Lab) -> None:
    clock = lab.simulate_time()
    counter = counters()
    counter.send(Remind("a", 1))
    counter.send(Remind("b", 1))
    counter.send(Forget("a"))
    clock.advance(1)
    assert counter.run_until_idle() == 1
    assert (counter.state("a").n, counter.state("b").n) == (0, 1)


def test_timers_without_a_key_stand_side_by_side_and_cant_be_cancelled(lab: Lab) -> None:
    clock = lab.simulate_time()
    counter = counters()
    counter.send(Remind("c", 1, None))
    counter.send(Remind("c", 1, None))
    counter.send(Forget("c", "bell"))
    clock.advance(1)
    assert counter.run_until_idle() == 2
    assert counter.state("c").n == 2


def test_a_timer_that_sets_itself_again_while_it_fires_goes_on(lab: Lab) -> None:
    clock = lab.simulate_time()
    counter = counters()
    counter.send(Tick("c", until=5))
    assert counter.run_until_idle() == 0
    for n in (2, 3, 4):
        clock.advance(1)
        assert counter.run_until_idle() == 1
        assert counter.state("c").n == n
        assert [(work.key, work.attempts, work.owner) for work in timers(lab)] == [("tick", 0, None)]
    counter.run_until_idle(wait=2)
    assert counter.state("c").n == 5
    assert timers(lab) == []


def test_a_timer_that_fires_is_over_and_cant_be_cancelled_by_what_it_came_to(lab: Lab) -> None:
    lab.simulate_time()
    counter = counters()
    counter.send(Tick("c", until=2))
    counter.run_until_idle(wait=2)
    assert kinds() == ["TimerSet", "TimerFired"]


def test_cancelling_and_setting_in_one_decision_leaves_one_fresh_timer(lab: Lab) -> None:
    clock = lab.simulate_time()
    decider: Any = iron.Decider("again", initial=Count())
    decider.evolve(lambda state, event: Count(state.n + event.n))
    decider.decide(
        lambda state, command: iron.accept(Added(command.n)).cancel_timer("k").timer(5, Add("c", 3), key="k")
    )
    decider.send(Add("c"))
    clock.advance(2)
    decider.send(Add("c"))
    (work,) = timers(lab)
    assert work.due_at == clock.now() + 5_000_000
    assert kinds() == ["TimerSet", "TimerCancelled", "TimerSet"]


def test_cancelling_what_is_not_there_or_twice_says_it_once_or_not_at_all(lab: Lab) -> None:
    counter = counters()
    counter.send(Forget("c", "nobody"))
    assert kinds() == []
    decider: Any = iron.Decider("again", initial=Count())
    decider.evolve(lambda state, event: state)
    remind = iron.accept(Added(1)).timer(5, Add("c"), key="k")
    forget = iron.accept(Added(1)).cancel_timer("k").cancel_timer("k")
    decider.decide(lambda state, command: remind if command.n else forget)
    decider.send(Add("c", 1))
    decider.send(Add("c", 0))
    assert kinds() == ["TimerSet", "TimerCancelled"]
    assert timers(lab) == []


def test_a_timer_after_the_end_of_its_instance_is_settled(lab: Lab) -> None:
    clock = lab.simulate_time()
    counter = counters()
    counter.send(Remind("c", 1))
    counter.send(Close("c"))
    clock.advance(1)
    assert counter.run_until_idle() == 1
    assert list(counter.observations()["outcome"])[-1] == "already_completed"
    assert timers(lab) == []
    assert list(counter.history("c")["event"]) == ["Added", "Closed"]


def test_a_timer_whose_command_cant_be_decided_becomes_a_dead_letter_that_can_be_requeued(lab: Lab) -> None:
    clock = lab.simulate_time()
    counter = counters()
    counter.send(Remind("c", 1))
    decide, asked = counter._decide, []

    def broken(state: Any, command: Any) -> Any:
        asked.append(clock.now())
        raise ZeroDivisionError("broken")

    counter._decide = broken
    counter.run_until_idle(wait=60)
    assert [round((later - at) / 1e6) for at, later in pairwise(asked)] == [1, 2, 4, 8]
    dead = counter.dead_letters()
    assert dead[["kind", "name", "key", "attempts", "error"]].to_dict("records") == [
        {"kind": "timer", "name": "Add", "key": "bell", "attempts": 5, "error": "ZeroDivisionError: broken"}
    ]
    counter._decide = decide
    assert counter.requeue(key="bell") == 1
    assert counter.run_until_idle() == 1
    assert counter.state("c").n == 1
    assert len(counter.dead_letters()) == 0


@pytest.mark.parametrize("meanwhile", ["cancelled", "replaced"])
def test_a_timer_that_changed_while_it_was_claimed_does_not_fire(lab: Lab, meanwhile: str) -> None:
    clock = lab.simulate_time()
    counter = counters()
    counter.send(Remind("c", 1))
    clock.advance(1)
    slow = Performer(lab.engine, counter)
    slow._claim()
    (claimed,) = slow._claimed
    counter.send(Forget("c") if meanwhile == "cancelled" else Remind("c", 50, n=7))
    slow._finish(claimed)
    assert counter.state("c").n == 0
    assert len(timers(lab)) == (meanwhile == "replaced")
    assert "TimerFired" not in kinds()


def test_waiting_fires_what_becomes_due_meanwhile_and_no_more(lab: Lab) -> None:
    lab.simulate_time()
    order = orders()
    order.send(Place("o-1", 5.0))
    assert order.run_until_idle(wait="59m") == 0
    assert order.run_until_idle(wait="61m") == 1
    assert order.state("o-1").status == "expired"
    assert isinstance(order.send(Pay("o-1")), iron.AlreadyCompleted)
