"""Branches that fail, collected in the places of their results."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import aio, flow, step
from ironflow_nb.errors import AsyncMismatch
from tests.cells import World
from tests.conftest import Lab

N_BODIES: list[int] = []


@pytest.fixture(autouse=True)
def fresh_count() -> None:
    N_BODIES.clear()


@step
def check(n: int) -> int:
    N_BODIES.append(n)
    if n % 2:
        raise ValueError(n)
    return n


@step
async def check_async(n: int) -> int:
    N_BODIES.append(n)
    if n % 2:
        raise ValueError(n)
    return n


@step
def after() -> None:
    """Prove that the flow went on."""


def shown(found: list[Any]) -> list[Any]:
    return [repr(each) for each in found]


@pytest.mark.parametrize("is_async", [False, True])
def test_failures_stand_in_their_places_and_are_the_same_in_a_replay(lab: Lab, is_async: bool) -> None:
    world = World(lab.die_in_flow)

    def end(found: list[Any]) -> list[Any]:
        after()
        if world.is_broken:
            raise ConnectionError
        return shown(found)

    @flow
    def main() -> list[Any]:
        calls: list[Any] = [partial(check, 0), check.submit(1), partial(check, 3), check.submit(2)]
        return end(iron.gather(*calls, on_error="collect"))

    @flow
    async def main_async() -> list[Any]:
        calls: list[Any] = [check_async(0), check.submit(1), check_async(3), check_async.submit(2)]
        return end(await aio.gather(*calls, on_error="collect"))

    def call() -> Any:
        return asyncio.run(main_async()) if is_async else main()

    with pytest.raises(ConnectionError):
        call()
    world.is_broken = False
    lab.die()
    assert call() == ["0", "ValueError(1)", "ValueError(3)", "2"]
    assert sorted(N_BODIES) == [0, 1, 2, 3]


def test_a_failure_that_ends_the_flow_after_all_is_tried_again(lab: Lab) -> None:
    @flow
    def main() -> list[Any]:
        found = iron.gather(partial(check, 1), partial(check, 2), on_error="collect")
        raise found[0]

    for _ in range(2):
        with pytest.raises(ValueError, match="1"):
            main()
        lab.cell()
    assert sorted(N_BODIES) == [1, 1, 2]


def test_an_async_gather_waits_for_all_and_raises_the_first_failure(lab: Lab) -> None:
    ended: list[int] = []

    async def late(n: int) -> int:
        await asyncio.sleep(0.01)
        ended.append(await check_async(n))
        return n

    @flow
    async def main() -> list[int]:
        return await aio.gather(late(2), check_async(1), late(4))

    with pytest.raises(ValueError, match="1"):
        asyncio.run(main())
    assert sorted(ended) == [2, 4]


def test_what_is_no_policy_or_awaitable_is_refused(lab: Lab) -> None:
    with pytest.raises(ValueError, match=r'on_error is "raise" or "collect"'):
        iron.gather(on_error="ignore")
    with pytest.raises(TypeError, match=r"iron\.aio\.gather takes coroutines"):
        aio.gather(3)  # type: ignore[call-overload]

    @flow
    def main() -> None:
        aio.gather()

    with pytest.raises(AsyncMismatch, match=r"use iron\.gather"):
        main()
