"""A function that takes longer than its ``timeout_s`` never runs beside the next try of its node."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.errors import NodeTimeout
from tests.graphs.playing import WAIT_S, graph_of


class Bodies:
    """Counts how many bodies run at once; each waits until it is let go."""

    def __init__(self) -> None:
        self.n_now = self.n_most = self.n_begun = 0
        self.lock = threading.Lock()
        self.begins = threading.Semaphore(0)
        self.goes_on = threading.Semaphore(0)

    def work(self) -> int:
        with self.lock:
            self.n_begun += 1
            number = self.n_begun
            self.n_now += 1
            self.n_most = max(self.n_most, self.n_now)
        self.begins.release()
        if number < 3:
            assert self.goes_on.acquire(timeout=WAIT_S)
        with self.lock:
            self.n_now -= 1
        return number


@pytest.mark.parametrize("beside", [False, True])
def test_a_body_that_was_left_alone_ends_before_the_next_try_begins(beside: bool) -> None:
    bodies = Bodies()
    nodes: list[dict[str, Any]] = [
        {"id": "a", "python": "work", "timeout_s": 0.05, "retry": {"attempts": 3, "delay_s": 0}, "depends_on": []}
    ]
    if beside:
        nodes.append({"id": "b", "python": "other", "depends_on": []})
    graph = graph_of(*nodes, functions={"work": bodies.work, "other": lambda: 1}, output="{{ a }}")
    with iron.open(":memory:"):
        run = graph.start()
        for _ in range(2):
            assert bodies.begins.acquire(timeout=WAIT_S)
            assert not bodies.begins.acquire(timeout=0.3)
            bodies.goes_on.release()
        assert run.result(timeout_s=WAIT_S) == 3
    assert (bodies.n_most, bodies.n_begun) == (1, 3)


def test_the_error_says_what_goes_on() -> None:
    go_on = threading.Event()
    with iron.open(":memory:"):
        graph = graph_of({"id": "a", "python": "f", "timeout_s": 0.05}, functions={"f": lambda: go_on.wait(WAIT_S)})
        with pytest.raises(NodeTimeout, match=r"0\.05 s; its body goes on alone, and what it returns is discarded"):
            graph()
    go_on.set()


def test_validate_names_what_is_defined_nowhere_yet(caplog: pytest.LogCaptureFixture) -> None:
    inside = {"id": "d", "loop": [1], "do": [{"id": "e", "workflow": "missing_flow"}]}
    graph = graph_of({"id": "a", "python": "missing"}, {"id": "b", "python": "here"}, inside, functions={"here": int})
    with caplog.at_level(logging.INFO, "ironflow_nb"), iron.open(":memory:"):
        graph.validate()
    assert caplog.messages == ["g: a: python missing, e: workflow missing_flow is defined nowhere yet; a run needs it"]
