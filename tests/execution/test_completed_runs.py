"""A completed run is built on: what an edit does not touch is not done again, and says so in one line."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.execution.runs import start as run_start
from tests.conftest import Lab


class Notebook:
    """Cells that define and call a flow of three steps, the middle one of which is edited."""

    def define(self, *, edited: bool = False, fails: bool = False, **options: Any) -> Any:
        def scale(x: int) -> int:
            return x * 10

        def scale_more(x: int) -> int:
            return x * 100

        scaled = scale_more if edited else scale

        @step(name="fetch")
        def fetch(n: int) -> int:
            log(f"fetch {n}")
            return n

        @step(name="total")
        def total(numbers: list[int]) -> int:
            log("total")
            if fails:
                raise ValueError("broken")
            return scaled(sum(numbers))

        @step(name="publish", once=True)
        def publish() -> str:
            log("publish")
            return "sent"

        @flow(name="report", **options)
        def report(n: int) -> Any:
            return total(list(fetch.map(range(n)))), publish()

        return report


LOG: list[str] = []


def log(line: str) -> None:
    LOG.append(line)


log.__ironflow_digest__ = lambda: b"log"  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(run_start, "say", lines.append)
    LOG.clear()
    return lines


@pytest.fixture
def notebook(lab: Lab) -> Callable[..., Any]:
    lab.is_interactive = True
    return Notebook().define


ALL = ["fetch 0", "fetch 1", "fetch 2", "total", "publish"]


def new_cell(lab: Lab) -> None:
    lab.cell()
    LOG.clear()


def new_kernel(lab: Lab) -> None:
    lab.die()
    new_cell(lab)


def test_after_an_edit_only_what_it_touches_is_done_again(lab: Lab, notebook: Any, said: list[str]) -> None:
    assert notebook()(3) == (30, "sent")
    assert sorted(LOG) == sorted(ALL)
    first = iron.runs()["run_id"][0]
    new_cell(lab)
    assert notebook(edited=True)(3) == (300, "sent")
    assert LOG == ["total"]
    (line,) = said
    assert f"built on run {first}, completed" in line
    assert "4 finished steps are reused if called as before, 1 is done again (total: " in line
    assert "report.options(fresh=True)(...)" in line
    steps = iron.steps(run=iron.runs()["run_id"][0])
    assert list(steps["reused"]) == [True, True, True, False, True]
    assert list(steps["output"]) == ["0", "1", "2", "300", "'sent'"]
    assert iron.get_run(iron.runs()["run_id"][0]).values("fetch") == [0, 1, 2]
    assert len(iron.runs()) == 2
    assert iron.runs()["n_reused"][0] == 4


def test_an_edit_that_is_taken_back_is_answered_by_the_run_before(lab: Lab, notebook: Any) -> None:
    notebook()(3)
    new_cell(lab)
    notebook(edited=True)(3)
    new_cell(lab)
    assert notebook(edited=True)(3) == (300, "sent")
    assert LOG == ["fetch 0", "fetch 1", "fetch 2", "total", "publish"]  # not edited, in the same kernel: once more


def test_an_edit_that_is_undone_is_answered_by_the_runs_before(lab: Lab, notebook: Any, said: list[str]) -> None:
    notebook()(3)
    for edited in (True, False, True):  # each is built on the run before it
        lab.cell()
        notebook(edited=edited)(3)
    assert sorted(LOG) == sorted([*ALL, "total"])
    assert "5 finished steps are reused" in said[-1]
    assert "done again" not in said[-1]
    assert iron.steps(run=iron.runs()["run_id"][0])["reused"].all()
    lab.cell()
    plan = notebook().plan(3)
    assert set(plan["action"]) == {"reuse"}


def test_an_undone_edit_costs_nothing_and_so_stops_nothing(lab: Lab, notebook: Any) -> None:
    notebook()(3)
    lab.cell()
    notebook(edited=True)(3)
    lab.cell()
    assert notebook(on_change="strict")(3) == (30, "sent")
    assert sorted(LOG) == sorted([*ALL, "total"])


def test_a_step_that_an_edit_of_the_flow_left_out_is_still_known_when_it_is_back(lab: Lab) -> None:
    @step
    def work(n: int) -> int:
        log(f"work {n}")
        return n

    def define(*, both: bool) -> Any:
        @flow(name="sums")
        def of_both() -> int:
            return work(1) + work(2)

        @flow(name="sums")
        def of_one() -> int:
            return work(1)

        return of_both if both else of_one

    lab.is_interactive = True
    for both, result in [(True, 3), (False, 1), (True, 3)]:
        assert define(both=both)() == result
        lab.cell()
    assert LOG == ["work 1", "work 2"]


def test_the_same_cell_in_the_same_kernel_is_done_again(lab: Lab, notebook: Any, said: list[str]) -> None:
    report = notebook()
    report(3)
    new_cell(lab)
    assert report(3) == (30, "sent")
    assert sorted(LOG) == sorted(ALL)
    assert said == []
    assert len(iron.runs()) == 2


def test_more_than_a_minute_of_work_is_not_done_again_without_a_word(
    lab: Lab, notebook: Any, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_start, "SAY_WORK_S", 0.0)
    report = notebook()
    report(3)
    new_cell(lab)
    report(3)
    (line,) = said
    assert "of work again" in line
    assert ".result()" in line


def test_restart_and_run_all_gives_the_recorded_result(lab: Lab, notebook: Any, said: list[str]) -> None:
    notebook()(3)
    new_kernel(lab)
    assert notebook()(3) == (30, "sent")
    assert LOG == []
    (line,) = said
    assert "in another kernel: its result is returned each time until something is edited" in line
    for _ in range(2):
        new_cell(lab)
        assert notebook()(3) == (30, "sent")
    assert LOG == []
    assert len(said) == 3
    assert len(iron.runs()) == 1


def test_an_edit_after_a_restart_is_built_on_the_completed_run(lab: Lab, notebook: Any) -> None:
    notebook()(3)
    new_kernel(lab)
    assert notebook(edited=True)(3) == (300, "sent")
    assert LOG == ["total"]


def test_a_new_item_of_a_map_is_all_that_is_done_when_the_flow_is_edited(lab: Lab, notebook: Any) -> None:
    @step
    def fetch(n: int) -> int:
        log(f"fetch {n}")
        return n

    @flow(name="wide")
    def wide() -> int:
        return sum(fetch.map(range(3)))

    wide()
    new_cell(lab)

    @flow(name="wide")
    def wider() -> int:
        return sum(fetch.map(range(5)))

    assert wider() == 10
    assert sorted(LOG) == ["fetch 3", "fetch 4"]


def test_other_arguments_are_another_call(lab: Lab, notebook: Any) -> None:
    notebook()(3)
    new_kernel(lab)
    assert notebook()(1) == (0, "sent")
    assert sorted(LOG) == ["fetch 0", "publish", "total"]


def test_a_script_begins_anew(lab: Lab, notebook: Any, said: list[str]) -> None:
    lab.is_interactive = False
    notebook()(3)
    new_kernel(lab)
    notebook()(3)
    assert sorted(LOG) == sorted(ALL)
    assert said == []


@pytest.mark.parametrize("edited", [False, True])
def test_on_rerun_reuse_builds_on_completed_runs_everywhere(lab: Lab, notebook: Any, *, edited: bool) -> None:
    lab.is_interactive = False
    notebook(on_rerun="reuse")(3)
    new_cell(lab)
    assert notebook(on_rerun="reuse", edited=edited)(3) == (300 if edited else 30, "sent")
    assert (["total"] if edited else []) == LOG


@pytest.mark.parametrize("how", ["fresh", "new"])
def test_who_asks_for_a_new_run_gets_one(lab: Lab, notebook: Any, how: str) -> None:
    notebook()(3)
    new_kernel(lab)
    report = notebook(on_rerun="new") if how == "new" else notebook().options(fresh=True)
    report(3)
    assert sorted(LOG) == sorted(ALL)


def test_a_completed_run_that_is_older_than_reuse_within_is_left_alone(lab: Lab, notebook: Any) -> None:
    clock = lab.simulate_time()
    notebook()(3)
    clock.advance(3601)
    new_kernel(lab)
    notebook(reuse_within="1h")(3)
    assert sorted(LOG) == sorted(ALL)


def test_a_run_that_was_built_on_another_goes_on_with_it_after_a_failure(lab: Lab, notebook: Any) -> None:
    notebook()(3)
    new_cell(lab)
    with pytest.raises(ValueError, match="broken"):
        notebook(fails=True)(3)
    assert LOG == ["total"]
    new_kernel(lab)
    assert notebook(edited=True)(3) == (300, "sent")
    assert LOG == ["total"]


def test_what_was_built_twice_still_knows_what_its_work_took(lab: Lab, notebook: Any) -> None:
    notebook()(3)
    took = iron.steps()["duration_s"][0]
    for edited in (True, False):
        new_cell(lab)
        notebook(edited=edited)(3)
    steps = iron.steps(run=iron.runs()["run_id"][0])
    assert steps["reason"][0] == "reused"
    assert steps["duration_s"][0] == took


def test_the_step_of_a_child_that_was_edited_is_all_that_is_done_again(lab: Lab) -> None:
    lab.is_interactive = True

    def define(factor: int) -> Any:
        @step(name="load")
        def load(n: int) -> int:
            log(f"load {n}")
            return n

        @step(name="fit")
        def fit(n: int) -> int:
            log("fit")
            return n * factor

        @flow(name="child")
        def child(n: int) -> int:
            return fit(load(n))

        @flow(name="parent")
        def parent() -> int:
            return load(7) + child(2)

        return parent

    assert define(10)() == 27
    new_cell(lab)
    assert define(100)() == 207
    assert LOG == ["fit"]


@pytest.mark.parametrize("fails", [False, True], ids=["completed", "failed"])
def test_a_child_that_was_taken_over_is_still_built_on_when_it_is_edited(lab: Lab, *, fails: bool) -> None:
    lab.is_interactive = True

    def define(factor: int, *, last: int, fails: bool = False) -> Any:
        @step(name="load")
        def load(n: int) -> int:
            log(f"load {n}")
            return n

        @step(name="fit")
        def fit(n: int) -> int:
            log("fit")
            return n * factor

        @flow(name="child")
        def child(n: int) -> int:
            return fit(load(n))

        @step(name="add")
        def add(n: int) -> int:
            if fails:
                raise ValueError("broken")
            return n + last

        @flow(name="parent")
        def parent() -> int:
            return add(child(2))

        return parent

    assert define(10, last=1)() == 21
    lab.cell()
    if fails:
        with pytest.raises(ValueError, match="broken"):
            define(10, last=2, fails=True)()  # takes the child over, and does not complete
    else:
        assert define(10, last=2)() == 22
    assert LOG == ["load 2", "fit"]
    new_cell(lab)
    assert define(100, last=2)() == 202
    assert LOG == ["fit"]
    children = iron.runs("child")
    assert len(children) == 2
    assert (children["status"] == "completed").all()


def test_an_async_flow_is_built_on_alike(lab: Lab) -> None:
    lab.is_interactive = True

    def define(factor: int) -> Any:
        @step(name="load")
        async def load(n: int) -> int:
            log(f"load {n}")
            return n

        @step(name="fit")
        def fit(n: int) -> int:
            log("fit")
            return n * factor

        @flow(name="training")
        async def training() -> int:
            loaded = await asyncio.gather(load(1), load(2))
            return fit(sum(loaded))

        return training

    assert asyncio.run(define(10)()) == 30
    new_cell(lab)
    assert asyncio.run(define(100)()) == 300
    assert LOG == ["fit"]


@pytest.mark.parametrize(
    ("edited", "restarted", "said_first"),
    [
        (True, False, "a new run would begin, built on run"),
        (False, True, "would be taken and its result returned"),
        (False, False, "a new run would begin; nothing was edited since run"),
    ],
)
def test_a_plan_says_beforehand_what_a_completed_run_means(
    lab: Lab, notebook: Any, *, edited: bool, restarted: bool, said_first: str
) -> None:
    notebook()(3)
    (new_kernel if restarted else new_cell)(lab)
    plan = notebook(edited=edited).plan(3)
    assert said_first in plan.headline
    if edited:
        assert list(plan["action"]) == ["reuse"] * 3 + ["redo", "reuse"]
        assert "1 done again" in plan.headline


@pytest.mark.parametrize("options", [{}, {"on_rerun": "reuse"}])
def test_what_somebody_else_completed_is_not_built_on(
    lab: Lab, notebook: Any, said: list[str], monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.setenv("IRONFLOW_KEY", "of somebody else")
    lab.begin()
    notebook(**options)(3)
    first = iron.runs()["run_id"][0]
    monkeypatch.setenv("IRONFLOW_KEY", "a key of the tests")
    new_kernel(lab)
    assert notebook(**options)(3) == (30, "sent")
    assert sorted(LOG) == sorted(ALL)
    (line,) = said
    assert f"because run {first}, which is completed, was not written by you" in line
    assert "iron.trust(" in line
