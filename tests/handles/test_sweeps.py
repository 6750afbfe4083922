"""Sweeps: one run a row, repeated by the same cell, shown as a frame."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.core.status import RunStatus
from ironflow_nb.errors import InputInvalid, NotAllowedInStep, ResultTimeout
from tests.conftest import Lab

LIMIT_S = 30.0
DID: list[Any] = []
BROKEN: set[Any] = set()
GATE = threading.Event()
AT_WORK: list[int] = []


@pytest.fixture(autouse=True)
def fresh_world() -> Iterator[None]:
    DID.clear()
    BROKEN.clear()
    AT_WORK.clear()
    GATE.clear()
    yield
    GATE.set()


@step
def fit(a: Any, b: Any) -> dict[str, Any]:
    DID.append((a, b))
    if a in BROKEN:
        raise ValueError(f"no {a}")
    return {"sum": a + b}


@flow
def trial(a: Any, b: Any = 10) -> dict[str, Any]:
    return fit(a, b)


@flow
async def trial_async(a: Any, b: Any = 10) -> dict[str, Any]:
    await asyncio.sleep(0)
    return fit(a, b)


@step
def held(n: int) -> int:
    AT_WORK.append(n)
    assert GATE.wait(LIMIT_S)
    return n


@step
def after(n: int) -> int:
    DID.append(n)
    return n


@flow
def holding(n: int) -> int:
    return after(held(n))


@pytest.mark.parametrize("swept", [trial, trial_async])
def test_each_row_is_a_run_and_the_frame_has_inputs_and_results(lab: Lab, swept: Any) -> None:
    frame = pd.DataFrame({"a": [1, 2, 3], "b": [4, 5, 6]}, index=["x", "y", "z"])
    sweep = swept.sweep(frame, concurrency=2).wait(LIMIT_S)
    found = sweep.frame()
    assert len(sweep) == 3
    assert [*found.columns] == ["a", "b", "status", "sum", "error", "duration_s", "run_id"]
    assert found[["a", "b"]].equals(frame)
    assert found["sum"].tolist() == [5, 7, 9]
    assert set(found.status) == {"completed"}
    assert found.run_id.tolist() == [run.id for run in sweep.runs]


def test_who_iterates_gets_the_run_of_every_row_also_of_those_that_are_still_to_begin(lab: Lab) -> None:
    sweep = trial.sweep(range(5), concurrency=1)
    assert [run.result(LIMIT_S)["sum"] for run in sweep] == [10, 11, 12, 13, 14]
    assert [run.id for run in sweep] == [run.id for run in sweep.runs]


def test_who_iterates_over_a_sweep_that_is_paused_gets_the_runs_that_were_begun(lab: Lab) -> None:
    sweep = holding.sweep(range(3), concurrency=1)
    first = next(iter(sweep))
    sweep.pause()
    GATE.set()
    assert [run.id for run in sweep] == [first.id]


def test_rows_are_dicts_tuples_and_single_arguments(lab: Lab) -> None:
    found = trial.sweep([{"a": 1}, (2, 3), 4]).wait(LIMIT_S).frame()
    assert found["sum"].tolist() == [11, 5, 14]
    assert found["a"].tolist() == [1, 2, 4]


def test_a_graph_takes_a_row_as_its_input(lab: Lab) -> None:
    graph = iron.Graph.from_yaml("graph: plus\nnodes:\n  - id: sum\n    transform: '{{ input.a }}'\n")
    found = graph.sweep([{"a": 1}, {"a": 2}]).wait(LIMIT_S).frame()
    assert found[["a", "status", "result"]].to_numpy().tolist() == [[1, "completed", 1], [2, "completed", 2]]


def test_a_repeated_cell_reuses_what_is_completed_and_goes_on_with_the_rest(
    lab: Lab, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    BROKEN.add(2)
    first = trial.sweep(range(4)).wait(LIMIT_S)
    assert first.failed["a"].tolist() == [2]
    assert first.failed["error"].tolist() == ["ValueError: no 2"]
    BROKEN.clear()
    DID.clear()
    lab.die()
    with caplog.at_level("INFO", logger="ironflow_nb"):
        second = trial.sweep(range(5)).wait(LIMIT_S)
    assert sorted(DID) == [(2, 10), (4, 10)]
    assert second.frame()["sum"].tolist() == [10, 11, 12, 13, 14]
    assert [run.id for run in second.runs[:4]] == [run.id for run in first.runs]
    lines = [record.message for record in caplog.records if "5 rows" in record.message]
    assert len(lines) == 1
    assert "3 completed before and reused, 1 continued, 1 new" in lines[0]


def test_an_edit_does_again_what_it_touches_and_no_more(lab: Lab) -> None:
    namespace: dict[str, Any] = {"step": step, "flow": flow, "DID": DID}
    source = """
@step
def load(n): DID.append(("load", n)); return n
@step
def use(n): DID.append(("use", n)); return n
@flow
def both(n): return use(load(n))
"""
    from tests.cells import run_cell

    run_cell(source, namespace)
    namespace["both"].sweep(range(3)).wait(LIMIT_S)
    DID.clear()
    lab.cell()
    run_cell(source.replace('DID.append(("use", n)); return n', 'DID.append(("use", n)); return -n'), namespace)
    found = namespace["both"].sweep(range(3)).wait(LIMIT_S).frame()
    assert found["result"].tolist() == [0, -1, -2]
    assert sorted(DID) == [("use", n) for n in range(3)]


def test_no_more_runs_are_at_work_than_may_be(lab: Lab) -> None:
    sweep = holding.sweep(range(6), concurrency=2)
    while len(AT_WORK) < 2:
        GATE.wait(0.001)
    assert sweep.counts[RunStatus.PENDING] == 4
    with pytest.raises(ResultTimeout, match="it goes on"):
        sweep.wait(0.001)
    GATE.set()
    assert sweep.wait(LIMIT_S).frame()["result"].tolist() == [*range(6)]


def test_equal_rows_are_runs_of_their_own(lab: Lab) -> None:
    first = trial.sweep([1, 1, 1]).wait(LIMIT_S)
    assert len({run.id for run in first.runs}) == 3
    assert len(DID) == 3
    lab.cell()
    second = trial.sweep([1, 1, 1]).wait(LIMIT_S)
    assert [run.id for run in second.runs] == [run.id for run in first.runs]
    assert len(DID) == 3


def test_rows_are_recognised_by_value_whatever_they_come_from(lab: Lab) -> None:
    when = pd.Timestamp("2026-11-28T10:00", tz="Europe/Berlin")
    frame = pd.DataFrame({
        "a": [1, 2, 3, 4],
        "b": pd.Series([10.0, float("nan"), 0.5, 1.5]),
    })  # fmt: skip
    trial.sweep(frame).wait(LIMIT_S)
    odd = [
        {"a": when, "b": pd.Timedelta("1h")},
        {"a": pd.Categorical(["x"])[0], "b": "y"},
        {"a": np.timedelta64(2, "s"), "b": np.timedelta64(1, "s")},
    ]
    trial.sweep(odd).wait(LIMIT_S)
    n_before = len(DID)
    lab.die()
    rows = [(np.int64(1), np.float64(10.0)), (2, float("nan")), (np.int32(3), np.float32(0.5)), {"a": 4, "b": 1.5}]
    nullable = frame.astype({"a": "Int64"}).iloc[::-1]
    category = pd.DataFrame({"a": pd.Series(["x"], dtype="category"), "b": ["y"]})
    for again in (rows, nullable, odd, category):
        lab.cell()
        assert set(trial.sweep(again).wait(LIMIT_S).statuses()) == {RunStatus.COMPLETED}
    assert len(DID) == n_before


def test_a_key_recognises_a_row_for_ever(lab: Lab) -> None:
    rows = [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    first = trial.sweep(rows, key="a").wait(LIMIT_S)
    lab.die()
    again = trial.sweep(rows[::-1], key=lambda a, b: a)
    assert [run.id for run in again.runs] == [run.id for run in first.runs][::-1]
    with pytest.raises(InputInvalid, match=r"row 1: run \w+ of .* has the key '3'"):
        trial.sweep([{"a": 5}, {"a": 3, "b": 5}], key="a")
    assert len(DID) == 2


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([1, {"x": 1}, 2, (1, 2, 3)], ["2 rows can't be called", "row 1: ", "row 3: "]),
        (pd.DataFrame({"a": [1, 2], "c": [3, 4]}), ["2 rows", "row 0: ", "unexpected keyword argument 'c'"]),
        (pd.DataFrame([[1, 2]]), ["columns are named as parameters, and 0 is no name"]),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), ["two columns 'a'"]),
        ("abc", ["not str"]),
        ({"a": [1]}, ["not dict"]),
        (3, ["not int"]),
        ([iter([])], ["row 0: "]),
        ([(1, 2, 3)] * 30, ["and 20 other rows"]),
    ],
)
def test_rows_that_do_not_fit_are_told_all_at_once(lab: Lab, rows: Any, words: list[str]) -> None:
    with pytest.raises(InputInvalid) as caught:
        trial.sweep(rows)
    assert [word for word in words if word not in str(caught.value)] == []
    assert DID == []
    assert iron.runs().empty


@pytest.mark.parametrize(
    ("rows", "key", "words"),
    [
        ([1, 1], "a", "row 1: its key '1' is that of row 0"),
        ([1, None], "a", "row 1: its key is None"),
        ([1, float("nan")], "a", "row 1: its key is nan"),
        ([1], "c", "row 0: it has no 'c' for a key"),
        ([1], lambda a: [a], "row 0: its key is"),
        ([1], lambda a: a / 0, "row 0: division by zero"),
    ],
)
def test_a_row_without_a_key_of_its_own_is_refused(lab: Lab, rows: Any, key: Any, words: str) -> None:
    with pytest.raises(InputInvalid, match=words):
        trial.sweep(rows, key=key)


def test_bad_options_are_refused(lab: Lab) -> None:
    with pytest.raises(ValueError, match="concurrency"):
        trial.sweep([1], concurrency=0)
    with pytest.raises(TypeError, match="key"):
        trial.sweep([1], key=3)  # type: ignore[arg-type]

    @flow
    def outer() -> None:
        trial.sweep([1])

    with pytest.raises(NotAllowedInStep):
        outer()


def test_columns_of_one_name_are_told_apart(lab: Lab) -> None:
    @flow
    def clash(status: str, result: int) -> dict[str, int]:
        return {"status": 1, "result": -result, "run_id": 3}

    found = clash.sweep([{"status": "mine", "result": 5}]).wait(LIMIT_S).frame()
    assert [*found.columns] == [
        "status", "result", "run_status", "result_status", "result_result", "run_id", "error", "duration_s",
        "row_run_id",
    ]  # fmt: skip
    assert found.loc[0, ["status", "result", "run_status", "result_result"]].tolist() == ["mine", 5, "completed", -5]


def test_a_frame_without_rows_is_a_sweep_without_runs(lab: Lab) -> None:
    sweep = trial.sweep(pd.DataFrame({"a": pd.Series([], dtype="int64")})).wait(LIMIT_S)
    assert len(sweep) == 0
    assert sweep.frame().empty
    assert [*sweep.frame().columns][:2] == ["a", "status"]
    assert trial.sweep([]).frame().empty


def test_results_that_are_not_all_dicts_are_one_column(lab: Lab) -> None:
    @flow
    def mixed(n: int) -> Any:
        return {"n": n} if n else [1, 2]

    found = mixed.sweep([0, 1]).wait(LIMIT_S).frame()
    assert found["result"].tolist() == [[1, 2], {"n": 1}]


def test_retry_goes_on_with_what_has_failed(lab: Lab) -> None:
    BROKEN.update({1, 2})
    sweep = trial.sweep(range(3)).wait(LIMIT_S)
    assert sweep.counts == {RunStatus.COMPLETED: 1, RunStatus.FAILED: 2}
    BROKEN.remove(1)
    assert sweep.retry().wait(LIMIT_S).counts == {RunStatus.COMPLETED: 2, RunStatus.FAILED: 1}
    BROKEN.clear()
    assert sweep.retry().wait(LIMIT_S).counts == {RunStatus.COMPLETED: 3}
    assert len(sweep.runs) == 3


def test_a_paused_sweep_is_gone_on_with(lab: Lab) -> None:
    sweep = holding.sweep(range(4), concurrency=2)
    while len(AT_WORK) < 2:
        GATE.wait(0.001)
    sweep.pause()
    GATE.set()
    counts = sweep.wait(LIMIT_S).counts
    assert counts[RunStatus.PENDING] == 2
    assert counts[RunStatus.PAUSED] + counts[RunStatus.COMPLETED] == 2
    assert sweep.retry().wait(LIMIT_S).counts == {RunStatus.COMPLETED: 4}
    assert sorted(AT_WORK) == [0, 1, 2, 3]


def test_an_interrupt_of_its_wait_stops_it_and_names_the_rows(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sweep = holding.sweep(range(4), concurrency=2)
    while len(AT_WORK) < 2:
        GATE.wait(0.001)

    wait = lab.engine.clock.wait

    def interrupted(*given: Any, **named: Any) -> bool:
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        return wait(*given, **named)

    with monkeypatch.context() as patch, caplog.at_level("INFO", logger="ironflow_nb"):
        patch.setattr(lab.engine.clock, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sweep.wait(LIMIT_S)
    assert any("rows 0, 1 are at work" in record.message for record in caplog.records)
    GATE.set()
    counts = sweep.wait(LIMIT_S).counts
    assert counts[RunStatus.PENDING] == 2
    lab.cell()
    assert holding.sweep(range(4)).wait(LIMIT_S).counts == {RunStatus.COMPLETED: 4}
    assert sorted(AT_WORK) == [0, 1, 2, 3]


@pytest.mark.parametrize("swept", [trial, trial_async], ids=["def", "async"])
def test_a_sweep_can_be_awaited_while_the_loop_goes_on(lab: Lab, swept: Any) -> None:
    async def cell() -> tuple[Any, list[int]]:
        ticks: list[int] = []

        async def tick() -> None:
            while True:
                ticks.append(1)
                await asyncio.sleep(0.001)

        ticking = asyncio.create_task(tick())
        sweep = await swept.sweep([1, 2, 3])
        ticking.cancel()
        return sweep, ticks

    sweep, ticks = asyncio.run(cell())
    assert sweep.counts == {RunStatus.COMPLETED: 3}
    assert ticks


def test_a_sweep_whose_awaiting_task_is_cancelled_stops_and_can_be_gone_on_with(lab: Lab) -> None:
    async def cell() -> Any:
        begun = asyncio.Event()

        async def wait() -> None:
            begun.set()
            await sweep

        sweep = holding.sweep(range(4), concurrency=2)
        waiting = asyncio.create_task(wait())
        await begun.wait()  # a task that is cancelled before it began never awaits the sweep
        while len(AT_WORK) < 2:
            await asyncio.sleep(0.001)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return sweep

    sweep = asyncio.run(cell())
    GATE.set()
    assert sweep.wait(LIMIT_S).counts[RunStatus.PENDING] == 2
    assert sweep.retry().wait(LIMIT_S).counts == {RunStatus.COMPLETED: 4}
    assert sorted(AT_WORK) == [0, 1, 2, 3]


def test_a_run_that_only_waits_makes_room_for_others(lab: Lab) -> None:
    @flow
    def patient(n: int) -> int:
        return int(iron.wait_for(f"go {n}"))

    sweep = patient.sweep(range(3), concurrency=1)
    for _ in range(30_000):
        if sweep.counts[RunStatus.WAITING] == 3:
            break
        GATE.wait(0.001)
    for n, run in enumerate(sweep.runs):
        run.signal(f"go {n}", -n)
    assert sweep.wait(LIMIT_S).frame()["result"].tolist() == [0, -1, -2]


def test_a_run_that_was_parked_and_woken_is_followed_to_its_end(tmp_path: Path) -> None:
    @flow
    def patient(n: int) -> int:
        return int(iron.wait_for("go"))

    with iron.open(tmp_path / "journal.db", park_s=0) as engine:
        sweep = patient.sweep(range(2))
        for _ in range(30_000):
            if sweep.counts == {RunStatus.WAITING: 2} and not engine.sessions:
                break
            GATE.wait(0.001)
        for n, run in enumerate(sweep.runs):
            run.signal("go", -n)
        assert sweep.wait(LIMIT_S).frame()["result"].tolist() == [0, -1]


def test_it_shows_itself_as_text_and_strip(lab: Lab) -> None:
    BROKEN.add(1)
    sweep = trial.sweep(range(3)).wait(LIMIT_S)
    assert repr(sweep) == "sweep of test_sweeps.trial: 3 rows: ✓ 2 completed, ✗ 1 failed"
    bundle = sweep._repr_mimebundle_()
    assert bundle["text/plain"] == repr(sweep)
    assert "2&nbsp;completed" in bundle["text/html"]
    assert 'role="img"' in bundle["text/html"]
