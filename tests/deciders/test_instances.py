"""Instances: one command after the other in each, side by side with others, and unique while they are open."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.journal.ports import QueueSelect, Select
from tests.conftest import Lab
from tests.deciders.counters import Add, Added, Close, Closed, Count, counters


def side_by_side(*bodies: Callable[[], object]) -> None:
    """Run the functions on threads of their own; raise what one of them raised."""
    raised: list[BaseException] = []

    def caught(body: Callable[[], object]) -> None:
        try:
            body()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=caught, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in raised:
        raise error


def test_commands_of_threads_to_one_instance_come_one_after_the_other(lab: Lab) -> None:
    counter = counters()

    def add() -> None:
        for _ in range(50):
            counter.send(Add("c")).unwrap()

    side_by_side(add, add)
    assert counter.state("c").n == 100
    assert len(counter.history("c")) == 100
    with lab.engine.reading() as reader:
        events = reader.events(Select())
    assert [row.version for row in events] == [*range(1, 102)]
    assert [row.position for row in events] == [*range(1, 102)]


def test_instances_go_on_side_by_side_and_each_counts_its_own(lab: Lab) -> None:
    counter = counters()

    def add(instance: str) -> Callable[[], None]:
        def body() -> None:
            for _ in range(15):
                counter.send(Add(instance))

        return body

    side_by_side(*(add(f"c-{n}") for n in range(6)))
    with lab.engine.reading() as reader:
        events = reader.events(Select())
    assert [row.position for row in events] == [*range(1, len(events) + 1)]
    for run_id in {row.run_id for row in events}:
        assert [row.version for row in events if row.run_id == run_id] == [*range(1, 17)]
    assert sorted(counter.instances()["instance"]) == [f"c-{n}" for n in range(6)]
    assert set(counter.instances()["n_events"]) == {15}


def test_instances_are_listed_with_the_latest_activity_first(lab: Lab) -> None:
    clock = lab.simulate_time()
    counter = counters()
    assert len(counter.instances()) == 0
    for instance in ("a", "b", "c", "a"):
        counter.send(Add(instance, 2))
        clock.advance(1)
    counter.send(Close("b"))
    found = counter.instances()
    assert list(found["instance"]) == ["b", "a", "c"]
    assert list(found["is_completed"]) == [True, False, False]
    assert list(found["n_events"]) == [2, 2, 1]
    assert list(found["status"]) == ["closed", "open", "open"]
    assert list(found["completed_at"].notna()) == [True, False, False]


def test_a_command_key_sent_from_threads_is_decided_once(lab: Lab) -> None:
    counter, outcomes = counters(), []
    side_by_side(*[lambda: outcomes.append(counter.send(Add("c"), key="k"))] * 4)
    assert counter.state("c").n == 1
    assert sorted(outcome.is_repeated for outcome in outcomes) == [False, True, True, True]
    assert len({outcome.version for outcome in outcomes}) == 1


def test_a_rejection_and_a_late_command_of_a_key_are_repeated_too(lab: Lab) -> None:
    counter = counters()
    assert counter.send(Add("c", 0), key="r") == iron.Rejected({"n": 0})
    assert counter.send(Add("c", 0), key="r") == iron.Rejected({"n": 0}, is_repeated=True)
    counter.send(Close("c"))
    counter.send(Add("c"), key="late")
    assert counter.send(Add("c"), key="late") == iron.AlreadyCompleted("c", is_repeated=True)
    assert len(counter.observations()) == 3


# -- unique keys -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Open:
    id: str
    owner: str | None
    is_short: bool = False


def accounts(name: str = "account") -> Any:
    """Return a decider of which one owner has at most one open instance."""
    account: Any = iron.Decider(name, initial=Count(), terminal={"closed"}, unique_key="owner")

    @account.evolve
    def evolve(state: Count, event: Any) -> Count:
        return Count(state.n + 1, "closed" if isinstance(event, Closed) else "open")

    @account.decide
    def decide(state: Count, command: Any) -> Any:
        if isinstance(command, Close):
            return iron.accept(Closed())
        return iron.accept(Added(1), Closed()) if command.is_short else iron.accept(Added(1))

    account.event_codec.learn(Added | Closed)
    return account


def test_no_two_open_instances_have_one_unique_key(lab: Lab) -> None:
    account = accounts()
    account.send(Open("a-1", "ann"))
    with pytest.raises(iron.errors.UniqueKeyTaken, match="'ann'"):
        account.send(Open("a-2", "ann"))
    assert list(account.instances()["instance"]) == ["a-1"]
    assert len(account.observations()) == 1
    account.send(Open("a-2", "bob"))


def test_instances_without_a_key_and_those_of_another_decider_are_not_concerned(lab: Lab) -> None:
    one, other = accounts("one"), accounts("other")
    for decider in (one, other):
        decider.send(Open("a-1", "ann"))
    for n in (2, 3):
        one.send(Open(f"a-{n}", None))
    assert len(one.instances()) == 3


def test_a_unique_key_is_free_again_when_its_instance_is_completed(lab: Lab) -> None:
    account = accounts()
    account.send(Open("a-1", "ann"))
    account.send(Close("a-1"))
    account.send(Open("a-2", "ann"))
    with pytest.raises(iron.errors.UniqueKeyTaken):
        account.send(Open("a-3", "ann"))


def test_an_instance_that_begins_and_ends_at_once_keeps_no_key(lab: Lab) -> None:
    account = accounts()
    for n in range(3):
        account.send(Open(f"a-{n}", "ann", is_short=True))
    with lab.engine.reading() as reader:
        assert reader.work(QueueSelect()) == []


def test_the_same_instance_goes_on_with_its_own_key_whatever_later_commands_say(lab: Lab) -> None:
    account = accounts()
    for owner in ("ann", "ann", "bob"):
        assert isinstance(account.send(Open("a-1", owner)), iron.Accepted)
    assert isinstance(account.send(Open("a-2", "bob")), iron.Accepted), "the first command alone has named the key"
    with pytest.raises(iron.errors.UniqueKeyTaken):
        account.send(Open("a-3", "ann"))


def test_of_threads_that_want_one_unique_key_one_gets_it(lab: Lab) -> None:
    account, won, lost = accounts(), [], []

    def wanting(n: int) -> Callable[[], None]:
        def body() -> None:
            try:
                account.send(Open(f"a-{n}", "ann"))
                won.append(n)
            except iron.errors.UniqueKeyTaken:
                lost.append(n)

        return body

    side_by_side(*(wanting(n) for n in range(4)))
    assert (len(won), len(lost)) == (1, 3)
    assert list(account.instances()["instance"]) == [f"a-{won[0]}"]
