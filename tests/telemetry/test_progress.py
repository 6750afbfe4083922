"""How far an attempt or a flow is: in the picture, in the frames, after its end, and in another process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from tests.cells import World
from tests.conftest import Lab
from tests.waits.conftest import until


def progress_of(of: Any) -> list[str]:
    return list(of.last.steps()["progress"].fillna("none"))


async def numbers(n: int) -> AsyncIterator[int]:
    for number in range(n):
        yield number


def test_what_is_done_stays_a_fact_of_the_attempt(lab: Lab) -> None:
    @step
    def read(n: int, stop: int) -> int:
        for number in iron.progress(range(n)):
            if number == stop:
                break
        return n

    @step
    def silent() -> None: ...

    @flow
    def work() -> None:
        read(5, 10)
        read(5, 3)
        read(0, 0)
        silent()

    work()
    assert progress_of(work) == ["5 of 5", "3 of 5", "0 of 0", "none"]
    assert list(work.last.attempts()["progress"])[:2] == ["5 of 5", "3 of 5"]  # type: ignore[union-attr]


def test_a_failed_attempt_says_how_far_it_was_and_the_next_one_counts_anew(lab: Lab, world: World) -> None:
    @step(retries=iron.Retry(attempts=2, delay_s=0.0))
    def read() -> None:
        world.did("try")
        for number in iron.progress(iter(range(1000)), total=1000):
            if number == 7 and len(world.log) == 1:
                raise OSError("once")

    @flow
    def work() -> None:
        read()

    work()
    assert list(work.last.attempts()["progress"]) == ["7 of 1,000", "1,000 of 1,000"]  # type: ignore[union-attr]
    assert progress_of(work) == ["1,000 of 1,000"]


@pytest.mark.parametrize("is_beside", [False, True])
def test_async_bodies_count_async_items(lab: Lab, is_beside: bool) -> None:
    @step
    async def read(n: int) -> list[int]:
        return [number async for number in iron.progress(numbers(n), total=n)]

    @step
    async def unknown() -> list[int]:
        return [number async for number in iron.progress(numbers(3))]

    @flow
    async def work() -> list[list[int]]:
        if is_beside:
            return [*await asyncio.gather(read(2), read(4)), await unknown()]
        return [await read(2), await read(4), await unknown()]

    run = work.start()
    assert run.result() == [[0, 1], [0, 1, 2, 3], [0, 1, 2]]
    assert sorted(progress_of(work)) == ["2 of 2", "3", "4 of 4"]


def test_the_outermost_series_is_the_progress_and_the_last_one_of_several(lab: Lab) -> None:
    @step
    def nested() -> None:
        for _ in iron.progress(range(3)):
            for _ in iron.progress(range(100)):
                pass

    @step
    def one_by_one() -> None:
        list(iron.progress(range(3)))
        list(iron.progress(range(7)))

    @flow
    def work() -> None:
        nested()
        one_by_one()

    work()
    assert progress_of(work) == ["3 of 3", "7 of 7"]


def test_the_picture_follows_a_step_and_a_flow(lab: Lab) -> None:
    go = threading.Event()

    @step
    def train(n: int) -> int:
        for epoch in iron.progress(range(200)):
            if epoch == 41:
                go.wait(60)
        return n

    @flow
    def work() -> None:
        for n in iron.progress([1, 2, 3]):
            train(n)

    run = work.start()
    until(lambda: "41 of 200" in str(run.steps()["progress"].tolist()))
    text = run.diagram().text
    assert text.startswith(f"{run.diagram().text.partition(':')[0]}: running, 0 of 3 (0%)")
    assert "running, 41 of 200 (20%)" in text
    svg = run.diagram().svg
    assert svg is not None
    assert svg.count('data-part="reported"') == 1
    assert "41 of 200 (20%)" in svg
    assert "0 of 3 (0%)" in svg
    go.set()
    run.result()
    assert "reported" not in (run.diagram().svg or "")
    assert "41 of" not in run.diagram().text


def test_what_a_flow_said_in_an_earlier_continuation_is_not_shown(lab: Lab, world: World) -> None:
    go = threading.Event()

    @step
    def wait(n: int) -> int:
        if not world.is_broken:
            go.wait(60)
        return n

    @flow
    def work() -> None:
        for n in iron.progress(range(5)) if world.is_broken else range(7):
            if n == 3 and world.is_broken:
                lab.die_in_flow()
            wait(n)

    with pytest.raises(SystemExit):
        work()
    world.is_broken = False
    run = work.start()
    until(lambda: "running" in list(run.steps()["status"]))
    assert "of 5" not in run.diagram().text
    go.set()
    run.result()


def test_of_several_attempts_at_once_the_node_shows_their_number(lab: Lab) -> None:
    go = threading.Event()

    @step
    def train(n: int) -> int:
        for epoch in iron.progress(range(10)):
            if epoch == n:
                go.wait(60)
        return n

    @flow
    def work() -> None:
        list(train.map([3, 4]))

    run = work.start()
    until(lambda: sorted(run.steps()["progress"].dropna()) == ["3 of 10", "4 of 10"])
    assert "of 10" not in run.diagram().text
    go.set()
    run.result()


def test_an_item_costs_no_write(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    appended: list[int] = []
    append = lab.engine.access.append
    monkeypatch.setattr(lab.engine.access, "append", lambda *given: (appended.append(1), append(*given)))

    @step
    def read(n: int) -> int:
        return sum(iron.progress(range(n)))

    @flow
    def work(n: int) -> int:
        return read(n)

    work(20_000)
    assert len(appended) < 100  # one for each second that it takes, and those of any run


def test_outside_of_a_run_the_items_are_passed_on(lab: Lab) -> None:
    assert list(iron.progress([1, 2])) == [1, 2]
    assert list(iron.progress(iter("ab"), total=2)) == ["a", "b"]

    async def collect() -> list[int]:
        return [number async for number in iron.progress(numbers(2))]

    assert asyncio.run(collect()) == [0, 1]


def test_the_items_of_a_map_are_counted_as_they_come(lab: Lab) -> None:
    @step
    def double(n: int) -> int:
        return 2 * n

    @flow
    def work() -> list[int]:
        return list(iron.progress(double.map(range(4)))) + list(double.map(iron.progress([7])))

    assert work() == [0, 2, 4, 6, 14]


def test_the_items_of_a_map_are_awaited_in_an_async_flow(lab: Lab) -> None:
    @step
    async def double(n: int) -> int:
        return 2 * n

    @flow
    async def work() -> list[int]:
        first: Any = iron.progress(double.map(range(4)))
        return [n async for n in first] + list(await double.map(iron.progress(numbers(2))))

    assert work.start().result() == [0, 2, 4, 6, 0, 2]


class Endless:
    def __iter__(self) -> Iterator[int]:
        return iter(range(3))

    def __len__(self) -> int:
        return 2


def test_more_items_than_expected_are_counted_all_the_same(lab: Lab) -> None:
    @step
    def read() -> None:
        list(iron.progress(Endless()))

    @flow
    def work() -> None:
        read()

    work()
    assert progress_of(work) == ["3 of 2"]


@pytest.mark.parametrize("in_step", [False, True])
@pytest.mark.parametrize(
    ("given", "total", "error", "said"),
    [
        (5, None, TypeError, "something to iterate over, such as a list, not 5"),
        (None, None, TypeError, "not None"),
        ([1], "1", TypeError, "a number of items, not '1'"),
        ([1], 1.5, TypeError, "not 1.5"),
        ([1], float("nan"), TypeError, "not nan"),
        ([1], True, ValueError, "not True"),
        ([1], -1, ValueError, "not -1"),
        ([1], 2**63, ValueError, "not 9223372036854775808"),
    ],
)
def test_what_is_no_series_or_no_number_is_refused(
    lab: Lab, in_step: bool, given: Any, total: Any, error: type[Exception], said: str
) -> None:
    call = step(lambda: iron.progress(given, total=total) and None, name="call")
    with pytest.raises(error, match=said):
        flow(lambda: call(), name="work")() if in_step else iron.progress(given, total=total)
