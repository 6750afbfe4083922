"""A clock that is set back: what waits does not wait for the old time, and nothing is done twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow
from ironflow_nb.execution import AwaitedWakeup, Engine, Wakeup
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.testing.clock import START_AT, SimClock
from ironflow_nb.testing.simulated_time import pass_time
from tests.triggers.conftest import engine_on, instants
from tests.waits.conftest import LIMIT_S, until

HOUR_S = 3600.0
BACK_S = [2 * HOUR_S, 400 * 24 * HOUR_S]


@flow
def sleeper(wait_s: float) -> str:
    iron.sleep(wait_s)
    return "awake"


@flow
async def async_sleeper(wait_s: float) -> str:
    await iron.aio.sleep(wait_s)
    return "awake"


@flow
def impatient(wait_s: float) -> str:
    try:
        return str(iron.wait_for("go", timeout_s=wait_s))
    except TimeoutError:
        return "awake"


@flow
def asker(wait_s: float) -> str:
    try:
        return str(iron.approve("Go?", timeout_s=wait_s))
    except TimeoutError:
        return "awake"


@flow
async def parent(wait_s: float) -> str:
    return await async_sleeper(wait_s)


@flow
def until_then(wait_s: float) -> str:
    iron.sleep_until(datetime.fromtimestamp(START_AT / 1e6 + wait_s, UTC))
    return "awake"


WAITERS: list[Any] = [sleeper, async_sleeper, impatient, asker, parent]


class StillClock(SimClock):
    """A clock that only the test moves: who waits is parked."""

    def wait(self, wakeup: Wakeup, timeout_s: float | None, *, is_idle: bool = False) -> bool:
        return wakeup.take(None if is_idle else timeout_s)

    async def wait_on_loop(self, wakeup: AwaitedWakeup, timeout_s: float | None, *, is_idle: bool = False) -> bool:
        return await wakeup.taken(None if is_idle else timeout_s)


@contextmanager
def process(path: Path, clock: SimClock) -> Iterator[Engine]:
    """Yield the engine of a process that parks at once what waits."""
    engine = engine_on(path, clock=clock, park_s=0.0)
    try:
        with REGISTRY.replaced(engine):
            yield engine
    finally:
        engine.close()


def pass_parked(engine: Engine, duration_s: float) -> None:
    """Pass the time, with everything that waits parked before and after."""
    until(lambda: not engine.sessions)
    pass_time(engine, duration_s)
    until(lambda: not engine.sessions)


@pytest.mark.parametrize("back_s", BACK_S, ids=["hours", "a year"])
@pytest.mark.parametrize("waiter", WAITERS, ids=lambda each: each.name.rpartition(".")[2])
def test_a_parked_wait_lasts_no_longer_than_it_was_to_last(tmp_path: Path, waiter: Any, back_s: float) -> None:
    clock = StillClock()
    with process(tmp_path, clock) as engine:
        run = waiter.start(600)
        pass_parked(engine, 60)
        clock.advance(-back_s)
        pass_parked(engine, 599)
        assert run.status == "waiting"
        pass_parked(engine, 2)
        assert run.result(LIMIT_S) == "awake"


@pytest.mark.parametrize("waiter", WAITERS, ids=lambda each: each.name.rpartition(".")[2])
def test_a_wait_that_another_process_began_lasts_no_longer_than_it_was_to_last(tmp_path: Path, waiter: Any) -> None:
    clock = StillClock()
    with process(tmp_path, clock) as engine:
        run_id = waiter.start(600).id
        pass_parked(engine, 60)
    clock.advance(-2 * HOUR_S)
    with process(tmp_path, clock) as engine:
        pass_parked(engine, 300)
        iron.resume(run_id)  # it goes on to its wait, of which as much is left as before
        pass_parked(engine, 299)
        assert iron.get_run(run_id).status == "waiting"
        pass_parked(engine, 2)
        assert iron.get_run(run_id).result(LIMIT_S) == "awake"


def test_who_sleeps_until_an_instant_sleeps_until_then(tmp_path: Path) -> None:
    clock = StillClock()
    with process(tmp_path, clock) as engine:
        run = until_then.start(HOUR_S)
        pass_parked(engine, 60)
        clock.advance(-2 * HOUR_S)
        pass_parked(engine, 2.9 * HOUR_S)
        assert run.status == "waiting"
        pass_parked(engine, 0.1 * HOUR_S)
        assert run.result(LIMIT_S) == "awake"


@pytest.mark.parametrize("back_s", BACK_S, ids=["hours", "a year"])
def test_an_interval_goes_on_as_time_passes(engine: Engine, back_s: float) -> None:
    @flow
    def tick() -> None:
        pass

    tick.schedule(every_s=60)
    pass_time(engine, 600)
    assert len(tick.runs()) == 10
    assert isinstance(engine.clock, SimClock)
    engine.clock.advance(-back_s)
    pass_time(engine, 601)
    assert len(tick.runs()) == 20
    assert len(set(instants(tick))) == 20


def test_a_cron_expression_fires_no_instant_twice_and_goes_on_with_the_time_of_the_clock(engine: Engine) -> None:
    @flow
    def report() -> None:
        pass

    report.schedule("0 * * * *")
    pass_time(engine, 3.5 * HOUR_S)
    before = instants(report)
    assert len(before) == 3
    assert isinstance(engine.clock, SimClock)
    engine.clock.advance(-2 * HOUR_S)  # two of the three come again
    pass_time(engine, 4 * HOUR_S)
    assert instants(report) == [*before, *[f"2030-01-01T0{hour}:00:00" for hour in (4, 5)]]
    engine.clock.advance(-365 * 24 * HOUR_S)
    pass_time(engine, 2 * HOUR_S)
    assert [instant[:4] for instant in instants(report)] == ["2030"] * 5 + ["2029"] * 2


@pytest.mark.parametrize("back_s", BACK_S, ids=["hours", "a year"])
def test_a_schedule_that_was_paused_goes_on_with_the_time_of_the_clock(engine: Engine, back_s: float) -> None:
    @flow
    def tick() -> None:
        pass

    @flow
    def report() -> None:
        pass

    schedules = [tick.schedule(every_s=60), report.schedule("*/30 * * * *")]
    pass_time(engine, 1830)
    for each in schedules:
        each.pause()
    assert isinstance(engine.clock, SimClock)
    engine.clock.advance(-back_s)
    for each in schedules:
        each.resume()
    pass_time(engine, 1831)
    assert len(tick.runs()) == len({*instants(tick)}) == 60
    assert len(report.runs()) == len({*instants(report)}) == 2


def test_an_event_starts_its_flow_though_it_was_emitted_in_what_is_the_future_now(engine: Engine) -> None:
    @flow(on="stock.counted")
    def counted(event: dict[str, Any]) -> int:
        return int(event["n"])

    iron.emit("stock.counted", {"n": 3})
    assert isinstance(engine.clock, SimClock)
    engine.clock.advance(-2 * HOUR_S)
    pass_time(engine, 1)
    assert counted.last is not None
    assert counted.last.result(60) == 3


@pytest.mark.parametrize("back_s", BACK_S, ids=["hours", "a year"])
def test_an_event_cancels_the_run_that_began_before_the_clock_was_set_back(engine: Engine, back_s: float) -> None:
    @flow(on="order.placed", cancel_on="order.cancelled")
    def fulfil(order: dict[str, int]) -> None:
        iron.wait_for("paid")

    called = fulfil.start({"id": 1})
    iron.emit("order.placed", {"id": 2})
    pass_time(engine, 1)
    started = fulfil.last
    assert isinstance(engine.clock, SimClock)
    engine.clock.advance(-back_s)
    for number in (1, 2):
        iron.emit("order.cancelled", {"id": number})
    pass_time(engine, 1)
    assert started is not None
    assert [called.status, started.status] == ["cancelled"] * 2


def test_an_event_of_before_the_clock_was_set_back_cancels_no_run_of_afterwards(engine: Engine) -> None:
    @flow(cancel_on="order.cancelled")
    def fulfil(order: dict[str, int]) -> None:
        iron.wait_for("paid")

    fulfil.start({"id": 1}).cancel().wait()
    pass_time(engine, 0)  # the flow wants the event from now on
    iron.emit("order.cancelled", {"id": 1})
    assert isinstance(engine.clock, SimClock)
    engine.clock.advance(-2 * HOUR_S)
    run = fulfil.start({"id": 1})
    pass_time(engine, 1)
    assert run.status == "waiting"


@pytest.mark.parametrize("back_s", BACK_S, ids=["hours", "a year"])
@pytest.mark.parametrize("is_taken", [True, False], ids=["taken before", "taken afterwards"])
def test_events_are_put_off_no_longer_than_they_were_to_be(engine: Engine, is_taken: bool, back_s: float) -> None:
    @flow(on="saved", debounce_s=60)
    def build(n: int) -> int:
        return n

    iron.emit("saved", 1)
    if is_taken:
        pass_time(engine, 10)
    assert isinstance(engine.clock, SimClock)
    engine.clock.advance(-back_s)
    pass_time(engine, 61)
    assert build.last is not None
    assert build.last.result(LIMIT_S) == 1


def test_events_of_before_and_after_the_clock_was_set_back_are_of_one_window(engine: Engine) -> None:
    @flow(on="saved", debounce_s=60)
    def build(n: int) -> int:
        return n

    @flow(on="saved")
    def note(n: int) -> int:
        return n

    pass_time(engine, 0)
    iron.emit("saved", 1)
    assert isinstance(engine.clock, SimClock)
    engine.clock.advance(-2 * HOUR_S)
    iron.emit("saved", 2)
    engine.clock.advance(1)  # nobody has looked at them yet
    pass_time(engine, 61)
    assert build.last is not None
    assert [run.result(LIMIT_S) for run in (build.last, note.last) if run] == [2, 2]
    assert (len(build.runs()), len(note.runs())) == (1, 2)


def test_events_that_nobody_wanted_come_in_the_order_of_their_emission(engine: Engine) -> None:
    iron.emit("saved", 1)
    assert isinstance(engine.clock, SimClock)
    engine.clock.advance(-2 * HOUR_S)
    iron.emit("saved", 2)

    @flow(on="saved")
    def note(n: int) -> int:
        return n

    pass_time(engine, 1)
    assert note.last is not None
    assert note.last.result(LIMIT_S) == 2
