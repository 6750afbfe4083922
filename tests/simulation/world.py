"""The steps of random programs, and the world outside of the journal in which their bodies act."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from random import Random
from typing import Any

from ironflow_nb import Breaker, Lane, engine, metric, step

MEASURING = {"work", "flaky", "slow", "trips", "work_async", "flaky_async", "slow_async", "trips_async"}
"""The steps whose bodies record a value."""


class World:
    """The world outside of the journal: which bodies ran, what was acknowledged, and who sleeps how long."""

    def __init__(self, dice: Random) -> None:
        self.dice = dice
        self.n_bodies: Counter[int] = Counter()
        self.acknowledged: set[int] = set()
        self.again: list[int] = []
        self.orders: dict[tuple[int, int], list[int]] = {}
        self.to_fail: dict[int, int] = {}
        self.to_hang: dict[int, int] = {}
        self.running: set[tuple[int, str]] = set()
        self.sleep: Any = None
        self.emitted: dict[int, str] = {}
        self.in_lane: list[str] = []
        self.dead: set[str] = set()
        self.tasks: list[asyncio.Task[Any]] = []
        self.standing: set[int] = set()
        self.probes: dict[object, str] = {}

    def body(self, n: int) -> None:
        """Note that the body of a call runs, for a while."""
        if n in self.acknowledged:
            self.again.append(n)
        self.n_bodies[n] += 1
        metric("n", n)
        for _ in range(self.dice.randrange(3)):
            self.sleep(self.dice.choice([0.0, 0.01, 0.2]))
        if self.to_fail.get(n, 0) > 0:
            self.to_fail[n] -= 1
            raise ConnectionError(n)

    async def async_body(self, n: int) -> None:
        """Note that the async body of a call runs, for a while."""
        if n in self.acknowledged:
            self.again.append(n)
        self.n_bodies[n] += 1
        metric("n", n)
        for _ in range(self.dice.randrange(3)):
            await asyncio.sleep(self.dice.choice([0.0, 0.01, 0.2]))
        if self.to_fail.get(n, 0) > 0:
            self.to_fail[n] -= 1
            raise ConnectionError(n)

    def undone(self, n: int) -> None:
        """Undo what a call did, which fails some times."""
        self.sleep(self.dice.choice([0.0, 0.2]))
        if self.to_fail.get(-n, 0) > 0:
            self.to_fail[-n] -= 1
            raise ConnectionError(n)
        self.standing.discard(n)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Note that a body is at work in the lane, in which two of living processes may be."""
        owner = engine().owner
        self.in_lane.append(owner)
        assert sum(each not in self.dead for each in self.in_lane) <= 2
        try:
            yield
        finally:
            self.in_lane.remove(owner)

    def probe(self, gate: object, owner: str) -> None:
        """Note that an attempt of the process probes a breaker, and at most one of living processes does."""
        self.probes[gate] = owner
        assert sum(each not in self.dead for each in self.probes.values()) == 1

    def hangs(self, n: int) -> float:
        """Return how long the body of a call that has a second of time hangs, if this attempt does."""
        if self.to_hang.get(n, 0) <= 0:
            return 0.0
        self.to_hang[n] -= 1
        return self.dice.choice([1.0, 1.5, 4.0])

    def got(self, n: int, value: Any) -> Any:
        """Note that the flow has got the result of a call."""
        self.acknowledged.add(n)
        return value


WORLD: list[World] = []


@step
def work(n: int) -> dict[str, int]:
    WORLD[-1].body(n)
    return {"n": n}


@step(retries=2)
def flaky(n: int) -> int:
    WORLD[-1].body(n)
    return n


@step(timeout_s=1, deadline_s=3600, retries=3)
def slow(n: int) -> int:
    """Take too long some times; no attempt begins beside the body of another one in the same process."""
    world = WORLD[-1]
    place = n, engine().owner
    assert place not in world.running
    world.running.add(place)
    world.body(n)
    world.sleep(world.hangs(n))
    world.running.discard(place)
    return n


@step(timeout_s=1, deadline_s=3600, retries=3)
async def slow_async(n: int) -> int:
    world = WORLD[-1]
    await world.async_body(n)
    await asyncio.sleep(world.hangs(n))
    return n


class SimPool(ThreadPoolExecutor):
    """An executor on the threads of the simulated process."""

    def __init__(self) -> None:
        self.threads = engine().threads

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def perform() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    result = fn(*args, **kwargs)
                except Exception as error:
                    future.set_exception(error)
                else:
                    future.set_result(result)

        self.threads.spawn("pool", perform)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        pass


elsewhere = slow.options(name="elsewhere", executor=SimPool)
"""The same in an executor, which begins what it is given when it likes."""
SLOW = {"slow": slow, "executor slow": elsewhere}


@step(lane=Lane("two", limit=2, rate="50/s"))
def laned(n: int) -> int:
    with WORLD[-1].entered():
        WORLD[-1].body(n)
    return n


@step(lane=Lane("two", limit=2, rate="50/s"), retries=2)
async def laned_async(n: int) -> int:
    with WORLD[-1].entered():
        await WORLD[-1].async_body(n)
    return n


@step
def broken(n: int) -> None:
    WORLD[-1].body(n)
    raise KeyError(n)


@step
def trips(n: int) -> int:
    """Fail the run that calls it, some times."""
    WORLD[-1].body(n)
    return n


@step
async def work_async(n: int) -> dict[str, int]:
    await WORLD[-1].async_body(n)
    return {"n": n}


@step(retries=2)
async def flaky_async(n: int) -> int:
    await WORLD[-1].async_body(n)
    return n


@step
async def broken_async(n: int) -> None:
    await WORLD[-1].async_body(n)
    raise KeyError(n)


@step
async def trips_async(n: int) -> int:
    await WORLD[-1].async_body(n)
    return n


@step
def order(ns: list[int], taken: list[int]) -> None:
    """Rest on the order in which the results of these calls were taken: that is the same ever after."""
    world, key = WORLD[-1], (min(ns), len(taken))
    if world.orders.setdefault(key, taken) != taken:
        world.again.append(taken[-1])


SERVICE = Breaker("service", failures=2, open_s=0.5)


@step(retries=3, breaker=SERVICE)
def guarded(n: int) -> int:
    WORLD[-1].body(n)
    return n


@step(retries=3, breaker=SERVICE)
async def guarded_async(n: int) -> int:
    await WORLD[-1].async_body(n)
    return n


@step(retries=2)
def undo(result: int) -> None:
    WORLD[-1].undone(result)


@step(retries=2)
async def undo_async(result: int) -> None:
    await asyncio.sleep(0.01)
    WORLD[-1].undone(result)


@step(compensate=undo)
def act(n: int) -> int:
    WORLD[-1].standing.add(n)
    WORLD[-1].body(n)
    return n


@step(compensate=undo_async)
async def act_async(n: int) -> int:
    WORLD[-1].standing.add(n)
    await WORLD[-1].async_body(n)
    return n
