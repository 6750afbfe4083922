"""The details of a node: its steps with what they were given, returned and failed with, and its source."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import Run, flow, step
from ironflow_nb.core.identity import RunId
from ironflow_nb.handles.node_details import details_of
from ironflow_nb.handles.run_picture import view_of
from ironflow_nb.handles.run_progress import progress_of
from ironflow_nb.views.node_view import NodeDetails
from tests.conftest import Lab


@step
def double(n: int, note: str = "") -> int:
    if n == 3:
        raise ValueError("three is too many")
    return 2 * n


@step(retries=iron.Retry(attempts=2, delay_s=0))
def broken() -> None:
    raise ValueError("no such <page>")


@step
async def triple(n: int) -> int:
    return 3 * n


@flow
def mapped() -> int:
    with suppress(ValueError):
        broken()
    return sum(double.map(range(3), fixed={"note": "a text"}))


@flow
def fails_late() -> None:
    list(double.map(range(30)))


@flow
def twice() -> int:
    first = double(1)
    second = double(2)
    return first + second


@flow
async def waits() -> int:
    return await triple(4)


def details(lab: Lab, run: Run[Any], label: str, nth: int = 0) -> NodeDetails:
    view = view_of(RunId(run.id), progress_of(lab.engine, RunId(run.id)))
    nodes = [each for each in view.nodes if each.node.label == label]
    return details_of(lab.engine, RunId(run.id), nodes[nth])


def test_a_map_has_its_items_the_newest_first_and_its_source(lab: Lab) -> None:
    found = details(lab, mapped.start().wait(20), "double")
    assert found.n_steps == 3
    assert {each.inputs for each in found.steps} == {f"n={n}, note='a text'" for n in range(3)}
    assert {each.output for each in found.steps} == {"0", "2", "4"}
    assert "def double(n: int" in found.source


def test_a_step_that_failed_has_its_error_and_its_attempts(lab: Lab) -> None:
    [failed] = details(lab, mapped.start().wait(20), "broken").steps
    assert (failed.status, failed.attempt, failed.output) == ("failed", 2, None)
    assert "no such <page>" in (failed.error or "")


def test_of_many_steps_those_that_failed_are_listed_first(lab: Lab) -> None:
    found = details(lab, fails_late.start().wait(20), "double")
    assert (found.steps[0].status, found.steps[0].inputs) == ("failed", "n=3, note=''")
    assert len(found.steps) <= 20


def test_a_node_has_only_the_steps_that_were_called_there(lab: Lab) -> None:
    run = twice.start().wait(20)
    assert [details(lab, run, "double", nth).steps[0].output for nth in (0, 1)] == ["2", "4"]
    assert [details(lab, run, "double", nth).n_steps for nth in (0, 1)] == [1, 1]


def test_an_async_step_and_a_place_without_steps_have_details_too(lab: Lab) -> None:
    run = waits.start().wait(20)
    [done] = details(lab, run, "triple").steps
    assert (done.inputs, done.output, done.status) == ("n=4", "12", "completed")
    assert details(lab, run, "end").steps == ()


@pytest.mark.parametrize("value", ["<b>bold</b>", "x" * 5000, "\x1b[31mred"])
def test_what_is_shown_is_short_and_plain(lab: Lab, value: str) -> None:
    @step(name="say")
    def say(text: str) -> str:
        return text

    @flow(name="said")
    def said(text: str) -> str:
        return say(text)

    [done] = details(lab, said.start(value).wait(20), "say").steps
    assert len(done.output or "") < 500
    assert "\x1b" not in done.inputs + (done.output or "")
