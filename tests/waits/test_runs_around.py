"""What a wait of a child run means for the runs around it: they wait with it, and go on with it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import Lane, flow, step
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.journal.ports import Durability, Select
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from tests.waits.conftest import LIMIT_S, until

ENTERED, LEFT = threading.Event(), threading.Event()


def process_on(folder: Path) -> Engine:
    return REGISTRY.adopt(Engine(SqliteJournal(folder / "journal.db"), durability=Durability.PROCESS))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    ENTERED.clear()
    LEFT.clear()
    engine = process_on(tmp_path)
    with REGISTRY.replaced(engine):
        yield engine
    LEFT.set()
    engine.close()


@step
def long_work() -> str:
    ENTERED.set()
    assert LEFT.wait(LIMIT_S)
    return "worked"


@flow
def inner() -> str:
    return f"{iron.wait_for('go')} {long_work()}"


@flow
def middle() -> str:
    return inner()


@flow
def outer() -> str:
    return middle()


@flow
async def inner_async() -> str:
    return f"{await iron.aio.wait_for('go')} {await long_work.submit()}"


@flow
async def middle_async() -> str:
    return await inner_async()


@flow
async def outer_async() -> str:
    return await middle_async()


def recorded(engine: Engine) -> dict[str, str]:
    with engine.reading() as reader:
        return {run.name.rpartition(".")[2].removesuffix("_async"): run.status.value for run in reader.runs(Select())}


def go_on(engine: Engine, around: Any) -> Any:
    """Start the flow; return its run when the child works that has waited."""
    run = around.start()
    until(lambda: recorded(engine) == dict.fromkeys(["outer", "middle", "inner"], "waiting"))
    (inner.last or inner_async.last).signal("go", "went")
    assert ENTERED.wait(LIMIT_S)
    return run


@pytest.mark.parametrize("around", [outer, outer_async], ids=["def", "async"])
def test_runs_go_on_when_a_wait_of_their_child_has_ended(engine: Engine, around: Any) -> None:
    run = go_on(engine, around)
    assert recorded(engine) == dict.fromkeys(["outer", "middle", "inner"], "running")
    LEFT.set()
    assert run.result(LIMIT_S) == "went worked"


@pytest.mark.parametrize("around", [outer, outer_async], ids=["def", "async"])
def test_an_engine_that_is_closed_then_leaves_nothing_that_waits_for_ever(
    engine: Engine, around: Any, tmp_path: Path
) -> None:
    run = go_on(engine, around)
    engine.close()
    LEFT.set()
    other = process_on(tmp_path)
    with other, REGISTRY.replaced(other):
        assert recorded(other) == dict.fromkeys(["outer", "middle", "inner"], "interrupted")
        assert iron.resume(run.id).result(LIMIT_S) == "went worked"


@pytest.mark.slow
def test_branches_of_a_run_in_a_lane_that_go_on_at_once_ask_for_its_place_once(engine: Engine) -> None:
    """Two asks of one run would wait for each other, if the lane has one place."""

    @flow(name="in a lane", lane=Lane("one", limit=1))
    def in_a_lane() -> int:
        return len(iron.gather(*(partial(iron.sleep, 0.3) for _ in range(8))))

    runs = [in_a_lane.options(key=f"{n}").start() for n in range(5)]
    assert [run.result(LIMIT_S) for run in runs] == [8] * 5
