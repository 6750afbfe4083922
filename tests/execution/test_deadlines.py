"""Deadlines of steps: over the pauses between their attempts, and over the deaths of their processes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.errors import StepTimeout
from tests.cells import World, run_cell
from tests.conftest import Lab
from tests.execution.test_timeouts import Time, assert_history_is_its_rows, attempts_of_work

pytestmark = pytest.mark.slow


@pytest.fixture
def clock(lab: Lab) -> Time:
    lab.clock = Time()
    lab.begin()
    return lab.clock


def test_no_pause_begins_that_the_deadline_ends(lab: Lab, clock: Time, world: World) -> None:
    @step(deadline_s=60, retries=iron.Retry(attempts=9, delay_s=25, factor=1))
    def work() -> None:
        world.did("work")
        clock.advance(5)
        raise ConnectionError("no")

    @flow
    def main() -> None:
        work()

    began_at = clock.now()
    with pytest.raises(ConnectionError) as caught:
        main()
    assert world.log == ["work"] * 2  # at 0 and 30 s; the third one would begin at 60 s
    assert clock.now() - began_at < 40e6
    assert any("is not tried again: its deadline_s is over" in note for note in caught.value.__notes__)


def test_a_deadline_goes_on_over_a_death_in_an_attempt(lab: Lab, clock: Time, world: World) -> None:
    @step(deadline_s=100, retries=5)
    def work() -> str:
        world.did("begun")
        if world.is_broken:
            assert list(iron.steps()["status"]) == ["running"]  # to look writes what has begun
            world.die()
        return "done"

    @flow
    def main() -> str:
        return work()

    with pytest.raises(SystemExit):
        main()
    world.is_broken = False
    clock.advance(101)
    with pytest.raises(StepTimeout, match=r"deadline_s of 100 s.*did not begin"):
        main()
    assert world.log == ["begun"]
    assert list(iron.attempts()["status"]) == ["interrupted", "timed_out"]
    assert main() == "done"  # a step that has failed begins anew, with all its time
    assert_history_is_its_rows(lab)


@pytest.mark.parametrize("colour", ["def", "async"])
def test_a_deadline_goes_on_over_a_death_in_a_pause(lab: Lab, clock: Time, world: World, colour: str) -> None:
    def body() -> str:
        world.did("begun")
        if world.is_broken:
            clock.advance(61)
        return "done"

    options: dict[str, Any] = {"timeout_s": 60, "deadline_s": 1000, "retries": iron.Retry(attempts=9, delay_s=500)}

    @step(name="work", **options)
    def work() -> str:
        return body()

    @step(name="work", **options)
    async def work_async() -> str:
        return body()

    @step
    def dies() -> None:
        """Die while the other step waits for its next attempt."""
        while world.is_broken and "retrying" not in list(iron.steps()["status"]):
            threading.Event().wait(0.01)
        if world.is_broken:
            world.is_broken = False
            world.die()

    @flow
    def main() -> str:
        waiting = (work if colour == "def" else work_async).submit()
        dies()
        return waiting.result()

    with pytest.raises(SystemExit):
        main()
    clock.advance(1000)
    with pytest.raises(StepTimeout, match=r"deadline_s of 1000 s.*did not begin"):
        main()
    assert world.log == ["begun"]
    assert attempts_of_work() == [("timed_out", "new"), ("timed_out", "timed out")]
    assert_history_is_its_rows(lab)


def test_what_is_left_of_a_deadline_is_enough_after_a_death(lab: Lab, clock: Time, world: World) -> None:
    @step(deadline_s=100)
    def work() -> str:
        if world.is_broken:
            world.is_broken = not len(iron.steps())
            world.die()
        clock.advance(40)
        return "done"

    @flow
    def main() -> str:
        return work()

    with pytest.raises(SystemExit):
        main()
    clock.advance(59)
    assert main() == "done"


def test_other_code_begins_a_deadline_anew(lab: Lab, clock: Time, world: World) -> None:
    def defined(n: int) -> Callable[[], Any]:
        namespace: dict[str, Any] = {"iron": iron, "step": step, "flow": flow, "world": world}
        run_cell(
            "@step(deadline_s=100)\ndef work():\n"
            f"    if world.is_broken: world.is_broken = not len(iron.steps()); world.die()\n    return {n}\n\n"
            "@flow\ndef main():\n    return work()\n",
            namespace,
        )
        main: Callable[[], Any] = namespace["main"]
        return main

    with pytest.raises(SystemExit):
        defined(1)()
    clock.advance(1000)
    assert defined(2)() == 2
