"""Time limits of steps: of each attempt, and of all of them with the pauses between them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, gather, step
from ironflow_nb.errors import OutcomeUnknown, StepTimeout
from ironflow_nb.journal.ports import Select
from ironflow_nb.testing.clock import SimClock
from tests.cells import World
from tests.conftest import Lab
from tests.contracts.histories import folded

pytestmark = pytest.mark.slow

LIMIT_S = 20
SOON_S = 0.05
"""A time limit that the machine's clock reaches soon."""


class Time(SimClock):
    """The time of the engine, which bodies move; the same argument to every step."""

    def __ironflow_digest__(self) -> bytes:
        return b"time"


@pytest.fixture
def clock(lab: Lab) -> Time:
    lab.clock = Time()
    lab.begin()
    return lab.clock


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Return what bodies wait for that hang."""
    made = threading.Event()
    yield made
    made.set()


class Broken(iron.NotRetryable):
    """An error of a user's library."""


class Takes:
    """How many seconds each attempt takes of a body, by the engine's clock; the last number holds for all further."""

    def __init__(self, world: World, clock: Time, *takes_s: float) -> None:
        self.world, self.clock, self.takes_s = world, clock, takes_s

    def __ironflow_digest__(self) -> bytes:
        return b"takes"

    def spend(self, n: int) -> int:
        self.world.did(n)
        self.clock.advance(self.takes_s[min(self.world.log.count(n), len(self.takes_s)) - 1])
        return n


def ways(takes: Takes, **options: Any) -> dict[str, Callable[[], Any]]:
    """Return flows that call a step with those options in every way there is."""

    @step(name="work", **options)
    def work(n: int) -> int:
        return takes.spend(n)

    @step(name="work", **options)
    async def work_async(n: int) -> int:
        takes.spend(n)
        await asyncio.sleep(0)
        return n

    @flow
    def called() -> int:
        return work(1)

    @flow
    def mapped() -> int:
        return sum(work.map([1], concurrency=1))

    @flow
    def submitted() -> int:
        return work.submit(1).result()

    @flow
    def gathered() -> int:
        return sum(gather(lambda: work(1)))

    @flow
    def in_a_child() -> int:
        return called()

    @flow
    def bridged() -> int:
        return work_async.submit(1).result()

    @flow
    async def awaited() -> int:
        return await work_async(1)

    @flow
    async def mapped_async() -> int:
        return sum(await work_async.map([1], concurrency=1))

    @flow
    async def inline() -> int:
        return work(1)

    @flow
    async def submitted_async() -> int:
        return await work.submit(1)

    flows = [called, mapped, submitted, gathered, in_a_child, bridged, awaited, mapped_async, inline, submitted_async]
    return {each.name.rpartition(".")[2]: lambda each=each: each.start().result() for each in flows}


WAYS = [
    "called", "mapped", "submitted", "gathered", "in_a_child", "bridged", "awaited", "mapped_async", "inline",
    "submitted_async",
]  # fmt: skip


def attempts_of_work() -> list[tuple[str, str]]:
    """Return status and reason of each attempt."""
    frame = iron.attempts()
    frame = frame[frame["name"] == "work"]
    return list(zip(frame["status"], frame["reason"], strict=True))


def assert_history_is_its_rows(lab: Lab) -> None:
    """Every run folded from its events has the rows that are in the journal."""
    with lab.engine.access.current() as reader:
        for run in reader.runs(Select()):
            rows = {(row.step, row.attempt): row for row in reader.steps(Select(run_ids=[run.run_id]))}
            assert folded(reader.events(Select(run_ids=[run.run_id])), run.run_id).steps == rows


@pytest.mark.parametrize("way", WAYS)
def test_an_attempt_that_takes_too_long_is_tried_again(lab: Lab, clock: Time, world: World, way: str) -> None:
    run = ways(Takes(world, clock, 61, 61, 59), timeout_s=60, retries=3)[way]
    assert run() == 1
    assert attempts_of_work() == [("timed_out", "new"), ("timed_out", "timed out"), ("completed", "timed out")]
    assert_history_is_its_rows(lab)


@pytest.mark.parametrize("way", WAYS)
def test_a_step_without_retries_fails_by_its_time(lab: Lab, clock: Time, world: World, way: str) -> None:
    with pytest.raises(StepTimeout, match=r"work\[0\] took longer than its timeout_s of 60 s"):
        ways(Takes(world, clock, 61), timeout_s="1m")[way]()
    assert attempts_of_work() == [("timed_out", "new")]
    assert list(iron.steps(status="timed_out")["step"])[-1:] == ["work[0]"]
    assert iron.runs()["n_failed"].iloc[0] == 1


@pytest.mark.parametrize("way", WAYS)
def test_all_attempts_and_pauses_are_within_the_deadline(lab: Lab, clock: Time, world: World, way: str) -> None:
    retries = iron.Retry(attempts=9, delay_s=20, factor=1)
    takes = Takes(world, clock, 31, 31, 31, 1)  # from 0, 50, 100 and 150 s
    run = ways(takes, timeout_s=30, deadline_s=120, retries=retries)[way]
    with pytest.raises(StepTimeout, match=r"deadline_s of 120 s"):
        run()
    # The third attempt has the 20 s that were left.
    assert attempts_of_work() == [("timed_out", "new"), ("timed_out", "timed out"), ("timed_out", "timed out")]
    assert list(iron.attempts().query("name == 'work'")["duration_s"]) == pytest.approx([31, 31, 31])
    assert_history_is_its_rows(lab)


@pytest.mark.parametrize("way", ["called", "mapped", "submitted", "gathered", "submitted_async"])
def test_the_next_attempt_waits_for_an_abandoned_body(
    lab: Lab, world: World, gate: threading.Event, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    class Hangs(Takes):
        def spend(self, n: int) -> int:
            world.did("begun")
            if len(world.log) == 1:
                gate.wait(LIMIT_S)
            world.did("ended")
            return n

    def released() -> None:
        """Let the abandoned body end once its attempt has timed out."""
        for _ in range(LIMIT_S * 100):
            if world.log and list(iron.attempts()["status"])[-1:] in (["timed_out"], ["retrying"]):
                break
            pause.wait(0.01)
        world.did("timed out")
        gate.set()

    pause = threading.Event()
    caplog.set_level("INFO")
    releasing = threading.Thread(target=released, daemon=True)
    releasing.start()
    retries = iron.Retry(attempts=2, delay_s=0)
    assert ways(Hangs(world, Time()), timeout_s=2, retries=retries)[way]() == 1
    releasing.join(LIMIT_S)
    assert world.log == ["begun", "timed out", "ended", "begun", "ended"]
    assert attempts_of_work() == [("timed_out", "new"), ("completed", "timed out")]
    assert sum("that is discarded" in text for text in caplog.messages) == 1
    assert list(iron.events().query("type == 'StepDiscarded'")["attempt"]) == [1]


def test_attempts_overlap_only_where_that_is_asked_for(lab: Lab, world: World, gate: threading.Event) -> None:
    @step(timeout_s=2, overlap=True, retries=iron.Retry(attempts=2, delay_s=0))
    def work() -> int:
        world.did("begun")
        if len(world.log) == 1:
            gate.wait(LIMIT_S)
        return len(world.log)

    @flow
    def main() -> int:
        return work()

    assert main() == 2
    assert not gate.is_set()


def test_what_runs_once_and_is_out_of_time_may_have_happened(lab: Lab, clock: Time, world: World) -> None:
    @step(name="pay", once=True, timeout_s=10)
    def pay() -> str:
        world.did("paid")
        clock.advance(11 if world.is_broken else 1)
        return "paid"

    @flow
    def main() -> str:
        try:
            return pay()
        except Exception:
            return "not paid"

    for _ in range(2):
        with pytest.raises(OutcomeUnknown, match=r"retry=\["):
            main()
        lab.cell()
    assert world.log == ["paid"]
    assert list(iron.steps()["status"]) == ["unknown"]
    world.is_broken = False
    assert main.last is not None
    assert main.last.resume(retry=[pay]).result() == "paid"


def test_a_body_that_says_so_is_not_tried_again(lab: Lab, world: World) -> None:
    @step(retries=iron.Retry(attempts=5, delay_s=0, on=Exception))
    def work(kind: str) -> None:
        world.did(kind)
        raise {"own": Broken, "plain": iron.NotRetryable}[kind]("no such page") from KeyError(kind)

    @flow
    def main() -> list[str]:
        results = work.map(["own", "plain"], on_error="collect")
        return [type(each).__name__ for each in results]

    assert main() == ["Broken", "NotRetryable"]
    assert sorted(world.log) == ["own", "plain"]


def test_a_timeout_that_the_flow_went_on_after_is_replayed(lab: Lab, clock: Time, world: World) -> None:
    @step(timeout_s=10)
    def slow() -> None:
        world.did("slow")
        clock.advance(11)

    @step
    def after() -> str:
        return "else"

    @flow
    def main() -> str:
        try:
            slow()
        except TimeoutError as error:
            world.did(str(error))
        found = after()
        if world.is_broken:
            world.is_broken = False
            world.die()
        return found

    with pytest.raises(SystemExit):
        main()
    assert main() == "else"
    assert world.log.count("slow") == 1
    assert world.log[1] == world.log[2]


def test_an_error_that_retries_leave_out_is_not_tried_again_for_its_time(lab: Lab, clock: Time, world: World) -> None:
    run = ways(Takes(world, clock, 61), timeout_s=60, retries=iron.Retry(delay_s=0, on=ConnectionError))["called"]
    with pytest.raises(StepTimeout):
        run()
    assert len(world.log) == 1
    run = ways(Takes(world, clock, 61), timeout_s=60, retries=iron.Retry(delay_s=0, on=TimeoutError))["mapped"]
    with pytest.raises(StepTimeout):
        run()
    assert len(world.log) == 4


def test_outside_of_a_flow_and_inside_of_a_step_no_limit_holds(lab: Lab, clock: Time, world: World) -> None:
    @step(timeout_s=1)
    def inner() -> int:
        clock.advance(5)
        return 1

    @step
    def outer() -> int:
        return inner()

    @flow
    def main() -> int:
        return outer()

    assert inner() == 1
    assert main() == 1


def test_a_coroutine_that_swallows_its_cancellation_has_timed_out_all_the_same(lab: Lab, world: World) -> None:
    @step(timeout_s=SOON_S)
    async def work() -> str:
        try:
            await asyncio.sleep(LIMIT_S)
        except asyncio.CancelledError:
            world.did("cancelled")
        return "late"

    @flow
    async def main() -> str:
        try:
            return await work()
        except TimeoutError:
            return "timed out"

    assert main.start().result(timeout_s=LIMIT_S) == "timed out"
    assert world.log == ["cancelled"]
    assert "StepDiscarded" in list(iron.events()["type"])


def test_a_timeout_in_one_task_leaves_the_others_alone(lab: Lab, world: World) -> None:
    @step(timeout_s=SOON_S)
    async def hangs() -> None:
        await asyncio.sleep(LIMIT_S)

    @step
    async def works() -> str:
        await asyncio.sleep(4 * SOON_S)
        return "done"

    @flow
    async def main() -> tuple[str, str]:
        first, second = await asyncio.gather(hangs(), works(), return_exceptions=True)
        return type(first).__name__, str(second)

    assert main.start().result(timeout_s=LIMIT_S) == ("StepTimeout", "done")


def test_the_picture_of_a_flow_tells_limits_and_what_is_out_of_time(lab: Lab, clock: Time) -> None:
    @step(timeout_s=60, deadline_s="1h")
    def slow() -> None:
        clock.advance(61)

    @flow
    def main() -> None:
        slow()

    assert "timeout_s of 60 s, deadline_s of 3600 s" in main.diagram().svg
    with pytest.raises(StepTimeout):
        main()
    assert main.last is not None
    picture = main.last.diagram()
    assert 'data-status="timed_out"' in picture.svg
    assert picture.text.splitlines()[-1].endswith("slow: timed out")
    assert "0 steps done, 1 timed out" in picture.svg
