"""Flows that people, signals, lanes, breakers and children take part in, for the crash matrix, in both forms."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial

from ironflow_nb import Breaker, Lane, aio, all_of, any_of, approve, ask, engine, flow, gather, get_run, step, wait_for
from ironflow_nb.core.retry import Retry
from ironflow_nb.errors import NothingToDo, RunFinished
from ironflow_nb.handles.open_questions import answer_question, asked_now
from ironflow_nb.journal.ports import Select
from tests.crash import flows
from tests.crash.flows import acknowledged, work, work_async

REPLIES: dict[tuple[object, int], tuple[str, str]] = {}
"""Which question a person answers; those of one round have its clock, for threads of a dead process may still end."""
ANSWERS = {"Go on?": True, "How many?": 7}


@step
def reply(n: int) -> int:
    """Be the person who answers what the flow asks meanwhile. A body that runs again answers the same question."""
    key = engine().clock, n
    while key not in REPLIES:
        asked = [(each.row.run_id, each.row.step) for each, _, _ in asked_now(engine())]
        if new := [each for each in asked if each not in REPLIES.values()]:
            REPLIES[key] = new[0]
        look_later()
    run_id, name = REPLIES[key]
    with suppress(NothingToDo, RunFinished):  # the body that died had answered it
        answer_question(engine(), run_id, ANSWERS["Go on?" if "approve" in name else "How many?"], name)
    flows.LOG.append(("body", n))
    return n


def look_later() -> None:
    with engine().access.current():  # which a process that has died refuses
        pass
    engine().clock.wait(engine().threads.wakeup(), 0.001)


def how_many() -> int:
    return ask("How many?", type=int) + int(approve("Go on?"))


def replied(*numbers: int) -> int:
    return sum(acknowledged(n, reply(n)) for n in numbers)


@flow
def asking_child() -> int:
    return acknowledged(51, work(51))["n"] + how_many()


@flow
def answered() -> int:
    total = acknowledged(1, work(1))["n"] + sum(gather(how_many, partial(replied, 2, 3)))
    return total + sum(gather(asking_child, partial(replied, 4, 5)))


async def how_many_async() -> int:
    return await aio.ask("How many?", type=int) + int(await aio.approve("Go on?"))


async def replied_async(*numbers: int) -> int:
    return sum([acknowledged(n, await reply.submit(n)) for n in numbers])


@flow
async def asking_child_async() -> int:
    return acknowledged(51, await work_async(51))["n"] + await how_many_async()


@flow
async def answered_async() -> int:
    total = acknowledged(1, await work_async(1))["n"]
    total += sum(await asyncio.gather(how_many_async(), replied_async(2, 3)))
    return total + sum(await asyncio.gather(asking_child_async(), replied_async(4, 5)))


@step
def send(name: str, n: int) -> int:
    """Send a signal to the run; of a body that runs again nobody takes the second one."""
    with engine().reading() as reader:
        [run] = reader.runs(Select(limit=1))
    get_run(run.run_id).signal(name, n)
    flows.LOG.append(("body", n))
    return n


def taken() -> int:
    name, first = wait_for(any_of("never", "first"))
    return first * len(name) + sum(wait_for(all_of("second", "third")).values()) + wait_for("fourth")


@flow
def signalled() -> int:
    sent = [partial(send, name, n) for n, name in enumerate(("third", "fourth", "first", "second"))]
    return sum(acknowledged(("sum",), gather(taken, *sent)))


async def taken_async() -> int:
    name, first = await aio.wait_for(any_of("never", "first"))
    return (
        first * len(name) + sum((await aio.wait_for(all_of("second", "third"))).values()) + await aio.wait_for("fourth")
    )


@flow
async def signalled_async() -> int:
    sent = [send.submit(name, n) for n, name in enumerate(("third", "fourth", "first", "second"))]
    return sum(acknowledged(("sum",), await asyncio.gather(taken_async(), *sent)))


LANE = Lane("queue", limit=1, key=lambda n: n % 2)
AGAIN = Retry(attempts=3, delay_s=0.01)


@step(lane=LANE, retries=AGAIN)
def queued(n: int) -> int:
    return int(flows.laned.fn(n))


@step(lane=LANE, retries=AGAIN)
async def queued_async(n: int) -> int:
    await asyncio.sleep(0)
    return int(flows.laned.fn(n))


@flow
def mapped_in_lanes() -> int:
    found = queued.map([1, 2, 3], concurrency=3)
    return sum(acknowledged(n, n) for n in found) + laned_child(4)


@flow
def laned_child(n: int) -> int:
    return sum(acknowledged(each, queued(each)) for each in (n, n + 1))


@flow
async def laned_child_async(n: int) -> int:
    return sum([acknowledged(each, await queued_async(each)) for each in (n, n + 1)])


@flow
async def in_lanes_async() -> int:
    total = sum(acknowledged(n, n) for n in await queued_async.map([1, 2, 3], concurrency=3))
    return total + sum(await asyncio.gather(laned_child_async(4), queued_async(6)))


@step(retries=Retry(attempts=5, delay_s=0.01), breaker=Breaker("async service", failures=2, open_s=5))
async def guarded_async(n: int) -> int:
    await asyncio.sleep(0)
    return int(flows.flaky.fn(n))


@flow
async def behind_a_breaker_async() -> int:
    return sum(await asyncio.gather(*map(guarded_async, range(3)))) + acknowledged(3, await guarded_async(3))


@step(retries=Retry(attempts=5, delay_s=0.01), breaker=Breaker("mapped service", failures=2, open_s=5))
def guarded(n: int) -> int:
    return int(flows.flaky.fn(n))


@flow
def mapped_behind_a_breaker() -> int:
    return sum(acknowledged(n, n) for n in guarded.map(range(4), concurrency=3))


@flow
async def mapped_behind_a_breaker_async() -> int:
    return sum(acknowledged(n, n) for n in await guarded_async.map(range(4), concurrency=3))


@step(lane=Lane("rated", limit=2, rate="5/s"), retries=AGAIN)
def rated(n: int) -> int:
    return int(flows.laned.fn(n))


@flow
def mapped_at_a_rate() -> int:
    return sum(acknowledged(n, n) for n in rated.map(range(3), concurrency=3))


@step(lane=Lane("rated async", limit=2, rate="5/s"), retries=AGAIN)
async def rated_async(n: int) -> int:
    await asyncio.sleep(0)
    return int(flows.laned.fn(n))


@flow
async def mapped_at_a_rate_async() -> int:
    return sum(acknowledged(n, n) for n in await rated_async.map(range(3), concurrency=3))


async def broken_branch_async(n: int) -> None:
    await work_async(n)
    flows.broken()


@flow
async def collected_async() -> int:
    found = await aio.gather(broken_branch_async(1), work_async(2), work_async(3), on_error="collect")
    acknowledged(4, await work_async(4))
    return sum(isinstance(each, KeyError) for each in found)


FLOWS = {
    found.name.rpartition(".")[2]: found
    for found in (
        answered, answered_async, signalled, signalled_async, mapped_in_lanes, in_lanes_async,
        behind_a_breaker_async, collected_async, mapped_behind_a_breaker, mapped_behind_a_breaker_async,
        mapped_at_a_rate, mapped_at_a_rate_async,
    )
}  # fmt: skip
