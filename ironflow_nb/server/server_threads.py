"""The threads of the server, beside its loop: what may wait for the journal is called on one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
N_THREADS: Final = 40


def use_threads() -> None:
    """Give the loop its threads, before the first request; it ends them itself."""
    executor = ThreadPoolExecutor(N_THREADS, thread_name_prefix="ironflow-request")
    asyncio.get_running_loop().set_default_executor(executor)


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call the function on a thread, for it may wait for the journal."""
    return await asyncio.to_thread(function, *args, **kwargs)
