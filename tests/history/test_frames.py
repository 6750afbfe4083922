"""The frames have the columns, dtypes and order that their docstrings promise, empty or not."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

import pandas as pd
import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.testing.clock import START_AT
from tests.cells import World, run_cell
from tests.conftest import Lab

FRAMES = {"runs": iron.runs, "steps": iron.steps, "attempts": iron.attempts, "events": iron.events}
TEXT, INSTANT, COUNT = "string", "datetime64[us, UTC]", "Int64"
STEPS = {
    "run_id": TEXT, "step": TEXT, "name": TEXT, "index": "int64", "attempt": "int64", "status": TEXT,
    "started_at": INSTANT, "finished_at": INSTANT, "duration_s": "float64", "reused": "bool", "reason": TEXT,
    "output": TEXT, "output_bytes": COUNT, "error": TEXT, "progress": TEXT,
}  # fmt: skip
DTYPES = {
    "runs": {
        "run_id": TEXT, "kind": TEXT, "name": TEXT, "arguments": TEXT, "status": TEXT, "started_at": INSTANT,
        "ended_at": INSTANT, "duration_s": "float64", "n_steps": "int64", "n_completed": "int64", "n_failed": "int64",
        "n_reused": "int64", "n_sessions": "int64", "output": TEXT, "error": TEXT, "durability": TEXT, "key": TEXT,
        "notebook": TEXT, "parent_run_id": TEXT, "origin_run_id": TEXT, "origin_position": COUNT,
    },
    "steps": STEPS,
    "attempts": {name: dtype for name, dtype in STEPS.items() if name != "reused"} | {"branch": TEXT},
    "events": {
        "run_id": TEXT, "position": "int64", "version": "int64", "at": INSTANT, "type": TEXT, "step": TEXT,
        "attempt": COUNT, "data": "object",
    },
}  # fmt: skip


def dtypes(frame: pd.DataFrame) -> dict[str, str]:
    return {str(name): str(dtype) for name, dtype in frame.dtypes.items()}


def documented(function: Callable[..., pd.DataFrame]) -> list[str]:
    """Return the columns that the docstring lists, without what it says of them."""
    text = re.search(r"Columns: (.*?)\.\s", function.__doc__ or "", re.DOTALL)
    assert text is not None
    words = re.sub(r"\([^()]*\)", "", " ".join(text[1].split()))
    if words.startswith("those of `steps` without reused"):
        return [*(name for name in documented(iron.steps) if name != "reused"), words.rpartition("and ")[2].strip()]
    return [name.strip() for name in words.split(",")]


@pytest.fixture
def played(lab: Lab, world: World) -> Lab:
    """A completed run, and one that failed, was continued and died, with the clock a second further each time."""
    clock = lab.simulate_time()
    world.plan.append(clock)

    @step
    def work(n: int) -> int:
        world.plan[0].advance(1)
        if n == 1 and world.is_broken:
            raise ValueError("one")
        return n * 10

    @flow
    def main(n: int) -> int:
        total = sum(work(i) for i in range(n))
        if n == 3:
            iron.steps()  # which writes what has begun
            world.die()
        return total

    main(1)
    clock.advance(10)
    lab.cell()
    with pytest.raises(ValueError, match="one"):
        main(3)
    world.is_broken = False
    lab.cell()
    with pytest.raises(SystemExit):
        main(3)
    return lab


@pytest.mark.parametrize("name", FRAMES)
def test_an_empty_frame_has_all_columns_with_their_dtypes(lab: Lab, name: str) -> None:
    assert dtypes(FRAMES[name]()) == DTYPES[name]
    assert FRAMES[name]().empty


@pytest.mark.parametrize("name", FRAMES)
def test_a_full_frame_has_the_same_columns_and_dtypes(played: Lab, name: str) -> None:
    assert dtypes(FRAMES[name]()) == DTYPES[name]
    assert not FRAMES[name]().empty


@pytest.mark.parametrize("name", FRAMES)
def test_the_docstring_lists_the_columns(name: str) -> None:
    assert documented(FRAMES[name]) == list(DTYPES[name])


def test_runs_are_newest_first_with_counts_of_their_steps(played: Lab) -> None:
    runs = iron.runs()
    assert runs["status"].tolist() == ["interrupted", "completed"]
    assert runs["n_sessions"].tolist() == [2, 1]
    assert runs["n_steps"].tolist() == [3, 1]
    assert runs["n_completed"].tolist() == [3, 1]
    assert runs["n_failed"].tolist() == [0, 0]
    assert runs["output"].isna().tolist() == [True, False]
    assert runs["output"][1] == "0"


def test_instants_are_utc_and_durations_are_seconds(played: Lab) -> None:
    runs, steps = iron.runs(), iron.steps()
    start = datetime.fromtimestamp(START_AT / 1e6, UTC)
    assert runs["started_at"][1] == start
    assert str(runs["started_at"].dt.tz) == "UTC"
    assert (runs["started_at"][0] - start).total_seconds() == 11
    assert runs["duration_s"][1] == 1.0
    assert (runs["ended_at"] - runs["started_at"])[1].total_seconds() == 1.0
    # Nobody wrote when the run ended that died.
    assert runs["ended_at"].isna().tolist() == [True, False]
    assert runs["duration_s"].isna().tolist() == [True, False]
    assert steps["duration_s"].tolist() == [1.0] * 4
    assert ((steps["finished_at"] - steps["started_at"]).dt.total_seconds() == steps["duration_s"]).all()


def test_microseconds_are_not_rounded(lab: Lab) -> None:
    lab.simulate_time().advance(0.123457)

    @flow
    def main() -> None:
        """Do nothing."""

    main()
    assert iron.runs()["started_at"][0].microsecond == 123457
    assert iron.events()["at"][0].microsecond == 123457


def test_a_running_run_lasts_until_now(lab: Lab) -> None:
    clock = lab.simulate_time()
    seen: list[float] = []

    @step
    def work() -> None:
        clock.advance(2.5)

    @flow
    def main() -> None:
        work()
        clock.advance(1.5)
        seen.extend(iron.runs()["duration_s"])
        assert iron.runs()["ended_at"].isna().all()

    main()
    assert seen == [4.0]


def test_steps_are_latest_attempts_by_newest_run_and_first_start(played: Lab) -> None:
    steps = iron.steps()
    assert steps["index"].tolist() == [0, 1, 2, 0]
    assert steps["step"].str.endswith(("work[0]", "work[1]", "work[2]")).all()
    assert steps["attempt"].tolist() == [1, 2, 1, 1]
    assert steps["status"].tolist() == ["completed"] * 4
    assert steps["reused"].tolist() == [True, False, False, False]
    assert steps["output"].tolist() == ["0", "10", "20", "0"]
    assert steps["output_bytes"].tolist() == [1, 2, 2, 1]
    assert steps["error"].isna().all()
    assert steps["reason"][1] != steps["reason"][0]


def test_attempts_are_every_try(played: Lab) -> None:
    attempts = iron.attempts()
    assert list(zip(attempts["index"], attempts["attempt"], strict=True)) == [(0, 1), (1, 1), (1, 2), (2, 1), (0, 1)]
    assert attempts["status"].tolist() == ["completed", "failed", "completed", "completed", "completed"]
    assert attempts["error"][1].startswith("ValueError: one")
    assert attempts["output"].isna().tolist() == [False, True, False, False, False]
    assert (attempts["branch"] == "").all()


def test_events_are_by_position_and_hold_no_values(played: Lab) -> None:
    events = iron.events()
    assert events["position"].is_monotonic_increasing
    assert events["position"].is_unique
    for _, mine in events.groupby("run_id"):
        assert mine["version"].tolist() == list(range(1, len(mine) + 1))
    assert events["type"].tolist()[:4] == ["RunStarted", "StepStarted", "StepCompleted", "RunCompleted"]
    assert all(isinstance(data, dict) for data in events["data"])
    assert events["data"][2]["duration_s"] == 1.0
    assert events["attempt"].isna().tolist()[:4] == [True, False, False, True]


def test_a_step_in_flight_is_interrupted_once_its_process_is_dead(lab: Lab) -> None:
    @step
    def die() -> None:
        assert iron.steps()["status"].tolist() == ["running"]
        lab.die_in_flow()

    @flow
    def main() -> None:
        die()

    with pytest.raises(SystemExit):
        main()
    steps = iron.steps()
    assert steps["status"].tolist() == ["interrupted"]
    assert steps["finished_at"].isna().all()
    assert steps["duration_s"].isna().all()
    assert iron.attempts()["status"].tolist() == ["interrupted"]


def test_reused_speaks_of_the_latest_continuation_only(lab: Lab, world: World) -> None:
    asked: list[list[str]] = [["a", "b"], ["a"], ["a", "b"]]
    space = {"__name__": "__main__", "iron": iron, "wanted": lambda: asked.pop(0)}
    run_cell(
        """
@iron.step
def work(name):
    return name

@iron.flow
def main():
    for name in wanted():
        work(name)
    raise RuntimeError("not yet")
""",
        space,
    )
    seen = []
    for _ in range(3):
        lab.cell()
        with pytest.raises(RuntimeError, match="not yet"):
            space["main"]()  # type: ignore[operator]
        seen.append(iron.steps()["reused"].tolist())
    assert seen == [[False, False], [True, False], [True, True]]


def test_runs_whose_processes_died_are_looked_at_once_more_all_together(
    lab: Lab, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    @step
    def work(n: int) -> int:
        return n

    @flow
    def main(n: int) -> None:
        work(n)
        world.die()

    for n in range(4):
        with pytest.raises(SystemExit):
            main(n)
    journal, n_readings = lab.engine.journal, []
    reading = journal.reading
    monkeypatch.setattr(journal, "reading", lambda: (n_readings.append(1), reading())[1])
    assert iron.runs()["status"].tolist() == ["interrupted"] * 4
    assert len(n_readings) == 2
