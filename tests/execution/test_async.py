"""Async flows: awaited, gathered, interrupted, in branches of their own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from tests.cells import World
from tests.conftest import Lab


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coroutine)


def test_an_async_flow_is_awaited_and_returns_its_value(lab: Lab) -> None:
    @step
    async def work(n: int) -> int:
        await asyncio.sleep(0)
        return n + 1

    @flow
    async def main(n: int) -> list[int]:
        return [await work(i) for i in range(n)]

    assert run(main(3)) == [1, 2, 3]
    assert main.last.status == "completed"


def test_an_async_flow_runs_in_the_background_too(lab: Lab) -> None:
    @step
    async def work(n: int) -> int:
        return n + 1

    @flow
    async def main() -> int:
        return await work(1)

    assert main.start().result(timeout_s=10) == 2


def test_gathered_steps_share_commits(lab: Lab) -> None:
    @step
    async def work(n: int) -> int:
        return n

    @flow
    async def main() -> list[int]:
        return await asyncio.gather(*[work(n) for n in range(200)])

    commits = []
    append = lab.engine.journal.append
    lab.engine.journal.append = lambda *args, **kwargs: (commits.append(1), append(*args, **kwargs))[1]
    assert run(main()) == list(range(200))
    assert len(commits) < 40


def test_def_steps_run_inline_and_by_submit_and_map_in_an_async_flow(lab: Lab) -> None:
    @step
    def work(n: int) -> int:
        return n + 1

    @flow
    async def main() -> tuple[int, int, list[int]]:
        return work(1), await work.submit(2), await work.map(range(5), concurrency=2)

    assert run(main()) == (2, 3, [1, 2, 3, 4, 5])


def test_reading_a_map_that_is_not_there_yet_names_await(lab: Lab) -> None:
    @step
    async def work(n: int) -> int:
        await asyncio.sleep(0.01)
        return n

    @flow
    async def main() -> list[int]:
        return list(work.map(range(5)))

    with pytest.raises(iron.errors.AsyncMismatch, match="await"):
        run(main())


def test_two_gathered_branches_never_swap_what_they_created(lab: Lab, world: World) -> None:
    @step
    async def download(name: str) -> None:
        await asyncio.sleep(0.3 if name == world.slow else 0)

    @step
    async def create() -> int:
        world.did("create")
        return len(world.log)

    @step
    async def label(ticket: int, name: str) -> str:
        world.did("label", ticket, name)
        return f"{name} has {ticket}"

    @step
    async def stop() -> None:
        if world.is_broken:
            raise RuntimeError

    async def branch(name: str) -> str:
        await download(name)
        ticket = await create()
        return await label(ticket, name)

    @flow
    async def main() -> list[str]:
        done = await asyncio.gather(branch("A"), branch("B"))
        await stop()
        return done

    world.slow = "A"
    with pytest.raises(RuntimeError):
        run(main())
    assert world.log == ["create", ("label", 1, "B"), "create", ("label", 3, "A")]
    world.slow, world.is_broken = "B", False
    lab.cell()
    assert run(main()) == ["A has 3", "B has 1"]
    assert len(world.log) == 4


def test_branches_are_recognised_by_name_and_arguments_and_number(lab: Lab) -> None:
    @step
    async def work(n: int) -> int:
        return n

    async def child(n: int) -> int:
        return await work(n)

    @flow
    async def main() -> None:
        await asyncio.gather(child(1), child(2), child(1))

    run(main())
    branches = sorted(main.last.attempts()["branch"])
    assert len(set(branches)) == 3
    assert all(branch.startswith("/") for branch in branches)
    assert [branch[-2:] for branch in branches].count(".0") == 2


def test_a_cancelled_await_interrupts_the_run_and_it_continues(lab: Lab, world: World) -> None:
    @step
    async def work(n: int) -> int:
        world.did(n)
        if n == 2 and world.is_broken:
            await asyncio.sleep(30)
        return n

    @flow
    async def main() -> list[int]:
        return [await work(n) for n in range(4)]

    async def cell() -> None:
        task = asyncio.ensure_future(main())
        while 2 not in world.log:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(cell())
    main.last.wait(5)
    assert main.last.status == "interrupted"
    world.is_broken = False
    lab.cell()
    assert run(main()) == [0, 1, 2, 3]
    assert world.log == [0, 1, 2, 2, 3]


def test_a_forgotten_await_is_said_at_the_end(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    @step
    async def work() -> int:
        return 1

    @flow
    async def main() -> int:
        world = work()
        await asyncio.sleep(0)
        world.close()
        return 1

    with caplog.at_level("INFO", "ironflow_nb"):
        assert run(main()) == 1
    assert any("never awaited" in record.message for record in caplog.records)


def test_a_step_called_in_asyncio_to_thread_is_recorded(lab: Lab) -> None:
    @step
    def work(n: int) -> int:
        return n

    @flow
    async def main() -> int:
        return await asyncio.to_thread(work, 3)

    assert run(main()) == 3
    assert len(main.last.steps()) == 1


def test_the_failure_of_an_async_step_is_raised_as_it_is(lab: Lab) -> None:
    @step
    async def work() -> int:
        raise KeyError("k")

    @flow
    async def main() -> int:
        return await work()

    with pytest.raises(KeyError, match="k"):
        run(main())
    assert main.last.status == "failed"
    assert isinstance(main.last.error, KeyError)


def test_an_engine_with_a_loop_is_closed_as_often_as_one_likes(lab: Lab) -> None:
    @step
    async def work() -> int:
        return 1

    @flow
    async def main() -> int:
        return await work()

    assert run(main()) == 1
    lab.engine.close()
    time.sleep(0.1)  # its thread ends the loop by and by
    lab.engine.close()
