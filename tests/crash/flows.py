"""Flows of every kind for the crash matrix; each notes bodies and acknowledgements in a log of the test."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from ironflow_nb import (
    Breaker,
    Lane,
    approve,
    as_completed,
    engine,
    flow,
    gather,
    now,
    random,
    runs,
    sleep,
    step,
    uuid4,
    wait_for,
)

LOG: list[tuple[str, object]] = []
BLOCK = b"ironflow" * 10_000


@step
def work(n: int) -> dict[str, int]:
    LOG.append(("body", n))
    return {"n": n}


@step
async def work_async(n: int) -> dict[str, int]:
    LOG.append(("body", n))
    await asyncio.sleep(0)
    return {"n": n}


@step
def large(n: int) -> bytes:
    LOG.append(("body", n))
    return BLOCK + bytes([n])


FAILED: set[int] = set()


@step(retries=2)
def flaky(n: int) -> int:
    if n not in FAILED:
        FAILED.add(n)
        raise ConnectionError(n)
    LOG.append(("body", n))
    return n


@step(retries=4, breaker=Breaker("service", failures=1, open_s=5))
def guarded(n: int) -> int:
    return int(flaky.fn(n))


def spend_too_long(n: int) -> None:
    """Spend more than a minute of the engine's time, once."""
    if n not in FAILED:
        FAILED.add(n)
        engine().clock.advance(61)  # type: ignore[attr-defined] -- the matrix gives a clock that stands still
    else:
        LOG.append(("body", n))


@step(lane=Lane("api", limit=1, rate="5/s", key="n"), retries=2)
def laned(n: int) -> int:
    if n not in FAILED:
        FAILED.add(n)
        raise ConnectionError(n)
    LOG.append(("body", n))
    return n


@flow(lane=Lane("crashes", limit=1))
def in_lanes() -> Any:
    return acknowledged(1, laned(1)), sleep(60), acknowledged(2, laned(2)), acknowledged(3, work(3))


@step(timeout_s=60, deadline_s="1d", retries=2)
def slow(n: int) -> int:
    spend_too_long(n)
    return n


def acknowledged(n: int, value: Any) -> Any:
    LOG.append(("ack", n))
    return value


@flow
def sequential() -> int:
    return sum(acknowledged(n, work(n))["n"] for n in range(4))


@flow
def mapped() -> int:
    return sum(acknowledged(result["n"], result)["n"] for result in work.map(range(6), concurrency=2))


@flow
def submitted() -> int:
    futures = {n: work.submit(n) for n in range(4)}
    return sum(acknowledged(n, future.result())["n"] for n, future in futures.items())


@flow
async def gathered() -> int:
    async def branch(n: int) -> int:
        first = acknowledged(n, await work_async(n))
        second = acknowledged(n + 10, await work_async(n + 10))
        return int(first["n"] + second["n"])

    return sum(await asyncio.gather(*map(branch, range(3))))


@flow
def retried() -> int:
    return sum(acknowledged(n, flaky(n)) for n in range(2))


class Inline(ThreadPoolExecutor):
    """An executor that performs a call while it is submitted."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


executed = flaky.options(name="executed", executor=Inline)


@flow
def in_an_executor() -> int:
    return acknowledged(0, executed(0)) + sum(acknowledged(n, n) for n in executed.map([1, 2, 3], concurrency=2))


@flow
def behind_a_breaker() -> int:
    return sum(acknowledged(n, guarded(n)) for n in range(2))


@flow(timeout_s="2d", deadline_s="7d")
def timed_out() -> int:
    return sum(acknowledged(n, slow(n)) for n in range(2)) + sum(acknowledged(n, n) for n in slow.map([2, 3]))


@flow
def child(n: int) -> int:
    return sum(acknowledged(10 * n + k, work(10 * n + k))["n"] for k in range(2))


@step
def order(taken: list[int]) -> list[int]:
    """Rest on the order in which results were taken: another one would be another call."""
    LOG.append(("body", tuple(taken)))
    SEEN.setdefault(-len(taken), set()).add(str(taken))
    return taken


@flow
def taken_as_completed() -> int:
    futures = as_completed([*map(work.submit, range(2)), partial(child, 3)])
    taken: list[int] = []
    for future in futures:
        result = future.result()
        taken.append(result["n"] if isinstance(result, dict) else result)
        acknowledged(tuple(taken), order(taken))
    return sum(taken)


@flow
def collected() -> int:
    found = gather(partial(broken_branch, 1), partial(child, 2), work.submit(3), on_error="collect")
    acknowledged(4, work(4))
    return sum(isinstance(each, KeyError) for each in found)


def broken_branch(n: int) -> None:
    work(n)
    broken()


@flow
def waits() -> int:
    total = acknowledged(1, work(1))["n"]
    sleep(3600)
    with contextlib.suppress(TimeoutError):
        wait_for("never sent", timeout_s=60)
    return total + acknowledged(2, work(2))["n"] + sum(gather(partial(waiting_branch, 3), partial(waiting_branch, 4)))


@flow
def asks() -> int:
    total = acknowledged(1, work(1))["n"]
    with contextlib.suppress(TimeoutError):
        approve("Go on?", [total], timeout_s=3600)
    return total + acknowledged(2, work(2))["n"]


def waiting_branch(n: int) -> int:
    sleep(n)
    return acknowledged(n, work(n))["n"]


@flow
def parent() -> int:
    return sum(acknowledged(100 + n, child(n)) for n in (1, 2)) + acknowledged(3, work(3))["n"]


@flow
def large_values() -> int:
    return sum(len(acknowledged(n, large(n))) for n in range(3))


@flow
def lived_with() -> str:
    with contextlib.suppress(KeyError):
        broken()
    return f"lived {acknowledged(1, work(1))['n']}"


@step
def broken() -> None:
    raise KeyError("always")


SEEN: dict[int, set[object]] = {}


@step
def pay(n: int, key: object) -> int:
    SEEN.setdefault(n, set()).add(key)
    LOG.append(("body", n))
    return n


@step
async def pay_async(n: int, key: object) -> int:
    SEEN.setdefault(n, set()).add(key)
    LOG.append(("body", n))
    await asyncio.sleep(0)
    return n


def keyed(n: int) -> int:
    return int(acknowledged(n, pay(n, (uuid4(), now(), random()))))


@flow
def with_keys() -> int:
    return sum(keyed(n) for n in range(3))


@flow
def with_keys_side_by_side() -> int:
    total = sum(acknowledged(n, n) for n in pay.map(range(3), [uuid4() for _ in range(3)], concurrency=2))
    return int(total) + sum(gather(*(partial(keyed, n) for n in (3, 4))))


@flow
def keyed_child(n: int, key: object) -> int:
    return int(acknowledged(n, pay(n, key))) + keyed(n + 1)


@flow
def children_with_keys() -> int:
    return sum(keyed_child(10 * n, uuid4()) for n in range(2))


@flow
async def async_with_keys() -> int:
    async def one(n: int) -> int:
        return int(acknowledged(n, await pay_async(n, uuid4())))

    return sum(await asyncio.gather(*map(one, range(3))))


@flow
def beside(n: int) -> int:
    return n


@flow
def starts_others() -> bool:
    """Return True if each start has begun one run, whatever has died between its record and the run."""
    ids = {beside.start(1, detach=True).id for _ in range(2)}
    acknowledged(1, work(1))
    ids.add(beside.options(key="one").start(2, detach=True).id)
    acknowledged(2, work(2))
    return ids == set(runs(flow=beside.name)["run_id"])


FLOWS = {
    found.name.rpartition(".")[2]: found
    for found in (
        sequential, mapped, submitted, gathered, retried, parent, large_values, lived_with, waits, asks, timed_out,
        with_keys, with_keys_side_by_side, children_with_keys, async_with_keys, taken_as_completed, collected,
        in_an_executor, in_lanes, behind_a_breaker, starts_others,
    )
}  # fmt: skip


def reset() -> None:
    """Put the outer world back to its beginning."""
    LOG.clear()
    FAILED.clear()
    SEEN.clear()


def other_keys() -> list[int]:
    """Return the payments that were begun with more than one key."""
    return [n for n, keys in SEEN.items() if len(keys) > 1]


def ran_again() -> list[object]:
    """Return what was acknowledged and whose body ran afterwards."""
    acked: set[object] = set()
    again: list[object] = []
    for what, n in LOG:
        if what == "ack":
            acked.add(n)
        elif n in acked:
            again.append(n)
    return again
