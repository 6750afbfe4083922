"""A run whose journal can't be read has not failed: it is interrupted, nothing is undone, and it goes on later."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.errors import ConnectionLost, RunInterrupted

UNDONE: list[int] = []
CUT: list[bool] = []


@pytest.fixture(autouse=True)
def journal(tmp_path: Path) -> Iterator[None]:
    UNDONE.clear()
    CUT[:] = [True]
    with iron.open(tmp_path / "journal.db"):
        yield


def cancel(number: int) -> None:
    UNDONE.append(number)


@step(compensate=cancel)
def book(number: int) -> int:
    return number


def read() -> None:
    """Read what a server does not give the first time."""
    if CUT:
        CUT.clear()
        raise ConnectionLost("the connection was cut")


@flow
def trip() -> int:
    booked = book(3)
    read()
    return booked


@flow
async def trips() -> int:
    async def one() -> int:
        booked = book(3)
        await asyncio.sleep(0)
        read()
        return booked

    async with asyncio.TaskGroup() as group:
        task = group.create_task(one())
    return task.result()


def test_a_run_that_can_not_read_is_interrupted_and_goes_on() -> None:
    with pytest.raises(ConnectionLost) as raised:
        trip()
    assert "was interrupted; 1 finished step is kept" in "".join(raised.value.__notes__)
    assert (trip.last.status, UNDONE) == ("interrupted", [])
    assert trip.last.resume().result() == 3
    assert list(trip.last.steps().attempt) == [1]


def test_an_error_in_a_group_is_no_failure_either() -> None:
    with pytest.raises(RunInterrupted):
        trips.start().result()
    assert (trips.last.status, UNDONE) == ("interrupted", [])
    assert trips.last.resume().result() == 3
