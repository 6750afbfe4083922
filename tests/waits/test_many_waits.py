"""Many runs that wait at once: they cost rows, not threads."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow
from ironflow_nb.core.status import RunStatus
from ironflow_nb.execution.background import N_HELD
from tests.waits.conftest import until

N_RUNS = 600


@flow
def waiter(n: int) -> Any:
    return iron.wait_for("go") + n


def n_threads() -> int:
    return sum(thread.name.startswith("ironflow-run") for thread in threading.enumerate())


@pytest.mark.slow
def test_many_runs_wait_without_threads_and_all_of_them_are_woken_and_finish(tmp_path: Path) -> None:
    with iron.open(tmp_path / "journal.db", durability="process") as engine:
        ids = [waiter.start(n).id for n in range(N_RUNS)]
        until(lambda: len(iron.runs(status="waiting")) == N_RUNS)  # the last ones have come to their waits
        until(lambda: n_threads() <= N_HELD)
        until(lambda: len(engine.sessions) <= N_HELD)
        assert len(iron.runs(status="waiting")) == N_RUNS
        for run_id in ids:
            iron.get_run(run_id).signal("go", 1)
        until(lambda: len(iron.runs(status="completed")) == N_RUNS)
        assert [iron.get_run(run_id).result() for run_id in ids[:: N_RUNS // 20]] == list(range(1, 601, N_RUNS // 20))
        assert {run.status for run in map(iron.get_run, ids)} == {RunStatus.COMPLETED}
