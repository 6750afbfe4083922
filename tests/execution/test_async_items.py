"""Maps over async iterables: in order, bounded, recorded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from ironflow_nb import flow, step
from ironflow_nb.errors import AsyncMismatch
from tests.cells import World
from tests.conftest import Lab

DID: list[tuple[str, int]] = []


@pytest.fixture(autouse=True)
def fresh_list() -> None:
    DID.clear()


@step
async def page(n: int) -> int:
    DID.append(("page", n))
    await asyncio.sleep(0)
    return n


@step
async def note(n: int, more: int = 0) -> int:
    DID.append(("note", n))
    await asyncio.sleep(0.001 * (n % 3))
    return n + more


@step
def note_here(n: int) -> int:
    DID.append(("note", n))
    return n


async def pages(n_pages: int) -> AsyncIterator[int]:
    for n in range(n_pages):
        yield await page(n)


@pytest.mark.parametrize("step", [note, note_here])
def test_results_come_in_order_while_items_still_come(lab: Lab, step: Callable[..., Any]) -> None:
    @flow
    async def main() -> list[int]:
        return [value async for value in step.map(pages(12), concurrency=2)]  # type: ignore[attr-defined]

    assert asyncio.run(main()) == list(range(12))
    assert DID.index(("note", 0)) < DID.index(("page", 11))


@pytest.mark.slow
def test_no_more_is_pulled_than_the_window_takes(lab: Lab) -> None:
    gate = asyncio.Event()

    @step
    async def held(n: int) -> int:
        await gate.wait()
        return n

    @flow
    async def main() -> list[int]:
        found = held.map(pages(50), concurrency=2)
        while len(DID) < 9:
            await asyncio.sleep(0.001)
        for _ in range(50):
            await asyncio.sleep(0)
        n_pulled = len(DID)
        gate.set()
        return [n_pulled, *await found]

    assert asyncio.run(main()) == [9, *range(50)]  # four times the concurrency, and one ahead


def test_a_continued_run_does_nothing_again(lab: Lab) -> None:
    world = World(lab.die_in_flow)

    @flow
    async def main() -> list[int]:
        found = list(await note.map(pages(6), [10] * 9, concurrency=2))
        if world.is_broken:
            raise ConnectionError
        return found

    with pytest.raises(ConnectionError):
        asyncio.run(main())
    world.is_broken = False
    lab.die()
    assert asyncio.run(main()) == [10, 11, 12, 13, 14, 15]
    assert sorted(DID) == sorted([("page", n) for n in range(6)] + [("note", n) for n in range(6)])


def test_the_results_of_a_map_are_items_beside_an_async_iterable(lab: Lab) -> None:
    @flow
    async def main() -> list[int]:
        return list(await note.map(note.map([1, 2, 3]), pages(9)))

    assert asyncio.run(main()) == [1, 3, 5]


@pytest.mark.parametrize("on_error", ["raise", "collect"])
def test_what_the_iterable_raises_fails_the_map(lab: Lab, on_error: str) -> None:
    closed: list[bool] = []

    async def broken() -> AsyncIterator[int]:
        try:
            yield 1
            raise ValueError("no more")
        finally:
            closed.append(True)

    @flow
    async def main() -> list[Any]:
        return list(await note.map(broken(), on_error=on_error))

    if on_error == "raise":
        with pytest.raises(ValueError, match="no more"):
            asyncio.run(main())
    else:
        assert list(map(repr, asyncio.run(main()))) == ["1", "ValueError('no more')"]
    assert closed == [True]


def test_a_failed_map_closes_its_source(lab: Lab) -> None:
    closed: list[bool] = []

    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    @step
    async def fails(n: int) -> int:
        raise ValueError(n)

    @flow
    async def main() -> list[bool]:
        with pytest.raises(ValueError, match="1"):
            await fails.map(endless())
        while not closed:
            await asyncio.sleep(0.001)
        return closed

    assert asyncio.run(main()) == [True]


def test_without_a_loop_an_async_iterable_is_refused(lab: Lab) -> None:
    @flow
    def main() -> None:
        note.map(pages(2))

    with pytest.raises(AsyncMismatch, match="in a def flow"):
        main()
    with pytest.raises(AsyncMismatch, match="outside of a flow"):
        note.map(pages(2))
