"""Errors that meet the engine's own threads: they go on, say so once, and `doctor` shows it."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.core.status import RunStatus, StepStatus
from ironflow_nb.execution import Session
from tests.conftest import Lab

LIMIT_S = 10.0
ERRORS = [MemoryError("no memory"), RecursionError("too deep"), RuntimeError("can't start new thread")]


@step
def work(n: int) -> int:
    return n


@step
async def async_work(n: int) -> int:
    return n


@flow
def mapped() -> int:
    return sum(work.map(range(6), concurrency=3))


@flow
def one_by_one() -> int:
    return sum(map(work, range(4)))


@flow
async def awaited() -> int:
    return sum(await async_work.map(range(3))) + sum([await async_work(n) for n in range(3, 6)])


class Disturbed:
    """Lets a function of an object raise at some of its calls."""

    def __init__(self, owner: Any, name: str, error: BaseException, is_struck: Callable[[int], bool]) -> None:
        self.n_calls = 0
        self.n_struck = 0
        self._function = getattr(owner, name)
        self._error = error
        self._is_struck = is_struck
        setattr(owner, name, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.n_calls += 1
        if self._is_struck(self.n_calls):
            self.n_struck += 1
            raise self._error
        return self._function(*args, **kwargs)


@step
async def leave(error: BaseException) -> None:
    raise error


@step
def leave_thread(error: BaseException) -> None:
    raise error


@flow
async def left_by_a_child(error: BaseException) -> None:
    await leave(error)


async def left_by_a_step(error: BaseException) -> None:
    await leave(error)


async def left_by_a_gathered_step(error: BaseException) -> None:
    await asyncio.gather(async_work(1), leave(error))


async def left_by_a_task_of_a_group(error: BaseException) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(leave(error))


async def left_by_a_submitted_step(error: BaseException) -> None:
    await leave.submit(error)


async def left_by_a_mapped_step(error: BaseException) -> None:
    await leave.map([error], on_error="collect")


async def left_by_a_thread_of_the_pool(error: BaseException) -> None:
    await leave_thread.submit(error)


async def left_by_an_awaited_child(error: BaseException) -> None:
    await left_by_a_child(error)


async def left_by_the_flow_itself(error: BaseException) -> None:
    raise error


LEFT: list[Any] = [
    left_by_a_step,
    left_by_a_gathered_step,
    left_by_a_task_of_a_group,
    left_by_a_submitted_step,
    left_by_a_mapped_step,
    left_by_a_thread_of_the_pool,
    left_by_an_awaited_child,
    left_by_the_flow_itself,
]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
@pytest.mark.parametrize("body", LEFT, ids=lambda body: body.__name__)
def test_an_exit_in_an_async_flow_interrupts_its_run_alone(lab: Lab, body: Any, kind: type[BaseException]) -> None:
    other = awaited.start()
    main = flow(body)
    run = main.start(kind("bye"))
    with pytest.raises(iron.RunInterrupted):
        run.result(timeout_s=LIMIT_S)
    assert run.status == RunStatus.INTERRUPTED
    assert set(run.steps()["status"]) <= {StepStatus.INTERRUPTED, StepStatus.COMPLETED}
    assert other.result(timeout_s=LIMIT_S) == 15
    lab.cell()
    assert awaited.start().result(timeout_s=LIMIT_S) == 15


def test_an_exit_in_an_async_flow_reaches_who_awaits_it(lab: Lab) -> None:
    main = flow(left_by_a_gathered_step)

    async def cell() -> None:
        await main(SystemExit(3))

    with pytest.raises(SystemExit) as caught:
        asyncio.run(cell())
    assert caught.value.code == 3
    assert any("interrupted" in note for note in caught.value.__notes__)


def test_the_loop_goes_on_when_a_flow_stops_it(lab: Lab) -> None:
    @flow
    async def main() -> int:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.01)
        return await async_work(1)

    assert main.start().result(timeout_s=LIMIT_S) == 1


def test_the_loop_is_closed_although_it_is_stopped_once_more_while_its_tasks_end(lab: Lab) -> None:
    loops: list[asyncio.AbstractEventLoop] = []
    is_cancelled = threading.Event()

    @flow
    async def main() -> None:
        loop: Any = lab.engine._loop
        loops.append(loop.loop)
        loop.close()  # schedules a stop, which comes after this one
        loop.loop.stop()
        try:
            await asyncio.sleep(LIMIT_S)
        finally:
            is_cancelled.set()

    main.start()
    assert is_cancelled.wait(LIMIT_S)
    ends_at_s = time.monotonic() + LIMIT_S
    while not loops[0].is_closed():
        assert time.monotonic() < ends_at_s
        threading.Event().wait(0.01)


def troubles() -> list[str]:
    report = iron.doctor()
    return list(report[report["what"] == "threads"]["found"])


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("flow", [mapped, one_by_one, awaited], ids=lambda flow: flow.name.rpartition(".")[2])
def test_a_commit_that_meets_a_passing_error_is_tried_again(
    lab: Lab, flow: Any, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    expected = flow.start().result(timeout_s=LIMIT_S)
    lab.cell()
    disturbed = Disturbed(lab.engine.journal, "append", error, lambda n_call: n_call == 1)
    with caplog.at_level(logging.WARNING, "ironflow_nb"):
        run = flow.start()
        assert run.result(timeout_s=LIMIT_S) == expected
    assert disturbed.n_struck == 1
    said = [record for record in caplog.records if type(error).__name__ in record.getMessage()]
    assert len(said) == 1
    assert any(type(error).__name__ in found for found in troubles())


@pytest.mark.parametrize("flow", [mapped, one_by_one, awaited], ids=lambda flow: flow.name.rpartition(".")[2])
def test_a_commit_that_never_succeeds_fails_the_run_and_nobody_waits_for_ever(lab: Lab, flow: Any) -> None:
    expected = flow.start().result(timeout_s=LIMIT_S)
    lab.cell()
    append = lab.engine.journal.append
    Disturbed(lab.engine.journal, "append", MemoryError("no memory"), lambda _: True)
    with pytest.raises(iron.JournalError, match="MemoryError"):
        flow.start().result(timeout_s=LIMIT_S)
    lab.engine.journal.append = append
    lab.cell()
    assert flow.start().result(timeout_s=LIMIT_S) == expected


@pytest.mark.parametrize("flow", [mapped, one_by_one, awaited], ids=lambda flow: flow.name.rpartition(".")[2])
def test_the_result_of_a_run_whose_end_is_refused_is_the_error_from_the_moment_of_the_refusal(
    lab: Lab, flow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_refused, may_go_on, is_closed = threading.Event(), threading.Event(), threading.Event()
    end_or_defer, close_session = Session.end_or_defer, lab.engine.close_session

    def held(session: Session, *events: Any, **options: Any) -> None:
        try:
            end_or_defer(session, *events, **options)
        finally:
            is_refused.set()
            assert may_go_on.wait(LIMIT_S)

    def closed(session: Session) -> None:
        close_session(session)
        is_closed.set()

    monkeypatch.setattr(Session, "end_or_defer", held)
    monkeypatch.setattr(lab.engine, "close_session", closed)
    Disturbed(lab.engine.journal, "append", MemoryError("no memory"), lambda _: True)
    run = flow.start()
    assert is_refused.wait(LIMIT_S)
    try:
        with pytest.raises(iron.JournalError, match="MemoryError"):
            run.result(timeout_s=LIMIT_S)
    finally:
        may_go_on.set()
        assert is_closed.wait(LIMIT_S)


@pytest.mark.parametrize("place", ["_read_signals", "_tick"])
@pytest.mark.parametrize("error", [*ERRORS, SystemExit(3), KeyboardInterrupt()], ids=lambda error: type(error).__name__)
def test_the_background_thread_outlives_any_error(
    lab: Lab, error: BaseException, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    has_begun, may_end = threading.Event(), threading.Event()

    @step
    def held() -> int:
        has_begun.set()
        assert may_end.wait(LIMIT_S)
        return 1

    @flow
    def main() -> int:
        return held()

    worker: Any = lab.engine._background
    with caplog.at_level(logging.WARNING, "ironflow_nb"):
        disturbed = Disturbed(worker, place, error, lambda n_call: n_call < 5)
        run = main.start()
        assert has_begun.wait(LIMIT_S)
        while disturbed.n_struck < 4:
            threading.Event().wait(0.01)
        run.cancel()  # told by a signal, which the background thread reads
        may_end.set()
        with suppress(iron.RunCancelled):
            run.result(timeout_s=LIMIT_S)
    assert len([record for record in caplog.records if type(error).__name__ in record.getMessage()]) == 1
    activity = {"_read_signals": "reading signals", "_tick": "ticking"}[place]
    assert [found for found in troubles() if activity in found and "4 times" in found]


def test_a_background_thread_that_can_t_be_started_is_started_by_the_next_run(lab: Lab) -> None:
    threads = lab.engine.threads
    spawn = threads.spawn
    error = RuntimeError("can't start new thread")
    disturbed: Any = Disturbed(threads, "spawn", error, lambda n_call: n_call == 1)
    assert one_by_one() == sum(range(4))
    assert disturbed.n_struck == 1
    assert [found for found in troubles() if "starting the background thread" in found]
    threads.spawn = spawn  # type: ignore[method-assign]
    lab.cell()
    assert one_by_one() == sum(range(4))
    assert lab.engine._background._is_running


@pytest.mark.parametrize("is_async", [False, True])
def test_a_run_whose_thread_can_t_be_started_does_not_seem_to_go_on(lab: Lab, is_async: bool) -> None:
    main: Any = awaited if is_async else mapped
    threads = lab.engine.threads
    spawn = threads.spawn

    def refuse(name: str, body: Callable[[], None]) -> None:
        raise RuntimeError("can't start new thread")

    threads.spawn = refuse  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="can't start new thread"):
        main.start()
    threads.spawn = spawn  # type: ignore[method-assign]
    assert not lab.engine.is_active()
    lab.cell()
    assert main.start().result(timeout_s=LIMIT_S) == 15
    assert main.last.status == RunStatus.COMPLETED


def test_a_map_whose_threads_can_t_be_started_raises_and_its_run_continues(lab: Lab) -> None:
    assert one_by_one() == sum(range(4))  # the background thread runs
    threads = lab.engine.threads
    spawn = threads.spawn

    def refuse(name: str, body: Callable[[], None]) -> None:
        raise RuntimeError("can't start new thread")

    threads.spawn = refuse  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="can't start new thread"):
        mapped()
    threads.spawn = spawn  # type: ignore[method-assign]
    lab.cell()
    assert mapped() == 15


def test_branches_whose_threads_can_t_be_started_raise(lab: Lab) -> None:
    @flow
    def branched() -> list[int]:
        return iron.gather(lambda: work(1), lambda: work(2))

    assert one_by_one() == sum(range(4))
    threads = lab.engine.threads
    spawn = threads.spawn
    disturbed: Any = Disturbed(threads, "spawn", RuntimeError("can't start new thread"), lambda n_call: n_call == 2)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        branched()
    assert disturbed.n_struck == 1
    threads.spawn = spawn  # type: ignore[method-assign]
    lab.cell()
    assert branched() == [1, 2]
