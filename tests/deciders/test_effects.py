"""Effects: written with the decision, performed after it, tried again, given up, and taken over from who died."""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

import ironflow_nb as iron
from ironflow_nb.deciders.effects import Performer
from ironflow_nb.execution.system.process_identity import host_id
from ironflow_nb.journal.ports import Durability, Lease, QueueItem, QueueSelect, RunCommit
from tests.conftest import Lab
from tests.deciders.counters import Add, Added, Ask, Call, Close, Mail, counters
from tests.deciders.orders import Charge, GiveUp, Pay, Place, charging, orders


def queue(lab: Lab, **select: Any) -> list[QueueItem]:
    with lab.engine.reading() as reader:
        return reader.work(QueueSelect(**select))


def owned_elsewhere(lab: Lab, work: QueueItem, *, lease_s: float = 300, host: str | None = None) -> None:
    """Let another process have claimed the work: one of this host that lives, or one of another host."""
    mine, now = lab.engine.access.lease, lab.engine.clock.now()
    lease = Lease(
        owner="rival", host=host or host_id(), pid=mine.pid, process_started_at=mine.process_started_at,
        heartbeat_at=now, lease_s=30.0,
    )  # fmt: skip
    claimed = QueueItem(**{
        **{name: getattr(work, name) for name in work.__struct_fields__},
        "owner": "rival", "leased_until": now + round(lease_s * 1e6), "attempts": work.attempts + 1,
    })  # fmt: skip
    with lab.engine.access.current():
        entry = RunCommit(run_id=work.run_id, events=(), put_work=(claimed,))
    lab.engine.journal.append([entry], durability=Durability.PROCESS, lease=lease)


def test_an_effect_is_in_the_journal_after_send_and_nobody_has_performed_it(lab: Lab) -> None:
    order, log = orders(), []
    charging(order, log)
    order.send(Place("o-1", 5.0))
    assert [work.key.partition("/")[0] for work in queue(lab, kind="effect")] == ["Charge"]
    assert log == []


def test_what_a_handler_returns_is_decided_and_nothing_is_fine_too(lab: Lab) -> None:
    counter = counters()
    counter.perform(Call)(lambda effect: Add("c", 10) if effect.what == "ten" else None)
    counter.send(Ask("c", "ten"))
    counter.send(Ask("c", "nothing"))
    assert counter.run_until_idle() == 2
    assert counter.state("c").n == 10
    assert queue(lab) == []
    assert list(counter.observations()["source"]) == ["user", "user", "effect Call"]
    outcomes = iron.events()["type"].value_counts()
    assert outcomes["EffectRequested"] == outcomes["EffectSettled"] == 2


def test_a_command_of_a_handler_may_be_for_another_instance_and_may_be_rejected(lab: Lab) -> None:
    counter = counters()
    counter.perform(Call)(lambda effect: Add(effect.what, 0 if effect.what == "zero" else 3))
    for what in ("other", "zero"):
        counter.send(Ask("c", what))
    assert counter.run_until_idle() == 2
    assert counter.state("other").n == 3
    assert list(counter.observations()["outcome"]) == ["accepted", "accepted", "accepted", "rejected"]
    assert queue(lab) == []


def test_an_effect_of_a_completed_instance_is_performed_and_settled(lab: Lab) -> None:
    counter = counters()
    counter.send(Ask("c", "x"))
    counter.send(Close("c"))
    counter.perform(Call)(lambda effect: Add("c"))
    assert counter.run_until_idle() == 1
    assert list(counter.observations()["outcome"])[-1] == "already_completed"
    assert queue(lab) == []


@pytest.mark.parametrize(("delay", "expected"), [(1.0, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300])])
def test_attempts_wait_twice_as_long_each_time_up_to_the_limit(lab: Lab, delay: float, expected: list[int]) -> None:
    clock = lab.simulate_time()
    order, log = orders(), []
    charging(order, log, lambda _: True, attempts=len(expected) + 1, delay=delay)
    order.send(Place("o-1", 5.0))
    for wait_s in expected:
        assert order.run_until_idle() == 1
        (work,) = queue(lab, kind="effect")
        assert work.due_at - clock.now() == wait_s * 1_000_000
        clock.advance(wait_s - 0.001)
        assert order.run_until_idle() == 0
        clock.advance(0.001)
    assert order.run_until_idle() == 1
    assert [attempt for _, attempt, _ in log] == [*range(1, len(expected) + 2)]
    assert list(order.dead_letters()["attempts"]) == [len(expected) + 1]


def test_the_defaults_are_five_attempts_one_second_and_five_minutes(lab: Lab) -> None:
    order = orders()
    charging(order, [])
    handler = order.handlers["Charge"]
    assert (handler.attempts, handler.delay_s, handler.max_delay_s, handler.lease_s) == (5, 1.0, 300.0, 300.0)


def test_every_effect_has_a_key_of_its_own_that_its_attempts_share(lab: Lab) -> None:
    counter, contexts = counters(), []

    @counter.perform(Call, delay=0)
    def call(effect: Call, context: Any) -> None:
        contexts.append(context)
        if not context.is_retry:
            raise ConnectionError

    counter.send(Ask("c", "a"))
    counter.send(Ask("c", "b"))
    assert counter.run_until_idle() == 4
    keys = [context.idempotency_key for context in contexts]
    assert sorted(keys) == sorted(2 * list(set(keys)))
    assert len(set(keys)) == 2
    assert all(key == f"counter:c:{context.effect_id}" for key, context in zip(keys, contexts, strict=True))
    assert sorted(context.attempt for context in contexts) == [1, 1, 2, 2]


def test_a_handler_may_be_a_coroutine(lab: Lab) -> None:
    counter = counters()

    @counter.perform(Call, delay=0)
    async def call(effect: Call, context: Any) -> Add:
        await asyncio.sleep(0)
        if context.attempt == 1:
            raise ConnectionError
        return Add(context.instance, 4)

    counter.send(Ask("c", "x"))
    assert counter.run_until_idle() == 2
    assert counter.state("c").n == 4


def test_a_result_that_cant_be_decided_is_a_failure_and_the_handler_runs_again(lab: Lab) -> None:
    counter, log = counters(), []

    @counter.perform(Call, attempts=2, delay=0)
    def call(effect: Call) -> str:
        log.append(effect)
        return "no command"

    counter.send(Ask("c", "x"))
    assert counter.run_until_idle() == 2
    assert len(log) == 2
    assert "has no id of an instance of counter" in counter.dead_letters()["error"][0]


def test_an_effect_without_a_handler_is_left_alone_and_named(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    counter = counters()
    counter.perform(Mail)(lambda effect: None)
    counter.send(Ask("c", "x"))
    assert counter.run_until_idle() == 0
    assert "counter: 1 effect Call can't be performed here; define @counter.perform(Call)" in caplog.text
    (work,) = queue(lab)
    assert (work.attempts, work.owner, work.dead_at) == (0, None, None)


def test_work_of_other_deciders_is_not_touched(lab: Lab) -> None:
    one, other = counters("one"), counters("other")
    for each in (one, other):
        each.perform(Call)(lambda effect: None)
        each.send(Ask("c", "x"))
    assert one.run_until_idle() == 1
    assert [work.attempts for work in queue(lab)] == [0]


def test_what_a_living_process_has_claimed_is_left_to_it_and_not_waited_for(lab: Lab) -> None:
    clock = lab.simulate_time()
    order, log = orders(), []
    charging(order, log)
    order.send(Place("o-1", 5.0))
    owned_elsewhere(lab, queue(lab, kind="effect")[0])
    assert order.run_until_idle() == 0
    assert order.run_until_idle(wait=5) == 0
    clock.advance(300)
    assert order.run_until_idle() == 1
    assert [attempt for _, attempt, _ in log] == [2]


def test_what_a_process_of_another_host_has_claimed_is_its_own_while_the_lease_holds(lab: Lab) -> None:
    clock = lab.simulate_time()
    order, log = orders(), []
    charging(order, log)
    order.send(Place("o-1", 5.0))
    owned_elsewhere(lab, queue(lab, kind="effect")[0], host="another machine")
    clock.advance(200)  # its heart has not beaten for long, but a handler takes its time
    assert order.run_until_idle() == 0
    clock.advance(101)
    assert order.run_until_idle() == 1


def test_what_a_dead_process_had_claimed_is_taken_over_at_once(lab: Lab) -> None:
    order, log = orders(), []
    charging(order, log)
    order.send(Place("o-1", 5.0))
    performer = Performer(lab.engine, order)
    performer._claim()
    assert order.run_until_idle() == 0
    lab.die()
    order = orders()
    charging(order, log)
    assert order.run_until_idle() == 1
    assert [attempt for _, attempt, _ in log] == [2]


@pytest.mark.parametrize("is_failure", [True, False])
def test_who_was_overtaken_settles_nothing(lab: Lab, is_failure: bool) -> None:
    clock = lab.simulate_time()
    order, log = orders(), []
    slow = Performer(lab.engine, order)
    charging(order, log)
    order.send(Place("o-1", 5.0))
    slow._claim()
    (claimed,) = slow._claimed
    clock.advance(301)
    assert order.run_until_idle() == 1
    before = [order.state("o-1"), len(order.observations()), len(iron.events())]
    if is_failure:
        slow._fail(claimed, ConnectionError("too late"))
    else:
        slow._settle(claimed, Pay("o-1"))
    assert [order.state("o-1"), len(order.observations()), len(iron.events())] == before
    assert queue(lab) == []


def test_an_interrupted_handler_leaves_its_effect_to_the_next_cell(lab: Lab) -> None:
    order, log = orders(), []
    is_first = [True]

    @order.perform(Charge)
    def charge(effect: Any, context: Any) -> Pay:
        log.append(context.attempt)
        if is_first and is_first.pop():
            raise KeyboardInterrupt
        return Pay(context.instance)

    order.send(Place("o-1", 5.0))
    with pytest.raises(KeyboardInterrupt):
        order.run_until_idle()
    assert [(work.owner, work.attempts) for work in queue(lab, kind="effect")] == [(None, 1)]
    assert order.run_until_idle() == 1
    assert log == [1, 2]


def test_a_handler_that_is_interrupted_each_time_becomes_a_dead_letter_that_does_not_blame_its_process(
    lab: Lab,
) -> None:
    order = orders()

    @order.perform(Charge, attempts=2)
    def charge(effect: Any) -> Pay:
        raise KeyboardInterrupt

    order.send(Place("o-1", 5.0))
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            order.run_until_idle()
    assert order.run_until_idle() == 1
    assert list(order.dead_letters()["attempts"]) == [2]
    assert "2 attempts are used up; the last one was interrupted" in order.dead_letters()["error"][0]


@dataclass(frozen=True)
class Fragile:
    """A state at which an interrupt comes once, when it is looked at after a commit."""

    n: int = 0
    interrupts: ClassVar[list[int]] = []

    def __hash__(self) -> int:
        if self.n in self.interrupts:
            self.interrupts.clear()
            raise KeyboardInterrupt
        return self.n


def test_what_was_claimed_and_not_begun_when_an_interrupt_came_was_not_tried(lab: Lab) -> None:
    decider: Any = iron.Decider("fragile", initial=Fragile())
    decider.evolve(lambda state, event: Fragile(state.n + event.n))
    decider.decide(lambda state, command: iron.accept(Added(command.n)).effect(*[Call("x")] * (command.n == 1)))
    attempts: list[int] = []

    @decider.perform(Call)
    def call(effect: Call, context: Any) -> Add:
        attempts.append(context.attempt)
        return Add("c", 2)

    for instance in ("a", "b"):
        decider.send(Add(instance))
    Fragile.interrupts.append(2)
    with pytest.raises(KeyboardInterrupt):
        decider.run_until_idle()
    assert [(work.owner, work.attempts) for work in queue(lab)] == [(None, 0)]
    assert decider.run_until_idle() == 1
    assert attempts == [1, 1]


def test_an_answer_to_a_dead_letter_that_fails_leaves_the_handlers_own_error(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    order = orders()
    charging(order, [], lambda _: True, attempts=1, on_dead_letter=lambda effect, error: 1 / 0)
    order.send(Place("o-1", 5.0))
    assert order.run_until_idle() == 1
    assert list(order.dead_letters()["error"]) == ["ConnectionError: the bank is closed"]
    assert "ZeroDivisionError" in caplog.text


def test_effects_performed_side_by_side_are_performed_once_each(lab: Lab) -> None:
    counter, log = counters(), []
    counter.perform(Call)(lambda effect: log.append(effect.what))
    for n in range(40):
        counter.send(Ask(f"c-{n % 4}", str(n)))
    threads = [threading.Thread(target=counter.run_until_idle) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counter.run_until_idle(wait=1)
    assert sorted(log, key=int) == [str(n) for n in range(40)]
    assert queue(lab) == []


def test_a_dead_letter_that_was_answered_ends_its_instance(lab: Lab) -> None:
    order = orders()
    charging(
        order, [], lambda _: True, attempts=2, delay=0, on_dead_letter=lambda effect, error: GiveUp("o-1", str(error))
    )
    order.send(Place("o-1", 5.0))
    assert order.run_until_idle() == 2
    assert order.state("o-1").status == "failed"
    assert list(order.observations()["source"]) == ["user", "dead effect Charge"]
    assert len(order.dead_letters()) == 1


@pytest.mark.parametrize("options", [{"attempts": 0}, {"attempts": -1}, {"lease": 0}])
def test_an_effect_that_nobody_could_perform_is_refused_where_it_is_said(options: dict[str, int]) -> None:
    with pytest.raises(iron.errors.DecisionError, match="attempts must be an int >= 1 and lease more than 0"):
        counters().perform(Call, **options)  # type: ignore[arg-type]
