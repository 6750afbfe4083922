"""What a journal of somebody else has waiting, due or half done: no process goes on with it, a worker neither."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.execution.runs.waker import watch_what_is_due
from tests.waits.conftest import until
from tests.worker.conftest import GATE, engine_on, killed, worker_on

DONE: list[str] = []


@step
def work(what: str) -> str:
    DONE.append(what)
    return what


@step
def held(what: str) -> str:
    DONE.append(what)
    GATE.wait()
    return what


def undo(what: str) -> None:
    DONE.append(f"undo {what}")
    GATE.wait()


@step(compensate=undo)
def effect(what: str) -> str:
    return work(what)


@flow
def detached(what: str) -> str:
    return work(what)


@flow
def waiting() -> Any:
    return work(f"got {iron.wait_for('go')}")


@flow
async def sleeping() -> Any:
    await iron.aio.sleep(2)
    return await work.submit("slept")


@flow
def asking() -> Any:
    return work(f"answered {iron.ask('which?')}")


@flow
def dying() -> Any:
    return held("dying")


@flow
def undone() -> Any:
    iron.on_failure(DONE.append, "undo of the flow")
    effect("to be undone")
    raise ValueError("no")


@flow(on="order.placed")
def placed(order: dict[str, int]) -> str:
    return work("placed")


REGISTRY.forget("flow", placed.name)  # its event would begin runs of other tests


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Leave a journal of somebody else whose process was killed; return its runs by the names of their flows."""
    DONE.clear()
    GATE.renew()
    monkeypatch.setenv("IRONFLOW_KEY", "the key of somebody else")
    engine = engine_on(tmp_path)
    REGISTRY.define(placed)
    with REGISTRY.replaced(engine):
        runs = [waiting.start(), asking.start(), dying.start(), undone.start(), detached.start("detached", detach=True)]
        until(lambda: "dying" in DONE and "undo to be undone" in DONE and len(iron.waiting()))
        until(lambda: len(iron.work()) >= 3)
        placed.subscribe(engine)
        REGISTRY.forget("flow", placed.name)
        iron.emit("order.placed", {"id": 1})
        placed.schedule(every_s=0.1, args=({"id": 2},))
        runs[0].signal("go", "on")
        runs.append(sleeping.start())
        until(lambda: iron.runs(flow=sleeping)["status"].tolist() == ["waiting"])  # one at work is not gone on with
        found = {name.rpartition(".")[2]: run_id for run_id, name in iron.runs()[["run_id", "name"]].to_numpy()}
        killed(engine)
    monkeypatch.setenv("IRONFLOW_KEY", "my own key")
    REGISTRY.define(placed)
    DONE.clear()
    yield found
    REGISTRY.forget("flow", placed.name)
    GATE.set()


@pytest.mark.slow
def test_neither_a_kernel_nor_a_worker_goes_on_with_it(
    theirs: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with iron.open(tmp_path / "journal.db", read_only=True):
        until(lambda: (iron.work().query("kind == 'sleep'")["state"] == "due").all())
    engine, _ = worker_on(tmp_path)
    with REGISTRY.replaced(engine):
        watch_what_is_due(engine)
        left = {"asking", "detached", "sleeping"}
        run = iron.get_run(theirs["asking"])
        run.answer("mine")
        until(lambda: all(f"run {theirs[name]} of" in caplog.text for name in left))
        until(lambda: caplog.text.count("is not written by you, and starts nothing") >= 2)
        for name, run_id in theirs.items():
            if name != "waiting":  # it had its signal while its own process was there
                with pytest.raises(iron.errors.UntrustedRun):
                    iron.get_run(run_id).resume()
        assert placed.runs().empty
    engine.close()
    assert DONE == []
