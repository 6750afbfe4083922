"""What `submit` and `map` return."""

from __future__ import annotations

import sys
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
    Sized,
)
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, TypeVar, overload

from ironflow_nb.core.durations import wait_limit_s
from ironflow_nb.core.plain_text import short_repr
from ironflow_nb.errors import AsyncMismatch, ResultTimeout, ValueNotStorable
from ironflow_nb.execution import (
    FanOut,
    RecordedAnswer,
    RunContext,
    StepSpec,
    Submission,
    call_body,
    durable_calls,
    failure_of,
)

if TYPE_CHECKING:
    import pandas as pd

    from ironflow_nb.execution import Branch

T = TypeVar("T")

SHOWN: Final = 1000
"""A map of more items is shown by their number."""


class StepFuture(Generic[T]):
    """The result of a call that runs beside its flow."""

    def __init__(self, name: str, submission: Submission | Branch | None, answer: RecordedAnswer | None = None) -> None:
        self._name = name
        self._submission = submission
        self._answer = answer

    def done(self) -> bool:
        """Return True if the result is there."""
        return self._submission is None or self._submission.is_finished()

    @property
    def __ironflow_call__(self) -> Submission | Branch | None:
        """The call, if it is one of a run."""
        return self._submission

    def result(self, timeout_s: float | None = None) -> T:
        """Wait for the result and return it, or raise the exception of the step.

        Raises:
            ResultTimeout: it was not there within `timeout_s`; the step goes on.
            AsyncMismatch: an event loop is running in this thread; await the future instead.
        """
        __tracebackhide__ = True
        timeout_s = wait_limit_s(timeout_s)
        if self._submission is None:
            return _plain(self._answer)  # type: ignore[no-any-return]
        if not self.done():
            context = self._submission.context
            if context.is_on_loop():
                raise AsyncMismatch(f"{self._name}.submit(...).result() would block the event loop; await the future")
            if not durable_calls.wait_for(context, self.done, timeout_s):
                raise ResultTimeout(f"{self._name} did not end within {timeout_s:g} s; it goes on", name=self._name)
        return self._submission.read()  # type: ignore[no-any-return]

    def __await__(self) -> Generator[Any, Any, T]:
        if self._submission is not None and not self.done():
            yield from durable_calls.wait_for_async(self._submission.context, self.done).__await__()
        return self.result()

    def __reduce__(self) -> NoReturn:
        raise ValueNotStorable(
            f"a future of {self._name} can't be recorded, nor recognised in another process; wait for it first, "
            "and pass its result"
        )

    def __repr__(self) -> str:
        return f"<future of {self._name}: {'done' if self.done() else 'pending'}>"


class MapResult(Sequence[T]):
    """The results of a map, in the order of its items; they come while it is read.

    Iterating yields each result as soon as it and those before it are there. Everything else waits for all of them. Of
    many large ones only a part is in memory; the others are read from the journal again, each time.
    With ``on_error="collect"`` a failed item has its exception in its place; `ok` and `errors` tell them apart.
    """

    def __init__(
        self, name: str, fanout: FanOut | None, values: Sequence[T] = (), *, n_expected: int | None = None
    ) -> None:
        self.n_expected = n_expected
        self._name = name
        self._fanout = fanout
        self._values = values

    def __iter__(self) -> Iterator[T]:
        if self._fanout is None:
            return iter(self._values)
        return _MapReading(self._fanout, self._wait)

    def __aiter__(self) -> AsyncIterator[T]:
        if self._fanout is None:
            return _InOrder(self._values)
        return _AsyncMapReading(self._fanout)

    def __len__(self) -> int:
        """Wait until nothing more comes; raise the failure that ended the map.

        So what asks for the number first, as reading at an index does, reads nothing of a map that failed.
        """
        __tracebackhide__ = True
        fanout = self._fanout
        if fanout is None:
            return len(self._values)
        self._wait(fanout.is_finished)
        if fanout.first_error is not None:
            for index in range(fanout.n_items):
                fanout.read(index)
        return fanout.n_items

    def __reversed__(self) -> Iterator[T]:
        return reversed(self._all())

    def index(self, value: Any, start: int = 0, stop: int | None = None) -> int:
        """Return the first index of the value; that of `Sequence` takes an IndexError of a step for the end."""
        return self._all().index(value, start, sys.maxsize if stop is None else stop)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        __tracebackhide__ = True
        n_items = len(self)
        try:
            chosen = range(n_items)[index]
        except IndexError:
            raise IndexError(f"{self._name}.map(...) has {n_items} results, and none at index {index}") from None
        return self._read(chosen) if isinstance(chosen, int) else [self._read(each) for each in chosen]

    @property
    def __array__(self) -> Any:
        """Raise the failure that ended the map: numpy, which asks for this first, would take the map for one object."""
        len(self)
        raise AttributeError("__array__")

    def __await__(self) -> Generator[Any, Any, list[T]]:
        if self._fanout is not None and not self._fanout.is_finished():
            yield from durable_calls.wait_for_async(self._fanout.context, self._fanout.is_finished).__await__()
        return self._all()

    @property
    def ok(self) -> list[T]:
        """The results of the items that did not fail."""
        return [value for value in self._all() if not isinstance(value, BaseException)]

    @property
    def errors(self) -> pd.DataFrame:
        """The items that failed, one row each, in their order: index, type, message, exception."""
        import pandas as pd

        failed = [(index, value) for index, value in enumerate(self._all()) if isinstance(value, BaseException)]
        frame = pd.DataFrame(
            [(index, type(error).__qualname__, str(error), error) for index, error in failed],
            columns=["index", "type", "message", "exception"],
        )
        return frame.astype({"index": "int64", "type": "str", "message": "str", "exception": "object"})

    def is_ready(self, index: int) -> bool:
        """Return True if item `index` can be read without waiting."""
        return self._fanout is None or self._fanout.is_ready(index)

    def _all(self) -> list[T]:
        __tracebackhide__ = True
        return [self._read(index) for index in range(len(self))]

    def _read(self, index: int) -> T:
        __tracebackhide__ = True
        return self._values[index] if self._fanout is None else self._fanout.read(index)

    def _wait(self, is_done: Callable[[], bool]) -> None:
        __tracebackhide__ = True
        if self._fanout is None or is_done():
            return
        if self._fanout.context.is_on_loop():
            raise AsyncMismatch(
                f"the results of {self._name}.map(...) are not all there, and waiting for them here would block the "
                f"event loop; use await {self._name}.map(...)",
                name=self._name,
            )
        durable_calls.wait_for(self._fanout.context, is_done)

    def __ironflow_list__(self) -> list[T]:
        return list(self)

    def __reduce__(self) -> NoReturn:
        raise ValueNotStorable(
            f"the results of {self._name}.map(...) can't be recorded, nor recognised in another process, as a part of "
            "another value; put list(...) of them there"
        )

    def __repr__(self) -> str:
        if self._fanout is None:
            return f"MapResult({list(self._values)!r})"
        is_short = len(self._fanout.promises) <= SHOWN
        if is_short and self._fanout.is_finished() and self._fanout.first_error is None:
            return f"MapResult({[outcome.error or outcome.value for outcome in self._fanout.promises]!r})"
        n_done = sum(outcome.is_done for outcome in self._fanout.promises)
        return f"<results of {self._name}: {n_done} done>"


class _MapReading(Iterator[Any]):
    """Reads a map from its first item on; after an item that raised it goes on with the next."""

    def __init__(self, fanout: FanOut, wait: Callable[[Callable[[], bool]], None]) -> None:
        self._fanout = fanout
        self._wait = wait
        self._index = 0

    def __next__(self) -> Any:
        __tracebackhide__ = True
        index = self._index
        self._wait(lambda: self._fanout.is_ready(index))
        if index >= self._fanout.n_items:
            raise StopIteration
        self._index += 1
        return self._fanout.read(index)


class _AsyncMapReading(AsyncIterator[Any]):
    """Reads a map in an async flow; after an item that raised it goes on with the next."""

    def __init__(self, fanout: FanOut) -> None:
        self._fanout = fanout
        self._index = 0

    async def __anext__(self) -> Any:
        __tracebackhide__ = True
        fanout, index = self._fanout, self._index
        if not fanout.is_ready(index):
            await durable_calls.wait_for_async(fanout.context, lambda: fanout.is_ready(index))
        if index >= fanout.n_items:
            raise StopAsyncIteration
        self._index += 1
        return fanout.read(index)


class _InOrder(AsyncIterator[Any]):
    """Gives what is there already."""

    def __init__(self, values: Iterable[Any]) -> None:
        self._values = iter(values)

    async def __anext__(self) -> Any:
        for value in self._values:
            return value
        raise StopAsyncIteration


def submit_call(
    spec: StepSpec, scope: RunContext | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> StepFuture[Any]:
    """Begin a call beside its flow; outside of one it is made at once."""
    if scope is None:
        return StepFuture(spec.name, None, _plain_call(spec, args, kwargs))
    scope.raise_if_left_behind()
    return StepFuture(spec.name, durable_calls.submit(scope, spec, args, kwargs))


def map_items(
    spec: StepSpec,
    scope: RunContext | None,
    iterables: Sequence[Iterable[Any] | AsyncIterable[Any]],
    *,
    receiver: tuple[Any, ...] = (),
    fixed: Mapping[str, Any],
    concurrency: int,
    on_error: str,
) -> MapResult[Any]:
    """Begin a map; outside of a flow the calls are made at once, one after the other."""
    if not iterables:
        raise TypeError(f"{spec.name}.map() needs at least one iterable of items")
    if type(concurrency) is not int or concurrency < 1:
        raise ValueError(f"concurrency is a whole number, at least 1, not {concurrency!r}")
    if on_error not in {"raise", "collect"}:
        raise ValueError(f'on_error is "raise" or "collect", not {on_error!r}')
    is_async = [isinstance(each, AsyncIterable) and not isinstance(each, MapResult) for each in iterables]
    if any(is_async):
        return _map_async(spec, scope, iterables, receiver, fixed, concurrency, collects=on_error == "collect")
    given: list[Iterable[Any]] = list(iterables)  # type: ignore[arg-type]
    _refuse_items(spec.name, given)
    # As a list: a StopIteration of `__iter__` would end a `map`, and there would be no items.
    items = zip(*map(repeat, receiver), *[iter(iterable) for iterable in given], strict=False)
    if scope is None:
        answers = [_plain_call(spec, item, fixed, collects=on_error == "collect") for item in items]
        values = [answer.value if answer.error is None else answer.error for answer in answers]
        return MapResult(spec.name, None, values)
    scope.raise_if_left_behind()
    sources = [source for source in given if isinstance(source, MapResult)]
    n_expected = _expected(given)
    fanout = FanOut(
        scope,
        spec,
        items,
        fixed=fixed,
        concurrency=concurrency,
        collects=on_error == "collect",
        n_expected=n_expected,
        is_next_ready=lambda index: all(source.is_ready(index) for source in sources),
    )
    return MapResult(spec.name, fanout, n_expected=n_expected)


def _map_async(
    spec: StepSpec,
    scope: RunContext | None,
    iterables: Sequence[Any],
    receiver: tuple[Any, ...],
    fixed: Mapping[str, Any],
    concurrency: int,
    *,
    collects: bool,
) -> MapResult[Any]:
    """Begin a map over items of which some come from async iterables."""
    if scope is None or not scope.is_on_loop():
        here = "outside of a flow" if scope is None else "in a def flow"
        raise AsyncMismatch(
            f"{spec.name}.map(...) was given an async iterable {here}, where nothing can await its items; make the "
            "flow async def, or give it a list",
            name=spec.name,
        )
    from ironflow_nb.execution import AsyncItems

    scope.raise_if_left_behind()
    sources = [aiter(each) if isinstance(each, AsyncIterable) else _InOrder(each) for each in iterables]
    items = AsyncItems(scope, spec.name, [*map(_InOrder, map(repeat, receiver)), *sources])
    fanout = FanOut(
        scope,
        spec,
        items,
        fixed=fixed,
        concurrency=concurrency,
        collects=collects,
        n_expected=None,
        is_next_ready=lambda _: items.is_ready(),
    )
    return MapResult(spec.name, fanout)


def _refuse_items(name: str, given: Sequence[Any]) -> None:
    """Refuse what has no items, and lists of different lengths, of which the last items would be left out."""
    fixed = 'one value for all calls is fixed={"name": value}'
    for each in given:
        if not hasattr(type(each), "__iter__") and not hasattr(type(each), "__getitem__"):
            raise TypeError(f"{name}.map() takes iterables of items, and {short_repr(each)} has no items; {fixed}")
    sizes = [size for each in given if not isinstance(each, MapResult) and (size := _size(each)) is not None]
    if len({*sizes}) > 1:
        raise ValueError(f"{name}.map() got {' and '.join(map(str, sizes))} items; give as many of each, or {fixed}")


def _expected(iterables: Sequence[Iterable[Any]]) -> int | None:
    """Return how many items there will be, if that is known before they are pulled."""
    sizes = []
    for iterable in iterables:
        size = iterable.n_expected if isinstance(iterable, MapResult) else _size(iterable)
        if size is None:
            return None
        sizes.append(size)
    return min(sizes)


def _size(iterable: Iterable[Any]) -> int | None:
    return len(iterable) if isinstance(iterable, Sized) else None


def _plain_call(
    spec: StepSpec, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, collects: bool = True
) -> RecordedAnswer:
    """Make a call outside of every flow: nothing is recorded, nothing runs beside it."""
    if spec.is_async:
        raise AsyncMismatch(f"outside of a flow, await {spec.name}(...) instead", name=spec.name)
    try:
        return RecordedAnswer(call_body(spec.function, args, kwargs))
    except Exception as error:  # noqa: BLE001 -- whatever a body raises is its outcome
        failure = failure_of(error, f"step {spec.name}")
        if not collects:
            raise failure from failure.__cause__
        return RecordedAnswer(error=failure)


def _plain(answer: RecordedAnswer | None) -> Any:
    __tracebackhide__ = True
    assert answer is not None
    if answer.error is not None:
        raise answer.error
    return answer.value
