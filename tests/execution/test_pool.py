"""The threads of bodies: each job is begun, whenever it is given, and many submitted calls share some threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.execution.system.threads import IDLE_S, N_LIMITED, ThreadPool
from ironflow_nb.testing.simulator import SimProcess, Simulator
from tests.cells import World
from tests.conftest import Lab

N_JOBS = 6
N_CALLS = 8 * N_LIMITED


def played(seed: str, body: Callable[[SimProcess, ThreadPool], None]) -> None:
    simulator = Simulator(seed)
    simulator.start(lambda process: body(process, ThreadPool(process)))
    simulator.play()


@pytest.mark.parametrize("part", range(10))
def test_a_job_that_is_given_when_its_thread_gives_up_is_begun(part: int) -> None:
    done: list[int] = []

    def body(process: SimProcess, pool: ThreadPool) -> None:
        for n in range(N_JOBS):
            pool.submit(lambda n=n: done.append(n), is_limited=n % 2 == 0)  # type: ignore[misc]
            process.sleep(IDLE_S)
        process.sleep(IDLE_S)
        assert pool.n_unfinished == 0

    for number in range(40):
        done.clear()
        played(f"{part} {number}", body)
        assert sorted(done) == [*range(N_JOBS)]


def test_limited_jobs_wait_for_their_turn_and_others_do_not() -> None:
    running: set[int] = set()
    most: list[int] = []
    done: list[int] = []

    def body(process: SimProcess, pool: ThreadPool) -> None:
        def job(n: int) -> Callable[[], None]:
            def run() -> None:
                running.add(n)
                most.append(len(running))
                process.sleep(1.0)
                running.remove(n)
                done.append(n)

            return run

        for n in range(3 * N_LIMITED):
            pool.submit(job(n), is_limited=True)
        process.sleep(5.0)
        assert max(most) == N_LIMITED
        for n in range(2 * N_LIMITED):
            pool.submit(job(n), is_limited=False)
        process.sleep(5.0)
        assert pool.n_unfinished == 0

    played("a seed", body)
    assert max(most) == 2 * N_LIMITED
    assert len(done) == 5 * N_LIMITED


@pytest.mark.parametrize("part", range(4))
def test_jobs_that_come_while_others_end_take_no_thread_more(part: int) -> None:
    done: list[int] = []

    def body(process: SimProcess, pool: ThreadPool) -> None:
        for n in range(3 * N_LIMITED):
            pool.submit(lambda n=n: process.sleep(0.1) or done.append(n), is_limited=True)  # type: ignore[misc,func-returns-value]
            process.sleep(0.1 / N_LIMITED)
        process.sleep(5.0)
        assert pool.n_unfinished == 0
        assert pool._n_spawned <= N_LIMITED

    for number in range(5):
        done.clear()
        played(f"{part} {number}", body)
        assert sorted(done) == [*range(3 * N_LIMITED)]


def test_hundreds_of_submitted_calls_take_some_threads(lab: Lab, world: World) -> None:
    most: list[int] = []

    @step
    def work(n: int) -> int:
        most.append(threading.active_count())
        time.sleep(0.1)
        return n

    @flow
    def main() -> int:
        return sum(future.result() for future in [work.submit(n) for n in range(N_CALLS)])

    before = threading.active_count()
    assert main() == sum(range(N_CALLS))
    assert len(most) == N_CALLS
    assert max(most) <= before + N_LIMITED + 2


@pytest.mark.parametrize("is_async_flow", [False, True])
def test_hundreds_of_submitted_async_calls_take_turns(lab: Lab, world: World, *, is_async_flow: bool) -> None:
    @step(retries=iron.Retry(attempts=2, delay_s=0))
    async def work(n: int) -> int:
        is_first = (n, 1) not in world.log
        world.did(n, 1)
        await asyncio.sleep(0)
        while not world.plan:
            await asyncio.sleep(0.001)
        world.did(n, -1)
        if is_first and n % 7 == 0:
            raise ConnectionError
        return n

    def submitted() -> list[Any]:
        futures = [work.submit(n) for n in range(N_CALLS)]
        world.plan.append("all are submitted")
        return futures

    @flow
    def in_thread() -> int:
        return sum(future.result() for future in submitted())

    @flow
    async def on_loop() -> int:
        return sum([await future for future in submitted()])

    main: Any = on_loop if is_async_flow else in_thread
    assert main.start().result() == sum(range(N_CALLS))
    assert len(world.log) > 2 * N_CALLS
    assert max(accumulate(change for _, change in world.log)) <= N_LIMITED


@pytest.mark.parametrize("ending", [OSError, SystemExit, KeyboardInterrupt])
def test_a_call_that_ends_badly_gives_its_turn_to_the_next(lab: Lab, ending: type[BaseException]) -> None:
    @step
    async def work(n: int) -> int:
        await asyncio.sleep(0)
        if n % 2 == 0:
            raise ending(n)
        return n

    @flow
    def main() -> int:
        n_ended = 0
        for future in [work.submit(n) for n in range(N_CALLS)]:
            try:
                future.result()
            except ending:
                n_ended += 1
        return n_ended

    assert main() == N_CALLS / 2


@pytest.mark.parametrize("n_deep", [1, 3])
def test_submitted_bodies_that_submit_and_wait_end(lab: Lab, n_deep: int) -> None:
    """Inside a step another one is a plain call, so a body waits for nothing that is queued behind it."""

    @step
    def work(n: int, depth: int) -> int:
        if depth == 0:
            return n
        return sum(future.result() for future in [work.submit(n, depth - 1) for _ in range(2)])

    @flow
    def main() -> int:
        return sum(future.result(timeout_s=60) for future in [work.submit(n, n_deep) for n in range(2 * N_LIMITED)])

    assert main() == 2**n_deep * sum(range(2 * N_LIMITED))
    assert set(iron.attempts()["status"]) == {"completed"}


def test_branches_and_children_that_submit_and_wait_end(lab: Lab) -> None:
    @step
    def work(n: int) -> int:
        return n

    @flow
    def child(n: int) -> int:
        return sum(future.result(timeout_s=60) for future in [work.submit(n), work.submit(-n), work.submit(1)])

    @flow
    def main() -> int:
        branches = [lambda n=n: child(n) for n in range(2 * N_LIMITED)]
        return sum(iron.gather(*branches))

    assert main() == 2 * N_LIMITED


def test_calls_that_wait_for_one_result_leave_the_threads_to_it(lab: Lab, world: World) -> None:
    """The first call fails, and its second attempt comes when more equal calls wait than bodies may run at once."""

    @step(retries=iron.Retry(attempts=2, delay_s=0.2), cache=True)
    def work() -> str:
        world.did("work")
        if len(world.log) == 1:
            raise ConnectionError
        return "done"

    @flow
    def main() -> list[str]:
        return [future.result(timeout_s=60) for future in [work.submit() for _ in range(2 * N_LIMITED)]]

    assert set(main()) == {"done"}
    assert world.log == ["work", "work"]
    assert set(iron.runs()["status"]) == {"completed"}
