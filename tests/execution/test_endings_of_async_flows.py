"""An async flow ends when its steps have ended, however it returns, raises or is cancelled meanwhile."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.core.status import RunStatus, StepStatus
from tests.conftest import Lab

LIMIT_S = 10.0
TASKS: list[asyncio.Task[Any]] = []

Ending = Callable[[], Coroutine[Any, Any, Any]]


@step
async def slow(n: int) -> int:
    await asyncio.sleep(0.05)
    return n


@step
async def quick(n: int) -> int:
    return n


@step
async def bad() -> int:
    raise KeyError("bad")


BEGUN = threading.Event()


@step
def blocking(n: int) -> int:
    BEGUN.set()
    threading.Event().wait(0.05)
    return n


@flow
async def child(n: int) -> int:
    return await slow(n)


def beside(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Begin a task that nobody awaits."""
    TASKS.append(asyncio.create_task(coroutine))


async def gathered_with_a_failure() -> None:
    await asyncio.gather(slow(1), bad())


async def gathered_branches_with_a_failure() -> None:
    has_failed = asyncio.Event()

    @step
    async def held() -> None:
        await has_failed.wait()

    async def branch() -> None:
        await held()
        await slow(2)  # nothing begins after the failure

    try:
        await asyncio.gather(branch(), bad())
    finally:
        has_failed.set()


async def gathered_children_with_a_failure() -> None:
    await asyncio.gather(child(1), bad())


async def task_beside_a_failure() -> None:
    beside(slow(1))
    await asyncio.sleep(0.01)
    raise KeyError("bad")


async def submitted_beside_a_failure() -> None:
    slow.submit(1)
    await asyncio.sleep(0.01)
    await bad()


async def mapped_beside_a_failure() -> None:
    slow.map([1], concurrency=1)
    await asyncio.sleep(0.01)
    await bad()


async def thread_beside_a_failure() -> None:
    BEGUN.clear()
    beside(asyncio.to_thread(blocking, 1))
    while not BEGUN.is_set():
        await asyncio.sleep(0.001)
    raise KeyError("bad")


FAILED: list[Ending] = [
    gathered_with_a_failure,
    gathered_branches_with_a_failure,
    gathered_children_with_a_failure,
    task_beside_a_failure,
    submitted_beside_a_failure,
    mapped_beside_a_failure,
    thread_beside_a_failure,
]


def ended(flow: Any) -> iron.Run:
    """Start the flow, and return its run once it has ended."""
    run: iron.Run = flow.start()
    with suppress(KeyError, ExceptionGroup):
        run.result(timeout_s=LIMIT_S)
    return run


def statuses(run: iron.Run) -> dict[str, str]:
    frame = run.steps()
    return dict(zip([step.rpartition(".")[2] for step in frame["step"]], frame["status"], strict=True))


@pytest.mark.parametrize("ending", FAILED, ids=lambda ending: ending.__name__)
def test_a_failed_flow_waits_for_the_step_in_flight_and_begins_nothing_more(lab: Lab, ending: Ending) -> None:
    run = ended(flow(ending))
    assert run.status == RunStatus.FAILED
    found = statuses(run)
    found.pop("bad[0]", None)
    assert list(found.values()) == [StepStatus.COMPLETED]
    assert run.events()["type"].iloc[-1] == "RunFailed"


async def first_of_two() -> int:
    tasks = [asyncio.create_task(slow(1)), asyncio.create_task(quick(2))]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    return 2


async def first_as_completed() -> int:
    for call in asyncio.as_completed([slow(1), quick(2)]):
        await call
        break
    return 2


async def task_that_is_not_awaited() -> int:
    beside(slow(1))
    return await quick(2)


async def task_that_had_no_time_to_begin() -> int:
    beside(slow(1))
    beside(quick(2))
    return 2


async def task_with_two_steps() -> int:
    async def branch() -> None:
        await slow(await quick(2))

    beside(branch())
    return 2


async def shielded_from_a_timeout() -> int:
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(slow(1)), 0.01)
    return await quick(2)


async def child_that_is_not_awaited() -> int:
    beside(child(1))
    return await quick(2)


async def submitted_and_mapped() -> int:
    slow.submit(1)
    quick.map([2])
    return 2


RETURNED: list[Ending] = [
    first_of_two,
    first_as_completed,
    task_that_is_not_awaited,
    task_that_had_no_time_to_begin,
    task_with_two_steps,
    shielded_from_a_timeout,
    child_that_is_not_awaited,
    submitted_and_mapped,
]


@pytest.mark.parametrize("ending", RETURNED, ids=lambda ending: ending.__name__)
def test_a_flow_that_returns_waits_for_what_it_has_called(lab: Lab, ending: Ending) -> None:
    run = flow(ending).start()
    assert run.result(timeout_s=LIMIT_S) == 2
    assert list(statuses(run).values()) == [StepStatus.COMPLETED] * 2


def test_a_task_that_is_not_awaited_is_tried_again_before_the_flow_ends(lab: Lab) -> None:
    tries: list[int] = []

    @step(retries=iron.Retry(attempts=2, delay_s=0.05))
    async def flaky() -> None:
        tries.append(1)
        if len(tries) < 2:
            raise ConnectionError

    @flow
    async def main() -> int:
        beside(flaky())
        return 1

    run = main.start()
    assert run.result(timeout_s=LIMIT_S) == 1
    assert list(statuses(run).values()) == [StepStatus.COMPLETED]


def test_steps_that_are_cancelled_in_a_flow_hold_nobody_up(lab: Lab) -> None:
    @flow
    async def main() -> str:
        with suppress(TimeoutError):
            await asyncio.wait_for(slow(1), 0.01)
        task = asyncio.create_task(slow(2))
        await asyncio.sleep(0.01)
        task.cancel()
        asyncio.create_task(slow(3)).cancel()
        async with asyncio.timeout(None), asyncio.TaskGroup() as group:
            group.create_task(slow(4))
            group.create_task(bad())
        return "never"

    run = ended(main)
    assert run.status == RunStatus.FAILED
    assert set(statuses(run).values()) == {StepStatus.INTERRUPTED, StepStatus.FAILED}


def test_a_thread_beside_a_def_flow_is_waited_for(lab: Lab) -> None:
    @flow
    def main(is_broken: bool) -> int:
        BEGUN.clear()
        threading.Thread(target=iron.bind(lambda: blocking(1))).start()
        assert BEGUN.wait(LIMIT_S)
        if is_broken:
            raise KeyError("bad")
        return 1

    with pytest.raises(KeyError):
        main(is_broken=True)
    assert main.start(is_broken=False).result(timeout_s=LIMIT_S) == 1
    assert (
        list(main.steps()["status"] if hasattr(main, "steps") else iron.steps(flow=main)["status"])
        == [StepStatus.COMPLETED] * 2
    )


def test_an_async_flow_says_for_which_body_its_end_waits(
    lab: Lab, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ironflow_nb.execution.runs.finish.SAY_AFTER_S", 0.01)

    def is_said() -> bool:
        return any("waiting for" in record.message and "held[0]" in record.message for record in caplog.records)

    @step
    async def held() -> None:
        while not is_said():
            await asyncio.sleep(0.01)

    @flow
    async def main() -> None:
        await asyncio.gather(held(), bad())

    with caplog.at_level(logging.INFO, "ironflow_nb"):
        assert ended(main).status == RunStatus.FAILED


def test_an_interrupt_ends_the_waiting_for_bodies(lab: Lab) -> None:
    @step
    async def endless() -> None:
        await asyncio.sleep(600)

    @flow
    async def main() -> None:
        beside(endless())
        await asyncio.sleep(0)
        raise KeyError("bad")

    async def cell() -> None:
        await asyncio.wait_for(main(), 0.1)

    with pytest.raises(TimeoutError):
        asyncio.run(cell())
    assert main.last.wait(LIMIT_S).status == RunStatus.INTERRUPTED


def test_a_map_whose_failure_leaves_a_retry_behind_is_not_waited_for(lab: Lab) -> None:
    @step(retries=iron.Retry(attempts=3, delay_s=0.2, on=[ConnectionError]))
    async def picky(n: int) -> None:
        await asyncio.sleep(0.05 * n)
        raise ConnectionError(n) if n == 0 else KeyError(n)

    @flow
    async def main() -> None:
        await picky.map([0, 1], concurrency=2)

    run = main.start()
    with pytest.raises(KeyError):
        run.result(timeout_s=LIMIT_S)
    assert run.status == RunStatus.FAILED


async def calls_for_ever() -> int:
    async def pulse() -> None:
        while True:
            await slow(1)

    beside(pulse())
    return await quick(2)


@step
async def shaky() -> None:
    await asyncio.sleep(0.001)
    raise KeyError("shaky")


async def calls_for_ever_whatever_they_raise() -> int:
    async def pulse() -> None:
        while True:
            with suppress(Exception):
                await shaky()

    beside(pulse())
    return await quick(2)


async def submits_for_ever() -> int:
    async def pulse() -> None:
        while True:
            await slow.submit(1)

    beside(pulse())
    return await quick(2)


async def maps_for_ever() -> int:
    async def pulse() -> None:
        while True:
            await slow.map([1, 2])

    beside(pulse())
    return await quick(2)


async def begins_children_for_ever() -> int:
    async def pulse() -> None:
        while True:
            await child(1)

    beside(pulse())
    return await quick(2)


ENDLESS: list[Ending] = [
    calls_for_ever,
    calls_for_ever_whatever_they_raise,
    submits_for_ever,
    maps_for_ever,
    begins_children_for_ever,
]


@pytest.mark.parametrize("ending", ENDLESS, ids=lambda ending: ending.__name__)
def test_a_task_that_is_left_behind_and_calls_steps_for_ever_is_cancelled_with_a_line(
    lab: Lab, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, ending: Ending
) -> None:
    monkeypatch.setattr("ironflow_nb.execution.runs.finish.SAY_AFTER_S", 0.01)
    main = flow(ending)
    with caplog.at_level(logging.INFO, "ironflow_nb"):
        run = main.start()
        assert run.result(timeout_s=LIMIT_S) == 2
    assert run.status == RunStatus.COMPLETED
    assert set(run.steps()["status"]) <= {StepStatus.COMPLETED, StepStatus.FAILED}
    lines = [line for line in caplog.messages if "has returned" in line]
    assert len(lines) == 1
    assert "pulse, which nobody awaits, is cancelled" in lines[0] or "tried again" in lines[0]
    assert TASKS[-1].cancelled()


def test_a_failed_flow_cancels_a_task_that_calls_steps_whatever_they_raise(lab: Lab) -> None:
    @flow
    async def main() -> None:
        await calls_for_ever_whatever_they_raise()
        await bad()

    run = ended(main)
    assert run.status == RunStatus.FAILED
    assert flow(first_of_two).start().result(timeout_s=LIMIT_S) == 2


def test_a_long_step_of_a_task_that_is_left_behind_is_waited_for(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ironflow_nb.execution.runs.finish.SAY_AFTER_S", 0.001)

    @flow
    async def main() -> int:
        beside(slow(1))
        slow.map(range(20), concurrency=2)
        return 2

    run = main.start()
    assert run.result(timeout_s=LIMIT_S) == 2
    assert list(run.steps()["status"]) == [StepStatus.COMPLETED] * 21
