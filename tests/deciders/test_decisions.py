"""What may be decided: accepted whole or not at all, refused where it can't be kept, told where it is not pure."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import msgspec
import pytest

import ironflow_nb as iron
from ironflow_nb.deciders.store import deciders_of
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.journal.ports import QueueSelect, Select
from tests.cells import World
from tests.conftest import Lab
from tests.deciders.counters import Add, Added, Call, Close, Command, Count, counters
from tests.deciders.orders import Pay, Place, orders


@dataclass(frozen=True)
class Odd:
    what: Any


@dataclass(frozen=True)
class Send:
    id: str
    what: Any = None


def everything(lab: Lab) -> list[Any]:
    """Return all that a decision could write."""
    with lab.engine.reading() as reader:
        return [
            reader.events(Select()),
            reader.runs(Select()),
            reader.work(QueueSelect()),
            deciders_of(reader).observations(),
        ]


def deciding(how: Any, **options: Any) -> Any:
    """Return a decider that decides as it is told."""
    decider: Any = iron.Decider("told", initial=Count(), **options)
    decider.evolve(lambda state, event: Count(state.n + 1))
    decider.decide(how)
    return decider


def test_two_types_with_one_id_know_nothing_of_each_other(lab: Lab) -> None:
    one, other = counters("one"), counters("other")
    one.send(Add("c", 5))
    other.send(Add("c", 7))
    assert (one.state("c").n, other.state("c").n) == (5, 7)
    assert list(one.history("c")["data"]) == [{"n": 5}]
    assert list(other.instances()["n_events"]) == [1]


def test_a_state_is_its_events_folded_in_order(lab: Lab) -> None:
    counter = counters()
    for n in (1, 2, 3):
        counter.send(Add("c", n))
    assert counter.state("c") == Count(6)
    assert "sequence" not in counter.history("c")  # it would count something else than `state(at=)` does
    assert [counter.state("c", at=version).n for version in counter.history("c")["version"]] == [1, 3, 6]


def test_the_past_is_asked_by_what_outcomes_and_history_call_versions(lab: Lab) -> None:
    import numpy as np

    counter = counters()
    outcomes = [counter.send(Add("c", n)) for n in (1, 2, 3)]
    assert [counter.state("c", at=outcome.version).n for outcome in outcomes] == [1, 3, 6]
    first = counter.history("c")["version"].to_numpy()[0]
    assert type(first) is np.int64
    assert counter.state("c", at=first).n == 1
    assert counter.state("c", at=0).n == 0


def test_a_version_that_is_not_there_is_refused_with_the_newest(lab: Lab) -> None:
    counter = counters()
    newest = counter.send(Add("c", 1)).version
    for at in (99, -2 - newest, 2**63):
        with pytest.raises(iron.errors.VersionNotFound, match=f"no version {at}; its newest is {newest}") as caught:
            counter.state("c", at=at)
        assert caught.value.ids == {"instance": "c", "version": at, "newest": newest}
        with pytest.raises(iron.errors.VersionNotFound):
            counter.what_if("c", Add("c", 1), at=at)
    for odd in (1.5, True):
        with pytest.raises(TypeError, match=r"a version .*, an instant"):
            counter.state("c", at=odd)
    with pytest.raises(ValueError, match="'yesterday' is no moment"):
        counter.state("c", at="yesterday")


def test_the_moments_of_an_instance_are_those_of_a_run(lab: Lab) -> None:
    clock = lab.simulate_time()
    counter = counters()
    for n in (1, 2, 3):
        counter.send(Add("c", n))
        clock.advance(60)
    began = counter.history("c")["at"].iloc[0].to_pydatetime()
    assert [counter.state("c", at=-version).n for version in (1, 2, 3)] == [6, 3, 1]
    assert counter.state("c", at=began + timedelta(seconds=70)).n == 3
    assert counter.state("c", at=(began + timedelta(seconds=70)).isoformat()).n == 3
    for moment in (began - timedelta(seconds=1), began + timedelta(days=1), "2001-01-01"):
        with pytest.raises(iron.errors.VersionNotFound, match=r"is no moment of counter.* c: it began"):
            counter.state("c", at=moment)


@pytest.mark.parametrize("where", ["event", "effect", "timer", "command", "reason"])
def test_what_json_does_not_keep_is_refused_and_nothing_of_the_batch_is_stored(lab: Lab, where: str) -> None:
    odd = Odd(object())
    decisions = {
        "event": lambda: iron.accept(Added(1), odd).effect(Call("x")).timer(1, Add("c"), key="k"),
        "effect": lambda: iron.accept(Added(1)).timer(1, Add("c"), key="k").effect(Call("x"), odd),
        "timer": lambda: iron.accept(Added(1)).effect(Call("x")).timer(1, odd, key="k"),
        "command": lambda: iron.accept(Added(1)),
        "reason": lambda: iron.reject(odd),
    }
    decider = deciding(lambda state, command: decisions[where]())
    before = everything(lab)
    with pytest.raises(iron.errors.ValueNotStorable):
        decider.send(Send("c", object() if where == "command" else None))
    assert everything(lab) == before


def test_what_would_be_read_back_as_something_else_is_refused(lab: Lab) -> None:
    decider = deciding(lambda state, command: iron.accept(Odd((1, 2))))
    with pytest.raises(iron.errors.ValueNotStorable, match="would be read back as"):
        decider.send(Send("c"))
    assert len(decider.instances()) == 0


def test_what_decide_raises_reaches_who_sent_and_leaves_nothing(lab: Lab) -> None:
    def decide(state: Any, command: Any) -> Any:
        raise ZeroDivisionError

    decider = deciding(decide)
    with pytest.raises(ZeroDivisionError):
        decider.send(Send("c"))
    assert everything(lab) == [[], [], [], []]
    deciding(lambda state, command: iron.accept(Added(1))).send(Send("c"))


def test_an_evolve_that_raises_or_returns_nothing_takes_the_decision_back(lab: Lab) -> None:
    decider = deciding(lambda state, command: iron.accept(Added(1)))
    decider.evolve(lambda state, event: None)
    with pytest.raises(iron.errors.DecisionError, match="evolve of told returned None"):
        decider.send(Send("c"))
    decider.evolve(lambda state, event: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        decider.send(Send("c"))
    assert everything(lab) == [[], [], [], []]


@pytest.mark.parametrize("returned", [None, [Added(1)], Added(1), "accepted"])
def test_what_is_no_decision_is_refused(lab: Lab, returned: Any) -> None:
    decider = deciding(lambda state, command: returned)
    with pytest.raises(iron.errors.DecisionError, match=r"returned .* for Send"):
        decider.send(Send("c"))
    assert everything(lab) == [[], [], [], []]


@pytest.mark.parametrize("missing", ["evolve", "decide"])
def test_a_decider_without_one_of_its_functions_says_which(lab: Lab, missing: str) -> None:
    decider: Any = iron.Decider("half", initial=Count())
    if missing == "evolve":
        decider.decide(lambda state, command: iron.accept(Added(1)))
    else:
        decider.evolve(lambda state, event: state)
    with pytest.raises(iron.errors.DecisionError, match=f"has no {missing}; define one with @half.{missing}"):
        decider.send(Send("c"))
    assert everything(lab) == [[], [], [], []]


def test_an_accept_without_events_cant_be_made() -> None:
    with pytest.raises(iron.errors.DecisionError, match="at least one event"):
        iron.accept()


def test_a_rejection_takes_neither_effects_nor_timers() -> None:
    no = iron.reject("no")
    for build in (lambda: no.effect(Call("x")), lambda: no.timer(1, Add("c")), lambda: no.cancel_timer("k")):
        with pytest.raises(iron.errors.DecisionError, match="changes nothing"):
            build()


def test_a_command_that_says_no_instance_is_refused(lab: Lab) -> None:
    counter = counters()
    for command in (Odd("x"), Add(""), Add(7)):  # type: ignore[arg-type]
        with pytest.raises(iron.errors.DecisionError, match="has no id of an instance of counter"):
            counter.send(command)  # type: ignore[arg-type]
    by_function = counters("by_function", id_of=lambda command: f"c-{command.n}")
    by_function.send(Add("whatever", 3))
    assert list(by_function.instances()["instance"]) == ["c-3"]


def test_a_decide_that_reads_the_clock_is_found_when_purity_is_checked(lab: Lab) -> None:
    decider = deciding(lambda state, command: iron.accept(Added(time.perf_counter_ns())), check_purity=True)
    with pytest.raises(iron.errors.DecisionError, match="for the same state, command and time"):
        decider.send(Send("c"))


def test_a_decide_that_changes_its_state_is_found_when_purity_is_checked(lab: Lab) -> None:
    @dataclass
    class Basket:
        items: list[str] = field(default_factory=list)

    def decide(state: Any, command: Any) -> Any:
        state.items.append("surprise")
        return iron.accept(Added(1))

    decider: Any = iron.Decider("told", initial=Basket(), check_purity=True)
    decider.evolve(lambda state, event: state)
    decider.decide(decide)
    with pytest.raises(iron.errors.DecisionError, match="changes its state"):
        decider.send(Send("c"))
    assert everything(lab) == [[], [], [], []]


def test_a_decide_that_sends_or_reads_the_journal_is_refused_and_harms_nothing(lab: Lab) -> None:
    counter = counters()
    for reach in (lambda: counter.send(Add("c")), lambda: lab.engine.access.current().__enter__()):
        decider = deciding(lambda state, command, reach=reach: reach())
        decider._takes_time = False
        with pytest.raises(iron.errors.DecisionError, match="they are pure"):
            decider.send(Send("c"))
    assert everything(lab) == [[], [], [], []]
    counter.send(Add("c"))
    assert counter.state("c").n == 1


def test_the_time_of_a_decision_is_that_of_the_engine(lab: Lab) -> None:
    clock = lab.simulate_time()
    order = orders()
    order.send(Place("o-1", 5.0))
    clock.advance(60)
    order.send(Pay("o-1"))
    assert order.history("o-1")["at"].iloc[-1] == lab.engine.access.instant(clock.now())
    assert order.history("o-1")["data"].iloc[-1] == {"at": "2030-01-01T00:01:00Z"}


def test_a_completed_instance_asks_decide_no_more_and_can_say_so(lab: Lab) -> None:
    asked: list[Command] = []
    counter = counters()
    decide = counter._decide
    assert decide is not None
    counter._decide = lambda state, command: (asked.append(command), decide(state, command))[1]
    counter.send(Close("c"))
    assert counter.send(Add("c")) == iron.AlreadyCompleted("c")
    assert asked == [Close("c")]
    assert list(counter.history("c")["event"]) == ["Closed"]
    with pytest.raises(iron.errors.InstanceCompleted):
        counter.send(Add("c")).unwrap()


def test_every_command_is_observed_with_its_reason_if_it_was_rejected(lab: Lab) -> None:
    counter = counters()
    for command in (Add("c", 0), Add("c", 2), Close("c"), Add("c", 1)):
        counter.send(command)
    found = counter.observations("c")
    assert list(found["outcome"]) == ["rejected", "accepted", "accepted", "already_completed"]
    assert list(found["reason"]) == [{"n": 0}, None, None, None]
    assert list(found["n_events"]) == [0, 1, 1, 0]
    assert list(found["status_after"].fillna("")) == ["", "open", "closed", "closed"]


def test_the_version_that_is_expected_has_to_be_there(lab: Lab) -> None:
    counter = counters()
    first = counter.send(Add("c"), expected_version=0)
    assert isinstance(first, iron.Accepted)
    before = everything(lab)
    with pytest.raises(iron.errors.VersionConflict, match=f"has version {first.version}"):
        counter.send(Add("c"), expected_version=first.version - 1)
    assert everything(lab) == before
    counter.send(Add("c"), expected_version=first.version)
    assert counter.state("c").n == 2


def test_the_end_of_a_state_that_json_does_not_know_is_kept_as_text(lab: Lab) -> None:
    @dataclass(frozen=True)
    class Ended:
        status: str = "ended"
        what: Any = object

    decider: Any = iron.Decider("told", initial=Ended(), terminal={"ended"})
    decider.evolve(lambda state, event: Ended(what=3 + 4j))
    decider.decide(lambda state, command: iron.accept(Added(1)))
    decider.send(Send("c"))
    (run,) = [row for row in everything(lab)[1] if row.key == "c"]
    stored = lab.engine.access.value(run.output_id)
    assert stored is not None
    assert stored.content is not None
    assert msgspec.json.decode(stored.content) == {"status": "ended", "what": "(3+4j)"}


def test_defining_a_decider_again_replaces_it_and_one_of_another_module_is_told(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    REGISTRY.forget("decider", "mine")
    first = counters("mine")
    assert REGISTRY.find("decider", "mine") is first
    again = counters("mine")
    assert REGISTRY.find("decider", "mine") is again
    assert caplog.text == ""
    source = "import ironflow_nb as iron\niron.Decider('mine', initial=0)"
    exec(compile(source, "<other>", "exec"), {"__name__": "elsewhere"})
    assert "decider mine is defined in tests.deciders.counters and in elsewhere" in caplog.text


DRAWN: list[Any] = []


def test_a_flow_that_dies_after_it_sent_what_it_had_drawn_sends_the_same_again(lab: Lab, world: World) -> None:
    DRAWN[:] = [counters()]

    @iron.flow
    def main() -> str:
        drawn = str(iron.uuid4())
        DRAWN[0].send(Add(drawn))
        if world.is_broken:
            world.is_broken = False
            world.die()
        return drawn

    with pytest.raises(SystemExit):
        main()
    sent = main()
    assert DRAWN[0].instances()["instance"].tolist() == [sent]
