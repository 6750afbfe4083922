"""A function that takes longer than its ``timeout_s`` never runs beside the next try of its node."""

from __future__ import annotations

import logging
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.errors import NodeTimeout
from ironflow_nb.testing.clock import SimClock
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


def test_a_node_with_overlap_does_not_wait_for_a_body_that_was_left_alone() -> None:
    bodies = Bodies()
    node = {"id": "a", "python": "work", "timeout_s": 0.05, "overlap": True, "retry": {"attempts": 3, "delay_s": 0}}
    graph = graph_of(node, functions={"work": bodies.work}, output="{{ a }}")
    with iron.open(":memory:"):
        assert graph.start().result(timeout_s=WAIT_S) == 3
        assert (bodies.n_most, bodies.n_begun) == (3, 3)
        bodies.goes_on.release(2)


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


@pytest.mark.skipif(sys.platform == "win32", reason="there is no sleep in a shell of Windows")
@pytest.mark.parametrize("limits", [{"timeout_s": 0.5}, {"deadline_s": 0.5}, {"timeout_s": 0.5, "deadline_s": 30}])
def test_a_program_is_ended_when_its_node_has_no_time_left(limits: dict[str, float]) -> None:
    program = {"command": "echo begun >&2; sleep 60"}
    graph = graph_of({"id": "a", "shell": program, **limits}, allow={"shell": True})
    with iron.open(":memory:"):
        with pytest.raises(NodeTimeout, match=r"took longer than 0\.5 s and was ended"):
            graph()
        assert list(iron.attempts()["status"]) == ["timed_out"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM on Windows")
def test_a_program_that_ignores_the_first_signal_is_ended_before_its_node_is_abandoned() -> None:
    program = {"command": "trap '' TERM; echo begun >&2; while :; do sleep 0.1; done"}
    with iron.open(":memory:"), pytest.raises(NodeTimeout, match=r"took longer than 0\.5 s and was ended"):
        graph_of({"id": "a", "shell": program, "timeout_s": 0.5}, allow={"shell": True})()


def test_all_tries_of_a_node_are_within_its_deadline(tmp_path: Path) -> None:
    def fails() -> None:
        raise ConnectionError("no")

    node = {"id": "a", "python": "fails", "deadline_s": 100, "retry": {"attempts": 9, "delay_s": 60, "factor": 1}}
    with iron.open(tmp_path / "journal.db", clock=SimClock()):
        with pytest.raises(ConnectionError):
            graph_of(node, functions={"fails": fails})()
        assert list(iron.attempts()["status"]) == ["failed", "failed"]


def test_more_time_for_a_try_than_for_all_of_them_is_a_mistake() -> None:
    graph = graph_of({"id": "a", "log": "x", "timeout_s": 5, "deadline_s": 4})
    with pytest.raises(iron.GraphInvalid, match="one attempt, timeout_s, can't take longer than all of them together"):
        graph.validate()


def test_a_node_has_the_limits_of_the_step_that_it_calls_unless_it_has_its_own(tmp_path: Path) -> None:
    clock = SimClock()

    @iron.step(timeout_s=10)
    def slow() -> str:
        clock.advance(11)
        return "done"

    with iron.open(tmp_path / "journal.db", clock=clock):
        with pytest.raises(NodeTimeout, match=r"timeout_s of 10 s"):
            graph_of({"id": "a", "python": "slow"}, functions={"slow": slow})()
        assert graph_of({"id": "a", "python": "slow", "timeout_s": 12}, functions={"slow": slow})() == "done"
