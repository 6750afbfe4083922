"""What a run does for a step does not grow with the steps that are recorded: counted in calls, which take no time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from tests.walks import walked

FEW, FACTOR = 30, 4
LAW = 1.05 * FACTOR
"""The counts for this many times as many steps, with what the first steps of a run cost besides."""


@pytest.fixture(autouse=True)
def journal() -> Iterator[None]:
    with iron.open(":memory:"):
        yield


def named(n: int, version: int) -> Any:
    """Return a step of its own name, with the code of that version."""
    if version == 1:
        return step(lambda i: i, name=f"step_{n}")
    return step(lambda i: i + 0, name=f"step_{n}")


def calls_of_continuing(n: int, steps_of: Callable[[int], list[Any]], *, is_async: bool, offset: int) -> int:
    """Run a flow of n steps that fails, and count the calls of its continuation, whose arguments differ by `offset`."""
    counts: list[int] = []

    def body() -> None:
        with walked() as walk:
            for number, work in enumerate(steps_of(len(counts))):
                work(number + offset * len(counts))
        counts.append(walk.n_calls)
        if len(counts) == 1:
            raise OSError

    @flow(name="main", on_change="refresh")
    def in_thread() -> None:
        body()

    @flow(name="main", on_change="refresh")
    async def on_loop() -> None:
        body()

    main: Any = on_loop if is_async else in_thread
    with pytest.raises(OSError):  # noqa: PT011
        main.start().result()
    main.resume().result()
    return counts[1]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("change", "steps_of", "offset"),
    [
        ("new arguments of one step", lambda n: lambda _: [named(0, 1)] * n, 1000),
        ("new arguments of many steps", lambda n: lambda _: [named(number, 1) for number in range(n)], 1000),
        ("new code of many steps", lambda n: lambda done: [named(number, 1 + done) for number in range(n)], 0),
        ("nothing", lambda n: lambda _: [named(number, 1) for number in range(n)], 0),
    ],
    ids=lambda each: each.replace(" ", "_") if isinstance(each, str) else "",
)
def test_continuing_grows_as_the_steps_do(
    change: str, steps_of: Callable[[int], Callable[[int], list[Any]]], offset: int, *, is_async: bool
) -> None:
    few, many = (calls_of_continuing(n, steps_of(n), is_async=is_async, offset=offset) for n in (FEW, FACTOR * FEW))
    assert few < many <= LAW * few, change


@step
def work(number: int) -> int:
    return number


@pytest.mark.parametrize("on_error", ["raise", "collect"])
@pytest.mark.parametrize("read", [lambda results: results[-1], lambda results: results[3:5], len])
def test_one_result_is_read_in_as_many_calls_of_a_long_map_as_of_a_short_one(
    on_error: str, read: Callable[[Any], Any]
) -> None:
    counts = []

    @flow
    def main(n: int) -> None:
        results = work.map(range(n), on_error=on_error)
        list(results)
        with walked() as walk:
            read(results)
        counts.append(walk.n_calls)

    main(FEW)
    main(FACTOR * FEW)
    assert counts[0] == counts[1]
