"""Events as they lie in the journal: damaged, of a class that has changed, and folded from a kept state."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.deciders import instances
from ironflow_nb.deciders.instances import SNAPSHOT_EVERY
from tests.conftest import Lab
from tests.deciders.counters import Add, Added, Ask, Call, Count, Remind, counters


def damaged(path: Path, sql: str) -> None:
    """Change what the journal refuses to change."""
    connection = sqlite3.connect(path)
    connection.execute("DROP TRIGGER events_refuse_update")
    assert connection.execute(sql).rowcount == 1
    connection.commit()
    connection.close()


@pytest.mark.parametrize("data", ['{"n":"many"}', "{}", "[]", "no json"])
def test_an_event_that_cant_be_read_is_named_by_type_instance_and_sequence(tmp_path: Path, data: str) -> None:
    path = tmp_path / "journal.db"
    with iron.open(path, durability="process"):
        counter = counters()
        counter.send(Remind("c", 60))  # so that sequence and version differ
        for n in (1, 2):
            counter.send(Add("c", n))
    damaged(path, f"UPDATE events SET data = '{data}' WHERE type = 'counter.Added' AND version = 4")
    with iron.open(path, durability="process"):
        counter = counters()
        for ask in (lambda: counter.state("c"), lambda: counter.send(Add("c")), lambda: counter.history("c")):
            with pytest.raises(iron.errors.EventUnreadable, match="event 2 of counter c can't be read") as caught:
                ask()
            found = caught.value.ids
            assert (found["name"], found["instance"]) == ("counter", "c")
            assert (found["sequence"], found["version"]) == (2, 4)
        assert counter.state("c", at=3).n == 0
        counter.send(Add("d"))
        assert counter.state("d").n == 1


def test_an_instance_that_cant_be_read_stops_no_other(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with iron.open(path, durability="process"):
        counter = counters()
        counter.send(Ask("broken", "x"))
        counter.send(Ask("sound", "x"))
    damaged(path, "UPDATE events SET data = '{}' WHERE type = 'counter.Added' AND position = 2")
    with iron.open(path, durability="process"):
        counter, log = counters(), []

        @counter.perform(Call, attempts=2, delay=0)
        def call(effect: Call, context: Any) -> Add:
            log.append(context.instance)
            return Add(context.instance, 5)

        assert counter.run_until_idle() == 3
        assert log == ["broken", "sound", "broken"]
        assert counter.state("sound").n == 5
        assert dict(zip(*(counter.instances()[name] for name in ("instance", "status")), strict=True)) == {
            "sound": counter.status_of(counter.state("sound")), "broken": "unreadable",
        }  # fmt: skip
        assert "event 1 of counter broken can't be read" in counter.dead_letters()["error"][0]


@dataclass(frozen=True)
class Paid:
    amount: float


def till(event: type, *, of: Any = lambda event: event.amount) -> Any:
    """Return a decider over that class of events."""
    decider: Any = iron.Decider("till", initial=Count())
    decider.evolve(lambda state, event: replace(state, n=state.n + of(event)))
    decider.decide(lambda state, command: iron.accept(event(command.n)))
    decider.event_codec.learn(event)
    return decider


def test_a_field_with_a_default_is_a_change_that_needs_nothing(lab: Lab) -> None:
    till(Paid).send(Add("t", 2))
    lab.cell()

    @dataclass(frozen=True)
    class NewPaid:
        amount: float
        currency: str = "EUR"

    NewPaid.__name__ = "Paid"
    decider = till(NewPaid)
    assert decider.state("t").n == 2
    decider.send(Add("t", 3))
    assert decider.state("t").n == 5


def test_a_class_that_has_changed_is_told_and_upcast(lab: Lab) -> None:
    till(Paid).send(Add("t", 2))

    @dataclass(frozen=True)
    class NewPaid:
        cents: int

    NewPaid.__name__ = "Paid"
    decider = till(NewPaid, of=lambda event: event.cents)
    with pytest.raises(iron.errors.EventUnreadable, match=r"@decider.upcast\(Paid, from_version=1\)"):
        decider.state("t")
    decider.upcast(NewPaid)(lambda fields: {"cents": round(fields["amount"] * 100)})
    assert decider.state("t").n == 200
    decider.send(Add("t", 3))
    assert decider.state("t").n == 203

    @dataclass(frozen=True)
    class NewestPaid:
        cents: int
        by: str

    NewestPaid.__name__ = "Paid"
    newest = till(NewestPaid, of=lambda event: event.cents)
    newest.upcast(NewestPaid)(lambda fields: {"cents": round(fields["amount"] * 100)})
    newest.upcast(NewestPaid, from_version=2)(lambda fields: {**fields, "by": "cash"})
    assert newest.state("t").n == 203


def test_an_upcast_may_name_its_class(lab: Lab) -> None:
    till(Paid).send(Add("t", 2))

    @dataclass(frozen=True)
    class NewPaid:
        cents: int

    NewPaid.__name__ = "Paid"
    decider = till(NewPaid, of=lambda event: event.cents)
    decider.upcast("Paid")(lambda fields: {"cents": round(fields["amount"] * 100)})
    assert decider.state("t").n == 200
    for kind, version in ((Paid(1.0), 1), (Paid, 0), (Paid, True), (Paid, "1")):
        with pytest.raises(iron.errors.DecisionError, match=r"upcast takes a class|from_version must be an int >= 1"):
            decider.upcast(kind, from_version=version)


def test_an_event_whose_class_is_not_here_is_told(lab: Lab) -> None:
    till(Paid).send(Add("t", 2))
    decider: Any = iron.Decider("till", initial=Count())
    space: dict[str, Any] = {}
    exec("def evolve(state, event): return state\ndef decide(state, command): return None", space)
    decider.evolve(space["evolve"])
    decider.decide(space["decide"])
    with pytest.raises(iron.errors.EventUnreadable, match="has no event class Paid here; define it, or run the cell"):
        decider.state("t")


def test_a_class_that_a_cell_defines_again_is_the_one_that_is_matched(lab: Lab) -> None:
    space: dict[str, Any] = {"__name__": "__main__"}
    classes = """
from dataclasses import dataclass
@dataclass(frozen=True)
class Grown:
    by: int
@dataclass(frozen=True)
class Grow:
    id: str
"""
    exec(classes, space)
    exec(
        """
import ironflow_nb as iron
plant = iron.Decider("plant", initial=0, status=str)
@plant.evolve
def evolve(state: int, event: Grown) -> int:
    match event:
        case Grown(by=by):
            return state + by
@plant.decide
def decide(state: int, command: Grow):
    return iron.accept(Grown(2))
plant.send(Grow("p"))
""",
        space,
    )
    exec(classes, space)
    plant = space["plant"]
    assert plant.state("p") == 2
    plant.send(space["Grow"]("p"))
    assert plant.state("p") == 4


def counted(counter: Any) -> list[Any]:
    """Return the list in which every event is written down that is folded from now on."""
    folded: list[Any] = []
    evolve = counter._evolve
    counter._evolve = lambda state, event: (folded.append(event), evolve(state, event))[1]
    return folded


def test_a_kept_state_spares_the_events_before_it_until_evolve_is_edited(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert SNAPSHOT_EVERY == 200
    monkeypatch.setattr(instances, "SNAPSHOT_EVERY", 10)
    counter = counters()
    for _ in range(23):
        counter.send(Add("c"))
    lab.die()
    counter = counters()
    folded = counted(counter)
    assert counter.state("c") == Count(23)
    assert len(folded) == 24 % 10  # the beginning of the run has a version too
    edited = counters()

    @edited.evolve
    def evolve(state: Count, event: Added) -> Count:
        return replace(state, n=state.n + 2 * event.n)

    folded = counted(edited)
    assert edited.state("c") == Count(46)
    assert len(folded) == 23
    edited.send(Add("c", 0))
    assert edited.state("c") == Count(46)


def test_a_state_is_kept_also_where_effects_were_settled_at_every_tenth_event(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instances, "SNAPSHOT_EVERY", 10)

    def calling() -> Any:
        counter = counters()
        counter.perform(Call)(lambda effect: None)
        return counter

    counter = calling()
    for _ in range(6):  # an Added, a request; and its end, which is the 10th event
        counter.send(Ask("c", "x"))
        assert counter.run_until_idle() == 1
    lab.die()
    counter = calling()
    folded = counted(counter)
    assert counter.state("c") == Count(0)
    assert len(folded) == 2, "those after the 12th event"


def test_a_state_that_can_not_be_kept_is_not_tried_at_every_command(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "SNAPSHOT_EVERY", 5)
    n_asked = [0]

    @dataclass(frozen=True)
    class Odd:
        n: int = 0

        def __eq__(self, other: object) -> bool:
            n_asked[0] += 1
            return False

        __hash__ = object.__hash__

    decider: Any = iron.Decider("odd", initial=Odd())
    decider.evolve(lambda state, event: Odd(state.n + event.n))
    decider.decide(lambda state, command: iron.accept(Added(command.n)))
    for _ in range(24):
        decider.send(Add("c"))
    assert n_asked == [5]


def versioned(initial: Any) -> Any:
    """Return a decider that folds by a method of its state."""
    decider: Any = iron.Decider("versioned", initial=initial)
    decider.evolve(lambda state, event: state.after(event))
    decider.decide(lambda state, command: iron.accept(Added(command.n)))
    decider.event_codec.learn(Added)
    return decider


@dataclass(frozen=True)
class Sum:
    n: int = 0
    unknown: Any = None

    def after(self, event: Added) -> Sum:
        return replace(self, n=self.n + event.n, unknown=None)


def test_a_kept_state_counts_no_more_when_the_first_one_is_edited(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "SNAPSHOT_EVERY", 2)
    for _ in range(4):
        versioned(Sum()).send(Add("c"))
    lab.die()
    assert versioned(Sum(100)).state("c").n == 104
    folded = counted(again := versioned(Sum()))
    assert again.state("c").n == 4
    assert len(folded) < 4, "what was kept is used as long as nothing is edited"


def test_a_kept_state_counts_no_more_when_a_method_of_its_class_is_edited(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instances, "SNAPSHOT_EVERY", 2)
    for _ in range(4):
        versioned(Sum()).send(Add("c"))
    lab.die()

    def after(self: Sum, event: Added) -> Sum:
        return replace(self, n=self.n + 10 * event.n)

    monkeypatch.setattr(Sum, "after", after)
    assert versioned(Sum()).state("c").n == 40


def test_no_state_is_kept_after_a_first_one_that_has_no_text(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "SNAPSHOT_EVERY", 2)
    for _ in range(4):
        versioned(Sum(unknown=object())).send(Add("c"))
    lab.die()
    assert versioned(Sum(100, unknown=object())).state("c").n == 104


def test_a_state_that_is_not_read_back_as_it_is_is_not_kept(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "SNAPSHOT_EVERY", 2)

    @dataclass(frozen=True)
    class Seen:
        what: Any = frozenset()

    decider: Any = iron.Decider("seen", initial=Seen())
    decider.evolve(lambda state, event: Seen(state.what | {event.n}))
    decider.decide(lambda state, command: iron.accept(Added(command.n)))
    for n in range(6):
        decider.send(Add("c", n))
    lab.cell()
    assert decider.state("c") == Seen(frozenset(range(6)))
