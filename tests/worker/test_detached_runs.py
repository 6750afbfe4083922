"""Runs that are handed over: recorded without an owner, and executed by any worker that defines them."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.core.status import RunStatus
from ironflow_nb.errors import ConnectionLost
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.history import run_status
from tests.waits.conftest import LIMIT_S, until
from tests.worker.conftest import (
    BODIES,
    GATE,
    engine_on,
    held,
    parent,
    parent_of_held,
    plain,
    plain_async,
    queue,
    work,
    work_async,
    worker_on,
)

BOTH = pytest.mark.parametrize("runnable", [plain, plain_async, parent], ids=["def", "async", "parent"])


@BOTH
def test_a_detached_run_is_pending_until_a_worker_executes_it(here: Engine, tmp_path: Path, runnable: Any) -> None:
    run = runnable.start(3, detach=True)
    assert run.status is RunStatus.PENDING
    assert list(iron.runs(status="pending")["run_id"]) == [run.id]
    assert list(iron.work()["kind"]) == ["run"]
    assert BODIES == []
    engine, _ = worker_on(tmp_path)
    assert run.result(LIMIT_S) == [0, 1, 2]
    assert sorted(BODIES) == [0, 1, 2]
    assert queue(here) == []
    engine.close()


def test_a_detached_graph_is_executed_by_a_worker(here: Engine, tmp_path: Path) -> None:
    triage = iron.Graph("detached_triage").node("first", python=work, **{"with": {"n": "{{ input.n }}"}})
    run = triage.start({"n": 4}, detach=True)
    assert run.status is RunStatus.PENDING
    assert "first" in run.diagram().text
    engine, _ = worker_on(tmp_path)
    assert run.result(LIMIT_S) == 4
    engine.close()


def test_a_worker_leaves_what_it_does_not_define_and_says_so_once(
    here: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    @flow(name="of_another_notebook")
    def elsewhere() -> int:
        return 1

    runs = [elsewhere.options(fresh=True).start(detach=True) for _ in range(2)]
    REGISTRY.forget("flow", "of_another_notebook")
    monkeypatch.setattr(REGISTRY, "_definitions", {key: REGISTRY._definitions[key] for key in [("flow", plain.name)]})
    engine, _ = worker_on(tmp_path)
    other = plain.start(1, detach=True)
    until(lambda: other.status is RunStatus.COMPLETED)
    assert {run.status for run in runs} == {RunStatus.PENDING}
    said = [each.getMessage() for each in caplog.records if "of_another_notebook is due" in each.getMessage()]
    assert len(said) == 1
    assert f"flow {plain.name}" in said[0]
    assert "needs `work MODULE`" not in said[0]
    assert set(iron.work()["state"]) == {"waits for its notebook"}
    REGISTRY.define(elsewhere)
    assert {run.result(LIMIT_S) for run in runs} == {1}
    engine.close()


def test_a_run_whose_connection_is_cut_goes_on_with_a_worker(here: Engine, tmp_path: Path) -> None:
    @flow(name="cut off")
    def cut_off() -> int:
        found = work(1)
        if len(BODIES) == 1:
            BODIES.append("cut")
            raise ConnectionLost("the server was restarted")
        return int(found)

    run = cut_off.start(detach=True)
    engine, _ = worker_on(tmp_path)
    assert run.result(LIMIT_S) == 1
    assert BODIES == [1, "cut"]
    assert list(run.events().type).count("RunDetached") == 2  # handed over, and cut off
    engine.close()


@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async"])
def test_a_run_that_goes_on_here_is_given_up_at_its_next_step_and_continued_by_a_worker(
    here: Engine, tmp_path: Path, is_async: bool
) -> None:
    @flow(name="moved")
    def moved() -> Any:
        return work(1), held(2), work(3)

    @flow(name="moved async")
    async def moved_async() -> Any:
        first = await work_async.submit(1)
        return first, await held.submit(2), await work_async(3)

    run: Any = (moved_async if is_async else moved).start()
    until(lambda: 2 in BODIES)
    run.detach()
    GATE.set()
    until(lambda: run.status is RunStatus.PENDING)
    assert BODIES == [1, 2]
    engine, _ = worker_on(tmp_path)
    assert tuple(run.result(LIMIT_S)) == (1, 2, 3)
    assert BODIES == [1, 2, 3]
    assert queue(here) == []
    engine.close()


@pytest.mark.parametrize("way", ["failed", "paused", "waiting"])
def test_a_run_that_nobody_executes_is_handed_over_as_it_is(here: Engine, tmp_path: Path, way: str) -> None:
    is_broken = [way == "failed"]

    @step(name="may break")
    def may_break() -> None:
        if is_broken[0]:
            raise ConnectionError

    @flow(name="stopped")
    def stopped() -> Any:
        work(1)
        may_break()
        return iron.wait_for("go")

    run = stopped.start()
    if way == "failed":
        run.wait(LIMIT_S)
    else:
        until(lambda: run.status is RunStatus.WAITING)
    if way == "paused":
        run.pause().wait(LIMIT_S)
    is_broken[0] = False
    run.detach()
    until(lambda: run.status is RunStatus.PENDING)
    run.signal("go", way)
    engine, _ = worker_on(tmp_path)
    assert run.result(LIMIT_S) == way
    assert BODIES == [1]
    assert queue(here) == []
    engine.close()


def test_an_interrupted_run_is_handed_over(here: Engine, tmp_path: Path) -> None:
    first = engine_on(tmp_path)
    with REGISTRY.replaced(first):
        run_id = parent_of_held.start().id
        until(lambda: 2 in BODIES)
    first.close()
    GATE.set()
    run = iron.get_run(run_id)
    assert run.status is RunStatus.INTERRUPTED
    assert run.detach().status is RunStatus.PENDING
    engine, _ = worker_on(tmp_path)
    assert run.result(LIMIT_S) == (2, 3)
    engine.close()


def test_what_can_not_be_handed_over_is_refused(here: Engine) -> None:
    done = plain.start(1)
    done.wait(LIMIT_S)
    with pytest.raises(iron.errors.RunFinished, match="completed, so there is nothing to detach"):
        done.detach()
    with pytest.raises(iron.errors.InputsNotStored, match=r"the arguments n of .*can't be pickled"):
        plain.start(threading.Lock(), detach=True)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="detach is True or False"):
        plain.start(1, detach="yes")  # type: ignore[call-overload]
    whole = parent.start(1)
    whole.wait(LIMIT_S)
    child = next(run for run in iron.runs()["run_id"] if run not in {whole.id, done.id})
    with pytest.raises(ValueError, match=f"is a child of run {whole.id} and goes where that goes"):
        iron.get_run(child).detach()


def test_a_flow_that_is_defined_under_another_name_is_said_to_be_loaded_otherwise(
    here: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    in_a_script = flow(name="plain")(plain.fn)
    in_a_script.start(1, detach=True)
    REGISTRY.forget("flow", "plain")
    engine, _ = worker_on(tmp_path)
    until(lambda: "what is imported from a module needs `work MODULE`, a script or notebook `work FILE`" in caplog.text)
    engine.close()


def test_arguments_of_any_size_are_handed_over(here: Engine, tmp_path: Path) -> None:
    @flow
    def sized(blob: bytes) -> int:
        return len(blob)

    run = sized.start(bytes(3_000_000), detach=True)
    engine, _ = worker_on(tmp_path)
    assert run.result(LIMIT_S) == 3_000_000
    engine.close()


def test_a_parameter_of_that_name_is_the_flows_own(here: Engine) -> None:
    @flow
    def own(detach: bool) -> bool:
        return detach

    assert own.start(detach=True).result(LIMIT_S) is True


@pytest.mark.parametrize("stop", ["cancel", "pause"])
def test_a_pending_run_is_cancelled_and_paused(here: Engine, stop: str) -> None:
    run = plain.start(1, detach=True)
    getattr(run, stop)()
    assert run.status is (RunStatus.CANCELLED if stop == "cancel" else RunStatus.PAUSED)
    assert queue(here) == []
    if stop == "pause":
        assert run.detach().status is RunStatus.PENDING
        assert queue(here) == ["run"]


def test_a_process_takes_back_a_pending_run(here: Engine) -> None:
    run = plain.start(2, detach=True)
    assert run.resume().result(LIMIT_S) == [0, 1]
    assert queue(here) == []
    again = plain.options(fresh=True).start(2, detach=True)
    assert plain.resume().id == again.id
    assert again.result(LIMIT_S) == [0, 1]


def test_a_process_that_waits_for_a_run_which_no_worker_takes_executes_it(
    here: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_status, "TAKEN_WITHIN_S", 0.0)
    run = plain.start(2, detach=True)
    assert run.result(LIMIT_S) == [0, 1]
    assert "RunContinued" in set(run.events()["type"])


def test_a_run_is_taken_from_a_worker_and_given_back(here: Engine, tmp_path: Path) -> None:
    @flow
    def moved() -> Any:
        return work(1), held(2), work(3), iron.wait_for("go")

    engine, _ = worker_on(tmp_path)
    run = moved.start(detach=True)
    until(lambda: 2 in BODIES and run.status is RunStatus.RUNNING)
    assert run.detach().status is RunStatus.RUNNING  # a worker has it
    run.pause()
    GATE.set()
    assert run.wait(LIMIT_S).status is RunStatus.PAUSED
    run.resume()
    until(lambda: run.status is RunStatus.WAITING)
    assert run.id in here.sessions
    run.detach()
    until(lambda: run.id in engine.sessions)
    run.signal("go", "back")
    assert run.result(LIMIT_S) == (1, 2, 3, "back")
    assert BODIES == [1, 2, 3]
    engine.close()


@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async"])
def test_a_flow_starts_another_one_beside_itself_once(here: Engine, tmp_path: Path, is_async: bool) -> None:
    is_broken = [True]

    @step(name="may break")
    def may_break() -> None:
        if is_broken[0]:
            raise ConnectionError

    @flow(name="starter")
    def starter() -> Any:
        runs = [plain.start(2, detach=True) for _ in range(2)]
        may_break()
        return [run.result(LIMIT_S) for run in runs]

    @flow(name="starter async")
    async def starter_async() -> Any:
        runs = [plain.start(2, detach=True) for _ in range(2)]
        may_break()
        return [await run for run in runs]

    engine, _ = worker_on(tmp_path)
    run: Any = (starter_async if is_async else starter).start()
    run.wait(LIMIT_S)
    assert run.status is RunStatus.FAILED
    until(lambda: list(iron.runs(flow=plain.name)["status"]) == [RunStatus.COMPLETED] * 2)  # it outlives what began it
    is_broken[0] = False
    assert run.resume().result(LIMIT_S) == [[0, 1], [0, 1]]
    assert len(iron.runs(flow=plain.name)) == 2
    assert list(run.steps().query("name == 'iron.start'")["status"]) == ["completed"] * 2
    engine.close()


def test_a_flow_that_waits_for_a_detached_run_hears_that_it_is_to_stop(here: Engine) -> None:
    @flow
    def waits() -> Any:
        return plain.start(1, detach=True).result(LIMIT_S)

    run = waits.start()
    until(lambda: len(iron.runs()) == 2)
    run.pause()
    assert run.wait(LIMIT_S).status is RunStatus.PAUSED


def test_a_step_starts_no_run(here: Engine) -> None:
    @step
    def inside() -> None:
        plain.start(1, detach=True)

    @flow
    def outside() -> None:
        inside()

    with pytest.raises(iron.errors.NotAllowedInStep):
        outside()


def test_branches_and_children_of_a_detached_run_move_with_it(here: Engine, tmp_path: Path) -> None:
    @flow(name="moved")
    def moved() -> Any:
        return iron.gather(partial(parent_of_held), partial(plain, 2))

    run = moved.start()
    until(lambda: {2, 0, 1} <= set(BODIES))
    run.detach()
    GATE.set()
    until(lambda: run.status is RunStatus.PENDING)
    engine, _ = worker_on(tmp_path)
    assert run.result(LIMIT_S) == [(2, 3), [0, 1]]
    assert sorted(BODIES) == [0, 1, 2, 3]
    assert set(iron.runs()["status"]) == {RunStatus.COMPLETED}
    engine.close()
