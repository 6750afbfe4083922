"""The threads of the server, beside its loop: what may wait for the journal is called on one of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call the function on a thread, for it may wait for the journal."""
    from starlette.concurrency import run_in_threadpool

    result: T = await run_in_threadpool(function, *args, **kwargs)
    return result
