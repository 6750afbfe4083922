"""Random programs of steps: what they are, what they come to, and the flow that runs them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from random import Random
from typing import Any

from ironflow_nb import aio, approve, as_completed, ask, emit, flow, gather, on_failure, sleep, wait_for
from tests.simulation.world import (
    SLOW,
    WORLD,
    World,
    act,
    act_async,
    broken,
    broken_async,
    elsewhere,
    flaky,
    flaky_async,
    guarded,
    guarded_async,
    laned,
    laned_async,
    order,
    slow,
    slow_async,
    trips,
    trips_async,
    undo,
    work,
    work_async,
)

Program = list[dict[str, Any]]


def sevenfold(n: int) -> int:
    """Be a branch of two steps."""
    return int(work(n)["n"]) * 3 + int(work(-n)["n"]) * -4


async def sevenfold_async(n: int) -> int:
    """Be a task of two steps."""
    return int((await work_async(n))["n"]) * 3 + int((await work_async(-n))["n"]) * -4


def note_emitted(n: int) -> int:
    """Emit an event, and note its id: a replay gets the same one."""
    emitted = WORLD[-1].emitted.setdefault(n, event := emit("simulated", n))
    assert emitted == event
    return n


def play(program: Program) -> int:  # noqa: PLR0915 -- a statement for each kind of part
    """Do what the program says."""
    world, total = WORLD[-1], 0
    for part in program:
        ns = part["ns"]
        match part["do"]:
            case "call":
                total += sum(world.got(n, work(n))["n"] for n in ns)
            case "map":
                total += sum(world.got(value["n"], value)["n"] for value in work.map(ns, concurrency=part["width"]))
            case "submit":
                futures = [(n, work.submit(n)) for n in ns]
                total += sum(world.got(n, future.result())["n"] for n, future in futures)
            case "as completed":
                taken: list[int] = []
                for future in as_completed([partial(sevenfold, n) if n % 2 else flaky.submit(n) for n in ns]):
                    value = future.result()
                    taken.append(value // 7 if value % 7 == 0 and value // 7 in ns else value)
                    order(ns, taken)
                total += sum(taken)
            case "flaky":
                total += sum(world.got(n, flaky(n)) for n in ns)
            case "flaky map":
                total += sum(world.got(value, value) for value in flaky.map(ns, concurrency=part["width"]))
            case "slow" | "executor slow":
                total += sum(world.got(n, SLOW[part["do"]](n)) for n in ns)
            case "slow map" | "executor slow map":
                found = SLOW[part["do"].removesuffix(" map")].map(ns, concurrency=part["width"])
                total += sum(world.got(value, value) for value in found)
            case "lane":
                total += sum(world.got(n, laned(n)) for n in ns)
            case "lane map":
                total += sum(world.got(value, value) for value in laned.map(ns, concurrency=part["width"]))
            case "guarded":
                total += sum(world.got(n, guarded(n)) for n in ns)
            case "guarded map":
                total += sum(world.got(value, value) for value in guarded.map(ns, concurrency=part["width"]))
            case "undone":
                try:
                    undone(ns, part["width"])
                except KeyError:
                    total += sum(ns)
            case "broken":
                for n in ns:
                    try:
                        broken(n)
                    except KeyError:
                        total += 1
            case "trip":
                beside = [(n, work.submit(n)) for n in ns[1:]]
                total += world.got(ns[0], trips(ns[0]))
                total += sum(world.got(n, future.result())["n"] for n, future in beside)
            case "sleep":
                sleep(part["width"])
            case "signal":
                total += sum(wait_for(f"signal {n}") for n in ns)
            case "question":
                total += sum(ask(f"question {n}", type=int) if n % 2 else n * approve(f"question {n}") for n in ns)
            case "emit":
                total += sum(map(note_emitted, ns))
            case "no signal":
                try:
                    wait_for("never sent", timeout_s=part["width"])
                except TimeoutError:
                    total += sum(ns)
            case "child":
                total += child(part["program"])
            case "gather":
                total += sum(gather(*(partial(play, branch) for branch in part["branches"])))
    return total


async def streamed(ns: list[int]) -> AsyncIterator[int]:
    """Yield the numbers, with a call of a step before each."""
    for n in ns:
        yield -int((await work_async(-n))["n"])


async def results_of(ns: list[int], width: int) -> AsyncIterator[int]:
    """Yield the results of a map over what comes with time."""
    try:
        found = work_async.map(streamed(ns), concurrency=width)
    finally:
        WORLD[-1].tasks += asyncio.all_tasks()
    async for value in found:
        yield value["n"]


async def take(ns: list[int]) -> int:
    """Take results of several calls as they come."""
    taken: list[int] = []
    calls = [sevenfold_async(n) if n % 3 == 0 else (flaky.submit if n % 2 else flaky_async)(n) for n in ns]
    try:
        futures = aio.as_completed(calls)
    finally:
        WORLD[-1].tasks += asyncio.all_tasks()
    async for future in futures:
        value = await future
        taken.append(value // 7 if value % 7 == 0 and value // 7 in ns else value)
        order(ns, taken)
    return sum(taken)


async def play_async(program: Program) -> int:
    """Do what the program says, in an async flow."""
    return sum([await play_part(part, part["ns"]) for part in program])


async def play_part(part: dict[str, Any], ns: list[int]) -> int:  # noqa: PLR0915 -- a statement for each kind of part
    """Do one part of a program in an async flow."""
    world = WORLD[-1]

    async def got(n: int) -> int:
        return int(world.got(n, await work_async(n))["n"])

    match part["do"]:
        case "call":
            return sum([await got(n) for n in ns])
        case "inline":
            return sum(world.got(n, work(n))["n"] for n in ns)
        case "map":
            step = work_async if part["width"] > 1 else work
            return sum(world.got(value["n"], value)["n"] for value in await step.map(ns, concurrency=part["width"]))
        case "submit":
            futures = [(n, (work_async if n % 2 else work).submit(n)) for n in ns]
            return sum([world.got(n, await future)["n"] for n, future in futures])
        case "as completed":
            return await take(ns)
        case "stream":
            return sum([world.got(n, n) async for n in results_of(ns, part["width"])])
        case "flaky":
            return sum([world.got(n, await flaky_async(n)) for n in ns])
        case "flaky map":
            return sum(world.got(value, value) for value in await flaky_async.map(ns, concurrency=part["width"]))
        case "slow":
            return sum([world.got(n, await (slow_async(n) if n % 2 else slow.submit(n))) for n in ns])
        case "lane":
            return sum(world.got(n, m) for n, m in zip(ns, await asyncio.gather(*map(laned_async, ns)), strict=True))
        case "lane map":
            step = laned_async if part["width"] > 1 else laned
            return sum(world.got(value, value) for value in await step.map(ns, concurrency=part["width"]))
        case "slow map":
            step = slow_async if part["width"] > 1 else slow
            return sum(world.got(value, value) for value in await step.map(ns, concurrency=part["width"]))
        case "executor slow":
            return sum([world.got(n, await elsewhere.submit(n)) for n in ns])
        case "executor slow map":
            return sum(world.got(value, value) for value in await elsewhere.map(ns, concurrency=part["width"]))
        case "guarded":
            return sum([world.got(n, await guarded_async(n)) for n in ns])
        case "guarded map":
            step = guarded_async if part["width"] > 1 else guarded
            return sum(world.got(value, value) for value in await step.map(ns, concurrency=part["width"]))
        case "undone":
            try:
                await undone_async(ns, part["width"])
            except KeyError:
                return sum(ns)
        case "broken":
            results = await asyncio.gather(*map(broken_async, ns), return_exceptions=True)
            return sum(isinstance(result, KeyError) for result in results)
        case "steps":
            return sum(await asyncio.gather(*map(got, ns)))
        case "trip":
            first, *others = await asyncio.gather(trips_async(ns[0]), *map(got, ns[1:]))
            return int(world.got(ns[0], first)) + sum(others)
        case "group":
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(got(n)) for n in ns[1:]]
                first_task = group.create_task(trips_async(ns[0]))
            return int(world.got(ns[0], first_task.result())) + sum(task.result() for task in tasks)
        case "beside":
            world.tasks += [asyncio.create_task(work_async(n)) for n in ns]
        case "race":
            world.tasks += (tasks := [asyncio.create_task(work_async(n)) for n in ns])
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        case "timeout":
            for n in ns:
                with suppress(TimeoutError):
                    await asyncio.wait_for(work_async(n), 0.01)
        case "sleep":
            await aio.sleep(part["width"])
        case "signal":
            return sum(await asyncio.gather(*(aio.wait_for(f"signal {n}") for n in ns)))
        case "question":
            return sum(await asyncio.gather(*(aio.ask(f"question {n}", choices=[n]) for n in ns)))
        case "emit":
            return sum(note_emitted(n) for n in ns)
        case "no signal":
            try:
                await aio.wait_for("never sent", timeout_s=part["width"])
            except TimeoutError:
                return sum(ns)
        case "child":
            return await child_async(part["program"])
        case "gather":
            return sum(await asyncio.gather(*map(play_async, part["branches"])))
        case "children":
            return sum(await asyncio.gather(*map(child_async, part["branches"])))
    return 0


@flow
def child(program: Program) -> int:
    return play(program)


@flow
async def child_async(program: Program) -> int:
    return await play_async(program)


@flow
def undone(ns: list[int], width: int) -> None:
    """Do what is undone, for it fails in the end."""
    act(ns[0])
    on_failure(undo, -ns[0])
    list(act.map(ns[1:], concurrency=width))
    broken(0)


@flow
async def undone_async(ns: list[int], width: int) -> None:
    await act_async(ns[0])
    on_failure(undo, -ns[0])
    await (act_async if width > 1 else act).map(ns[1:], concurrency=width)
    await broken_async(0)


@flow
def main(program: Program) -> int:
    return play(program)


@flow
async def main_async(program: Program) -> int:
    return await play_async(program)


def expected(program: Program) -> int:
    """Return what the program comes to."""
    total = 0
    for part in program:
        match part["do"]:
            case "broken":
                total += len(part["ns"])
            case "child":
                total += expected(part["program"])
            case "gather" | "children":
                total += sum(map(expected, part["branches"]))
            case "beside" | "race" | "timeout" | "sleep":
                pass
            case _:
                total += sum(part["ns"])
    return total


def signals(program: Program) -> list[int]:
    """Return the payloads of the signals for which the program waits; none is waited for in a child."""
    inside = [n for part in program for branch in part.get("branches", []) for n in signals(branch)]
    return inside + [n for part in program if part["do"] == "signal" for n in part["ns"]]


def questions(program: Program) -> list[int]:
    """Return the answers for which the program and its children wait."""
    inside = [each for part in program for each in part.get("branches") or [part.get("program", [])]]
    own = [n for part in program if part["do"] == "question" for n in part["ns"]]
    return own + [n for each in inside for n in questions(each)]


KINDS = [
    "call", "map", "submit", "flaky", "flaky map", "broken", "trip", "sleep", "no signal", "signal", "slow", "slow map",
    "as completed", "emit", "executor slow", "executor slow map", "lane", "lane map", "question", "question",
    "guarded", "guarded map",
]  # fmt: skip
ASYNC_KINDS = [*KINDS, "inline", "steps", "group", "beside", "race", "timeout", "stream"]
GUARDED = ["guarded", "guarded map", "guarded map", "sleep"]
UNDOING = ["call", "map", "flaky", "lane", "guarded map", "sleep", "signal", "question", "undone", "undone", "undone"]
"""Without what fails the whole run, which then would be undone as a whole."""
PEOPLE = ["call", "map", "flaky", "trip", "sleep", "signal", "question", "question"]


def random_program(
    dice: Random, world: World, *, is_async: bool, depth: int = 0, is_child: bool = False, of: list[str] | None = None
) -> Program:
    """Return a program of up to four parts, in which no call is made twice."""
    program: Program = []
    deepest = dice.choice([1, 1, 2])
    kinds = [kind for kind in of or (ASYNC_KINDS if is_async else KINDS) if not (is_child and kind == "signal")]
    if depth < deepest:
        kinds = [*kinds, "child", "gather", *(["children"] if is_async else [])]
    for _ in range(dice.randrange(1, 5)):
        kind = dice.choice(kinds)
        ns = [dice.randrange(10**9) for _ in range(dice.randrange(1, 5))]
        if kind == "undone":
            world.to_fail |= {-n: dice.randrange(3) for n in ns}
        if "flaky" in kind or "guarded" in kind or kind == "as completed":
            world.to_fail |= {n: dice.randrange(3) for n in ns}
        if "slow" in kind:
            world.to_hang |= {n: dice.randrange(3) for n in ns}
        if kind in {"trip", "group"}:
            world.to_fail[ns[0]] = dice.randrange(3)
        part: dict[str, Any] = {"do": kind, "ns": ns, "width": dice.randrange(1, 4)}
        n_branches = {"child": 1, "gather": dice.randrange(1, 4), "children": 2}.get(kind, 0)
        inside = is_child or kind in {"child", "children"}
        branches = [
            random_program(dice, world, is_async=is_async, depth=depth + 1, is_child=inside, of=of)
            for _ in range(n_branches)
        ]
        part |= {"program": branches[0]} if kind == "child" else {"branches": branches}
        program.append(part)
    return program
