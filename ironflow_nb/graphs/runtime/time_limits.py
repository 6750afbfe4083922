"""The ``timeout_s`` of nodes: how long one try may take, and what becomes of a body that takes longer.

What is awaited is cancelled. A function on a thread can't be stopped: it goes on alone, nobody hears of it, and another
try of its step waits until it is done, so that two of them never run at once.
"""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable
from typing import Any, Final

from ironflow_nb.core.identity import RunId, StepRef
from ironflow_nb.errors import NodeTimeout
from ironflow_nb.execution import SCOPE, THREAD_PREFIX, Wakeup
from ironflow_nb.graphs.compiled_graph import GraphNode

_LEFT_ALONE: Final[dict[tuple[RunId, StepRef | None], Wakeup]] = {}
"""The bodies that go on after their time, by run and step; each wakes who waits for it, and is gone when it is done."""


def bounded(node: GraphNode, perform: Callable[[], Any], timeout_s: float) -> Any:
    """Return what the work gives within its time, which begins when no earlier body of its step is left.

    Raises:
        NodeTimeout: it took longer.
    """
    __tracebackhide__ = True
    scope = SCOPE.get()
    assert scope is not None  # a body runs inside of its step
    threads, clock = scope.access.threads, scope.access.clock
    place = scope.run_id, scope.step
    earlier = _LEFT_ALONE.get(place)
    if earlier is not None:
        clock.wait(earlier, None)
    done = threads.wakeup()
    result: list[tuple[Any, BaseException | None]] = []
    _LEFT_ALONE[place] = done

    def work() -> None:
        __tracebackhide__ = True
        try:
            result.append((perform(), None))
        except BaseException as error:  # noqa: BLE001 -- raised again by who waits
            result.append((None, error))
        _LEFT_ALONE.pop(place, None)  # before it wakes: who is woken may begin the next body
        done.set()

    context = contextvars.copy_context()
    try:
        threads.spawn(f"{THREAD_PREFIX}node-{node.id}", lambda: context.run(work))
    except RuntimeError:  # the machine has no thread left
        _LEFT_ALONE.pop(place, None)
        raise
    clock.wait(done, timeout_s)
    if not result:
        raise _too_long(node, timeout_s, "; what it does goes on alone, and another try waits for that")
    value, error = result[0]
    if error is not None:
        raise error
    return value


async def awaited(node: GraphNode, work: Awaitable[Any]) -> Any:
    """Return what the work gives within its time.

    Raises:
        NodeTimeout: it took longer, and was cancelled.
    """
    __tracebackhide__ = True
    import asyncio

    try:
        async with asyncio.timeout(node.timeout_s) as limit:
            return await work
    except TimeoutError:
        if node.timeout_s is None or not limit.expired():
            raise
        raise _too_long(node, node.timeout_s, " and was cancelled") from None


def _too_long(node: GraphNode, timeout_s: float, then: str) -> NodeTimeout:
    return NodeTimeout(f"{node.id} took longer than its timeout_s of {timeout_s:g} s{then}", node=node.id)
