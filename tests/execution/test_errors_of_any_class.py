"""Whatever class an error has, and wherever the engine calls the user's code: the run ends in its true status."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Self

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.core.status import RunStatus, StepStatus
from tests.conftest import Lab

LIMIT_S = 10.0
N_ITEMS = 40
BAD = 35
"""The item that meets the error; a map has begun to give results by then."""

EXITS = [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError]
FAILURES = [StopIteration, StopAsyncIteration, RecursionError, MemoryError]


class Trap:
    """Raises once, where the bad item is."""

    def __init__(self) -> None:
        self.kind: type[BaseException] = ValueError
        self.is_armed = True
        self.n_hits = 0

    def pass_over(self, n: int) -> int:
        if n == BAD and self.is_armed:
            self.n_hits += 1
            raise self.kind("trap")
        return n

    def __ironflow_digest__(self) -> bytes:
        return b"the trap"


TRAP = Trap()


@pytest.fixture(autouse=True)
def new_trap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.TRAP", Trap())


class Number:
    def __init__(self, n: int) -> None:
        self.n = n


class DigestsItself(Number):
    def __ironflow_digest__(self) -> str:
        return str(TRAP.pass_over(self.n))


class SaysItsState(Number):
    def __getstate__(self) -> dict[str, int]:
        return {"n": TRAP.pass_over(self.n)}


class TakesItsState(Number):
    def __getstate__(self) -> dict[str, int]:
        return {"n": self.n}

    def __setstate__(self, state: dict[str, int]) -> None:
        self.n = TRAP.pass_over(state["n"])


class SaysItsCopy(Number):
    def __reduce__(self) -> Any:
        return SaysItsCopy, (TRAP.pass_over(self.n),)


class ShowsItself(Number):
    def __repr__(self) -> str:
        return str(TRAP.pass_over(self.n))


class FailureWithText(Exception):
    def __str__(self) -> str:
        return str(TRAP.pass_over(BAD))


class FailureThatTells(Exception):
    @property
    def is_retryable(self) -> bool:
        return bool(TRAP.pass_over(BAD))


def retries_on(_error: Exception) -> bool:
    return bool(TRAP.pass_over(BAD))


class Sized:
    def __iter__(self) -> Iterator[int]:
        return iter(range(N_ITEMS))

    def __len__(self) -> int:
        TRAP.pass_over(BAD)
        return N_ITEMS


class Iterated:
    def __iter__(self) -> Iterator[int]:
        TRAP.pass_over(BAD)
        return iter(range(N_ITEMS))


class Given:
    """Gives items; after an error it would go on with the next one."""

    def __init__(self) -> None:
        self._items = iter(range(N_ITEMS))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> int:
        return TRAP.pass_over(next(self._items))


def generated() -> Iterator[int]:
    for n in range(N_ITEMS):
        yield TRAP.pass_over(n)


def body(n: Any) -> Any:
    return TRAP.pass_over(n)


def failing_with(error: Callable[[], Exception]) -> Callable[[Any], Any]:
    def fail(n: int) -> int:
        if n == BAD and TRAP.is_armed:
            raise error()
        return n

    return fail


def made(kind: type[Number]) -> Callable[[Any], Any]:
    return lambda n: kind(n.n if isinstance(n, Number) else n)


def same(n: Any) -> Any:
    return n


Place = tuple[Callable[[Any], Any], Callable[[int], Any], dict[str, Any]]
"""What the body does, what items are made of the numbers, and the options of the step."""

PLACES: dict[str, Place] = {
    "the body": (body, same, {}),
    "the key": (same, same, {"key": lambda n: TRAP.pass_over(n)}),
    "retries on": (failing_with(ValueError), same, {"retries": iron.Retry(attempts=3, delay_s=0.001, on=retries_on)}),
    "what an error tells": (failing_with(FailureThatTells), same, {"retries": 2}),
    "the text of an error": (failing_with(FailureWithText), same, {}),
    "the repr of what is in an error": (failing_with(lambda: ValueError(ShowsItself(BAD))), same, {}),
    "the state of what is in an error": (failing_with(lambda: ValueError(SaysItsState(BAD))), same, {}),
    "the digest of an argument": (same, DigestsItself, {}),
    "the state of an argument": (same, SaysItsState, {}),
    "the copy of an argument": (same, SaysItsCopy, {}),
    "the repr of an argument": (same, ShowsItself, {}),
    "the state of a result": (made(SaysItsState), same, {}),
    "the state a result takes": (made(TakesItsState), same, {}),
    "the copy of a result": (made(SaysItsCopy), same, {}),
    "the length of the items": (same, same, {}),
    "the beginning of the items": (same, same, {}),
    "the next item": (same, same, {}),
    "a generator of items": (same, same, {}),
}
SOURCES: dict[str, Callable[[], Any]] = {
    "the length of the items": Sized,
    "the beginning of the items": Iterated,
    "the next item": Given,
    "a generator of items": generated,
}


def numbers(results: Any) -> list[int]:
    return [n.n if isinstance(n, Number) else n for n in results]


def mapped(place: str, *, is_async: bool) -> Any:
    """Return a flow that maps its items."""
    do, item, options = PLACES[place]

    def items() -> Any:
        return SOURCES[place]() if place in SOURCES else map(item, range(N_ITEMS))

    if not is_async:
        work = step(name="work", **options)(lambda n: do(n))
        return flow(name="main")(lambda: numbers(work.map(items(), concurrency=2)))

    @step(name="work", **options)
    async def awaited(n: Any) -> Any:
        return do(n)

    @flow(name="main")
    async def main() -> list[int]:
        return numbers(await awaited.map(items(), concurrency=2))

    return main


def called(place: str, *, is_async: bool) -> Any:
    """Return a flow that calls its step for one item after the other, by what takes a StopIteration for the end."""
    do, item, options = PLACES[place]
    if not is_async:
        work = step(name="work", **options)(lambda n: do(n))
        return flow(name="main")(lambda: numbers(map(work, map(item, range(N_ITEMS)))))

    @step(name="work", **options)
    async def awaited(n: Any) -> Any:
        return do(n)

    @flow(name="main")
    async def main() -> list[int]:
        return numbers([await call for call in map(awaited, map(item, range(N_ITEMS)))])

    return main


def submitted(place: str, *, is_async: bool) -> Any:
    """Return a flow that submits its step for each item."""
    do, item, options = PLACES[place]
    work = step(name="work", **options)(lambda n: do(n))
    if not is_async:
        return flow(name="main")(lambda: numbers([work.submit(item(n)).result() for n in range(N_ITEMS)]))

    @flow(name="main")
    async def main() -> list[int]:
        return numbers([await work.submit(item(n)) for n in range(N_ITEMS)])

    return main


WAYS = [(way, place) for way in (mapped, called, submitted) for place in PLACES if place not in SOURCES]
WAYS += [(mapped, place) for place in SOURCES]


async def awaited_outcome(main: Any) -> BaseException | None:
    try:
        await main()
    except BaseException as error:
        return error
    return None


@pytest.mark.parametrize("lab", ["memory"], indirect=True)
@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async"])
@pytest.mark.parametrize(("way", "place"), WAYS, ids=[f"{way.__name__}-{place}" for way, place in WAYS])
def test_an_error_of_any_class_ends_the_run_in_its_true_status(way: Any, place: str, is_async: bool, lab: Lab) -> None:
    for kind in [*EXITS, *FAILURES]:
        TRAP.kind, TRAP.is_armed = kind, True
        lab.cell()
        is_end = kind is StopIteration and place == "the next item"  # which is how iterators say it
        main = way(place, is_async=is_async).options(key=kind.__name__)
        caught = outcome_of(main, is_async=is_async)
        TRAP.is_armed = False
        run = iron.get_run(iron.runs()["run_id"].iloc[0]).wait(LIMIT_S)
        expected = RunStatus.INTERRUPTED if kind in EXITS else RunStatus.FAILED
        if caught is None:  # an error while something is only shown, or asked what it is made of, need not be one
            expected = RunStatus.COMPLETED
            assert numbers(run.result()) == list(range(BAD if is_end else N_ITEMS))
        assert run.status == expected, kind
        assert StepStatus.RUNNING not in set(run.steps()["status"])
        if caught is not None:
            assert not isinstance(caught, StopIteration)
            assert numbers(run.resume().result(LIMIT_S)) == list(range(N_ITEMS))
    assert TRAP.n_hits or place == "the repr of an argument"


def outcome_of(main: Any, *, is_async: bool) -> BaseException | None:
    """Call the flow; return what it raises."""
    if is_async:
        return asyncio.run(awaited_outcome(main))
    try:
        main()
    except BaseException as error:
        return error
    return None


def test_a_map_that_collects_gives_up_items_that_raise_for_ever(lab: Lab) -> None:
    class Broken:
        def __iter__(self) -> Self:
            return self

        def __next__(self) -> int:
            raise ConnectionError("gone")

    @step
    def work(n: int) -> int:
        return n

    @flow
    def main() -> None:
        work.map(Broken(), on_error="collect")

    @flow
    def reading() -> int:
        return len(work.map(Broken(), on_error="collect"))

    for called in (main, reading):
        with pytest.raises(ConnectionError, match="gone") as caught:
            called()
        assert "raised 1000 times" in caught.value.__notes__[0]
        assert called.last.status == RunStatus.FAILED


def test_a_map_that_collects_goes_on_after_items_that_raise(lab: Lab) -> None:
    @step
    def work(n: int) -> int:
        return n

    @flow
    def main() -> list[int]:
        return work.map(map(int, ["1", *["x"] * 900, "2", *["y"] * 900, "3"]), on_error="collect").ok

    assert main() == [1, 2, 3]
