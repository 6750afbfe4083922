"""Runs that wait give back their threads, and any process that defines the flow continues them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.core.status import RunStatus
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.journal.ports import Durability, QueueSelect
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from tests.waits.conftest import LIMIT_S, until

BODIES: list[Any] = []


def engine_on(path: Path, **options: Any) -> Engine:
    return REGISTRY.adopt(Engine(SqliteJournal(path / "journal.db"), durability=Durability.PROCESS, **options))


OF_OTHERS: list[threading.Thread] = []
"""The threads that were there before: tests of processes that die leave some."""


@pytest.fixture
def parking(tmp_path: Path) -> Iterator[Engine]:
    """Return an engine that parks at once what waits."""
    BODIES.clear()
    OF_OTHERS[:] = threading.enumerate()
    engine = engine_on(tmp_path, park_s=0.0)
    with REGISTRY.replaced(engine):
        yield engine
    engine.close()


@step
def work(n: int) -> int:
    BODIES.append(n)
    return n


@flow
def one(n: int) -> Any:
    return work(n), iron.wait_for("go"), work(n + 1)


@flow
async def one_async(n: int) -> Any:
    return work(n), await iron.aio.wait_for("go"), work(n + 1)


@flow
def branches(n: int) -> Any:
    return iron.gather(partial(iron.wait_for, "go"), partial(iron.sleep, 0.2), partial(work, n), partial(work, n + 1))


@flow
async def tasks(n: int) -> Any:
    async def slow() -> int:
        await iron.aio.sleep(0.2)
        return work(n)

    return await asyncio.gather(iron.aio.wait_for("go"), slow(), asyncio.create_task(slow()))


@flow
def parent(n: int) -> Any:
    return one(n), work(n + 2)


@flow
async def parent_async(n: int) -> Any:
    return await asyncio.gather(one_async(n), one_async(n + 10))


FLOWS = [one, one_async, branches, tasks, parent]


def is_parked(engine: Engine, run: Any) -> bool:
    with engine.reading() as reader:
        from ironflow_nb.journal.ports import Select

        [row] = reader.runs(Select(run_ids=[run.id]))
    return row.status is RunStatus.WAITING and row.owner is None and run.id not in engine.sessions


def threads_of_flows() -> list[str]:
    names = (thread.name for thread in threading.enumerate() if thread not in OF_OTHERS)
    return [name for name in names if name.startswith(("ironflow-run", "ironflow-branch"))]


@pytest.mark.parametrize("waiter", FLOWS, ids=lambda each: each.name.rpartition(".")[2])
def test_a_run_that_waits_gives_back_its_threads_and_goes_on_when_its_signal_is_there(
    parking: Engine, waiter: Any
) -> None:
    run = waiter.start(1)
    until(lambda: is_parked(parking, run))
    until(lambda: not threads_of_flows())
    assert run.status is RunStatus.WAITING
    for run_id in iron.runs()["run_id"]:  # a child has its own mailbox
        iron.get_run(run_id).signal("go", "came")
    assert "came" in repr(run.result(LIMIT_S))
    assert len(BODIES) == len(set(BODIES)) + (waiter is tasks)
    until(lambda: not threads_of_flows())
    with parking.reading() as reader:
        assert reader.work(QueueSelect()) == []


@flow
async def first_of_tasks(n: int) -> int:
    waiting = asyncio.ensure_future(iron.aio.wait_for("go"))
    await asyncio.wait([waiting, asyncio.ensure_future(asyncio.sleep(0, n))], return_when=asyncio.FIRST_COMPLETED)
    return work(n)


@flow
async def left_task(n: int) -> int:
    first_of_tasks.kept = asyncio.ensure_future(iron.aio.wait_for("go"))  # type: ignore[attr-defined]
    return work(n)


@flow
def first_of_branches(n: int) -> int:
    first = next(iter(iron.as_completed([partial(iron.wait_for, "go"), partial(work, n)])))
    return int(first.result())


@pytest.mark.parametrize("waiter", [first_of_tasks, left_task, first_of_branches], ids=lambda each: each.fn.__name__)
def test_a_flow_that_has_returned_while_something_of_it_waits_is_parked_and_ends_with_the_wait(
    parking: Engine, waiter: Any
) -> None:
    run = waiter.start(1)
    until(lambda: is_parked(parking, run))
    run.signal("go", None)
    assert run.result(LIMIT_S) == 1
    assert BODIES == [1]


def test_when_a_run_gives_back_its_thread_is_an_option_of_the_engine(tmp_path: Path) -> None:
    with iron.open(tmp_path / "journal.db", park_s="0s") as engine:
        run = one.start(1)
        until(lambda: is_parked(engine, run))
        run.signal("go", 2)
        assert run.result(LIMIT_S) == (1, 2, 2)
    with pytest.raises(ValueError, match="a duration must be zero or more seconds"):
        iron.open(tmp_path / "journal.db", park_s=-1)


def test_children_of_an_async_flow_wait_side_by_side(parking: Engine) -> None:
    run = parent_async.start(1)
    until(lambda: is_parked(parking, run))
    children = [row for row in iron.runs()["run_id"] if row != run.id]
    for child in children:
        iron.get_run(child).signal("go", child)
    assert sorted(got for _, got, _ in run.result(LIMIT_S)) == sorted(children)
    assert sorted(BODIES) == [1, 2, 11, 12]


@pytest.mark.parametrize("waiter", [one, one_async], ids=["def", "async"])
def test_a_timer_continues_a_parked_run(parking: Engine, waiter: Any) -> None:
    @flow(name="timed")
    def timed() -> str:
        try:
            iron.wait_for("never", timeout_s=0.3)
        except TimeoutError:
            iron.sleep(0.1)
        return "over"

    @flow(name="timed")
    async def timed_async() -> str:
        try:
            await iron.aio.wait_for("never", timeout_s=0.3)
        except TimeoutError:
            await iron.aio.sleep(0.1)
        return "over"

    run: Any = (timed if waiter is one else timed_async).start()  # type: ignore[attr-defined]
    assert run.result(LIMIT_S) == "over"
    assert "RunWaiting" in set(run.events()["type"])


def test_a_wait_for_several_signals_is_not_woken_before_the_last_of_them(parking: Engine) -> None:
    @flow
    def several() -> Any:
        return iron.wait_for(iron.all_of("a", "b"))

    run = several.start()
    until(lambda: is_parked(parking, run))
    run.signal("other").signal("a", 1)
    with parking.reading() as reader:
        n_events = len(run.events())
        assert len(reader.signals([run.id])) == 2
    run.signal("b", 2)
    assert run.result(LIMIT_S) == {"a": 1, "b": 2}
    assert list(run.events()["type"])[n_events] == "RunContinued"


def test_what_does_not_wait_is_not_parked(parking: Engine) -> None:
    gate = threading.Event()

    @step
    def held() -> int:
        assert gate.wait(LIMIT_S)
        return 1

    @flow
    def beside() -> Any:
        return iron.gather(partial(iron.wait_for, "go"), held)

    run = beside.start()
    until(lambda: len(run.steps()) == 2)
    run.signal("other")  # which is looked at, so that the thread has had its chances
    assert run.status is RunStatus.RUNNING
    gate.set()
    until(lambda: is_parked(parking, run))
    run.signal("go", 2)
    assert run.result(LIMIT_S) == [2, 1]


def test_a_direct_call_keeps_its_thread(parking: Engine) -> None:
    found: list[Any] = []
    caller = threading.Thread(target=lambda: found.append(one(5)), name="subshell-of-a-test")
    caller.start()
    until(lambda: one.last is not None and one.last.status is RunStatus.WAITING)
    assert one.last is not None
    assert one.last.id in parking.sessions
    one.last.signal("go", "kept")
    caller.join(LIMIT_S)
    assert found == [(5, "kept", 6)]
    assert "RunContinued" not in set(one.last.events()["type"])


@pytest.mark.parametrize("ending", ["cancel", "pause"])
@pytest.mark.parametrize("waiter", [one, parent], ids=["alone", "with a child"])
def test_a_parked_run_is_cancelled_and_paused_with_its_children(parking: Engine, ending: str, waiter: Any) -> None:
    run = waiter.start(1)
    until(lambda: is_parked(parking, run))
    getattr(run, ending)()
    expected = RunStatus.CANCELLED if ending == "cancel" else RunStatus.PAUSED
    assert set(iron.runs()["status"]) == {expected}
    with parking.reading() as reader:
        assert reader.work(QueueSelect()) == []
    if ending == "pause":
        again = run.resume()
        last = iron.runs().query("run_id != @run.id")["run_id"] if waiter is parent else [run.id]
        iron.get_run(next(iter(last))).signal("go", 1)
        assert "1" in repr(again.result(LIMIT_S))


def test_a_run_whose_owner_died_while_all_of_it_waited_waits_on_and_another_engine_continues_it(tmp_path: Path) -> None:
    first = engine_on(tmp_path)
    with REGISTRY.replaced(first):
        run = one.start(1)
        until(lambda: run.status is RunStatus.WAITING)
        first.access.close("it was killed", abandon=True)
        first.sessions.clear()
        first._background.stop()
        with first.access.lock:
            first.journal.close()
    second = engine_on(tmp_path)
    with REGISTRY.replaced(second):
        second.journal.release(first.owner)
        found = iron.get_run(run.id)
        assert found.status is RunStatus.WAITING
        found.signal("go", "again")
        assert found.result(LIMIT_S) == (1, "again", 2)
    second.close()


def test_an_engine_that_is_closed_leaves_what_waits_waiting(tmp_path: Path) -> None:
    first = engine_on(tmp_path)
    with REGISTRY.replaced(first):
        run = parent.start(1)
        until(lambda: set(iron.runs()["status"]) == {RunStatus.WAITING})
    first.close()
    second = engine_on(tmp_path)
    with REGISTRY.replaced(second):
        assert set(iron.runs()["status"]) == {RunStatus.WAITING}
        child = next(row for row in iron.runs()["run_id"] if row != run.id)
        iron.get_run(child).signal("go", 4)
        assert iron.get_run(run.id).result(LIMIT_S) == ((1, 4, 2), 3)
    second.close()


def test_a_call_in_a_new_cell_joins_the_parked_run(parking: Engine) -> None:
    cells = iter("abc")
    parking.execution = lambda: next(cells)
    run = one.start(7)
    until(lambda: is_parked(parking, run))
    parking.joins_by_default = True
    run.signal("go", "joined")
    assert one(7) == (7, "joined", 8)
    assert set(iron.runs()["run_id"]) == {run.id}


def test_a_run_whose_flow_is_not_defined_here_waits_for_its_notebook(parking: Engine) -> None:
    run = one.start(1)
    until(lambda: is_parked(parking, run))
    definition = REGISTRY.find("flow", one.name)
    assert definition is not None
    REGISTRY.forget("flow", one.name)
    try:
        run.signal("go", 1)
        until(lambda: parking._background._is_resting)
        assert run.status is RunStatus.WAITING
    finally:
        REGISTRY.define(definition)
    assert run.result(LIMIT_S) == (1, 1, 2)


PROGRAM = """
import sys
import ironflow_nb as iron
from ironflow_nb import flow, step

@step
def work(n): return n

@flow(name="shared")
def shared(n):
    return work(n), iron.wait_for("go"), work(n + 1)

iron.use(sys.argv[1])
if sys.argv[2] == "start":
    print(shared.start(1).id, flush=True)
    sys.stdin.read()
else:
    print(iron.get_run(sys.argv[2]).result(60), flush=True)
"""


@pytest.mark.crash
def test_of_processes_of_which_one_is_killed_another_continues_what_waits(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, str(program), str(tmp_path / "journal.db")]
    first = subprocess.Popen([*command, "start"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    run_id = first.stdout.readline().strip()
    with iron.open(tmp_path / "journal.db"):
        until(lambda: len(iron.runs()) == 1)  # its first event is written with its first step
        run = iron.get_run(run_id)
        until(lambda: run.status is RunStatus.WAITING)
        first.kill()
        first.wait(LIMIT_S)
        second = subprocess.Popen([*command, run_id], stdout=subprocess.PIPE, text=True)
        run.signal("go", "elsewhere")
        out, _ = second.communicate(timeout=LIMIT_S)
        assert out.strip() == "(1, 'elsewhere', 2)"
        assert run.status is RunStatus.COMPLETED
    first.stdout.close()
    assert first.stdin is not None
    first.stdin.close()


@pytest.mark.parametrize(
    "waiter", [one, one_async, parent, parent_async], ids=lambda flow: flow.name.rpartition(".")[2]
)
def test_a_wait_that_ends_when_its_run_is_about_to_be_parked_is_not_lost(parking: Engine, waiter: Any) -> None:
    worker: Any = parking._background
    park, is_sent = worker._park, threading.Event()

    def parked_late(held: list[Any], now_s: float) -> None:
        if held and not is_sent.is_set():
            is_sent.set()
            for run_id in iron.runs()["run_id"]:  # its owner ends the wait at once, in this thread
                iron.get_run(run_id).signal("go", "came")
        park(held, now_s)

    worker._park = parked_late
    run = waiter.start(1)
    assert is_sent.wait(LIMIT_S)
    assert "came" in repr(run.result(LIMIT_S))


@pytest.mark.parametrize("waiting", [one, one_async, branches, tasks, parent], ids=lambda each: each.fn.__name__)
def test_a_closed_engine_leaves_no_thread_of_a_run_that_waits(tmp_path: Path, waiting: Any) -> None:
    before = {*threading.enumerate()}
    engine = engine_on(tmp_path)
    with REGISTRY.replaced(engine):
        run = waiting.start(1)
        until(lambda: run.status is RunStatus.WAITING)
    engine.close()
    until(lambda: {*threading.enumerate()} <= before)
    other = engine_on(tmp_path)
    with REGISTRY.replaced(other):
        assert list(iron.runs(flow=waiting)["status"]) == [RunStatus.WAITING]
    other.close()
