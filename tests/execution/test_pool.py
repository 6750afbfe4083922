"""The threads of bodies: each job is begun, whenever it is given, and many submitted calls share some threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

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
