"""Map and submit: order, windows, failures, continuing, nurseries."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from tests.cells import World
from tests.conftest import Lab


def test_a_map_returns_results_in_the_order_of_its_items(lab: Lab) -> None:
    @step
    def work(n: int) -> int:
        time.sleep(0.001 * (7 - n % 7))
        return n * n

    @flow
    def main() -> list[int]:
        return list(work.map(range(40), concurrency=7))

    assert main() == [n * n for n in range(40)]


def test_at_most_so_many_bodies_run_at_once_as_the_concurrency_says(lab: Lab, world: World) -> None:
    @step
    def work(n: int) -> None:
        world.did(threading.get_ident(), "in")
        time.sleep(0.002)
        world.did(threading.get_ident(), "out")

    @flow
    def main() -> None:
        list(work.map(range(30), concurrency=3))

    main()
    inside, most = 0, 0
    for _, what in world.log:
        inside += 1 if what == "in" else -1
        most = max(most, inside)
    assert most == 3


def test_a_map_pulls_its_items_in_a_window(lab: Lab, world: World) -> None:
    def items() -> Iterator[int]:
        for n in range(1000):
            world.did("pulled", n)
            yield n

    @step
    def work(n: int) -> int:
        world.did("done", n)
        return n

    @flow
    def main() -> int:
        results = work.map(items(), concurrency=2)
        first = next(iter(results))
        world.did("read", first)
        return sum(results)

    assert main() == sum(range(1000))
    assert sum(what == "pulled" for what, _ in world.log[: world.log.index(("read", 0))]) <= 2 * 4 + 8


def test_several_iterables_and_fixed_arguments_make_a_call(lab: Lab) -> None:
    @step
    def join(left: str, right: str, sep: str) -> str:
        return left + sep + right

    @flow
    def main() -> list[str]:
        return list(join.map(["a", "b"], ["x", "y"], fixed={"sep": "-"}))

    assert main() == ["a-x", "b-y"]


def test_a_map_of_a_map_streams_in_order(lab: Lab, world: World) -> None:
    @step
    def first(n: int) -> int:
        world.did("first", n)
        time.sleep(0.002)
        return n + 1

    @step
    def second(n: int) -> int:
        world.did("second", n)
        return n * 10

    @flow
    def main() -> list[int]:
        return list(second.map(first.map(range(40), concurrency=2), concurrency=2))

    assert main() == [(n + 1) * 10 for n in range(40)]
    assert world.log.index(("second", 1)) < world.log.index(("first", 39))


def test_the_first_failure_of_a_map_is_raised_and_nothing_queued_starts(lab: Lab, world: World) -> None:
    @step
    def work(n: int) -> int:
        world.did(n)
        if n == 3 and world.is_broken:
            raise ValueError(n)
        time.sleep(0.005)
        return n

    @flow
    def main() -> list[int]:
        return list(work.map(range(100), concurrency=2))

    with pytest.raises(ValueError, match="3"):
        main()
    assert len(world.log) < 12
    begun = set(world.log)
    world.is_broken = False
    lab.cell()
    assert main() == list(range(100))
    assert sorted(world.log) == sorted([*range(100), 3])
    assert begun <= set(world.log)


def test_collected_failures_stand_in_the_place_of_their_results(lab: Lab) -> None:
    @step
    def work(n: int) -> int:
        if n % 10 == 3:
            raise ValueError(f"bad {n}")
        return n

    @flow
    def main() -> tuple[list[int], list[int]]:
        results = work.map(range(30), on_error="collect")
        errors = results.errors
        assert list(errors.columns) == ["index", "type", "message", "exception"]
        return results.ok, list(errors["index"])

    ok, failed = main()
    assert ok == [n for n in range(30) if n % 10 != 3]
    assert failed == [3, 13, 23]
    assert main.last.steps()["status"].value_counts().to_dict() == {"completed": 27, "failed": 3}


CHOICES = [0, -1, 29, True, slice(None), slice(3, 5), slice(-4, None, 2), slice(None, None, -1), slice(40, 50)]


@pytest.mark.parametrize("is_in_flow", [True, False])
def test_results_of_a_map_are_chosen_as_those_of_a_list(lab: Lab, *, is_in_flow: bool) -> None:
    def body() -> None:
        results, numbers = work.map(range(30)), list(range(30))
        assert len(results) == 30
        assert [results[choice] for choice in CHOICES] == [numbers[choice] for choice in CHOICES]
        assert list(reversed(results)) == numbers[::-1]
        assert results.index(7, 3) == 7
        for choice in (30, -31):
            with pytest.raises(IndexError, match=f"work.* has 30 results, and none at index {choice}"):
                results[choice]
        with pytest.raises(TypeError):
            results["7"]  # type: ignore[call-overload]

    @step
    def work(n: int) -> int:
        return n

    if is_in_flow:
        flow(body, name="main")()
    else:
        body()


@pytest.mark.parametrize("read", [len, lambda results: results[0], lambda results: results[:1], list])
def test_a_map_that_failed_gives_none_of_its_results(lab: Lab, read: Callable[[Any], object]) -> None:
    @step
    def work(n: int) -> int:
        if n == 5:
            raise OSError(n)
        return n

    @flow
    def main() -> None:
        with pytest.raises(OSError, match="5"):
            read(work.map(range(30)))

    main()


def test_collected_failures_are_in_their_places_however_they_are_chosen(lab: Lab) -> None:
    @step
    def work(n: int) -> int:
        if n == 5:
            raise OSError(n)
        return n

    @flow
    def main() -> None:
        results: Any = work.map(range(30), on_error="collect")
        assert (len(results), results[4], str(results[5]), str(results[3:8][2])) == (30, 4, "5", "5")

    main()


def test_a_submitted_call_runs_beside_the_flow_and_gives_its_result(lab: Lab) -> None:
    started = threading.Event()

    @step
    def work(n: int) -> int:
        assert started.wait(5)
        return n

    @flow
    def main() -> list[int]:
        futures = [work.submit(n) for n in range(3)]
        assert not any(future.done() for future in futures)
        started.set()
        return [future.result() for future in futures]

    main.__dict__["spec"].parameters._free_names = ()  # events are no data of the flow
    work.spec.parameters._free_names = ()
    assert main() == [0, 1, 2]


def test_a_future_raises_what_its_step_raised(lab: Lab) -> None:
    @step
    def work() -> int:
        raise KeyError("k")

    @flow
    def main() -> str:
        future = work.submit()
        try:
            future.result()
        except KeyError:
            return "caught"
        return "not"

    assert main() == "caught"


def test_a_flow_ends_when_its_steps_have_ended(lab: Lab, world: World) -> None:
    @step
    def slow(n: int) -> None:
        time.sleep(0.02)
        world.did(n)

    @flow
    def main() -> str:
        slow.submit(1)
        slow.map([2, 3, 4], concurrency=1)
        return "returned"

    assert main() == "returned"
    assert sorted(world.log) == [1, 2, 3, 4]
    assert set(main.last.steps()["status"]) == {"completed"}


def test_a_failure_beside_the_flow_that_nobody_looked_at_fails_the_run(lab: Lab) -> None:
    @step
    def work() -> None:
        raise OSError("the disk")

    @flow
    def main() -> str:
        work.submit()
        return "returned"

    with pytest.raises(OSError, match="the disk"):
        main()
    assert main.last.status == "failed"


def test_a_step_in_a_thread_of_the_users_own_is_refused_and_bind_mends_it(lab: Lab, world: World) -> None:
    @step
    def work(n: int) -> int:
        return n

    def in_threads(function: object) -> None:
        def call() -> None:
            try:
                world.did(function(1))
            except iron.errors.NotInRun as error:
                world.did(type(error).__name__)

        thread = threading.Thread(target=call)
        thread.start()
        thread.join()

    @flow
    def main() -> None:
        in_threads(work)
        in_threads(iron.bind(work))
        in_threads(work.fn)

    main()
    assert world.log == ["NotInRun", 1, 1]
    assert len(main.last.steps()) == 1


def test_a_call_after_the_end_of_the_run_is_refused(lab: Lab, world: World) -> None:
    @step
    def work() -> int:
        return 1

    @flow
    def main() -> None:
        world.late = iron.bind(work)

    main()
    with pytest.raises(iron.errors.RunFinished):
        world.late()


@pytest.mark.parametrize(
    ("arguments", "error"), [({}, TypeError), ({"concurrency": 0}, ValueError), ({"on_error": "ignore"}, ValueError)]
)
def test_a_map_that_can_not_be_is_refused_at_once(lab: Lab, arguments: dict[str, object], error: type) -> None:
    @step
    def work(n: int) -> int:
        return n

    @flow
    def main() -> None:
        work.map(*([] if not arguments else [[1]]), **arguments)

    with pytest.raises(error):
        main()


def test_equal_items_are_each_their_own_step(lab: Lab, world: World) -> None:
    @step
    def work(name: str) -> int:
        world.did(name)
        if len(world.log) == 4 and world.is_broken:
            raise RuntimeError
        return len(world.log)

    @flow
    def main() -> list[int]:
        return list(work.map(["a", "a", "b", "a", "a"], concurrency=1))

    with pytest.raises(RuntimeError):
        main()
    world.is_broken = False
    lab.cell()
    assert main() == [1, 2, 3, 5, 6]


def test_an_async_step_is_mapped_in_a_def_flow(lab: Lab) -> None:
    import asyncio

    @step
    async def work(n: int) -> int:
        await asyncio.sleep(0.001)
        return n + 1

    @flow
    def main() -> tuple[list[int], int]:
        return list(work.map(range(20), concurrency=5)), work.submit(41).result()

    assert main() == (list(range(1, 21)), 42)


def test_an_async_step_called_directly_in_a_def_flow_names_what_to_do(lab: Lab) -> None:
    @step
    async def work(n: int) -> int:
        return n

    @flow
    def main() -> object:
        return work(1)

    with pytest.raises(iron.errors.AsyncMismatch, match=r"submit\(\.\.\.\)\.result\(\)"):
        main()


def test_items_of_different_numbers_are_refused_so_that_none_is_left_out(lab: Lab) -> None:
    @step
    def total(a: int, b: int) -> int:
        return a + b

    @flow
    def main(*iterables: Any) -> list[int]:
        return list(total.map(*iterables))

    assert main([1, 2], [10, 20]) == [11, 22]
    with pytest.raises(ValueError, match=r"total\.map\(\) got 3 and 2 items; .*fixed="):
        main([1, 2, 3], [10, 20])
    with pytest.raises(TypeError, match=r"takes iterables of items, and 10 has no items; .*fixed="):
        main([1, 2], 10)


def test_items_go_as_far_as_an_endless_source_beside_them(lab: Lab) -> None:
    @step
    def total(a: int, b: int) -> int:
        return a + b

    @flow
    def main() -> list[int]:
        return list(total.map([1, 2], itertools.count(10)))

    assert main() == [11, 13]
