"""Steps that are tried again: durably, in their time, and under every way to call them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.core.retry import Retry
from tests.cells import World
from tests.conftest import Lab

pytestmark = pytest.mark.slow


def test_the_pauses_double_and_are_never_longer_than_a_minute() -> None:
    assert [Retry().delay_after(n) for n in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert Retry().delay_after(10_000) == 60


def test_async_retries_wait_in_the_time_of_the_engine(lab: Lab) -> None:
    clock = lab.simulate_time()
    begun_at = clock.now()
    tries: list[int] = []

    @step(retries=Retry(attempts=3, delay_s=600, max_delay_s=600))
    async def work(n: int) -> int:
        tries.append(n)
        if tries.count(n) < 3:
            raise OSError(n)
        return n

    @flow
    async def awaited() -> int:
        return await work(1) + sum(await work.map([2, 3])) + await work.submit(4)

    assert asyncio.run(awaited()) == 10  # type: ignore[arg-type]
    assert clock.now() - begun_at > 600e6


def flows(world: World) -> dict[str, Callable[[], Any]]:
    """Return flows that call a step, which fails as often and for what the world's plan says, in every way there is."""

    @step(retries=3)
    def work(n: int) -> int:
        world.did(n)
        if n in world.plan[1:] and world.log.count(n) <= world.plan[0]:
            raise OSError(n)
        return n

    @step(retries=3)
    async def work_async(n: int) -> int:
        world.did(n)
        if n in world.plan[1:] and world.log.count(n) <= world.plan[0]:
            raise OSError(n)
        return n

    @flow
    def called() -> list[int]:
        return [work(1), work(2)]

    @flow
    def mapped() -> list[int]:
        return list(work.map([1, 2]))

    @flow
    def submitted() -> list[int]:
        return [future.result() for future in [work.submit(1), work.submit(2)]]

    @flow
    async def gathered() -> list[int]:
        return list(await asyncio.gather(work_async(1), work_async(2)))

    @flow
    async def mapped_async() -> list[int]:
        return await work_async.map([1, 2])

    return {
        "called": called, "mapped": mapped, "submitted": submitted,
        "gathered": lambda: gathered.start().result(), "mapped async": lambda: mapped_async.start().result(),
    }  # fmt: skip


WAYS = ["called", "mapped", "submitted", "gathered", "mapped async"]


@pytest.mark.parametrize("way", WAYS[:3])
def test_a_step_that_fails_a_few_times_is_tried_again_until_it_returns(lab: Lab, world: World, way: str) -> None:
    clock = lab.simulate_time()
    world.plan = [2, 1, 2]
    began = clock.now()
    assert flows(world)[way]() == [1, 2]
    assert clock.now() - began >= 3e6
    attempts = iron.attempts()
    assert list(attempts["attempt"]) == [1, 2, 3] * 2
    assert list(attempts["status"]) == ["failed", "failed", "completed"] * 2
    assert list(attempts["reason"]) == ["new", "retry", "retry"] * 2
    assert list(iron.steps()["status"]) == ["completed"] * 2
    of_first = attempts[attempts["index"] == 0]
    pauses = of_first["started_at"].diff().dt.total_seconds()[1:]
    assert [round(pause) for pause in pauses] >= [1, 2]


@pytest.mark.parametrize("way", WAYS)
def test_after_the_last_retry_the_failure_is_the_flows(lab: Lab, world: World, way: str) -> None:
    if "gathered" not in way and "async" not in way:
        lab.simulate_time()
    if "gathered" in way or "async" in way:  # these wait in real time
        world.plan = [1, 1, 2]
        assert flows(world)[way]() == [1, 2]
        assert sorted(world.log) == [1, 1, 2, 2]
        return
    world.plan = [9, 1]
    with pytest.raises(OSError, match="1"):
        flows(world)[way]()
    assert world.log.count(1) == 4
    first = iron.attempts().query("index == 0")
    assert list(first["status"]) == ["failed"] * 4


def test_a_run_that_continues_waits_for_what_is_left_and_has_all_retries_again(lab: Lab, world: World) -> None:
    clock = lab.simulate_time()
    world.plan = [clock.now]

    @step(retries=1)
    def work() -> str:
        world.did(world.plan[0]())
        if len(world.log) == 2:
            world.die()
        if len(world.log) < 4:
            raise OSError
        return "done"

    @flow
    def main() -> str:
        return work()

    with pytest.raises(SystemExit):
        main()
    assert main() == "done"
    attempts = iron.attempts()
    # The attempt that died had not been recorded: its number is taken again.
    assert list(attempts["attempt"]) == [1, 2, 3]
    assert list(attempts["status"]) == ["failed", "failed", "completed"]
    assert len(world.log) == 4
    assert list(iron.runs()["status"]) == ["completed"]


def test_a_process_that_dies_while_a_retry_is_due_waits_in_the_next_one(lab: Lab, world: World) -> None:
    clock = lab.simulate_time()
    world.plan = [clock.now]

    @step(retries=1)
    def work() -> str:
        world.did(world.plan[0]())
        if len(world.log) == 1:
            raise OSError
        return "done"

    @flow
    def main() -> str:
        return work()

    real_wait = clock.wait
    clock.wait = lambda *_args, **_options: world.die()  # type: ignore[method-assign]
    with pytest.raises(SystemExit):
        main()
    clock.wait = real_wait  # type: ignore[method-assign]
    clock.advance(0.25)
    assert list(iron.steps()["status"]) == ["interrupted"]
    assert main() == "done"
    assert world.log[1] - world.log[0] == 1_000_000
    assert list(iron.attempts()["reason"]) == ["new", "retry"]
    assert list(iron.attempts()["status"]) == ["failed", "completed"]


def test_a_retry_that_is_due_shows_as_retrying(lab: Lab, world: World) -> None:
    @step(retries=1)
    def work() -> int:
        world.did("work")
        if len(world.log) == 1:
            raise OSError
        return 1

    @flow
    def main() -> int:
        return work()

    run = main.start()
    while len(run.events().query("type == 'StepRetryScheduled'")) == 0:
        pass
    assert list(run.steps()["status"]) == ["retrying"]
    assert "retrying" in run._repr_mimebundle_()["text/plain"]
    assert run.result(timeout_s=20) == 1


def test_a_failure_of_our_own_is_not_tried_again(lab: Lab, world: World) -> None:
    @step(retries=5)
    def work() -> object:
        world.did("work")
        return (n for n in range(3))

    @flow
    def main() -> object:
        return work()

    with pytest.raises(iron.errors.ValueNotStorable):
        main()
    assert world.log == ["work"]


@pytest.mark.parametrize("retries", [-1, 1.5, True, "3"])
def test_retries_are_a_whole_number_from_zero(retries: Any) -> None:
    with pytest.raises(ValueError, match="retries is how often"):
        step(retries=retries)(lambda_named)


def lambda_named() -> None: ...


def test_a_step_that_is_made_by_a_plain_call_has_its_retries_too(lab: Lab) -> None:
    lab.simulate_time()
    tries: list[int] = []

    def body(n: int) -> int:
        tries.append(n)
        if len(tries) == 1:
            raise ConnectionError
        return n

    once_more = iron.step(body, name="once more", retries=1)

    @flow
    def main() -> int:
        return once_more(7)

    assert main() == 7
    assert tries == [7, 7]


# -- iron.Retry --------------------------------------------------------------------------------------------------


def test_a_retry_says_how_often_and_after_how_long(lab: Lab) -> None:
    clock = lab.simulate_time()
    tried_at: list[int] = []

    @step(retries=iron.Retry(attempts=4, delay_s=0.5, factor=3, max_delay_s=2))
    def work() -> int:
        tried_at.append(clock.now())
        if len(tried_at) < 4:
            raise OSError("not yet")
        return len(tried_at)

    @flow
    def main() -> int:
        return work()

    assert main() == 4
    waits_s = [(after - before) / 1e6 for before, after in pairwise(tried_at)]
    assert waits_s == pytest.approx([0.5, 1.5, 2.0], abs=0.01)


def test_only_the_named_errors_are_worth_another_try(lab: Lab) -> None:
    tried: list[int] = []

    @step(retries=iron.Retry(attempts=3, delay_s=0, on=(OSError, TimeoutError)))
    def work() -> None:
        tried.append(1)
        raise ValueError("never mind")

    @flow
    def main() -> None:
        work()

    with pytest.raises(ValueError, match="never mind"):
        main()
    assert tried == [1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts": 0}, {"attempts": 1.5}, {"attempts": True}, {"attempts": 10**6}, {"delay_s": -1},
        {"delay_s": float("nan")}, {"max_delay_s": float("inf")}, {"factor": 0.5}, {"jitter": 2}, {"delay_s": "1"},
        {"delay_s": None},
    ],
)  # fmt: skip
def test_a_retry_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        iron.Retry(**wrong)


def test_a_step_that_runs_once_is_tried_again_only_after_errors_that_are_named() -> None:
    with pytest.raises(ValueError, match="once=True"):
        step(once=True, retries=iron.Retry())(abs)
    paying = step(once=True, retries=iron.Retry(on=ConnectionRefusedError), name="pay")(lambda: 1)
    assert paying.spec.retry.attempts == 3


def test_jitter_only_ever_shortens_the_wait() -> None:
    retry = iron.Retry(delay_s=10, jitter=0.5)
    assert [retry.delay_after(1, chance) for chance in (0.0, 0.5, 1.0)] == [10.0, 7.5, 5.0]


@pytest.mark.parametrize("is_beside", [False, True])
def test_a_failure_is_not_tried_again_if_the_question_whether_to_fails(lab: Lab, is_beside: bool) -> None:
    @step(retries=Retry(on=lambda error: bool(error.args[7])))
    def work() -> None:
        raise ConnectionError("no line")

    @flow
    def main() -> None:
        work.submit().result() if is_beside else work()

    with pytest.raises(ConnectionError, match="no line") as caught:
        main.start().result(10)
    assert any("not tried again" in note and "IndexError" in note for note in caught.value.__notes__)
    assert main.last.attempts()["status"].tolist() == ["failed"]
