"""Reports of a running body or flow: its progress, and measured values."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from numbers import Complex, Real
from operator import index
from typing import Any, TypeVar, overload

from ironflow_nb.core.option_values import a_name
from ironflow_nb.core.plain_text import short_repr
from ironflow_nb.execution.steps.context import SCOPE, RunContext
from ironflow_nb.execution.system.interrupts import INTERRUPTS
from ironflow_nb.telemetry.attempt_telemetry import ItemCount

T = TypeVar("T")


@overload
def progress(iterable: Iterable[T], *, total: int | None = None) -> Iterable[T]: ...
@overload
def progress(iterable: AsyncIterable[T], *, total: int | None = None) -> AsyncIterable[T]: ...
def progress(iterable: Any, *, total: int | None = None) -> Any:
    """Iterate over the items, and show how many of them are done: in the picture of the run, and in `Run.steps`.

    In a step it is the progress of the attempt, in a flow that of the run; the outermost one counts. It is recorded
    about once a second and at the end. Outside of a run the items are only passed on.

    Args:
        iterable: anything to iterate over, also asynchronously.
        total: the number of items, if the iterable has no length.

    Raises:
        TypeError: it can't be iterated over, or the total is no integer.
        ValueError: the total is negative.
    """
    kind, scope = type(iterable), SCOPE.get()
    is_async, is_plain = hasattr(kind, "__aiter__"), hasattr(kind, "__iter__") or hasattr(kind, "__getitem__")
    if not is_async and not is_plain:
        raise TypeError(f"iron.progress takes something to iterate over, such as a list, not {iterable!r}")
    count = ItemCount(_total(iterable, total))
    if scope is None or scope.is_in_worker:
        return iterable
    if is_async and is_plain:  # such as a map: where the caller can await, it does
        is_async = scope.is_on_loop()
    return _counted_async(iterable, scope, count) if is_async else _counted(iterable, scope, count)


def _total(iterable: Any, total: object) -> int | None:
    if total is None:
        if hasattr(type(iterable), "__ironflow_list__"):  # the length of a map is known at its end only
            return None
        return len(iterable) if hasattr(type(iterable), "__len__") else None
    try:
        number = index(total)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"the total of iron.progress is a number of items, not {short_repr(total)}") from None
    if isinstance(total, bool) or not 0 <= number < 2**63:
        raise ValueError(f"the total of iron.progress is a number of items, not {short_repr(total)}")
    return number


def _counted(iterable: Iterable[T], scope: RunContext, count: ItemCount) -> Iterator[T]:
    end = scope.session.telemetry().begin_count(scope.attempt, count)
    try:
        INTERRUPTS.check_in_body()
        for item in iterable:
            yield item
            count.n_done += 1
    finally:
        end()


async def _counted_async(iterable: AsyncIterable[T], scope: RunContext, count: ItemCount) -> AsyncIterator[T]:
    end = scope.session.telemetry().begin_count(scope.attempt, count)
    try:
        INTERRUPTS.check_in_body()
        async for item in iterable:
            yield item
            count.n_done += 1
    finally:
        end()


def metric(name: str, value: Any) -> None:
    """Record a measured value of the attempt, or of the run if it is called in a flow; `metrics` has all of them.

    The value is kept as a float: also NaN and infinities, and an integer beyond 2**53 as the nearest float. It is
    written about once a second and with the result of the step. Outside of a run nothing is recorded.

    Args:
        name: any name, such as ``"loss"``; the values of one name are a series.
        value: a number of Python or numpy, a Decimal or a Fraction, or an array or tensor without dimensions.

    Raises:
        TypeError: the value is no number.
        ValueError: the name is not a name, or the number is larger than any float.
    """
    checked, number = a_name(name), _number(name, value)
    scope = SCOPE.get()
    if scope is not None and not scope.is_in_worker:
        scope.session.telemetry().measure(scope.attempt, scope.branch, checked, number)
        INTERRUPTS.check_in_body()


def _number(name: str, value: Any) -> float:
    is_complex = isinstance(value, Complex) and not isinstance(value, Real)
    is_number = hasattr(type(value), "__float__") or hasattr(type(value), "__index__")
    if is_complex or not is_number or getattr(value, "ndim", None):
        raise TypeError(f"the metric {name!r} is one number, not {_described(value)}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"the metric {name!r} is larger than any float; record its logarithm, or scale it") from None
    except (TypeError, ValueError) as error:
        raise TypeError(f"the metric {name!r} is one number, not {_described(value)}: {error}") from error


def _described(value: Any) -> str:
    shape = getattr(value, "shape", None)
    kind = type(value).__name__
    return f"a {kind} of the shape {shape}" if shape is not None else f"{kind} {short_repr(value):.100}"
