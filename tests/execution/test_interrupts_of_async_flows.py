"""The stop button in async flows, and in what runs beside the thread that gets it: as in a def flow."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.core.status import RunStatus, StepStatus
from ironflow_nb.execution.registry import REGISTRY
from tests.conftest import Lab

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process")

LIMIT_S = 30.0
"""How long a body that presses the stop button would go on if it were not heard."""


class Bodies:
    """What ran, and whether the next body that may is to press the stop button."""

    def __init__(self) -> None:
        self.counts: Counter[int | str] = Counter()
        self.is_armed = True
        self.is_blocked = False
        self.is_first_cell = True

    def began(self, n: int) -> None:
        self.counts[n] += 1

    def press(self) -> None:
        if self.is_armed:
            self.is_armed = False
            os.kill(os.getpid(), signal.SIGINT)

    def is_heard(self) -> bool:
        return all(session.is_interrupted for session in list(REGISTRY.engine().sessions.values()) if session.is_open)

    def press_and_block(self) -> None:
        """Press it, and end when it was heard: a thread can't be cancelled."""
        self.is_blocked = True
        self.press()
        wait_for(self.is_heard)
        self.is_blocked = False


def wait_for(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


BODIES = Bodies()


@pytest.fixture(autouse=True)
def new_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.BODIES", Bodies())


@step
async def quick(n: int) -> int:
    BODIES.began(n)
    return n


@step
async def stopped(n: int) -> int:
    """Press the stop button, and wait for it."""
    BODIES.began(n)
    if BODIES.is_armed:
        BODIES.press()
        await asyncio.sleep(LIMIT_S)
    return n


@step
async def stopped_and_wrapped(n: int) -> int:
    """Make another error of the cancellation, as libraries do."""
    try:
        BODIES.began(n)
        if BODIES.is_armed:
            BODIES.press()
            await asyncio.sleep(LIMIT_S)
    except asyncio.CancelledError as error:
        raise ConnectionError("the connection was closed") from error
    return n


@step
async def stopped_and_deaf(n: int) -> int:
    """Swallow the cancellation."""
    BODIES.began(n)
    if BODIES.is_armed:
        BODIES.press()
        try:
            await asyncio.sleep(LIMIT_S)
        except asyncio.CancelledError:
            return n
    return n


@step
async def pressing(n: int) -> int:
    """End when the stop button was heard: what was submitted is not cancelled."""
    BODIES.began(n)
    if BODIES.is_armed:
        BODIES.is_blocked = True
        BODIES.press()
        async with asyncio.timeout(LIMIT_S):
            while not BODIES.is_heard():
                await asyncio.sleep(0.001)
        BODIES.is_blocked = False
    return n


@step
def blocking(n: int) -> int:
    """Press the stop button on a thread."""
    BODIES.began(n)
    if BODIES.is_armed:
        BODIES.press_and_block()
    return n


@flow
async def child(n: int) -> int:
    return await quick(n) + await stopped(n + 1)


async def awaited() -> int:
    return await quick(1) + await stopped(2) + await quick(3)


async def gathered() -> int:
    return sum(await asyncio.gather(quick(1), stopped(2), stopped(3))) + await quick(4)


async def grouped() -> int:
    first = await quick(1)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(stopped(n)) for n in (2, 3)]
    return first + sum(task.result() for task in tasks) + await quick(4)


async def in_a_child() -> int:
    return await quick(1) + await child(2) + await quick(4)


async def in_gathered_children() -> int:
    return sum(await asyncio.gather(child(1), child(3))) + await quick(5)


async def submitted() -> int:
    return await quick(1) + await pressing.submit(2) + await quick(3)


async def wrapped_by_the_body() -> int:
    return await quick(1) + await stopped_and_wrapped(2) + await quick(3)


async def wrapped_by_the_flow() -> int:
    try:
        return await quick(1) + await stopped(2) + await quick(3)
    except BaseException as error:
        raise ValueError("stopped") from error


async def swallowed_by_the_body() -> int:
    return await quick(1) + await stopped_and_deaf(2) + await quick(3)


async def collected_by_the_flow() -> int:
    values = await asyncio.gather(stopped(1), stopped(2), return_exceptions=True)
    return sum(value for value in values if isinstance(value, int)) + await quick(3)


async def gathered_with_exceptions() -> int:
    """Take what the stop button made of its calls for their results."""
    results = await asyncio.gather(stopped_and_wrapped(1), quick(2), return_exceptions=True)
    return sum(result for result in results if isinstance(result, int))


async def last_of_its_calls() -> int:
    """Swallow the cancellation, and return."""
    try:
        return await quick(1) + await stopped(2)
    except asyncio.CancelledError:
        return 0


async def in_a_blocking_body() -> int:
    return sum(blocking(n) for n in range(1, 4))


BODIED: list[Callable[[], Coroutine[Any, Any, int]]] = [
    awaited,
    gathered,
    grouped,
    in_a_child,
    in_gathered_children,
    submitted,
    wrapped_by_the_body,
    wrapped_by_the_flow,
    swallowed_by_the_body,
    collected_by_the_flow,
    gathered_with_exceptions,
    last_of_its_calls,
    in_a_blocking_body,
]


def by_asyncio_run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run as a script does: the interrupt cancels the task."""
    return asyncio.run(coroutine)


def by_a_loop_that_is_left(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run as a terminal does: the interrupt is raised in the loop, and what awaits there never goes on."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def notes_of(error: BaseException) -> list[str]:
    """Return the notes of the error and of what it came from."""
    found: list[str] = []
    link: BaseException | None = error
    while link is not None:
        found += getattr(link, "__notes__", [])
        link = link.__cause__ or link.__context__
    return found


async def cell(main: Any) -> int:
    return await main()


@pytest.mark.parametrize("body", BODIED, ids=lambda body: body.__name__)
@pytest.mark.parametrize("run", [by_asyncio_run, by_a_loop_that_is_left], ids=lambda run: run.__name__)
def test_the_stop_button_interrupts_an_async_flow_and_it_continues(
    lab: Lab, body: Any, run: Callable[[Coroutine[Any, Any, Any]], Any]
) -> None:
    main = flow(body)
    with pytest.raises(KeyboardInterrupt) as caught:
        run(cell(main))
    interrupted = main.last.wait(LIMIT_S)
    assert interrupted.status == RunStatus.INTERRUPTED
    assert [note for note in notes_of(caught.value) if "was interrupted" in note and "it continues from there" in note]
    statuses = {iron.get_run(run_id).wait(LIMIT_S).status for run_id in iron.runs()["run_id"]}
    assert statuses <= {RunStatus.INTERRUPTED, RunStatus.COMPLETED}
    assert set(iron.steps()["status"]) <= {StepStatus.INTERRUPTED, StepStatus.COMPLETED}
    done = iron.steps()[lambda steps: steps["status"] == StepStatus.COMPLETED]
    before = {n: count for n, count in BODIES.counts.items() if str(n) in set(map(str, done["output"]))}
    wait_for(lambda: not BODIES.is_blocked)  # a body that looks once more when the run goes on would not see it stopped
    lab.cell()
    assert asyncio.run(cell(main)) == sum(BODIES.counts)
    assert main.last.id == interrupted.id
    assert main.last.status == RunStatus.COMPLETED
    assert {n: BODIES.counts[n] for n in before} == before


def test_children_of_gathered_branches_stop_with_their_parent(lab: Lab) -> None:
    @step
    def work(n: int) -> int:
        BODIES.began(n)
        if n % 100 == 3 and BODIES.is_first_cell:
            BODIES.press_and_block()
        return n

    @flow
    def long(n: int) -> int:
        return sum(work(100 * n + k) for k in range(40))

    @flow
    def main() -> int:
        return sum(iron.gather(*[partial(long, n) for n in range(3)]))

    with pytest.raises(KeyboardInterrupt):
        main()
    for run_id in iron.runs()["run_id"]:
        assert iron.get_run(run_id).wait(LIMIT_S).status == RunStatus.INTERRUPTED
    assert sum(BODIES.counts.values()) <= 3 * 4
    assert set(iron.steps()["status"]) <= {StepStatus.INTERRUPTED, StepStatus.COMPLETED}
    wait_for(lambda: not BODIES.is_blocked)
    lab.cell()
    BODIES.is_first_cell = False
    assert main() == sum(100 * n + k for n in range(3) for k in range(40))
    assert set(iron.runs()["status"]) == {RunStatus.COMPLETED}
    assert len(iron.runs()) == 4


def test_who_hears_of_an_interrupt_decides_what_comes_of_it(lab: Lab) -> None:
    heard = []

    @flow
    async def main() -> int:
        BODIES.press()
        await asyncio.sleep(0.05)
        return await quick(1)

    before = signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    try:
        assert asyncio.run(cell(main)) == 1
        assert signal.getsignal(signal.SIGINT) not in {signal.SIG_DFL, signal.default_int_handler}
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [1]


def test_the_handler_of_before_has_the_word_again_after_an_await(lab: Lab) -> None:
    @flow
    async def main() -> int:
        return await quick(1)

    async def both() -> None:
        handler = signal.getsignal(signal.SIGINT)
        await asyncio.gather(main(), main())
        assert signal.getsignal(signal.SIGINT) == handler

    asyncio.run(both())


def test_a_wait_for_bodies_ends_with_the_stop_button(lab: Lab) -> None:
    @step
    async def long() -> None:
        await asyncio.sleep(LIMIT_S)

    @flow
    async def main() -> None:
        task = asyncio.create_task(long())
        await asyncio.sleep(0)
        assert not task.done()
        asyncio.get_running_loop().call_later(0.05, BODIES.press)
        raise KeyError("bad")

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(cell(main))
    assert main.last.wait(LIMIT_S).status == RunStatus.INTERRUPTED


def test_a_child_that_takes_the_stop_for_a_result_is_not_completed(lab: Lab) -> None:
    @step
    def work(n: int) -> int:
        BODIES.began(n)
        if n == 1 and BODIES.is_first_cell:
            BODIES.press_and_block()
        return n

    @flow
    def deaf(n: int) -> int:
        try:
            return work(n) + work(n + 1)
        except BaseException:
            return 0

    @flow
    def main() -> int:
        return sum(iron.gather(partial(deaf, 1)))

    with pytest.raises(KeyboardInterrupt):
        main()
    for run_id in iron.runs()["run_id"]:
        assert iron.get_run(run_id).wait(LIMIT_S).status == RunStatus.INTERRUPTED
    wait_for(lambda: not BODIES.is_blocked)
    lab.cell()
    BODIES.is_first_cell = False
    assert main() == 3


class Asked:
    """An argument that presses the stop button when it is asked for its state for the `nth` time, and waits for it."""

    def __init__(self, nth: int) -> None:
        self.nth = nth

    def __getstate__(self) -> dict[str, int]:
        BODIES.counts["asked"] += 1
        if BODIES.counts["asked"] == self.nth and BODIES.is_armed:
            BODIES.press_and_block()
        return {"nth": self.nth}


@pytest.mark.parametrize("nth", range(1, 6))
@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async"])
def test_a_child_that_begins_when_its_parent_is_interrupted_stops_too(lab: Lab, nth: int, is_async: bool) -> None:
    @flow
    def child(asked: Asked) -> int:
        return sum(work(n) for n in range(3))

    @flow
    def main() -> int:
        return sum(iron.gather(lambda: child(Asked(nth))))

    @flow
    async def main_async() -> int:
        return await asyncio.to_thread(child, Asked(nth))

    @step
    def work(n: int) -> int:
        BODIES.began(n)
        return n

    called = main_async if is_async else main
    with suppress(KeyboardInterrupt):
        asyncio.run(cell(called)) if is_async else called()
    assert called.last.wait(LIMIT_S).status == (RunStatus.COMPLETED if BODIES.is_armed else RunStatus.INTERRUPTED)
    for run_id in iron.runs()["run_id"]:
        assert iron.get_run(run_id).wait(LIMIT_S).status == called.last.status
    assert BODIES.is_armed or not BODIES.counts[0]
    BODIES.is_armed = False
    wait_for(lambda: not BODIES.is_blocked)
    lab.cell()
    assert (asyncio.run(cell(called)) if is_async else called()) == 3


@pytest.fixture
def no_signal_ends_a_wait() -> Iterator[None]:
    """Let another thread get the signals, so that they end no wait of the main one: as if they came just before it."""
    is_over = threading.Event()
    threading.Thread(target=is_over.wait, daemon=True).start()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    is_over.set()


@pytest.mark.parametrize("run", [by_asyncio_run, by_a_loop_that_is_left], ids=lambda run: run.__name__)
def test_an_interrupt_that_ends_no_wait_of_the_loop_is_heard(
    lab: Lab, run: Callable[[Coroutine[Any, Any, Any]], Any], no_signal_ends_a_wait: None
) -> None:
    main = flow(awaited)
    with pytest.raises(KeyboardInterrupt):
        run(cell(main))
    assert main.last.wait(LIMIT_S).status == RunStatus.INTERRUPTED


def test_an_interrupt_that_ends_no_wait_for_a_run_is_heard(lab: Lab, no_signal_ends_a_wait: None) -> None:
    is_awaited, is_stopped = threading.Event(), threading.Event()

    @step
    def work() -> None:
        is_awaited.wait(LIMIT_S)
        BODIES.press()
        is_stopped.wait(LIMIT_S)

    @flow
    def main() -> None:
        work()

    async def awaiting() -> None:
        is_awaited.set()
        await run

    run = main.start()
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(awaiting())
    assert run.status == RunStatus.RUNNING
    is_stopped.set()
    assert run.wait(LIMIT_S).status == RunStatus.COMPLETED


def test_an_interrupt_that_ends_no_wait_of_a_def_flow_is_heard(lab: Lab, no_signal_ends_a_wait: None) -> None:
    is_stopped = threading.Event()

    @step
    def work() -> int:
        BODIES.press()
        is_stopped.wait(LIMIT_S)
        return 1

    @flow
    def main() -> int:
        return work.submit().result()

    with pytest.raises(KeyboardInterrupt):
        main()
    assert main.last.status == RunStatus.INTERRUPTED
    is_stopped.set()
    lab.cell()
    assert main() == 1
