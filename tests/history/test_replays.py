"""Replays: the code of now is run against what a run has recorded; no body runs, and the journal stays as it is."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from tests.cells import run_cell
from tests.conftest import Lab
from tests.history.test_edited_runs import LIMIT_S, awaited, done, fetch, mapped, no_calls, ran, tell

__all__ = ["no_calls"]

pytestmark = pytest.mark.parametrize("lab", ["sqlite"], indirect=True)  # the journal in memory exports no runs

SENT: list[str] = []


def redefined(source: str, name: str = "main") -> Any:
    """Define steps and a flow in a cell, and return the flow."""
    space: dict[str, Any] = {"__name__": "__main__", "iron": iron, "np": np, "pd": pd}
    run_cell(source, space)
    return space[name]


STEPS = """
@iron.step
def fetch(n):
    return n * 2

@iron.step
def broken(n):
    raise ValueError(n)
"""


def after_edit(lab: Lab, before: str, edited: str, *arguments: Any) -> tuple[Any, iron.ReplayResult]:
    """Run the flow of the first source, define that of the second, and return the run with its replay."""
    first = redefined(STEPS + before)
    run = first.start(*arguments).wait(LIMIT_S)
    lab.cell()
    redefined(STEPS + edited)
    return run, iron.replay(run)


@pytest.mark.parametrize("any_flow", [mapped, awaited], ids=["def", "async def"])
def test_a_replay_of_unchanged_code_finds_no_difference_and_runs_no_step(lab: Lab, any_flow: Any) -> None:
    run = ran(any_flow, [1, 2, 3])
    before = run.at()
    found = iron.replay(run)
    assert (found.ok, found.difference, found.step) == (True, None, None)
    assert (found.n_reused, found.is_complete, found.run_id) == (5, True, run.id)
    assert done() == []
    assert (run.at(), len(iron.runs())) == (before, 1)
    assert "no difference" in repr(found)


def test_a_call_that_is_not_recorded_is_the_first_difference(lab: Lab) -> None:
    source = "@iron.flow\ndef main(n):\n    return [fetch(i{}) for i in range(n)]"
    run, found = after_edit(lab, source.format(""), source.format(" + 1 if i == 2 else i"), 4)
    assert not found.ok
    assert found.step == "fetch"
    assert "calls fetch(n=3), which is not recorded in run " + run.id in str(found.difference)
    assert "not called until then: fetch[2]" in str(found.difference)


def test_steps_that_are_no_longer_called_are_a_difference(lab: Lab) -> None:
    source = "@iron.flow\ndef main(n):\n    [fetch(i) for i in range(n)]\n    return 'same'"
    _, found = after_edit(lab, source, source.replace("range(n)", "range(n - 2)"), 4)
    assert (found.step, found.difference) == ("fetch[2]", "the code of now does not call fetch[2], fetch[3]")


def test_another_result_is_a_difference_with_its_place(lab: Lab) -> None:
    source = "@iron.flow\ndef main():\n    return {'pages': [fetch(1), fetch(2)], 'n': 2}"
    _, found = after_edit(lab, source, source.replace("fetch(2)]", "fetch(2) + 1]"))
    assert found.difference == "the result differs at ['pages'][1]: 4 -> 5"
    assert found.step is None


def test_equal_frames_and_arrays_are_no_difference(lab: Lab) -> None:
    source = (
        "@iron.flow\ndef main():\n    return pd.DataFrame({'a': [fetch(1), np.nan]}), np.arange(fetch(2)), {fetch(3)}"
    )
    assert after_edit(lab, source, source)[1].ok


def test_the_code_of_steps_does_not_matter(lab: Lab) -> None:
    source = "@iron.flow\ndef main():\n    return fetch(1)"
    _, found = after_edit(lab, source, "@iron.step\ndef fetch(n):\n    raise SystemError\n" + source)
    assert found.ok


def test_a_failure_that_was_handled_and_one_that_was_not_are_answered_as_they_were(lab: Lab) -> None:
    source = (
        "@iron.flow\ndef main():\n    try:\n        broken(1)\n    except ValueError as error:\n"
        "        fetch(error.args[0])\n    return broken(2)"
    )
    run, found = after_edit(lab, source, source)
    assert run.status == "failed"
    assert (found.ok, found.is_complete, found.n_reused) == (True, True, 3)
    lab.cell()
    handled = "    try:\n        broken(2)\n    except ValueError:\n        return 7"
    redefined(STEPS + source.replace("    return broken(2)", handled))
    difference = iron.replay(run).difference
    assert difference == "the code of now returns 7; the run fails with ValueError: 2"


def test_what_a_flow_asks_of_chance_time_waits_and_branches_is_answered(lab: Lab) -> None:
    @flow
    def chance() -> Any:
        first = iron.now(), iron.uuid4(), iron.random()
        iron.sleep(0.001)
        both = iron.gather(lambda: fetch(1), lambda: iron.random())
        futures = [fetch.submit(n) for n in (2, 3)]
        order = [future.result() for future in iron.as_completed(futures)]
        return first, both, order

    run = ran(chance)
    assert iron.replay(run).ok
    assert done() == []


@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async def"])
def test_children_are_answered_with_their_recorded_results(lab: Lab, *, is_async: bool) -> None:
    @flow
    def parent() -> int:
        return mapped([1, 2]) + 1

    @flow
    async def async_parent() -> int:
        return await awaited([1, 2]) + 1

    run = ran(async_parent if is_async else parent)
    found = iron.replay(run)
    assert (found.ok, found.n_reused) == (True, 1)
    assert done() == []


def test_a_run_that_has_not_ended_is_checked_as_far_as_it_went(lab: Lab) -> None:
    @flow
    def asking() -> Any:
        fetch(1)
        answer = iron.approve("Go on?")
        return answer, tell("the end")

    run = asking.start()
    while not len(iron.waiting()):
        pass
    done()
    found = iron.replay(run)
    assert (found.ok, found.is_complete, found.n_reused) == (True, False, 1)
    assert len(iron.waiting()) == 1
    run.answer(True)
    assert run.result(LIMIT_S)[0] is True
    assert iron.replay(run).is_complete


def test_a_replay_undoes_nothing_and_tells_nobody(lab: Lab) -> None:
    def give_back(result: int) -> None:
        SENT.append(f"gave back {result}")

    @step(compensate=give_back)
    def take(n: int) -> int:
        return n

    @flow
    def trip() -> None:
        iron.on_failure(SENT.append, "on failure")
        take(1)
        raise RuntimeError(secrets.token_hex(4) if SENT else "the first")

    SENT.clear()
    run = ran(trip)
    undone, SENT[:] = list(SENT), []
    assert len(undone) == 2
    assert iron.replay(run).ok
    assert SENT == []


def test_a_graph_is_replayed(lab: Lab) -> None:
    def twice(n: int) -> int:
        SENT.append(f"twice {n}")
        return n * 2

    SENT.clear()
    graph = iron.Graph("replayed").node("one", python=twice, **{"with": {"n": "{{ input.n }}"}}).output("{{ one }}")
    graph(n=3)
    run = graph.last
    assert run is not None
    assert SENT == ["twice 3"]
    assert iron.replay(run).ok
    assert SENT == ["twice 3"]
    lab.cell()
    changed = (
        iron.Graph("replayed")
        .node("one", python=twice, **{"with": {"n": "{{ sum([input.n, `1`]) }}"}})
        .output("{{ one }}")
    )
    assert changed.validate() is not None
    found = iron.replay(run)
    assert str(found.step).endswith("one")
    assert SENT == ["twice 3"]


def test_an_exported_run_is_replayed_from_its_file(
    lab: Lab, tmp_path: Path, recorded_run: Callable[[Path], iron.Run[Any]]
) -> None:
    with lab.engine:
        run = ran(mapped, [1, 2])
        path = iron.export(run, tmp_path / "run.ironflow")
    assert iron.replay(path).ok
    loaded = recorded_run(path)
    assert loaded.value("fetch[1]") == 4
    assert iron.replay(loaded).ok
    assert done() == []


def test_what_can_not_be_replayed_is_refused(lab: Lab, tmp_path: Path) -> None:
    @flow
    def inside() -> None:
        iron.replay("x")

    with pytest.raises(iron.errors.NotAllowedInStep, match="outside"):
        inside()
    with pytest.raises(iron.errors.RunNotFound):
        iron.replay("nothing")
    (tmp_path / "text").write_text("no run")
    with pytest.raises(iron.errors.NotAJournal):
        iron.replay(tmp_path / "text")

    @flow
    def parent() -> Any:
        return mapped([1])

    ran(parent)
    child = iron.runs(flow=mapped)["run_id"].iloc[0]
    with pytest.raises(ValueError, match="child"):
        iron.replay(child)
