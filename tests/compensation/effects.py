"""Steps with effects that can be undone, and what they leave behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ironflow_nb import flow, step

LOG: list[Any] = []
BROKEN: set[Any] = set()


@step
def undo(result: int) -> int:
    LOG.append(result)
    if result in BROKEN:
        raise ConnectionError(result)
    return result


@step(compensate=undo)
def act(n: int) -> int:
    return n


async def undo_async(result: int) -> None:
    await asyncio.sleep(0)
    LOG.append(result)


@step(compensate=undo_async)
async def act_async(n: int) -> int:
    return n


@step
def fail(n: int = 0) -> None:
    LOG.append("fails")
    raise ValueError(n)


@flow
def child(n: int) -> int:
    act(n)
    return act(n + 1)


@flow
def failing_child(n: int) -> None:
    act(n)
    fail()


def statuses(run: Any) -> dict[str, str]:
    frame = run.steps()
    return dict(zip(frame["step"], frame["status"], strict=True))


def outcome(call: Any) -> Any:
    with pytest.raises(ValueError, match="0") as caught:
        call()
    return caught.value
