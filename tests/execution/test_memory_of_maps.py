"""How much of a map is in memory: its window and what fits; the rest is read again from the journal."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest

from ironflow_nb import flow, step
from ironflow_nb.execution.steps import fan_out
from ironflow_nb.testing.memory_journal import MemoryJournal
from tests.cells import World
from tests.conftest import Lab

SIZE, N = 50_000, 400


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fan_out, "HELD_BYTES", 1_000_000)


@step
def page(n: int) -> str:
    return f"{n:05}" * (SIZE // 5)


@step
def length(text: str) -> int:
    return len(text)


def number(text: str) -> int:
    return int(text[:5])


@pytest.mark.parametrize("is_chained", [False, True])
def test_a_map_that_is_read_as_it_comes_holds_what_fits(lab: Lab, little_memory: None, is_chained: bool) -> None:
    @flow
    def main() -> int:
        pages = page.map(range(N), concurrency=2)
        return sum(length.map(pages, concurrency=2)) if is_chained else sum(map(len, pages))

    if isinstance(lab.engine.journal, MemoryJournal):
        pytest.skip("a journal in memory holds everything")
    tracemalloc.start()
    try:
        assert main() == SIZE * N
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < SIZE * N / 2


def test_what_was_let_go_of_is_read_again(lab: Lab, little_memory: None) -> None:
    @flow
    def main() -> None:
        pages = page.map(range(N), concurrency=2)
        assert [number(each) for each in pages] == list(range(N))
        assert sum(outcome.is_released for outcome in pages._fanout.promises) > N - 50
        assert [number(each) for each in pages] == list(range(N))
        assert (number(pages[3]), number(pages[-1]), len(pages)) == (3, N - 1, N)
        assert [number(each) for each in pages[10:12]] == [10, 11]
        assert page.fn(7) in pages
        assert pages.index(page.fn(7)) == 7
        assert len(pages.ok) == N
        assert pages.errors.empty
        assert sum(length.map(pages)) == SIZE * N

    main()


def test_results_that_nobody_has_read_yet_are_let_go_of_beyond_the_window(lab: Lab, little_memory: None) -> None:
    @flow
    def main() -> list[int]:
        pages = page.map(range(N), concurrency=2)
        assert len(pages) == N
        released = [outcome.is_released for outcome in pages._fanout.promises]
        assert not any(released[:8])
        assert all(released[30:])
        return [number(each) for each in pages]

    assert main() == list(range(N))


def test_a_map_that_is_replayed_holds_what_fits(lab: Lab, little_memory: None, world: World) -> None:
    @flow
    def main() -> list[int]:
        pages = page.map(range(N), concurrency=2)
        found = [number(each) for each in pages]
        if world.is_broken:
            world.die()
        assert sum(outcome.is_released for outcome in pages._fanout.promises) > N - 50
        return found

    with pytest.raises(SystemExit):
        main()
    world.is_broken = False
    assert main() == list(range(N))


def test_small_results_are_read_once(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    @step
    def double(n: int) -> int:
        return 2 * n

    @flow
    def main() -> list[int]:
        doubled = double.map(range(1000))
        monkeypatch.setattr(lab.engine.access, "read", None)
        return [*doubled, *doubled]

    assert main() == [2 * n for n in range(1000)] * 2


def test_a_result_that_two_wait_for_is_there_for_both(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fan_out, "HELD_BYTES", 0)

    def items() -> Iterator[int]:
        yield from range(100)

    @flow
    def main() -> list[int]:
        first, second = page.map(items(), concurrency=1), page.map(items(), concurrency=1)
        return [number(each) for each in [*first, *second]]

    assert main() == [*range(100), *range(100)]
