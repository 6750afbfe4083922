"""An interrupt of a call whose run waits for somebody leaves it waiting, and it goes on when the answer is there."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.core.status import RunStatus
from ironflow_nb.journal.ports import QueueSelect
from tests.cells import World
from tests.conftest import Lab
from tests.waits.conftest import until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals go another way there")


@step
def work(log: list[int], n: int) -> int:
    log.append(n)
    return n


BODIES: list[int] = []


def body(n: int) -> Any:
    return work(iron.resource(BODIES), n)


@flow
def asks() -> Any:
    return body(1), iron.approve("Go?"), body(2)


@flow
def waits() -> Any:
    return body(1), iron.wait_for("go"), body(2)


@flow
def parent() -> Any:
    return asks()


@flow
def branches() -> Any:
    return iron.gather(partial(iron.approve, "Go?"), partial(iron.approve, "And this?"), asks)


@flow
async def asks_async() -> Any:
    return body(1), await iron.aio.approve("Go?"), body(2)


@flow
async def parent_async() -> Any:
    return await asyncio.gather(asks_async(), iron.aio.approve("And this?"))


def call(flow: Any) -> None:
    """Call the flow as a cell does."""

    async def awaited() -> Any:
        return await flow()

    asyncio.run(awaited()) if flow in (asks_async, parent_async) else flow()


def interrupted(flow: Any, is_ready: Callable[[], object]) -> KeyboardInterrupt:
    """Call the flow in this thread, and press the stop button when it is ready; return how the call ended."""

    def press() -> None:
        until(is_ready)
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press, name="subshell-of-a-test")
    presser.start()
    with pytest.raises(KeyboardInterrupt) as caught:
        call(flow)
    presser.join()
    return caught.value


def is_waiting_as_a_whole(n: int) -> Callable[[], object]:
    return lambda: len(iron.runs()) == n and set(iron.runs()["status"]) == {RunStatus.WAITING}


@pytest.mark.parametrize(
    ("flow", "n_runs"),
    [(asks, 1), (waits, 1), (parent, 2), (branches, 2), (asks_async, 1), (parent_async, 2)],
    ids=lambda each: getattr(each, "name", "").rpartition(".")[2] or None,
)
def test_a_run_that_waits_for_somebody_is_left_waiting(lab: Lab, flow: Any, n_runs: int) -> None:
    BODIES.clear()
    interrupted(flow, is_waiting_as_a_whole(n_runs))
    assert set(iron.runs()["status"]) == {RunStatus.WAITING}
    assert "RunInterrupted" not in set(iron.events()["type"])
    for row in iron.waiting().itertuples():
        eval(str(row.expression), {"iron": iron})
    if flow is waits:
        flow.last.signal("go", True)
    run = flow.last
    assert "True" in repr(run.result())
    assert len(BODIES) == len(set(BODIES))
    with lab.engine.reading() as reader:
        assert reader.work(QueueSelect()) == []


def test_the_error_says_for_what_the_run_waits_and_how_it_ends(lab: Lab) -> None:
    error = interrupted(asks, is_waiting_as_a_whole(1))
    run_id = iron.runs()["run_id"].iloc[0]
    [note] = error.__notes__
    assert f'run {run_id} of {asks.name} waits for an answer to "Go?"; 1 finished step is kept' in note
    assert f'iron.get_run("{run_id}").answer(True, "iron.approve[0]")' in note


def test_running_the_cell_again_waits_on_and_gets_the_answer(lab: Lab) -> None:
    BODIES.clear()
    interrupted(asks, is_waiting_as_a_whole(1))
    run_id = iron.runs()["run_id"].iloc[0]
    lab.cell()
    interrupted(asks, lambda: list(iron.events()["type"]).count("RunWaiting") == 3)
    lab.cell()

    def answer() -> None:  # an answer before the call could end the run, and the call would begin another one
        until(lambda: list(iron.events()["type"]).count("RunWaiting") == 5)
        iron.get_run(run_id).answer(True)

    person = threading.Thread(target=answer)
    person.start()
    assert asks() == (1, True, 2)
    person.join()
    assert list(iron.runs()["run_id"]) == [run_id]
    assert BODIES == [1, 2]


def test_what_only_sleeps_is_interrupted(lab: Lab) -> None:
    @flow
    def sleeps() -> None:
        iron.sleep("1d")

    interrupted(sleeps, is_waiting_as_a_whole(1))
    assert list(iron.runs()["status"]) == [RunStatus.INTERRUPTED]


def test_a_run_of_which_a_body_runs_is_interrupted(lab: Lab, world: World) -> None:
    gate = threading.Event()

    @step
    def held() -> None:
        world.did("held")
        gate.wait(60)

    @flow
    def busy() -> Any:
        held.submit()
        return iron.approve("Go?")

    interrupted(busy, lambda: world.log and len(iron.waiting()) == 1)
    gate.set()
    assert list(iron.runs()["status"]) == [RunStatus.INTERRUPTED]
