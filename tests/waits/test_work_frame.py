"""The frame of the queue of work."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.execution.registry import REGISTRY
from tests.conftest import Lab
from tests.waits.conftest import LIMIT_S, until


@flow
def waits() -> Any:
    return iron.gather(
        partial(iron.wait_for, "go"), partial(iron.wait_for, "never", timeout_s=3600), partial(iron.sleep, "2h")
    )[0]


def test_what_waits_is_in_the_frame_of_work_with_its_signal_and_its_instant(lab: Lab) -> None:
    assert len(iron.work()) == 0
    run = waits.start()
    until(lambda: len(iron.work()) == 3)
    frame = iron.work()
    assert list(frame["kind"]) == ["signal", "sleep", "signal"]
    assert [name if isinstance(name, str) else None for name in frame["signal"]] == ["never", None, "go"]
    assert list(frame["due_at"].isna()) == [False, False, True]
    assert str(frame["due_at"].dtype) == "datetime64[us, UTC]"
    assert (frame["due_at"][1] - frame["due_at"][0]).round("min") == pd.Timedelta(hours=1)
    assert set(frame["state"]) == {"waiting"}
    assert frame["error"].isna().all()
    assert set(frame["run_id"]) == {run.id}
    run.cancel()
    until(lambda: len(iron.work()) == 0)


def test_work_of_what_is_not_defined_here_waits_for_its_notebook(lab: Lab) -> None:
    @flow
    def elsewhere() -> Any:
        return iron.wait_for("go")

    run = elsewhere.start()
    until(lambda: len(iron.work()) == 1)
    lab.die()
    REGISTRY.forget("flow", elsewhere.name)
    iron.get_run(run.id).signal("go", 1)
    assert list(iron.work()["state"]) == ["waits for its notebook"]
    REGISTRY.define(elsewhere)
    assert list(iron.work()["state"]) == ["due"]
    assert iron.get_run(run.id).resume().result(LIMIT_S) == 1
    assert len(iron.work()) == 0


def test_a_pause_before_a_retry_is_in_the_frame_of_work_as_long_as_it_lasts(lab: Lab) -> None:
    @step(retries=iron.Retry(attempts=2, delay_s=3600))
    def fails(n: int) -> None:
        raise ConnectionError(n)

    run = flow(lambda: list(fails.map([1, 2])), name="main").start()
    until(lambda: len(iron.work()) == 2)
    frame = iron.work()
    assert set(frame["kind"]) == {"retry"}
    assert {step.rpartition(".")[2] for step in frame["step"]} == {"fails[0]", "fails[1]"}
    assert set(frame["state"]) == {"waiting"}
    assert set(frame["attempts"]) == {1}
    assert sorted(frame["error"]) == ["ConnectionError: 1", "ConnectionError: 2"]
    assert ((frame["due_at"] - frame["created_at"]).dt.round("h") == pd.Timedelta(hours=1)).all()
    run.cancel()
    until(lambda: len(iron.work()) == 0)
