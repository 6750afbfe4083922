"""Workers that are drained, closed or killed: another one goes on with what they worked on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow
from ironflow_nb.core.status import RunStatus
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.registry import REGISTRY
from tests.cells import run_cell
from tests.waits.conftest import LIMIT_S, until
from tests.worker.conftest import BODIES, GATE, engine_on, held, killed, parent_of_held, plain, queue, work, worker_on


def test_what_a_dead_worker_worked_on_is_pending_and_another_one_continues_it(here: Engine, tmp_path: Path) -> None:
    @flow(name="moved")
    def moved() -> Any:
        return work(1), held(2), work(3)

    first, _ = worker_on(tmp_path)
    run = moved.start(detach=True)
    until(lambda: 2 in BODIES)
    killed(first)
    until(lambda: run.status is RunStatus.PENDING)
    assert list(iron.runs(status="pending")["run_id"]) == [run.id]
    assert list(iron.work()["state"]) == ["due"]
    GATE.set()
    second, _ = worker_on(tmp_path)
    assert run.result(LIMIT_S) == (1, 2, 3)
    assert BODIES == [1, 2, 2, 3]
    second.close()


def test_a_run_on_which_workers_die_without_a_step_forward_fails(here: Engine, tmp_path: Path) -> None:
    @flow(name="deadly")
    def deadly() -> Any:
        return work(1), held(2)

    run = deadly.start(detach=True)
    for n_dead in range(1, 7):
        engine, _ = worker_on(tmp_path)
        until(lambda n_dead=n_dead: BODIES.count(2) == n_dead)  # type: ignore[misc]
        killed(engine)
    last, _ = worker_on(tmp_path)
    with pytest.raises(iron.RunFailed, match="5 workers have died in a row on run"):
        run.result(LIMIT_S)
    assert BODIES.count(1) == 1
    assert queue(here) == []
    GATE.set()
    assert run.detach().result(LIMIT_S) == (1, 2)
    last.close()


@pytest.mark.parametrize("stop", ["cancel", "pause"])
def test_what_was_asked_of_a_worker_that_died_is_heard_by_the_next_one(here: Engine, tmp_path: Path, stop: str) -> None:
    first, _ = worker_on(tmp_path)
    run = parent_of_held.start(detach=True)
    until(lambda: 2 in BODIES and run.status is RunStatus.RUNNING)
    first._background.stop()  # it hears nothing any more
    getattr(run, stop)()
    killed(first)
    second, _ = worker_on(tmp_path)
    expected = RunStatus.CANCELLED if stop == "cancel" else RunStatus.PAUSED
    until(lambda: run.status is expected)
    assert BODIES == [2]
    second.close()


def test_a_drained_worker_gives_up_what_it_works_on_and_leaves_what_waits_waiting(here: Engine, tmp_path: Path) -> None:
    @flow(name="waits")
    def waits() -> Any:
        return work(1), iron.wait_for("go")

    engine, worker = worker_on(tmp_path)
    waiting, working = waits.start(detach=True), parent_of_held.start(detach=True)
    until(lambda: waiting.status is RunStatus.WAITING and 2 in BODIES)
    worker.stop_claiming()
    late = plain.start(1, detach=True)
    worker.drain()
    GATE.set()
    until(lambda: not worker.drain())
    assert (waiting.status, working.status, late.status) == (RunStatus.WAITING, RunStatus.PENDING, RunStatus.PENDING)
    engine.close()
    waiting.signal("go", 1)
    other, _ = worker_on(tmp_path)
    assert waiting.result(LIMIT_S) == (1, 1)
    assert working.result(LIMIT_S) == (2, 3)
    late.result(LIMIT_S)
    assert sorted(BODIES) == [0, 1, 2, 3]
    other.close()


def test_a_worker_that_is_closed_at_once_leaves_its_runs_to_others(here: Engine, tmp_path: Path) -> None:
    engine, _ = worker_on(tmp_path)
    run = parent_of_held.start(detach=True)
    until(lambda: 2 in BODIES)
    engine.close()
    assert run.status is RunStatus.PENDING
    GATE.set()
    other, _ = worker_on(tmp_path)
    assert run.result(LIMIT_S) == (2, 3)
    other.close()


def test_what_a_worker_wakes_stays_with_workers(here: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here, "watch", lambda: None)  # else it may be the first to continue what waits

    @flow(name="waits")
    def waits() -> Any:
        return work(1), iron.wait_for("go"), held(2)

    first = engine_on(tmp_path, park_s=0.0)
    with REGISTRY.replaced(first):
        run = waits.start()
        until(lambda: run.status is RunStatus.WAITING and run.id not in first.sessions)
    first.close()
    engine, _ = worker_on(tmp_path)
    run = iron.get_run(run.id)
    run.signal("go", 0)
    until(lambda: 2 in BODIES and list(iron.work()["state"]) == ["running"])  # the worker writes it a moment later
    killed(engine)
    GATE.set()
    other, _ = worker_on(tmp_path)
    assert run.result(LIMIT_S) == (1, 0, 2)
    other.close()


def test_a_worker_leaves_a_run_whose_code_has_changed_and_says_why(
    here: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    namespace: dict[str, Any] = {}
    run_cell(CHANGED, namespace)
    run = namespace["changed"].start()
    until(lambda: run.status is RunStatus.WAITING)
    edited: dict[str, Any] = {}
    run_cell(CHANGED.replace("* 5", "* 6"), edited)
    run.detach()
    engine, _ = worker_on(tmp_path)
    until(lambda: run.id in engine.refused and run.status is RunStatus.PENDING)
    assert "is left to a process with its code: scaled has changed" in caplog.text
    assert list(run.events().query("type == 'RunDetached'")["data"])[-1]["reason"].startswith("scaled has changed")
    run.resume(keep=["scaled"]).signal("go", 1)  # as the reason says
    assert run.result(LIMIT_S) == (10, 1)
    engine.close()


CHANGED = """
import ironflow_nb as iron
from ironflow_nb import flow, step

@step(name="scaled", on_change="strict")
def scaled(n):
    return n * 5

@flow(name="changed")
def changed():
    return scaled(2), iron.wait_for("go")
"""


def test_every_detached_run_is_executed_by_one_of_two_workers(here: Engine, tmp_path: Path) -> None:
    workers = [worker_on(tmp_path)[0] for _ in range(2)]
    runs = [plain.options(fresh=True).start(2, detach=True) for _ in range(20)]
    assert [run.result(LIMIT_S) for run in runs] == [[0, 1]] * 20
    assert len(BODIES) == 40
    assert set(iron.events().query("type == 'RunContinued'").groupby("run_id").size()) == {1}
    for engine in workers:
        engine.close()
