"""The picture of a run that goes on says how many items its maps will have, where that is known."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from ironflow_nb import flow, step
from tests.conftest import Lab


def test_a_picture_counts_the_items_that_are_still_to_come(lab: Lab) -> None:
    gate = threading.Event()

    @step
    def first(n: int) -> int:
        if n:
            gate.wait(20)
        return n

    @step
    def second(n: int) -> int:
        return n

    @step
    def third(n: int) -> int:
        return n

    @flow
    def main() -> int:
        results = first.map(range(50), concurrency=2)
        streamed = second.map(results)
        unknown = third.map(iter([1, 2]))
        return sum(streamed) + sum(unknown)

    run = main.start()
    while list(run.steps()["status"]).count("completed") < 2:
        pass
    text = run._repr_mimebundle_()["text/plain"]
    assert "first (map): 1 of 50" in text
    assert "second (map): " in text
    assert "of 50" in text.split("second")[1].splitlines()[0]
    gate.set()
    assert run.result(timeout_s=20) == sum(range(50)) + 3
    assert "third (map): 2 of 2" in run._repr_mimebundle_()["text/plain"]


def test_an_iterator_is_not_counted_in_advance(lab: Lab) -> None:
    gate = threading.Event()

    @step
    def work(n: int) -> int:
        gate.wait(20)
        return n

    def items() -> Iterator[int]:
        yield from range(40)

    @flow
    def main() -> int:
        return sum(work.map(items(), concurrency=1))

    run = main.start()
    while run.steps().empty:
        pass
    assert "of 40" not in run._repr_mimebundle_()["text/plain"]
    gate.set()
    assert run.result(timeout_s=20) == sum(range(40))
