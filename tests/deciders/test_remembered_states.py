"""States that a process still knows: used while they are right, and only if nobody can change them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

import ironflow_nb as iron
from ironflow_nb.deciders.commands import send
from ironflow_nb.deciders.decider_definition import is_immutable
from ironflow_nb.deciders.due_work import run_until_idle
from tests.conftest import Lab
from tests.deciders.counters import Add, Added, Ask, Call, Close, Count, Remind, counters
from tests.deciders.test_stored_events import counted


@dataclass(frozen=True)
class Basket:
    items: list[int] = field(default_factory=list)


@dataclass
class Loose:
    n: int = 0


class Frozen(msgspec.Struct, frozen=True):
    n: int = 0


class Thawed(msgspec.Struct):
    n: int = 0


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (Count(), True), (Frozen(), True), (7, True), ("x", True), ((1, "x"), True), (Basket(), False),
        (Loose(), False), (Thawed(), False), ([], False), (([],), False), (object(), False),
    ],
)  # fmt: skip
def test_what_nobody_can_change_is_told_by_its_class_and_its_fields(state: Any, expected: bool) -> None:
    assert is_immutable(state) is expected


def test_a_decision_folds_its_instance_once_and_then_only_what_is_new(lab: Lab) -> None:
    counter = counters()
    for _ in range(5):
        counter.send(Add("c"))
    folded = counted(counter)
    for _ in range(5):
        counter.send(Add("c"))
    assert len(folded) == 5
    assert counter.state("c") == Count(10)


def test_what_only_settles_an_effect_lets_the_state_be_remembered(lab: Lab) -> None:
    counter = counters()
    counter.perform(Call)(lambda effect: None)
    counter.send(Ask("c", "x"))
    counter.send(Remind("c", 0))
    folded = counted(counter)
    assert counter.run_until_idle() == 2
    assert folded == [Added(1)], "the timer's"
    counter.send(Ask("c", "x"))
    assert counter.run_until_idle() == 1
    counter.send(Add("c", 5))
    assert folded == [Added(1), Added(0), Added(5)]
    assert counter.state("c") == Count(6)


def test_what_another_engine_has_decided_is_seen(lab: Lab) -> None:
    counter = counters()
    counter.send(Add("c"))
    mine = lab.engine
    lab.begin()
    counter.send(Add("c", 10))
    assert mine is not lab.engine
    lab.begin()
    counter.send(Add("c", 100))
    assert counter.state("c") == Count(111)


def test_two_engines_that_take_turns_see_what_the_other_has_decided(tmp_path: Path) -> None:
    counter = counters()
    with iron.open(tmp_path / "journal.db") as one, iron.open(tmp_path / "journal.db") as other:
        for n in range(1, 7):
            engine = other if n % 3 else one
            assert send(engine, counter, Add("c", n)) == iron.Accepted(1, n + 1)
        assert send(one, counter, Close("c")) == iron.Accepted(1, 9)
        assert send(other, counter, Add("c")) == iron.AlreadyCompleted("c")
        assert iron.runs(engine=other)["status"].tolist() == ["completed"]
        assert counter.state("c").n == 21


def test_what_another_engine_settles_is_seen_by_one_that_remembers_the_state(tmp_path: Path) -> None:
    counter = counters()
    counter.perform(Call)(lambda effect: None)
    with iron.open(tmp_path / "journal.db") as one, iron.open(tmp_path / "journal.db") as other:
        send(one, counter, Ask("c", "x"))
        assert run_until_idle(other, counter) == 1
        outcome = send(one, counter, Add("c"))
    assert outcome == iron.Accepted(1, 5), "beginning, event, request of the effect, its settling, event"


def test_a_decision_that_was_taken_back_is_not_remembered(lab: Lab) -> None:
    counter = counters()
    counter.send(Add("c", 1))
    for odd in (object(), object()):
        with pytest.raises(iron.errors.ValueNotStorable):
            counter.send(Add("c", odd))  # type: ignore[arg-type]
    decide = counter._decide
    counter._decide = lambda state, command: iron.accept(Added(5), odd)  # type: ignore[arg-type]
    with pytest.raises(iron.errors.ValueNotStorable):
        counter.send(Add("c"))
    counter._decide = decide
    counter.send(Add("c", 1))
    assert counter.state("c") == Count(2)


def test_an_edited_evolve_folds_anew(lab: Lab) -> None:
    counter = counters()
    seen: list[int] = []
    for _ in range(3):
        counter.send(Add("c"))

    @counter.evolve
    def evolve(state: Count, event: Added) -> Count:
        return replace(state, n=state.n + 10 * event.n)

    @counter.decide
    def decide(state: Count, command: Add) -> Any:
        seen.append(state.n)
        return iron.accept(Added(command.n))

    counter.send(Add("c"))
    assert seen == [30]


def test_a_state_that_decide_can_change_is_made_of_its_events_each_time(lab: Lab) -> None:
    decider: Any = iron.Decider("basket", initial=Basket())
    decider.evolve(lambda state, event: Basket([*state.items, event.n]))

    def decide(state: Basket, command: Add) -> Any:
        state.items.append(99)
        return iron.accept(Added(command.n)) if command.n else iron.reject(list(state.items))

    decider.decide(decide)
    decider.send(Add("c", 1))
    decider.send(Add("c", 2))
    for _ in range(2):
        assert decider.send(Add("c", 0)) == iron.Rejected([1, 2, 99])
