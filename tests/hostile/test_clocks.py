"""Clocks that are set back or ahead in the middle of things."""

from __future__ import annotations

import datetime as dt
import itertools

import pytest
from msgspec.structs import replace

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.execution.system.process_identity import LEASE_S, is_alive, new_lease
from ironflow_nb.journal.ports import Select
from ironflow_nb.testing.clock import START_AT
from tests.cells import World
from tests.conftest import Lab
from tests.deciders.counters import Add, Ask, Call, Remind, counters

HOUR_S = 3600.0
HOUR_US = 3_600_000_000


@step
def work(world: World, n: int) -> int:
    world.did(n)
    for act in world.plan:
        act(n)
    return n


@step(retries=2)
def shaky(world: World, n: int) -> int:
    world.did(n)
    for act in world.plan:
        act(n)
    return n


@flow
def sequential(world: World) -> int:
    return sum(work(world, n) for n in range(4))


@flow
def retried(world: World) -> int:
    return shaky(world, 1)


@flow
def retried_beside(world: World) -> int:
    return sum(shaky.map([world], [1]))


def sets_clock(world: World, lab: Lab, at: int, by_s: float) -> None:
    clock = lab.simulate_time()
    world.plan = [lambda n: clock.advance(by_s) if n == at else clock.advance(0.5)]


@pytest.mark.parametrize("by_s", [-HOUR_S, HOUR_S], ids=["back", "ahead"])
def test_events_keep_their_order_and_no_duration_is_negative(by_s: float, lab: Lab, world: World) -> None:
    sets_clock(world, lab, at=1, by_s=by_s)
    assert sequential(world) == 6
    events = iron.events()
    assert events["position"].tolist() == list(range(1, len(events) + 1))
    assert events["version"].tolist() == list(range(1, len(events) + 1))
    assert events["at"].is_monotonic_increasing
    steps = iron.steps()
    assert steps["step"].tolist() == [f"{work.name}[{n}]" for n in range(4)]
    assert (steps["duration_s"] >= 0).all()
    assert (steps["finished_at"] >= steps["started_at"]).all()
    assert iron.runs()["duration_s"][0] >= 0


def test_a_run_that_goes_on_while_the_clock_is_set_back_has_lasted_no_negative_time(lab: Lab, world: World) -> None:
    clock = lab.simulate_time()
    seen: list[float] = []

    def look(n: int) -> None:
        if n == 1:
            clock.advance(-HOUR_S)
            seen.append(iron.runs()["duration_s"][0])

    world.plan = [look]
    sequential(world)
    assert seen == [0.0]


def test_a_run_is_continued_by_a_process_whose_clock_is_behind(
    lab: Lab, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    clock = lab.simulate_time()
    world.plan = [lambda n: world.die() if n == 2 else None]
    with pytest.raises(SystemExit):
        sequential(world)
    world.plan.clear()
    clock.advance(-HOUR_S)
    with caplog.at_level("INFO", "ironflow_nb"):
        assert sequential(world) == 6
    assert "interrupted 0 ms ago" in caplog.text
    assert world.log == [0, 1, 2, 2, 3]
    assert iron.events()["at"].is_monotonic_increasing
    assert iron.runs()["status"].tolist() == ["completed"]


@pytest.mark.parametrize("flow", [retried, retried_beside], ids=["here", "beside"])
def test_a_retry_does_not_wait_for_a_clock_that_was_set_back(flow: iron.Flow, lab: Lab, world: World) -> None:
    clock = lab.simulate_time()
    failed_at: list[float] = []

    def fail_twice(n: int) -> None:
        failed_at.append(clock.monotonic())
        if len(failed_at) == 1:
            clock.advance(-HOUR_S)
        if len(failed_at) < 3:
            raise RuntimeError

    world.plan = [fail_twice]
    assert flow(world) == 1
    waited_s = [after - before for before, after in itertools.pairwise(failed_at)]
    assert waited_s == pytest.approx([1, 2], abs=0.2)


@pytest.mark.parametrize("flow", [retried, retried_beside], ids=["here", "beside"])
def test_a_retry_is_not_early_nor_for_ever_when_the_clock_is_set_back_while_it_waits(
    flow: iron.Flow, lab: Lab, world: World
) -> None:
    clock = lab.simulate_time()
    failed_at: list[float] = []

    def fail_once(n: int) -> None:
        failed_at.append(clock.monotonic())
        if len(failed_at) == 1:
            raise RuntimeError

    class Meddled(type(clock)):  # type: ignore[misc]
        """Set back by whoever looks after the machine, as soon as somebody waits."""

        def wait(self, *args: object, **kwargs: object) -> bool:
            if len(failed_at) == 1 and self.now() > START_AT - HOUR_US // 2:
                self.advance(-HOUR_S)
            return bool(super().wait(*args, **kwargs))

    clock.__class__ = Meddled
    world.plan = [fail_once]
    assert flow(world) == 1
    assert clock.now() < START_AT  # it was set back indeed
    assert failed_at[1] - failed_at[0] == pytest.approx(1, abs=0.2)


def test_a_retry_that_another_process_scheduled_waits_no_longer_than_the_longest_delay(lab: Lab, world: World) -> None:
    clock = lab.simulate_time()
    tried_at: list[float] = []

    def fail_then_die(n: int) -> None:
        tried_at.append(clock.monotonic())
        if len(tried_at) == 1:
            raise RuntimeError

    world.plan = [fail_then_die]

    def die_waiting(*args: object, **kwargs: object) -> bool:
        lab.die_in_flow()

    clock.wait = die_waiting  # type: ignore[method-assign]
    with pytest.raises(SystemExit):
        retried(world)
    del clock.wait
    clock.advance(-HOUR_S)
    before_s = clock.monotonic()
    assert retried(world) == 1
    assert tried_at[-1] - before_s <= 60.5


@pytest.mark.parametrize("by_us", [-HOUR_US, HOUR_US, 0], ids=["back", "ahead", "still"])
def test_a_living_process_of_this_host_lives_whatever_the_clock_says(by_us: int) -> None:
    assert is_alive(new_lease(START_AT, b"nonce"), now=START_AT + by_us)


def test_a_process_elsewhere_lives_as_long_as_its_lease_and_while_the_clock_is_behind() -> None:
    elsewhere = replace(new_lease(START_AT, b"nonce"), host="another host", pid=1)
    lease_us = round(LEASE_S * 1e6)
    assert is_alive(elsewhere, now=START_AT + lease_us - 1)
    assert not is_alive(elsewhere, now=START_AT + lease_us)
    assert is_alive(elsewhere, now=START_AT - HOUR_US)  # nothing speaks against it; a fence guards the run in any case


def test_what_is_since_a_moment_is_what_was_recorded_since_then(lab: Lab, world: World) -> None:
    clock = lab.simulate_time()
    sequential(world)
    clock.advance(HOUR_S)
    sequential.options(fresh=True)(world)
    clock.advance(-HOUR_S / 2)
    newest = sequential.options(fresh=True).start(world).wait(20).id
    assert len(iron.runs(since=HOUR_S / 4)) == 2  # that of the future is not older than a quarter of an hour
    assert len(iron.runs(since=HOUR_S)) == 3
    half = dt.datetime.fromtimestamp(START_AT / 1e6 + HOUR_S / 2, dt.UTC)
    assert len(iron.runs(since=half)) == 2
    assert iron.runs()["run_id"][0] == newest


def test_both_journals_keep_what_is_older_than_what_came_before(lab: Lab, world: World) -> None:
    clock = lab.simulate_time()
    sequential(world)
    clock.advance(-HOUR_S)
    sequential.options(fresh=True)(world)
    with lab.engine.reading() as reader:
        events = reader.events(Select())
        assert [row.position for row in events] == sorted(row.position for row in events)
        first, second = {row.run_id: None for row in events}
        assert reader.head(second)[1] < reader.head(first)[1]


@flow(name="first")
def first() -> int:
    return 1


@flow(name="second")
def second() -> int:
    return 2


def test_the_newest_run_is_the_one_begun_last_also_after_the_clock_was_set_back(lab: Lab) -> None:
    clock = lab.simulate_time()
    older = first.start().wait(20).id
    between = second.start().wait(20).id
    clock.advance(-HOUR_S)
    newer = first.options(fresh=True).start().wait(20).id
    assert first.last is not None
    assert first.last.id == newer
    assert iron.runs()["run_id"].tolist() == [newer, between, older]
    assert first.runs()["run_id"].tolist() == [newer, older]


def test_a_timer_does_not_wait_for_a_clock_that_was_set_back(lab: Lab) -> None:
    clock = lab.simulate_time()
    counter = counters()
    counter.send(Remind("c", 60, n=3))
    clock.advance(-HOUR_S)
    assert counter.run_until_idle() == 0
    clock.advance(59)
    assert counter.run_until_idle() == 0
    clock.advance(2)
    assert counter.run_until_idle() == 1
    assert counter.state("c").n == 3


def test_a_timer_is_not_late_when_the_clock_is_set_back_while_somebody_waits_for_it(lab: Lab) -> None:
    clock = lab.simulate_time()
    counter = counters()
    counter.send(Remind("c", 60, n=3))
    counter.send(Remind("other", 1))
    began_s = clock.monotonic()

    waited = iter([-HOUR_S])
    wait = clock.wait

    def set_back(*args: object, **kwargs: object) -> bool:
        clock.advance(next(waited, 0.0))
        return wait(*args, **kwargs)  # type: ignore[arg-type]

    clock.wait = set_back  # type: ignore[method-assign]
    assert counter.run_until_idle(wait=200) == 2
    assert clock.monotonic() - began_s < 130


def test_an_effect_is_performed_and_tried_again_though_the_clock_was_set_back(lab: Lab) -> None:
    clock = lab.simulate_time()
    counter, tried_at = counters(), []

    @counter.perform(Call, attempts=3, delay=10, max_delay=20)
    def call(effect: Call) -> Add | None:
        tried_at.append(clock.monotonic())
        if len(tried_at) == 1:
            raise ConnectionError
        return None

    counter.send(Ask("c", "x"))
    clock.advance(-HOUR_S)
    assert counter.run_until_idle() == 1
    clock.advance(-HOUR_S)
    assert counter.run_until_idle(wait=60) == 1
    assert tried_at[1] - tried_at[0] <= 21
