"""The items of a map that come from async iterables: a task of the flow pulls them, one ahead of the map."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import suppress
from contextvars import copy_context
from typing import Any

from ironflow_nb.execution.steps.context import SCOPE, RunContext


class AsyncItems(Iterator[tuple[Any, ...]]):
    """Pulls the next item of each source together. Used on the thread of the loop.

    The sources may call steps: they stand in a branch of their own, beside the flow.
    """

    def __init__(self, scope: RunContext, name: str, sources: Sequence[AsyncIterator[Any]]) -> None:
        self._scope = scope
        self._sources = sources
        self._pulled: deque[tuple[Any, ...]] = deque()
        self._error: BaseException | None = None
        self._is_ended = False
        self._is_wanted = asyncio.Event()
        context = copy_context()
        context.run(SCOPE.set, scope.branched(f"items of {name}", None))
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.Task(self._feed(), loop=self._loop, context=context)
        scope.session.beside.add_task(self._task)

    def is_ready(self) -> bool:
        """Return True if the next item, or the end of the items, can be had without waiting."""
        return bool(self._pulled) or self._is_ended

    def __next__(self) -> tuple[Any, ...]:
        if self._pulled:
            self._is_wanted.set()
            return self._pulled.popleft()
        error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopIteration

    def close(self) -> None:
        """Pull no more, and close the sources; called in any thread."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._task.cancel)

    async def _feed(self) -> None:
        try:
            while True:
                self._pulled.append(tuple([await anext(source) for source in self._sources]))
                self._is_wanted.clear()
                self._let_pull()
                await self._is_wanted.wait()
        except StopAsyncIteration:
            pass
        except GeneratorExit:  # its loop is gone: nothing can be awaited any more
            raise
        except BaseException as error:  # noqa: BLE001 -- the map raises it, where it is read
            self._error = error
        self._is_ended = True
        self._let_pull()
        for source in self._sources:
            if isinstance(source, AsyncGenerator):
                await source.aclose()

    def _let_pull(self) -> None:
        """Have the map take the item also while its flow awaits something else."""
        with suppress(BaseException):  # the awaiting code meets it too: a stop of the run, or what ended the items
            self._scope.session.beside.pull()
        self._scope.session.wakeups.wake()
