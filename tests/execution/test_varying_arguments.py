"""Arguments that differ each time: said once, with what to do."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from ironflow_nb import flow, step
from tests.cells import World, run_cell
from tests.conftest import Lab

HOUR = timedelta(hours=1)
AT = datetime(2026, 1, 1, tzinfo=UTC)


def continued(
    lab: Lab, world: World, caplog: pytest.LogCaptureFixture, make: Callable[[int], Any], n_calls: int = 2
) -> list[str]:
    """Run a flow that fails, and again; return what was said. `make` gives its argument in the n-th run."""
    caplog.set_level("INFO", "ironflow_nb")

    @step
    def fetch(number: int, stamp: Any) -> int:
        return number

    @flow
    def main() -> int:
        stamp = make(len(world.log))
        total = sum(fetch(number, stamp) for number in range(n_calls))
        if world.is_broken:
            raise RuntimeError
        return total

    with pytest.raises(RuntimeError):
        main()
    world.is_broken = False
    world.did("a run")
    lab.cell()
    main()
    return [line for line in caplog.messages if "iron.now()" in line]


@pytest.mark.parametrize(
    "make",
    [
        lambda n: AT + n * HOUR,
        lambda n: (AT + n * HOUR).isoformat(),
        lambda n: date(2026, 1, 1 + n),
        lambda n: uuid.UUID(int=n),
        lambda n: str(uuid.UUID(int=n)),
        lambda n: time.time() + n,
        lambda n: int(time.time()) + n,
    ],
)
def test_what_is_another_one_each_time_is_named_once(
    lab: Lab, world: World, caplog: pytest.LogCaptureFixture, make: Callable[[int], Any]
) -> None:
    said = continued(lab, world, caplog, make)
    assert len(said) == 1
    assert "argument stamp was" in said[0]


@pytest.mark.parametrize(
    "make",
    [lambda n: n, lambda n: f"page {n}", lambda n: [AT + n * HOUR], lambda n: AT if n else "never", lambda n: AT],
)
def test_other_arguments_are_nobodys_business(
    lab: Lab, world: World, caplog: pytest.LogCaptureFixture, make: Callable[[int], Any]
) -> None:
    assert continued(lab, world, caplog, make) == []


def test_a_call_that_is_new_besides_is_not_taken_for_one(
    lab: Lab, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "ironflow_nb")
    pages = [1]

    @step
    def fetch(number: int, stamp: datetime) -> int:
        return number

    @flow
    def main() -> None:
        for page in pages:
            fetch(page, AT)
        if world.is_broken:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        main()
    world.is_broken = False
    pages.insert(0, 2)
    lab.cell()
    main()
    assert not any("iron.now()" in line for line in caplog.messages)


@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async"])
def test_an_argument_that_a_reused_step_had_changed_in_place_is_named_once(
    lab: Lab, world: World, caplog: pytest.LogCaptureFixture, is_async: bool
) -> None:
    @step
    def read() -> list[int]:
        return [3, 1, 2]

    @step
    def sort(rows: list[int]) -> None:
        rows.sort()

    @step
    def save(rows: list[int]) -> list[int]:
        world.did(list(rows))
        return rows

    def body() -> list[int]:
        rows = read()
        sort(rows)
        saved = [save(rows), save([*rows, 4])][0]
        if world.is_broken:
            raise RuntimeError
        return saved

    async def awaited() -> list[int]:
        return body()

    main = flow(name="main")(awaited if is_async else body)
    with pytest.raises(RuntimeError):
        main.start().result(10)
    world.is_broken = False
    lab.cell()
    caplog.set_level("INFO", "ironflow_nb")
    main.resume().result(10)
    said = [line for line in caplog.messages if "in place" in line]
    assert len(said) == 1
    assert "save: argument rows is not what it was" in said[0]


def test_an_argument_that_an_edited_step_makes_another_one_is_not_named(
    lab: Lab, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    program = """
@step
def read():
    return [{first}, 1, 2]

@step
def save(rows):
    if world.is_broken:
        raise OSError("off")
    return rows

@flow
def main():
    return save(read())
"""
    space: dict[str, Any] = {"step": step, "flow": flow, "world": world, "__name__": "__main__"}
    run_cell(program.format(first=3), space)
    with pytest.raises(OSError, match="off"):
        space["main"]()
    world.is_broken = False
    lab.cell()
    run_cell(program.format(first=4), space)
    caplog.set_level("INFO", "ironflow_nb")
    assert space["main"]() == [4, 1, 2]
    assert not [line for line in caplog.messages if "in place" in line]
