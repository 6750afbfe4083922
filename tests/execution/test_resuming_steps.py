"""A run that is told what to do again: failures it lived with, finished steps, results of code that has changed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.errors import CodeChanged, NothingToDo, RunFinished, StepNotFound

performed: list[object] = []
broken: set[int] = set()


@pytest.fixture(autouse=True)
def nothing_done_yet() -> Iterator[None]:
    performed.clear()
    broken.clear()
    yield
    broken.clear()


@step
def fetch(n: int) -> int:
    performed.append(n)
    if n in broken:
        raise ConnectionError(n)
    return n


@step
def total(numbers: list[int]) -> int:
    performed.append("total")
    return sum(numbers)


@flow
def collect(n: int) -> int:
    return total(fetch.map(range(n), on_error="collect").ok)


@flow
def both(n: int) -> int:
    return fetch(n) + fetch(n + 1)


def test_a_completed_run_tries_the_failures_it_lived_with_again(iron_engine: Any) -> None:
    broken.update({1, 3})
    assert collect(5) == 6
    broken.clear()
    performed.clear()
    run = collect.last.resume(retry="failed")
    assert run.result() == 10
    assert performed == [1, 3, "total"]
    assert run.status == "completed"
    assert list(run.steps().query("name.str.endswith('fetch')")["status"]) == ["completed"] * 5
    assert len(iron.runs()) == 1


def test_only_the_named_failures_are_tried_again(iron_engine: Any) -> None:
    broken.update({1, 3})
    assert collect(5) == 6
    broken.clear()
    performed.clear()
    assert collect.last.resume(retry=["fetch[3]"]).result() == 9
    assert performed == [3, "total"]


@pytest.mark.parametrize("named", [fetch, [fetch], "fetch", ["fetch[0]", "fetch[1]"]])
def test_finished_steps_run_again(iron_engine: Any, named: Any) -> None:
    assert both(1) == 3
    performed.clear()
    run = both.last.resume(rerun=named)
    assert run.result() == 3
    assert performed == [1, 2]
    assert list(run.attempts()["reason"]) == ["new", "asked for"] * 2
    assert list(run.steps()["attempt"]) == [2, 2]


def test_a_step_that_was_to_run_again_does_so_after_an_interruption_too(iron_engine: Any) -> None:
    assert both(1) == 3
    broken.add(1)
    with pytest.raises(ConnectionError):
        both.last.resume(rerun=[fetch]).result()
    broken.clear()
    performed.clear()
    run = both.last.resume()
    assert run.result() == 3
    assert performed == [1, 2]
    performed.clear()
    broken.add(2)
    with pytest.raises(ConnectionError):
        run.resume(rerun=["fetch[1]"]).result()
    broken.clear()
    performed.clear()
    assert run.resume().result() == 3
    assert performed == [2], "the step that was done again is not done a third time"


def test_results_of_changed_code_are_kept_where_that_is_asked(iron_engine: Any, monkeypatch: Any) -> None:
    broken.add(2)
    strict = both.options(on_change="strict")
    with pytest.raises(ConnectionError):
        strict(1)
    broken.clear()
    performed.clear()
    monkeypatch.setattr(sys.modules[__name__], "fetch", step(name=fetch.name)(fetch_more_carefully))
    with pytest.raises(CodeChanged):
        strict.resume().result()
    assert performed == []
    assert both.last.resume(keep=["fetch[0]"]).result() == 3
    assert performed == [2]


def fetch_more_carefully(n: int) -> int:
    performed.append(n)
    return n + 0


@pytest.mark.parametrize(
    ("orders", "error"),
    [
        ({"retry": "failed"}, NothingToDo),
        ({"retry": ["fetch[0]"]}, NothingToDo),
        ({"rerun": []}, NothingToDo),
        ({"rerun": ["nobody"]}, StepNotFound),
        ({"keep": ["fetch[7]"]}, StepNotFound),
        ({"rerun": [3]}, TypeError),
    ],
)
def test_what_can_not_be_done_is_refused_and_changes_nothing(iron_engine: Any, orders: Any, error: Any) -> None:
    assert both(1) == 3
    n_events = len(both.events())
    with pytest.raises(error):
        both.last.resume(**orders)
    assert both.last.status == "completed"
    assert len(both.events()) == n_events


def test_a_cancelled_run_is_not_told_anything(iron_engine: Any) -> None:
    broken.add(1)
    with pytest.raises(ConnectionError):
        both(1)
    both.last.cancel()
    with pytest.raises(RunFinished, match="cancelled"):
        both.last.resume(retry="failed")


def test_without_orders_a_completed_run_is_left_alone(iron_engine: Any) -> None:
    assert both(1) == 3
    performed.clear()
    assert both.last.resume().result() == 3
    assert performed == []
    assert list(both.events()["type"]).count("RunContinued") == 0


def test_a_run_is_told_by_its_id_too(iron_engine: Any) -> None:
    assert both(1) == 3
    performed.clear()
    assert iron.resume(both.last.id, rerun="fetch[1]").result() == 3
    assert performed == [2]
