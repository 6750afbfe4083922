"""Sleeping in a flow: recorded, absolute, and without waiting where time is simulated."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.core.status import RunStatus, StepStatus
from ironflow_nb.testing.clock import SimClock
from tests.cells import World
from tests.conftest import Lab
from tests.waits.conftest import LIMIT_S, until

HOUR_US = 3_600_000_000


def waits_of(run: Any) -> list[tuple[str, str]]:
    events = run.events()
    return [(row.type, row.step) for row in events.itertuples() if row.type.startswith("Wait")]


def facts(run: Any, kind: str) -> Any:
    """Return the data of the first event of that type."""
    return next(row.data for row in run.events().itertuples() if row.type == kind)


def test_a_sleep_is_a_recorded_step_with_its_absolute_instant(lab: Lab) -> None:
    clock = lab.simulate_time()

    @flow
    def napping() -> str:
        iron.sleep("1h")
        return "rested"

    began_at = clock.now()
    assert napping() == "rested"
    assert clock.now() >= began_at + HOUR_US
    run = napping.last
    assert run is not None
    assert waits_of(run) == [("WaitStarted", "iron.sleep[0]"), ("WaitEnded", "iron.sleep[0]")]
    assert facts(run, "WaitStarted")["due_at"] == began_at + HOUR_US
    assert facts(run, "WaitEnded")["outcome"] == "due"
    [row] = run.steps().to_dict("records")
    assert (row["status"], row["duration_s"] >= 3600) == (StepStatus.COMPLETED, True)


def test_an_async_flow_sleeps_beside_its_other_tasks(lab: Lab) -> None:
    lab.simulate_time()
    order: list[str] = []

    @step
    async def quick() -> None:
        order.append("quick")

    @flow
    async def side_by_side() -> list[str]:
        async def slow() -> None:
            await iron.aio.sleep(3600)
            order.append("slow")

        await asyncio.gather(slow(), quick())
        return order

    assert side_by_side.start().result() == ["quick", "slow"]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("later_s", [3000, 7200])
def test_a_flow_that_died_in_its_sleep_waits_only_for_what_is_left(lab: Lab, is_async: bool, later_s: int) -> None:
    @flow(name="long")
    def plain() -> str:
        iron.sleep(3600)
        return "over"

    @flow(name="long")
    async def awaited() -> str:
        await iron.aio.sleep(3600)
        return "over"

    run: Any = (awaited if is_async else plain).start()  # type: ignore[attr-defined]
    until(lambda: list(run.steps()["status"]) == [StepStatus.WAITING])
    began_at = facts(run, "WaitStarted")["due_at"] - HOUR_US
    lab.clock = SimClock(began_at + later_s * 1_000_000)
    lab.die()
    continued_at = lab.clock.now()
    assert iron.get_run(run.id).resume().result() == "over"
    slept_s = (lab.clock.now() - continued_at) / 1e6
    assert max(3600 - later_s, 0) <= slept_s < 3600 - 1000
    assert len(waits_of(iron.get_run(run.id))) == 2


@pytest.mark.parametrize("is_async", [False, True])
def test_a_replay_passes_a_sleep_that_is_over(lab: Lab, world: World, is_async: bool) -> None:
    clock = lab.simulate_time()

    @step
    def trip() -> str:
        if world.is_broken:
            raise ConnectionError
        return "done"

    @flow(name="sleeper")
    def plain() -> str:
        iron.sleep(3600)
        return trip()

    @flow(name="sleeper")
    async def awaited() -> str:
        await iron.aio.sleep(3600)
        return trip()

    sleeper: Any = awaited if is_async else plain
    with pytest.raises(ConnectionError):
        sleeper.start().result()
    world.is_broken = False
    now = clock.now()
    run = sleeper.resume()
    assert run.result() == "done"
    assert clock.now() - now < HOUR_US
    assert len(waits_of(run)) == 2


def test_a_sleep_until_an_instant_counts_in_every_zone_and_a_past_one_does_not_wait(lab: Lab) -> None:
    clock = lab.simulate_time()
    at = iron.now() + timedelta(hours=1)

    @flow
    def instants() -> int:
        iron.sleep_until(at.astimezone(timezone(timedelta(hours=5))))
        iron.sleep_until(at)
        iron.sleep_until(datetime(1969, 1, 1, tzinfo=UTC))
        return 1

    began_at = clock.now()
    assert instants() == 1
    assert HOUR_US <= clock.now() - began_at < 2 * HOUR_US


def test_branches_sleep_side_by_side(lab: Lab, world: World) -> None:
    lab.simulate_time()

    @step
    def note(n: int) -> int:
        world.did(n)
        return n

    def branch(n: int) -> int:
        iron.sleep(n)
        return note(n)

    @flow
    def fan() -> list[int]:
        return iron.gather(*(partial(branch, n) for n in (1, 2, 3)))

    assert fan() == [1, 2, 3]
    assert sorted(world.log) == [1, 2, 3]


def test_a_cancelled_sleep_of_a_task_is_recorded_as_such(lab: Lab) -> None:
    @flow
    async def impatient() -> str:
        try:
            await asyncio.wait_for(iron.aio.sleep(3600), 0.01)
        except TimeoutError:
            return "gone"
        return "stayed"

    run = impatient.start()
    assert run.result() == "gone"
    [row] = run.steps().to_dict("records")
    assert row["status"] == StepStatus.CANCELLED


def test_a_run_is_cancelled_out_of_its_sleep(lab: Lab) -> None:
    @flow
    def asleep() -> None:
        iron.sleep(3600)

    @flow
    async def asleep_async() -> None:
        await iron.aio.sleep(3600)

    for sleeper in (asleep, asleep_async):
        run = sleeper.start()  # type: ignore[attr-defined]
        run.cancel()
        with pytest.raises(iron.RunCancelled):
            run.result(60)
        assert run.status is RunStatus.CANCELLED


BEYOND = datetime.max.replace(tzinfo=timezone(-timedelta(hours=12)))
REFUSED: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: iron.sleep(-1), ValueError, "zero or more seconds, not -1"),
    (lambda: iron.sleep(math.nan), ValueError, "zero or more seconds, not nan"),
    (lambda: iron.sleep(math.inf), ValueError, "would not end before the year 10000"),
    (lambda: iron.sleep(True), TypeError, "not True"),
    (lambda: iron.sleep("soon"), ValueError, "'soon' is no duration"),
    (lambda: iron.sleep_until(datetime(2030, 1, 1)), ValueError, "has no time zone"),
    (lambda: iron.sleep_until(BEYOND), ValueError, "lies outside of the years 1 to 9999 in UTC"),
    (lambda: iron.sleep_until("2030-01-01"), TypeError, "takes a datetime, not '2030-01-01'"),  # type: ignore[arg-type]
    (lambda: iron.wait_for("go", timeout_s=-1), ValueError, "zero or more seconds, not -1"),
    (lambda: iron.wait_for(""), ValueError, "the name of a signal is a text, not ''"),
    (lambda: iron.wait_for(3), ValueError, "the name of a signal is a text, not 3"),  # type: ignore[arg-type]
    (lambda: iron.wait_for("two\nlines"), ValueError, "one line"),
    (lambda: iron.wait_for("ironflow:cancel"), ValueError, "the package's own"),
    (lambda: iron.wait_for(iron.any_of()), ValueError, "any_of takes the names"),
    (lambda: iron.wait_for(iron.all_of("a", "")), ValueError, "the name of a signal is a text, not ''"),
]


@pytest.mark.parametrize(("call", "kind", "words"), REFUSED, ids=[words for *_, words in REFUSED])
def test_what_can_not_be_waited_for_is_refused_and_nothing_is_recorded(
    lab: Lab, call: Callable[[], object], kind: type[Exception], words: str
) -> None:
    @flow
    def refused() -> None:
        call()

    with pytest.raises(kind, match=words):
        refused()
    assert refused.last is not None
    assert list(refused.last.steps()["step"]) == []


def test_a_wait_inside_a_step_and_in_the_wrong_colour_names_what_to_do(lab: Lab) -> None:
    @step
    def waits() -> None:
        iron.sleep(1)

    @flow
    def in_step() -> None:
        waits()

    @flow
    async def blocks() -> None:
        iron.sleep(1)

    @flow
    def awaits() -> None:
        iron.aio.wait_for("go")  # type: ignore[unused-coroutine]

    with pytest.raises(iron.errors.NotAllowedInStep, match=r"inside step .*waits\[0\].*wait in the flow"):
        in_step()
    with pytest.raises(iron.errors.AsyncMismatch, match=r"await iron\.aio\.sleep"):
        blocks.start().result()
    with pytest.raises(iron.errors.AsyncMismatch, match=r"use iron\.wait_for"):
        awaits()


def test_outside_of_a_flow_a_sleep_is_a_plain_one_and_nobody_could_send_a_signal(lab: Lab) -> None:
    clock = lab.simulate_time()
    now = clock.now()
    iron.sleep(60)
    assert clock.now() == now + 60_000_000
    with pytest.raises(iron.errors.NotInRun, match="call it in a flow"):
        iron.wait_for("go")


def test_a_wait_is_shown_where_it_stands_in_the_source_with_its_end(lab: Lab) -> None:
    @flow
    def pictured() -> None:
        iron.wait_for("go", timeout_s=3600)

    run = pictured.start()
    node = "wait_for('go')"
    assert node in pictured.diagram().text

    def shown() -> str:
        return next((line for line in run.diagram().text.splitlines() if node in line), "")

    until(lambda: "waiting (until 20" in shown())
    run.signal("go")
    run.result()
    assert "completed" in shown()


@pytest.mark.parametrize("kind", ["def", "async"])
def test_who_waits_for_a_result_has_not_waited_for_as_long_as_the_run_slept(lab: Lab, kind: str) -> None:
    lab.simulate_time()

    @flow(name="main")
    def main() -> int:
        for _ in range(5):
            iron.sleep("1d")
        return 5

    @flow(name="main")
    async def main_async() -> int:
        for _ in range(5):
            await iron.aio.sleep("1d")
        return 5

    found: Any = main if kind == "def" else main_async
    assert found.start().result(LIMIT_S) == 5
