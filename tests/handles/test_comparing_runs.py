"""Runs side by side: what is equal is not shown, and what differs is said where it differs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from tests.cells import run_cell
from tests.conftest import Lab

CELL = """
@iron.step
def load(n):
    return pd.DataFrame({"a": range(n), "b": "x"})
@iron.step
def model(df, rate):
    return {"weights": np.array([rate, 2.0]), "n": len(df)}
@iron.step
def extra():
    return "more"
@iron.flow
def train(n, rate=0.1, more=False):
    found = model(load(n), rate)
    if more:
        extra()
    return float(found["weights"].sum())
"""


@dataclass
class Count:
    id: str
    n: int


@dataclass
class Counted:
    n: int


@pytest.fixture
def space(lab: Lab) -> dict[str, Any]:
    space: dict[str, Any] = {"__name__": "__main__", "iron": iron, "pd": pd, "np": np}
    run_cell(CELL, space)
    return space


def runs_of(space: dict[str, Any], *calls: dict[str, Any]) -> list[iron.Run[Any]]:
    found = []
    for call in calls:
        space["train"].options(fresh=True)(**call)
        found.append(space["train"].last)
    return found


def changes(compared: pd.DataFrame) -> dict[str, str]:
    rows = compared.changed if isinstance(compared, pd.DataFrame) and hasattr(compared, "changed") else compared
    return {
        f"{row.what} {row.name_}".strip(): row.change for row in rows.rename(columns={"name": "name_"}).itertuples()
    }


def test_equal_runs_have_no_changed_rows(space: dict[str, Any]) -> None:
    a, b = runs_of(space, {"n": 3}, {"n": 3})
    compared = iron.compare(a, b)
    assert compared.changed.empty
    assert compared["what"].tolist() == ["argument"] * 3 + ["step"] * 2 + ["result"]
    assert compared["name"].tolist() == ["n", "rate", "more", "load[0]", "model[0]", ""]
    assert repr(compared).endswith("all steps are equal")
    assert (compared.loc[3:4, ["duration_a_s", "duration_b_s"]] >= 0).all(axis=None)


def test_what_differs_is_said_with_its_place(space: dict[str, Any]) -> None:
    a, b = runs_of(space, {"n": 3}, {"n": 4, "rate": 0.5, "more": True})
    compared = iron.compare(a, b.id[:6])
    assert changes(compared) == {
        "argument n": "value", "argument rate": "value", "argument more": "value", "step load[0]": "arguments, value",
        "step model[0]": "arguments, value", "step extra[0]": "only in b", "result": "value",
    }  # fmt: skip
    said = dict(zip(compared["name"], compared["difference"], strict=True))
    assert said["n"] == "3 -> 4"
    assert said["load[0]"] == "3 x 2 -> 4 x 2; 1 row only in b"
    assert said["model[0]"].startswith("['weights']: 1 of 2 elements differ, by at most 0.4")
    assert compared.differences("load")["path"].tolist() == ["", ""]
    assert compared.differences()["difference"].tolist() == ["2.1 -> 2.5"]


def test_an_edit_between_the_runs_is_shown_as_a_diff(lab: Lab, space: dict[str, Any]) -> None:
    (a,) = runs_of(space, {"n": 3})
    lab.cell()
    run_cell(CELL.replace("len(df)", "len(df) + 1"), space)
    (b,) = runs_of(space, {"n": 3})
    compared = iron.compare(a, b)
    assert changes(compared) == {"step model[0]": "code, value"}
    assert '-    return {"weights": np.array([rate, 2.0]), "n": len(df)}' in compared.code("model").splitlines()
    assert compared.code("load") == ""
    with pytest.raises(iron.errors.StepNotFound):
        compared.code("modl")


def test_an_edit_that_changes_no_value_is_one_of_code_alone(lab: Lab, space: dict[str, Any]) -> None:
    (a,) = runs_of(space, {"n": 3})
    lab.cell()
    run_cell(CELL.replace("len(df)", "0 + len(df)"), space)
    (b,) = runs_of(space, {"n": 3})
    assert changes(iron.compare(a, b)) == {"step model[0]": "code"}


def test_several_runs_are_a_matrix(space: dict[str, Any]) -> None:
    found = runs_of(space, {"n": 1}, {"n": 2}, {"n": 3, "more": True})
    compared = iron.compare(*found)
    assert compared.columns.tolist() == ["what", "name", "change", *(run.id for run in found)]
    assert changes(compared)["step extra[0]"] == "not in all"
    assert compared.set_index("name").loc["n", [run.id for run in found]].tolist() == ["1", "2", "3"]
    assert iron.compare(found[0], found[0], found[0]).changed.empty


def test_runs_of_different_flows_are_not_compared(space: dict[str, Any]) -> None:
    @flow
    def other() -> int:
        return 1

    other()
    (a,) = runs_of(space, {"n": 1})
    assert other.last is not None
    with pytest.raises(ValueError, match=r"of flow train and run \w+ of flow .*other: runs of one flow"):
        iron.compare(a, other.last)
    with pytest.raises(iron.errors.RunNotFound):
        iron.compare(a, "zzzzzz")


def test_a_run_of_a_decider_is_not_compared(lab: Lab) -> None:
    counter = iron.Decider[int, Count, Counted, None]("counter", initial=0)

    @counter.evolve
    def evolve(state: int, event: Counted) -> int:
        return state + event.n

    @counter.decide
    def decide(state: int, command: Count) -> Any:
        return iron.accept(Counted(command.n))

    counter.send(Count("a", 1))
    run_id = iron.runs()["run_id"][0]
    with pytest.raises(ValueError, match="is of decider counter, which has states"):
        iron.compare(run_id, run_id)


def test_failed_and_async_runs_are_compared(lab: Lab) -> None:
    world = {"fails": False}

    @step(name="fetch")
    async def fetch(n: int) -> int:
        if n == 2 and world["fails"]:
            raise ConnectionError("gone")
        return n

    @flow
    async def gathered(n: int) -> list[int]:
        return list(await asyncio.gather(*map(fetch, range(n))))

    asyncio.run(gathered(3))
    a = gathered.last
    world["fails"] = True
    with pytest.raises(ConnectionError):
        asyncio.run(gathered.options(fresh=True)(3))
    b = gathered.last
    assert a is not None
    assert b is not None
    compared = iron.compare(a, b).set_index("name")
    # What an inner function closes over counts as an argument, and that has changed.
    assert compared.loc["fetch[2]", "change"] == "arguments, status, value"
    assert "failed" in compared.loc["fetch[2]", "b"]
    assert compared.loc["", "change"] == "status, value"


def test_graphs_are_compared_by_their_inputs_and_nodes(lab: Lab) -> None:
    made = iron.Graph.from_yaml("graph: shouts\nnodes:\n  - id: loud\n    transform: '{{ upper(input.text) }}'\n")
    made(text="a")
    a = made.last
    made(text="b")
    b = made.last
    compared = iron.compare(a, b)
    assert changes(compared) == {"argument text": "value", "step shouts.loud[0]": "arguments, value", "result": "value"}


def test_the_pictures_of_two_runs_stand_side_by_side(space: dict[str, Any]) -> None:
    a, b = runs_of(space, {"n": 1}, {"n": 2})
    html = iron.compare(a, b)._repr_html_()
    assert html is not None
    assert html.count("<object ") == 2
    assert "flex" in html


# -- after edits ---------------------------------------------------------------------------------------------------


@step(name="fetch")
def fetched(n: int) -> int:
    return 10 * n


@step(name="total")
def totalled(numbers: list[int]) -> int:
    return sum(numbers)


@flow
def digest(n: int) -> int:
    return totalled([fetched(each) for each in range(n)])


@flow
async def digest_on_a_loop(n: int) -> int:
    numbers = await asyncio.gather(*[fetched.submit(each) for each in range(n)])
    return await totalled.submit(list(numbers))


@flow
def digest_in_a_child(n: int) -> int:
    return digest(n)


def ended(run: iron.Run[Any] | None) -> iron.Run[Any]:
    assert run is not None
    run.result()
    return run


@pytest.mark.parametrize("style", [digest, digest_on_a_loop])
def test_after_an_edit_the_calls_that_count_are_compared(lab: Lab, style: Any) -> None:
    run = ended(style.start(3))
    before = ended(run.fork())
    run.inject("fetch[1]", 999, reason="wrong")
    assert changes(iron.compare(run, before)) == {"step fetch[1]": "by hand, value"}  # what used it is as it was
    run.resume()
    run.result()
    after = ended(run.fork())
    assert iron.compare(run, after).changed.empty
    compared = iron.compare(run, before)
    assert changes(compared) == {
        "step fetch[1]": "by hand, value", "step total[1]": "arguments, value", "result": "value",
    }  # fmt: skip
    assert compared["name"].tolist() == ["n", "fetch[0]", "fetch[1]", "fetch[2]", "total[1]", ""]
    assert compared.differences("total")["difference"].tolist() == ["1019 -> 30"]
    assert compared.code("fetch[1]") == ""
    assert compared.code("total") == ""
    with pytest.raises(iron.errors.StepNotFound, match=r"has no step 'total\[0\]'"):
        compared.differences("total[0]")
    run.undo()
    run.resume()
    run.result()
    assert iron.compare(run, before).changed.empty


def test_forks_of_an_edited_run_and_their_edits_are_compared_as_they_are(lab: Lab) -> None:
    run = ended(digest.start(2))
    run.inject("fetch[1]", 5, reason="wrong")
    fork, other = run.fork(), run.fork(replace={"fetch[0]": 1})
    assert (fork.result(), other.result()) == (5, 6)
    assert changes(iron.compare(run, fork)) == {"step total[0]": "arguments, value", "result": "value"}
    assert changes(iron.compare(fork, other))["step fetch[0]"] == "by hand, value"
    fork.inject("fetch[0]", 1, reason="as there")
    fork.resume()
    assert fork.result() == 6
    assert iron.compare(other, fork).changed.empty


def test_a_run_whose_child_was_edited_is_compared_with_its_new_result(lab: Lab) -> None:
    run = ended(digest_in_a_child.start(2))
    before = ended(run.fork())
    child = next(each for each in iron.runs(digest)["run_id"] if iron.runs(run=each)["parent_run_id"][0] == run.id)
    iron.get_run(child).inject("fetch[1]", 7, reason="wrong")
    run.resume()
    assert run.result() == 7
    assert iron.compare(run, before)["difference"].dropna().tolist() == ["7 -> 10", "7 -> 10"]


def test_a_failed_run_is_compared_by_what_its_last_continuation_called(lab: Lab, tmp_path: Path) -> None:
    @step(name="check")
    def check(n: int, outage: str) -> int:
        if Path(outage).exists():
            raise OSError("gone")
        return n

    @flow
    def checked(n: int, outage: str) -> int:
        return check(totalled([fetched(each) for each in range(n)]), outage)

    run = ended(checked.start(2, str(tmp_path / "outage")))
    before = ended(run.fork())
    (tmp_path / "outage").touch()
    run.inject("fetch[1]", 5, reason="wrong")
    run.resume()
    with pytest.raises(OSError, match="gone"):
        run.result()
    compared = iron.compare(run, before).set_index("name")
    assert compared.loc["total[1]", ["a", "b"]].tolist() == ["5", "10"]
    assert compared.loc["total[0]", "change"] == "only in a"


def test_an_edited_graph_and_an_edited_sweep_are_compared_by_what_counts(lab: Lab) -> None:
    graph = iron.Graph.from_yaml(
        "graph: edited\nnodes:\n  - {id: numbers, transform: '{{ input.numbers }}'}\n"
        "  - {id: each, loop: '{{ numbers }}', as: n, do: [{id: same, transform: '{{ n }}'}]}\n"
    )
    graph(numbers=[1, 2, 3])
    run = ended(graph.last)
    before = ended(run.fork())
    run.inject("numbers", [1, 9, 3], reason="wrong")
    run.resume()
    run.result()
    assert [name for name in changes(iron.compare(run, before)) if name.startswith("step")] == [
        "step edited.numbers[0]", "step edited.same[3]", "step edited.each[1]",
    ]  # fmt: skip
    sweep = digest.sweep([1, 2, 3])
    sweep.wait()
    runs = sweep.runs
    runs[1].inject("fetch[1]", 50, reason="wrong")
    runs[1].resume()
    assert runs[1].result() == 50
    matrix = iron.compare(*runs).set_index("name")
    assert matrix.loc["total[0]", [each.id for each in runs]].tolist() == ["0", "50", "30"]
