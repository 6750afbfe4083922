"""Calls side by side, and their results: all of them, or one after the other as they come.

In which order a flow takes what has ended is recorded, so that a replay takes it in the same order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final, NoReturn, TypeVar, overload

from ironflow_nb.core.durations import Duration, seconds
from ironflow_nb.core.identity import OWN_PREFIX
from ironflow_nb.core.replay_decision import OnChange
from ironflow_nb.core.status import StepReason
from ironflow_nb.errors import AsyncMismatch, ResultTimeout
from ironflow_nb.execution import (
    REGISTRY,
    SCOPE,
    Attempt,
    RecordedAnswer,
    RunContext,
    StepOptions,
    StepSpec,
    begin_branch,
    call_body,
    durable_calls,
    failure_of,
    gathered,
    is_collected,
)
from ironflow_nb.flows.results import MapResult, StepFuture

T = TypeVar("T")

_OPTIONS: Final = StepOptions(on_change=OnChange.KEEP)
_TAKEN: Final = StepSpec(lambda of: of, name=f"{OWN_PREFIX}as_completed", options=_OPTIONS)
_BEGUN: Final = StepSpec(lambda of: of, name=f"{OWN_PREFIX}as_completed_begun", options=_OPTIONS)
for _spec in (_TAKEN, _BEGUN):
    REGISTRY.define_step(_spec)


# -- all of them -------------------------------------------------------------------------------------------------------


@overload
def gather(*branches: Callable[[], T] | StepFuture[T]) -> list[T]: ...
@overload
def gather(*branches: Callable[[], T] | StepFuture[T], on_error: str) -> list[T | Exception]: ...
def gather(*branches: Callable[[], Any] | StepFuture[Any], on_error: str = "raise") -> list[Any]:
    """Run functions side by side, each as a branch of the flow, and return their results in order.

    A branch is a function without arguments, for instance a `functools.partial`, which calls steps as the flow itself
    does, or the future of a step that was submitted. Each runs on a thread of its own. It is recognised again by the
    function, by the arguments bound to it, and by its number among equal branches, so branches that ran together never
    swap their results. Waits until all have ended; then raises the failure that came first, or with
    ``on_error="collect"`` has each exception in the place of its result. Outside of a flow, and inside a step, the
    functions are called one after the other.

    Raises:
        TypeError: something is neither a function nor a future.
        ValueError: `on_error` is neither "raise" nor "collect".
        AsyncMismatch: the flow is async; await ``iron.aio.gather`` there.
    """
    __tracebackhide__ = True
    collects = is_collecting(on_error)
    for branch in branches:
        _refuse_no_branch("gather", branch)
    scope = SCOPE.get()
    if scope is None or scope.step is not None:
        return [_outcome(branch, collects=collects) for branch in branches]
    if scope.is_on_loop():
        raise AsyncMismatch("iron.gather would block the event loop of this async flow; use await iron.aio.gather(...)")
    functions: list[Callable[[], Any]] = [branch for branch in branches if not isinstance(branch, StepFuture)]
    values = iter(gathered(scope, functions, collects=collects))
    is_future = [isinstance(branch, StepFuture) for branch in branches]
    return [
        _outcome(branch, collects=collects) if is_one else next(values)
        for branch, is_one in zip(branches, is_future, strict=True)
    ]


def is_collecting(on_error: str) -> bool:
    """Return True if failures take the places of results.

    Raises:
        ValueError: `on_error` is neither "raise" nor "collect".
    """
    if on_error not in {"raise", "collect"}:
        raise ValueError(f'on_error is "raise" or "collect", not {on_error!r}')
    return on_error == "collect"


def _refuse_no_branch(name: str, branch: object) -> None:
    if not (isinstance(branch, StepFuture) or callable(branch)):
        raise TypeError(
            f"iron.{name} takes functions without arguments and futures of steps, not {type(branch).__name__}; "
            "write functools.partial(function, argument), or step.submit(argument)"
        )


def _outcome(branch: Callable[[], Any] | StepFuture[Any], *, collects: bool) -> Any:
    __tracebackhide__ = True
    try:
        return branch.result() if isinstance(branch, StepFuture) else call_body(branch, (), {})
    except Exception as error:
        failure = failure_of(error, "a branch")
        if collects and is_collected(error):
            return failure
        if failure is not error:
            raise failure from error
        raise


def gather_async(awaitables: Sequence[Any], on_error: str) -> Coroutine[Any, Any, list[Any]]:
    """Begin the coroutines as tasks now, in the order of the program; see `aio.gather`."""
    collects = is_collecting(on_error)
    for each in awaitables:
        if not isinstance(each, Awaitable):
            raise TypeError(
                f"iron.aio.gather takes coroutines and futures of steps, not {type(each).__name__}; "
                "call the step or function, and do not await it"
            )
    scope = SCOPE.get()
    if scope is not None and scope.step is None and not scope.is_on_loop():
        raise AsyncMismatch(
            "iron.aio.gather was called in a def flow, where nothing can await it; use iron.gather(...)"
        )
    import asyncio

    futures = [each if isinstance(each, StepFuture | MapResult) else asyncio.ensure_future(each) for each in awaitables]
    return _gathered_async(futures, collects=collects)


async def _gathered_async(futures: Sequence[Any], *, collects: bool) -> list[Any]:
    __tracebackhide__ = True
    import asyncio

    failed: list[BaseException] = []
    tasks = [future for future in futures if isinstance(future, asyncio.Future)]
    for task in tasks:
        task.add_done_callback(partial(_note_failure, failed))
    await asyncio.gather(*tasks, return_exceptions=True)
    for error in failed:
        if not (collects and is_collected(error)):
            raise error
    return [await _outcome_async(future, collects=collects) for future in futures]


def _note_failure(failed: list[BaseException], task: Any) -> None:
    import asyncio

    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    if error is not None:
        failed.append(error)


async def _outcome_async(future: Any, *, collects: bool) -> Any:
    __tracebackhide__ = True
    try:
        return await future
    except Exception as error:
        if not (collects and is_collected(error)):
            raise
        return error


# -- one after the other -----------------------------------------------------------------------------------------------


def as_completed(
    branches: Iterable[Callable[[], T] | StepFuture[T]], *, timeout_s: Duration | None = None
) -> Iterator[StepFuture[T]]:
    """Return an iterator over the futures of calls, in the order in which they end; each gives its `result()`.

    What is taken first is recorded: a run that is continued takes the same ones in the same order, though others have
    ended meanwhile. A loop that is left early leaves the rest as `submit` does: it goes on, and the flow ends when it
    has ended.

    Args:
        branches: futures of submitted steps, which are given back themselves, and functions without arguments, each of
            which begins now as a branch of the flow; see `gather`.
        timeout_s: how long to wait at most for all of them, from now on; by default without an end.

    Raises:
        ResultTimeout: while iterating: not all ended in that time. A replay raises it, too, unless it failed the run.
        TypeError: something is neither a function nor a future.
        AsyncMismatch: the flow is async; use ``iron.aio.as_completed`` there.
    """
    given, limit_s = _listed("as_completed", branches), _limit_s(timeout_s)
    for branch in given:
        _refuse_no_branch("as_completed", branch)
    scope = SCOPE.get()
    if scope is None or scope.step is not None:
        return iter([_called(branch) for branch in given])
    if scope.is_on_loop():
        raise AsyncMismatch(
            "iron.as_completed would block the event loop of this async flow; use "
            "async for future in iron.aio.as_completed(...)"
        )
    futures = [branch if isinstance(branch, StepFuture) else _begun(scope, branch) for branch in given]
    return _Completions(scope, futures, list(map(_described, futures)), limit_s)


def _listed(name: str, given: Any) -> list[Any]:
    if isinstance(given, StepFuture) or not isinstance(given, Iterable):
        raise TypeError(f"iron.{name} takes one list of calls, not {type(given).__name__}")
    return list(dict.fromkeys(given))


def _limit_s(timeout_s: Duration | None) -> float | None:
    return None if timeout_s is None else seconds(timeout_s)


def _begun(scope: RunContext, function: Callable[[], Any]) -> StepFuture[Any]:
    return StepFuture(_name_of(function), begin_branch(scope, function))


def _described(future: StepFuture[Any]) -> object:
    """Return what recognises the call in another continuation of the run."""
    call = future.__ironflow_call__
    return None if call is None else call.described


def _when_done(future: StepFuture[Any], callback: Callable[[], None]) -> None:
    """Call back once the result is there, at once if it is; in any thread."""
    call = future.__ironflow_call__
    if call is None:
        callback()
    else:
        call.when_done(callback)


def _called(branch: Callable[[], Any] | StepFuture[Any]) -> StepFuture[Any]:
    """Return the future of a call outside of every flow, which is made at once."""
    if isinstance(branch, StepFuture):
        return branch
    try:
        answer = RecordedAnswer(call_body(branch, (), {}))
    except Exception as error:  # noqa: BLE001 -- whatever it raises is its outcome
        answer = RecordedAnswer(error=error)
    return StepFuture(_name_of(branch), None, answer)


def _name_of(function: Any) -> str:
    while isinstance(function, partial):
        function = function.func
    return str(getattr(function, "__qualname__", type(function).__qualname__))


class _CompletionOrder:
    """In which order the ends of calls are taken: the recorded one, then that in which they come."""

    def __init__(self, scope: RunContext, futures: Sequence[Any], described: Sequence[object], limit_s: float | None):
        self._scope = scope
        self._futures = futures
        self._left = set(range(len(futures)))
        self._ended: deque[int] = deque()
        self._limit_s = limit_s
        # As one digest: a list of a thousand calls would otherwise be digested a thousand times.
        self._arguments = {"of": scope.access.digester.digest(list(described)).digest}
        self._ends_at: int | None = None
        if limit_s is not None:
            begun_at = durable_calls.record(scope, _BEGUN, self._arguments, scope.access.clock.now, is_seen=True)
            self._ends_at = self._end(begun_at)
        for index, future in enumerate(futures):
            self._follow(future, partial(self._ended.append, index))

    def _follow(self, future: Any, callback: Callable[[], None]) -> None:
        _when_done(future, callback)

    def _end(self, begun_at: int) -> int:
        assert self._limit_s is not None
        return begun_at + round(min(self._limit_s, 1e9) * 1e6)

    def _next(self) -> tuple[RecordedAnswer | Attempt, Callable[[], bool], float | None]:
        """Return what is recorded of the next one, what is True when it can be taken, and how long to wait for that."""
        asked = durable_calls.recall(self._scope, _TAKEN, self._arguments)
        if isinstance(asked, RecordedAnswer):
            index = durable_calls.deliver(asked)
            return asked, self._futures[index].done, None
        return asked, self._has_ended, self._left_s(asked)

    def _left_s(self, asked: Attempt) -> float | None:
        if self._ends_at is None:
            return None
        now = self._scope.access.clock.now()
        if asked.reason in {StepReason.FAILED_BEFORE, StepReason.ASKED_FOR}:  # its time was up: it has all of it again
            self._ends_at = self._end(now)
        return max(self._ends_at - now, 0) / 1e6

    def _has_ended(self) -> bool:
        while self._ended and self._ended[0] not in self._left:
            self._ended.popleft()
        return bool(self._ended)

    def _take(self, asked: RecordedAnswer | Attempt) -> Any:
        """Return the future that is taken next, which has ended."""
        if isinstance(asked, Attempt):
            index = durable_calls.note(self._scope, asked, lambda: self._ended[0], is_seen=True)
        else:
            index = asked.value
        self._left.remove(index)
        return self._futures[index]

    def _time_out(self, asked: RecordedAnswer | Attempt) -> NoReturn:
        __tracebackhide__ = True
        assert isinstance(asked, Attempt)
        n_left, name = len(self._left), f"{OWN_PREFIX}as_completed"
        words = f"{n_left} of {len(self._futures)} calls did not end within {self._limit_s:g} s; they go on"
        durable_calls.note_failure(self._scope, asked, ResultTimeout(f"{name}: {words}", name=name))


class _Completions(_CompletionOrder, Iterator[StepFuture[Any]]):
    """Takes the calls of a def flow."""

    def __next__(self) -> StepFuture[Any]:
        __tracebackhide__ = True
        if not self._left:
            raise StopIteration
        asked, is_there, left_s = self._next()
        if not durable_calls.wait_for(self._scope, is_there, left_s):
            self._time_out(asked)
        return self._take(asked)  # type: ignore[no-any-return]


class _AsyncCompletions(_CompletionOrder, AsyncIterator[Awaitable[Any]]):
    """Takes the calls of an async flow, which are tasks or futures of steps."""

    def _follow(self, future: Any, callback: Callable[[], None]) -> None:
        if isinstance(future, StepFuture):
            _when_done(future, callback)
        else:
            future.add_done_callback(lambda _: self._note(callback))

    def _cancel(self) -> None:
        """Cancel the calls that have not ended: nobody goes on to take them."""
        for future in self._futures:
            if not isinstance(future, StepFuture):
                future.cancel()

    def _note(self, callback: Callable[[], None]) -> None:
        callback()
        durable_calls.wake(self._scope)

    async def __anext__(self) -> Awaitable[Any]:
        __tracebackhide__ = True
        if not self._left:
            raise StopAsyncIteration
        asked, is_there, left_s = self._next()
        try:
            is_in_time = await durable_calls.wait_for_async(self._scope, is_there, left_s)
        except BaseException:
            if durable_calls.is_stopping(self._scope):
                self._cancel()
            raise
        if not is_in_time:
            self._time_out(asked)
        return self._take(asked)  # type: ignore[no-any-return]


def as_completed_async(given: Iterable[Any], timeout_s: Duration | None) -> AsyncIterator[Awaitable[Any]]:
    """Begin the coroutines as tasks now, in the order of the program; see `aio.as_completed`."""
    import asyncio

    calls, limit_s = _listed("aio.as_completed", given), _limit_s(timeout_s)
    for each in calls:
        if not isinstance(each, Coroutine | asyncio.Task | StepFuture):
            raise TypeError(
                f"iron.aio.as_completed takes coroutines, tasks and futures of steps, not {type(each).__name__}"
            )
    scope = SCOPE.get()
    if scope is None or scope.step is not None:
        return _plain(calls, limit_s)
    if not scope.is_on_loop():
        raise AsyncMismatch(
            "iron.aio.as_completed was called in a def flow, where nothing can await it; use iron.as_completed(...)"
        )
    begun = [_begun_async(scope, each) for each in calls]
    return _AsyncCompletions(scope, [future for future, _ in begun], [described for _, described in begun], limit_s)


def _begun_async(scope: RunContext, call: Any) -> tuple[Any, object]:
    if isinstance(call, StepFuture):
        return call, _described(call)
    if isinstance(call, Coroutine):
        from ironflow_nb.execution import begin_task

        return begin_task(scope, call)
    return call, getattr(call.get_coro(), "__qualname__", "task")


async def _plain(calls: Sequence[Any], limit_s: float | None) -> AsyncIterator[Awaitable[Any]]:
    """Yield the calls as they end, outside of every flow."""
    import asyncio

    left = {each if isinstance(each, asyncio.Future) else asyncio.ensure_future(each) for each in calls}
    loop = asyncio.get_running_loop()
    ends_s = None if limit_s is None else loop.time() + limit_s
    while left:
        left_s = None if ends_s is None else max(ends_s - loop.time(), 0)
        done, left = await asyncio.wait(left, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            raise ResultTimeout(f"{len(left)} of {len(calls)} calls did not end within {limit_s:g} s; they go on")
        for future in done:
            yield future


def drawn_as_branches(function: Any, how: str) -> None:
    """Have the calls of a function drawn as those of branches, which are all its arguments, or listed."""
    function.__ironflow_branches__ = how


drawn_as_branches(gather, "all")
drawn_as_branches(as_completed, "listed")
