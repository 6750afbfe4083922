"""Async flows of every kind for the crash matrix; each notes bodies and acknowledgements in the log of `flows`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from ironflow_nb import aio, flow, step
from ironflow_nb.core.retry import Retry
from tests.crash import flows
from tests.crash.flows import acknowledged, work, work_async


@step(retries=Retry(attempts=3, delay_s=0.01))
async def flaky_async(n: int) -> int:
    if n not in flows.FAILED:
        flows.FAILED.add(n)
        raise ConnectionError(n)
    flows.LOG.append(("body", n))
    return n


@step(timeout_s=60, deadline_s="1d", retries=2)
async def slow_async(n: int) -> int:
    flows.spend_too_long(n)
    await asyncio.sleep(0)
    return n


@flow
async def timed_out_async() -> int:
    first = acknowledged(0, await slow_async(0))
    return first + sum(await asyncio.gather(*map(slow_async, (1, 2)))) + acknowledged(3, await flows.slow.submit(3))


@flow
async def in_an_executor_async() -> int:
    first = acknowledged(0, await flows.executed.submit(0))
    return first + sum(acknowledged(n, n) for n in await flows.executed.map([1, 2, 3], concurrency=2))


@step
async def broken_async() -> None:
    raise KeyError("always")


async def got(n: int) -> int:
    return int(acknowledged(n, await work_async(n))["n"])


@flow
async def awaited() -> int:
    return sum([await got(n) for n in range(4)])


@flow
async def grouped() -> int:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(got(n)) for n in range(3)]
    return sum(task.result() for task in tasks)


@flow
async def mapped_async() -> int:
    found = await work_async.map(range(4), concurrency=2)
    return sum(acknowledged(result["n"], result)["n"] for result in found)


@flow
async def bridged() -> int:
    """Call ``def`` steps here, in a thread of the pool and in one of asyncio's."""
    futures = [(n, work.submit(n)) for n in (1, 2)]
    total = acknowledged(0, work(0))["n"] + sum([acknowledged(n, await future)["n"] for n, future in futures])
    return int(total + acknowledged(3, await asyncio.to_thread(work, 3))["n"])


@flow
async def retried_async() -> int:
    return sum(await asyncio.gather(*[flaky_async(n) for n in range(2)])) + acknowledged(5, await flaky_async(5))


@flow
async def child_async(n: int) -> int:
    return await got(10 * n) + await got(10 * n + 1)


@flow
async def children_side_by_side() -> int:
    return sum(await asyncio.gather(child_async(1), child_async(2))) + await got(3)


@flow
async def waits_async() -> int:
    async def branch(n: int) -> int:
        await aio.sleep(n)
        return await got(n)

    await aio.sleep("1h")
    with contextlib.suppress(TimeoutError):
        await aio.wait_for("never sent", timeout_s=60)
    return sum(await asyncio.gather(branch(1), branch(2), got(3)))


@flow
async def asks_async() -> int:
    first = await got(1)
    with contextlib.suppress(TimeoutError):
        await aio.ask("Which?", type=int, timeout_s=60)
    return first + await got(2)


@flow
async def left_behind() -> int:
    """Leave tasks to the end of the flow, one of them cancelled."""
    first, second, cancelled = (asyncio.create_task(work_async(n)) for n in range(3))
    cancelled.cancel()
    await asyncio.wait([first, second], return_when=asyncio.FIRST_COMPLETED)
    return await got(5)


@flow
async def lived_with_async() -> str:
    results = await asyncio.gather(got(1), broken_async(), return_exceptions=True)
    with contextlib.suppress(KeyError):
        await broken_async()
    return f"lived {results[0]} {await got(2)}"


async def pages() -> AsyncIterator[int]:
    for n in range(3):
        yield (await work_async(n))["n"] + 10


@flow
async def taken_as_completed_async() -> int:
    taken: list[int] = []
    calls = [got(0), work_async(1), flows.work.submit(2), aio.sleep(0.01)]
    async for future in aio.as_completed(calls):
        result = await future
        taken.append(result["n"] if isinstance(result, dict) else result or -1)
        acknowledged(tuple(taken), flows.order(taken))
    return sum(taken)


@flow
async def streamed() -> int:
    total = 0
    async for result in work_async.map(pages(), concurrency=2):
        total += acknowledged(result["n"], result)["n"]
    return total


FLOWS = {
    found.name.rpartition(".")[2]: found
    for found in (
        awaited, grouped, mapped_async, bridged, retried_async, children_side_by_side, left_behind, lived_with_async,
        waits_async, asks_async, timed_out_async, taken_as_completed_async, streamed,
        in_an_executor_async,
    )
}  # fmt: skip
