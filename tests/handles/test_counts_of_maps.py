"""The picture of a run that goes on says how many items its maps will have, where that is known."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.handles.run_picture import picture_of
from tests.cells import run_cell
from tests.conftest import Lab
from tests.diagram.drawn import Drawn


def test_a_picture_counts_the_items_that_are_still_to_come(lab: Lab) -> None:
    gate = threading.Event()

    @step
    def first(n: int) -> int:
        if n:
            gate.wait(20)
        return n

    @step
    def second(n: int) -> int:
        return n

    @step
    def third(n: int) -> int:
        return n

    @flow
    def main() -> int:
        results = first.map(range(50), concurrency=2)
        streamed = second.map(results)
        unknown = third.map(iter([1, 2]))
        return sum(streamed) + sum(unknown)

    run = main.start()
    while list(run.steps()["status"]).count("completed") < 2:
        pass
    text = run._repr_mimebundle_()["text/plain"]
    assert "first (map): 1 of 50" in text
    assert "second (map): " in text
    assert "of 50" in text.split("second")[1].splitlines()[0]
    gate.set()
    assert run.result(timeout_s=20) == sum(range(50)) + 3
    assert "third (map): 2 of 2" in run._repr_mimebundle_()["text/plain"]


def test_an_iterator_is_not_counted_in_advance(lab: Lab) -> None:
    gate = threading.Event()

    @step
    def work(n: int) -> int:
        gate.wait(20)
        return n

    def items() -> Iterator[int]:
        yield from range(40)

    @flow
    def main() -> int:
        return sum(work.map(items(), concurrency=1))

    run = main.start()
    while run.steps().empty:
        pass
    assert "of 40" not in run._repr_mimebundle_()["text/plain"]
    gate.set()
    assert run.result(timeout_s=20) == sum(range(40))


BROKEN: list[int] = []
ITEMS: list[int] = []
EXHAUSTED = threading.Event()


@step
def fetch(n: int) -> int:
    if n in BROKEN:
        assert EXHAUSTED.wait(20)
        raise ValueError(n)
    return n


def given() -> Iterator[int]:
    yield from ITEMS
    EXHAUSTED.set()


@flow
def sized() -> int:
    return sum(fetch.map(list(ITEMS), concurrency=1))


@flow
def lazy() -> int:
    return sum(fetch.map(given(), concurrency=4))


@flow
async def awaited() -> int:
    return sum(await fetch.map(list(ITEMS), concurrency=1))


@flow
def repeated() -> int:
    return sum(sum(fetch.map([n, n + 1], concurrency=1)) for n in range(0, 6, 2))


@pytest.fixture(autouse=True)
def items() -> None:
    EXHAUSTED.set()
    BROKEN[:] = [7]
    ITEMS[:] = range(12)


def count_seen(lab: Lab) -> str:
    """Return what the picture says of the map when another process looks at the latest run."""
    lab.die()
    line = picture_of(lab.engine, iron.runs()["run_id"].iloc[0]).text.splitlines()[-1]
    return line.partition("fetch (map): ")[2]


@pytest.mark.parametrize("main", [sized, lazy], ids=["sized", "iterator"])
def test_a_map_that_failed_keeps_its_total(lab: Lab, main: Callable[[], int]) -> None:
    if main is lazy:
        EXHAUSTED.clear()
    with pytest.raises(ValueError, match="7"):
        main()
    assert count_seen(lab).endswith(" of 12, 1 failed")


def test_a_map_of_an_async_flow_keeps_its_total(lab: Lab) -> None:
    with pytest.raises(ValueError, match="7"):
        awaited.start().result(timeout_s=20)
    assert count_seen(lab) == "7 of 12, 1 failed"


def test_the_node_of_a_map_that_stopped_between_two_items_is_not_completed(lab: Lab) -> None:
    gate = threading.Event()

    @step
    def fetch(n: int) -> int:
        gate.wait(20 if n == 3 else 0)
        return n

    @flow
    def main() -> int:
        return sum(fetch.map(range(9), concurrency=1))

    run = main.start()
    while len(run.steps()) < 4:
        pass
    run.pause()
    gate.set()
    while run.status != "paused":
        pass
    lab.die()
    picture = picture_of(lab.engine, run.id)
    assert "fetch (map): 4 of 9" in picture.text
    assert Drawn.of(picture.svg).statuses()[f"iron-{run.id}-n-n1"] == "pending"


def test_a_map_keeps_its_total_when_the_run_is_refused(lab: Lab) -> None:
    source = """
@iron.step
def fetch(n: int) -> int:
    return n if n < 7 else n // 0

@iron.flow(on_change="strict")
def main() -> int:
    return sum(fetch.map(range(12), concurrency=1))
"""
    space: dict[str, Any] = {"__name__": "__main__", "iron": iron}
    run_cell(source, space)
    with pytest.raises(ZeroDivisionError):
        space["main"]()
    lab.cell()
    run_cell(source.replace("n // 0", "n"), space)
    with pytest.raises(iron.CodeChanged):
        space["main"]()
    assert count_seen(lab).startswith("7 of 12")


def test_the_totals_of_maps_in_a_loop_add_up_over_the_stretches_of_a_run(lab: Lab) -> None:
    BROKEN[:] = [3]
    with pytest.raises(ValueError, match="3"):
        repeated()
    assert count_seen(lab) == "3 of 4, 1 failed"
    BROKEN[:] = [5]
    with pytest.raises(ValueError, match="5"):
        repeated()
    assert count_seen(lab) == "5 of 6, 1 failed"
    BROKEN[:] = [0]
    assert repeated() == 15
    assert count_seen(lab) == "6 of 6"


def test_the_total_is_that_of_the_latest_stretch(lab: Lab) -> None:
    with pytest.raises(ValueError, match="7"):
        sized()
    lab.cell()
    ITEMS[:] = range(9)
    with pytest.raises(ValueError, match="7"):
        sized()
    assert count_seen(lab) == "7 of 9, 1 failed"
    ITEMS[:] = range(7)
    assert sized() == sum(range(7))
    assert count_seen(lab) == "7 of 7"
