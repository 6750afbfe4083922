"""Bodies that were running at an interrupt, and end when the run has been continued in the same process."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, gather, step
from tests.cells import World
from tests.conftest import Lab

N_BODIES = 3


class Meeting:
    """Where the bodies of the first stretch stay until the second one lets them go, and sees them committed."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.n_begun = threading.Semaphore(0)
        self.is_over = threading.Event()
        self.is_first = True

    def __ironflow_digest__(self) -> bytes:
        return b"the meeting"

    def body(self, n: int) -> int:
        self.world.did(n)
        self.n_begun.release()
        assert self.is_over.wait(20)
        return n

    def wait_until_all_run(self, n_bodies: int = N_BODIES) -> None:
        for _ in range(n_bodies):
            assert self.n_begun.acquire(timeout=20)
        self.is_first = False

    def let_go(self) -> None:
        """Let the bodies end, and return when their results are committed: by nobody who waits for them."""
        self.is_over.set()
        pause = threading.Event()
        for _ in range(2000):
            done = iron.steps(status="completed")
            if len(done[done["name"].str.endswith("work")]) == N_BODIES:
                return
            pause.wait(0.01)
        raise AssertionError("the results of the earlier stretch are not committed")

    def interrupt(self) -> None:
        """Interrupt the main thread as soon as all bodies run, from a branch of the flow."""
        if self.is_first:
            self.wait_until_all_run()
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def meeting(world: World) -> Iterator[Meeting]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    made = Meeting(world)
    yield made
    made.is_over.set()
    signal.signal(signal.SIGINT, before)


def flow_of(way: str, meeting: Meeting, *, once: bool) -> iron.Flow[[], Any]:
    @step(name="work", once=once)
    def work(n: int) -> int:
        return meeting.body(n)

    @step(name="work", once=once)
    async def work_async(n: int) -> int:
        return await asyncio.to_thread(meeting.body, n)

    @flow(name="child")
    def child(n: int) -> int:
        return work(n)

    def stretch(begin: Callable[[], Callable[[], int]]) -> int:
        """Begin the bodies and be interrupted; or be the next stretch, for which they end before it asks for them."""
        if not meeting.is_first:
            meeting.let_go()
            return begin()()
        result = begin()
        meeting.wait_until_all_run()
        raise KeyboardInterrupt(result)

    def side_by_side(function: Callable[[int], int]) -> int:
        if not meeting.is_first:
            meeting.let_go()
        return sum(gather(*(partial(function, n) for n in range(N_BODIES)), lambda: meeting.interrupt() or 0))

    @flow(name="main")
    def mapped() -> int:
        return stretch(lambda: partial(sum, work.map(range(N_BODIES))))

    @flow(name="main")
    def submitted() -> int:
        def begin() -> Callable[[], int]:
            futures = [work.submit(n) for n in range(N_BODIES)]
            return lambda: sum(future.result() for future in futures)

        return stretch(begin)

    @flow(name="main")
    def gathered() -> int:
        return side_by_side(work)

    @flow(name="main")
    def children() -> int:
        return side_by_side(child)

    @flow(name="main")
    async def mapped_async() -> int:
        if not meeting.is_first:
            await asyncio.to_thread(meeting.let_go)
        results = work_async.map(range(N_BODIES))
        if meeting.is_first:
            await asyncio.to_thread(meeting.wait_until_all_run)
            raise asyncio.CancelledError
        return sum(await results)

    @flow(name="main")
    async def threads() -> int:
        if not meeting.is_first:
            await asyncio.to_thread(meeting.let_go)
        called = asyncio.gather(*(asyncio.to_thread(work, n) for n in range(N_BODIES)))
        if meeting.is_first:
            await asyncio.to_thread(meeting.wait_until_all_run)
            raise asyncio.CancelledError
        return sum(await called)

    flows: dict[str, iron.Flow[[], Any]] = {
        "map": mapped, "submit": submitted, "gather": gathered, "children": children, "async map": mapped_async,
        "async threads": threads,
    }  # fmt: skip
    return flows[way]


def interrupted(main: iron.Flow[[], Any], meeting: Meeting, way: str) -> None:
    if "async" in way:
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(awaited(main))
    else:
        with pytest.raises(KeyboardInterrupt):
            main()
    assert not meeting.is_over.is_set()


async def awaited(main: iron.Flow[[], Any]) -> Any:
    return await main()


@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize("way", ["map", "submit", "gather", "children", "async map", "async threads"])
def test_a_body_that_ends_before_the_next_stretch_asks_for_it_is_not_run_again(
    lab: Lab, world: World, meeting: Meeting, way: str, once: bool
) -> None:
    main = flow_of(way, meeting, once=once)
    interrupted(main, meeting, way)
    lab.cell()
    result = asyncio.run(awaited(main)) if "async" in way else main()
    assert result == sum(range(N_BODIES))
    assert sorted(world.log) == [*range(N_BODIES)]
    assert set(iron.attempts().query("not name.str.endswith('child')")["attempt"]) == {1}
    assert set(iron.runs()["status"]) == {"completed"}


def edited(meeting: Meeting, *, is_edited: bool) -> iron.Flow[[], int]:
    if is_edited:

        @step(name="work")
        def work(n: int) -> int:
            meeting.world.did("edited")
            return 10 * n
    else:

        @step(name="work")
        def work(n: int) -> int:
            return meeting.body(n)

    @flow(name="main")
    def main() -> int:
        future = work.submit(2)
        if meeting.is_first:
            meeting.wait_until_all_run(1)
            raise KeyboardInterrupt
        result = future.result()
        meeting.is_over.set()  # the run waits for the body of old code before it ends
        return result

    return main


def test_a_body_of_old_code_that_still_runs_is_no_answer_to_new_code(lab: Lab, world: World, meeting: Meeting) -> None:
    with pytest.raises(KeyboardInterrupt):
        edited(meeting, is_edited=False)()
    lab.cell()
    assert edited(meeting, is_edited=True)() == 20
    assert world.log == [2, "edited"]
    attempts = iron.attempts()
    assert attempts[["attempt", "status"]].to_numpy().tolist() == [[1, "completed"], [2, "completed"]]
    assert len(iron.runs()) == 1


@pytest.mark.parametrize("is_joined", [True, False])
def test_a_failure_after_the_interrupt_is_tried_again_once(
    lab: Lab, world: World, meeting: Meeting, is_joined: bool
) -> None:
    clock = lab.simulate_time()

    @step(retries=1)
    def flaky() -> str:
        world.did("flaky")
        if len(world.log) == 1:
            meeting.n_begun.release()
            assert meeting.is_over.wait(20)
            raise ConnectionError
        return "at last"

    @flow
    def main() -> str:
        if meeting.is_first:
            flaky.submit()
            assert meeting.n_begun.acquire(timeout=20)
            meeting.is_first = False
            raise KeyboardInterrupt
        if is_joined:
            future = flaky.submit()
        meeting.is_over.set()
        while iron.steps()["status"].tolist() != ["retrying"]:
            clock.wait(lab.engine.threads.wakeup(), 0.01)
        return future.result() if is_joined else flaky.submit().result()

    with pytest.raises(KeyboardInterrupt):
        main()
    lab.cell()
    assert main() == "at last"
    assert world.log == ["flaky", "flaky"]
    assert iron.attempts()["status"].tolist() == ["failed", "completed"]
