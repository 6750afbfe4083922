"""Where a map ends: after its last item, or with a failure; never at an error that looks like an end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from tests.conftest import Lab

ROWS = ["a,1", "b,2", "broken", "d,1000"]
LISTS: list[list[int]] = [[1], [2], [], [4]]


@step
def parse(row: str) -> int:
    return int(row.split(",")[1])


@step
def first(items: list[int]) -> int:
    return next(iter(items))


@step
def double(n: int) -> int:
    return n * 2


READINGS: dict[str, Callable[[Iterable[int]], Any]] = {
    "sum": sum,
    "list": list,
    "comprehension": lambda found: [each + 0 for each in found],
    "generator": lambda found: max(each for each in found),
    "zip": lambda found: list(zip(found, range(99), strict=False)),
    "unpacked": lambda found: [*found],
    "in": lambda found: 1000 in found,
    "reversed": lambda found: list(reversed(found)),  # type: ignore[call-overload]
    "index": lambda found: found.index(1000),  # type: ignore[attr-defined]
    "count": lambda found: found.count(1000),  # type: ignore[attr-defined]
    "slice": lambda found: found[1:],  # type: ignore[index]
    "array": lambda found: np.array(found).size,
    "unique": lambda found: len(np.unique(found)),  # type: ignore[call-overload]
    "chained": lambda found: sum(double.map(found)),
    "chained beside": lambda found: sum(double.map(each for each in found)),
}


@pytest.mark.parametrize("reading", READINGS)
def test_an_index_error_in_a_mapped_step_fails_the_run(lab: Lab, reading: str) -> None:
    @flow
    def main() -> Any:
        return READINGS[reading](parse.map(ROWS))

    with pytest.raises(IndexError):
        main()
    assert main.last is not None
    assert main.last.status == "failed"


@pytest.mark.parametrize("reading", READINGS)
def test_a_stop_iteration_in_a_mapped_step_fails_the_run(lab: Lab, reading: str) -> None:
    @flow
    def main() -> Any:
        return READINGS[reading](first.map(LISTS))

    with pytest.raises(RuntimeError, match=r"first raised StopIteration") as raised:
        main()
    assert isinstance(raised.value.__cause__, StopIteration)


def test_an_async_step_that_raises_what_iterators_end_with_fails_the_run(lab: Lab) -> None:
    @step
    async def work(n: int) -> int:
        if n == 2:
            raise StopAsyncIteration
        return n

    class Each:
        """An async iterator whose items are steps."""

        def __init__(self) -> None:
            self.n = 0

        def __aiter__(self) -> Each:
            return self

        async def __anext__(self) -> int:
            self.n += 1
            return await work(self.n)

    @flow
    async def by_hand() -> list[int]:
        return [n async for n in Each()]

    @flow
    async def by_map() -> list[int]:
        return await work.map(range(4))

    for main in by_hand, by_map:
        with pytest.raises(RuntimeError, match="raised StopAsyncIteration"):
            main.start().result()


def test_a_builtin_map_over_a_step_does_not_end_early(lab: Lab) -> None:
    @flow
    def main() -> list[int]:
        return list(map(first, LISTS))

    @flow
    def twice() -> list[int]:
        return list(double.map(map(first, LISTS)))

    for each in main, twice:
        with pytest.raises(RuntimeError, match="raised StopIteration"):
            each()


@pytest.mark.parametrize("way", ["gather", "collected", "as_completed", "beside a future", "outside of a flow"])
def test_a_branch_that_raises_what_iterators_end_with_ends_no_iterator(lab: Lab, way: str) -> None:
    def branch() -> int:
        return next(iter(LISTS[2]))

    ways: dict[str, Callable[[], Any]] = {
        "gather": lambda: iron.gather(branch),
        "collected": lambda: [error for error in iron.gather(branch, on_error="collect") if not raised(error)],  # type: ignore[func-returns-value]
        "as_completed": lambda: [each.result() for each in iron.as_completed([branch])],
        "beside a future": lambda: iron.gather(double.submit(1), branch),
        "outside of a flow": lambda: iron.gather(branch),
    }

    def raised(error: Any) -> None:
        raise error

    @flow
    def main() -> list[Any]:
        return list(map(lambda _: ways[way](), [1]))  # noqa: C417 -- a StopIteration would end it

    with pytest.raises(RuntimeError, match="a branch raised StopIteration"):
        main.fn() if way == "outside of a flow" else main()


def test_a_map_is_an_array_as_its_list_is(lab: Lab) -> None:
    @flow
    def main() -> list[Any]:
        parsed = parse.map(ROWS[:2])
        return [np.array(parsed).tolist(), float(np.mean(parsed)), np.asarray(parsed, dtype=float).tolist()]

    assert main() == [[1, 2], 1.5, [1.0, 2.0]]


def test_an_index_error_of_the_items_themselves_fails_the_run(lab: Lab) -> None:
    def rows() -> Iterator[str]:
        yield from ROWS[:2]
        raise IndexError("no more pages")

    @flow
    def main() -> int:
        return sum(parse.map(rows()))

    with pytest.raises(IndexError, match="no more pages"):
        main()


def test_who_goes_on_after_a_failed_item_comes_to_an_end(lab: Lab) -> None:
    @flow
    def main() -> tuple[list[int], int]:
        read, n_failed = [], 0
        results = iter(parse.map(ROWS * 20, concurrency=1))
        while True:
            try:
                read.append(next(results))
            except IndexError:
                n_failed += 1
            except StopIteration:
                return read, n_failed

    read, n_failed = main()
    assert read[:2] == [1, 2]
    assert 1 <= n_failed <= 8


def test_a_chain_that_collects_after_one_that_raises_comes_to_an_end(lab: Lab) -> None:
    @flow
    def main() -> list[int]:
        return double.map(parse.map(ROWS * 20, concurrency=1), on_error="collect").ok

    assert main()[:2] == [2, 4]


def test_collected_failures_that_look_like_an_end_stand_in_their_places(lab: Lab) -> None:
    @flow
    def main() -> tuple[list[int], list[str], list[int]]:
        parsed, firsts = parse.map(ROWS, on_error="collect"), first.map(LISTS, on_error="collect")
        return parsed.ok, [str(kind) for kind in firsts.errors["type"]], firsts.ok

    assert main() == ([1, 2, 1000], ["RuntimeError"], [1, 2, 4])


def test_collected_failures_stand_in_their_places_whatever_their_classes(lab: Lab) -> None:
    @step
    def refuse(n: int) -> Any:
        class TooLate(Exception):
            """A class that no other process has."""

        if n == 1:
            raise TooLate("closed")
        return iter([n]) if n == 2 else n

    @flow
    def main() -> tuple[list[str], list[int]]:
        refused = refuse.map([1, 2, 3], on_error="collect")
        assert [isinstance(each, Exception) for each in refused] == [True, True, False]
        return [str(kind) for kind in refused.errors["type"]], refused.ok

    kinds, good = main()
    assert len(kinds) == 2
    assert good == [3]


def test_a_map_outside_of_a_flow_ends_where_one_inside_does() -> None:
    with pytest.raises(IndexError):
        sum(parse.map(ROWS))
    with pytest.raises(RuntimeError, match="raised StopIteration"):
        sum(first.map(LISTS))


def test_a_failure_that_is_false_stands_in_its_place_outside_of_a_flow() -> None:
    class Problems(Exception):
        def __len__(self) -> int:
            return len(self.args)

    @step
    def check(n: int) -> int:
        raise Problems

    assert [type(each) for each in check.map([1], on_error="collect")] == [Problems]


@pytest.mark.parametrize("concurrency", [0, 1.5, "2", None, True])
def test_a_concurrency_that_is_no_whole_number_is_refused(concurrency: Any) -> None:
    with pytest.raises(ValueError, match="concurrency is a whole number, at least 1"):
        double.map([1], concurrency=concurrency)


def test_fixed_arguments_that_are_no_mapping_are_refused() -> None:
    with pytest.raises(TypeError, match="fixed is a mapping of arguments"):
        double.map([1], fixed=[1])  # type: ignore[arg-type]


def test_a_retry_still_sees_which_error_it_was(lab: Lab) -> None:
    from ironflow_nb.core.retry import Retry

    tries: list[int] = []

    @step(retries=Retry(attempts=3, delay_s=0, on=StopIteration))
    def work() -> int:
        tries.append(1)
        raise StopIteration

    @flow
    def main() -> int:
        return work()

    with pytest.raises(RuntimeError, match="raised StopIteration"):
        main()
    assert len(tries) == 3


@pytest.mark.parametrize("is_background", [False, True])
def test_a_flow_that_raises_stop_iteration_fails_with_an_error_that_says_so(lab: Lab, is_background: bool) -> None:
    @flow
    def main() -> None:
        parse("a,1")
        next(iter([]))

    with pytest.raises(RuntimeError, match="main raised StopIteration") as raised:
        main.start().result() if is_background else main()
    if not is_background:
        assert isinstance(raised.value.__cause__, StopIteration)
    assert main.last is not None
    assert main.last.status == "failed"
