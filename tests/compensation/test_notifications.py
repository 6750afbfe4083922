"""Functions that are told of the ends of runs: at least once, tried again, by any process that defines them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow
from ironflow_nb.core.status import EndOfRun, RunStatus
from ironflow_nb.errors import DefinitionError, DuplicateName
from ironflow_nb.execution.registry import REGISTRY
from tests.conftest import Lab
from tests.waits.conftest import LIMIT_S, until

TOLD: list[Any] = []


@pytest.fixture(autouse=True)
def told_anew() -> Any:
    TOLD.clear()
    yield
    for end in EndOfRun:
        for each in REGISTRY.definitions(end):
            REGISTRY.forget(each.kind, each.name)


def is_idle() -> bool:
    return iron.work().empty


def tell(run: Any) -> None:
    TOLD.append((run.id, run.status))


@flow
def completes() -> int:
    return 5


@flow
def fails() -> None:
    raise ValueError(1)


@flow
def parent() -> None:
    completes()
    with pytest.raises(ValueError, match="1"):
        fails()


def test_each_run_that_ends_so_is_told_of_once(lab: Lab) -> None:
    iron.on("run.failed")(tell)
    for _ in range(2):
        with pytest.raises(ValueError, match="1"):
            fails.options(fresh=True)()
    completes()
    parent()  # its children end, and are not told of
    until(is_idle)
    assert sorted(TOLD) == sorted((run_id, RunStatus.FAILED) for run_id in fails.runs()["run_id"][-2:])


def test_every_end_has_an_event(lab: Lab) -> None:
    @flow
    def waits() -> None:
        iron.wait_for("go")

    @flow
    def is_interrupted() -> None:
        raise KeyboardInterrupt

    for end in EndOfRun:
        iron.on(end.value)(tell)
    completes()
    with pytest.raises(ValueError, match="1"):
        fails()
    with pytest.raises(KeyboardInterrupt):
        is_interrupted()
    for stop in ("cancel", "pause"):
        run = waits.options(fresh=True).start()
        until(lambda run=run: run.status is RunStatus.WAITING)  # type: ignore[misc]
        getattr(run, stop)()
        run.wait(LIMIT_S)
    until(is_idle)
    assert sorted(status for _, status in TOLD) == sorted(["completed", "failed", "interrupted", "cancelled", "paused"])
    waits.last.cancel()  # nobody executes it
    until(is_idle)
    assert TOLD[-1] == (waits.last.id, RunStatus.CANCELLED)


@pytest.mark.parametrize("error", [ConnectionError(), SystemExit(1), KeyboardInterrupt()], ids=repr)
def test_a_function_that_raises_is_called_again_and_is_a_dead_letter_in_the_end(lab: Lab, error: BaseException) -> None:
    clock = lab.simulate_time()

    @iron.on("run.completed")
    def stubborn(run: Any) -> None:
        TOLD.append(run.id)
        raise error

    completes()
    for n in range(1, 6):
        until(lambda n=n: len(TOLD) == n and list(iron.work()["attempts"]) == [n])  # type: ignore[misc]
        until(lambda: iron.work()["state"].iloc[0] != "due")
        clock.advance(100)
        lab.engine.watch()
    until(lambda: list(iron.work()["state"]) == ["dead"])
    frame = iron.work()
    assert list(frame["kind"]) == ["notification"]
    assert frame["run_id"].iloc[0] == completes.last.id
    assert frame["key"].iloc[0].startswith("run.completed ")
    assert completes.requeue(key="another") == fails.requeue() == 0
    assert completes.requeue(key=frame["key"].iloc[0]) == 1
    until(lambda: len(TOLD) == 6)


def test_what_can_not_be_tried_again_is_dead_at_once(lab: Lab) -> None:
    @iron.on("run.completed")
    def refuses(run: Any) -> None:
        raise iron.NotRetryable("no")

    completes()
    until(lambda: list(iron.work()["state"]) == ["dead"])
    assert list(iron.work()["attempts"]) == [1]
    assert iron.work()["error"].iloc[0].endswith("NotRetryable: no")


def test_an_async_function_is_awaited_and_a_later_one_of_its_name_takes_its_place(lab: Lab) -> None:
    @iron.on("run.completed", name="tell")
    def before(run: Any) -> None:
        TOLD.append("before")

    @iron.on("run.completed", name="tell")
    async def after(run: Any) -> None:
        TOLD.append(await run)

    completes()
    until(is_idle)
    assert TOLD == [5]


def test_it_is_not_called_for_a_run_that_another_user_began(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = lab.simulate_time()

    @iron.on("run.completed", name="tell")
    def stubborn(run: Any) -> None:
        TOLD.append("tried")
        raise ConnectionError

    completes()
    until(lambda: TOLD and list(iron.work()["state"]) == ["waiting"])
    TOLD.clear()
    monkeypatch.setenv("IRONFLOW_KEY", "the key of somebody else")
    lab.die()
    iron.on("run.completed", name="tell")(tell)
    clock.advance(100)
    parent()
    until(lambda: list(iron.work()["run_name"]) == [completes.name])
    assert [run_id for run_id, _ in TOLD] == [parent.last.id]
    assert "not written by you" in caplog.text


def test_what_is_queued_is_done_before_an_engine_is_closed(tmp_path: Path) -> None:
    is_begun = threading.Event()

    @iron.on("run.completed")
    def slow(run: Any) -> None:
        is_begun.set()
        TOLD.append(run.result())

    with iron.open(tmp_path / "journal.db"):
        completes()
    assert TOLD == [5]
    with iron.open(tmp_path / "journal.db"):
        assert is_idle()


PROGRAM = """
import os, sys
import ironflow_nb as iron
from ironflow_nb import flow

@iron.on("run.failed")
def tell(run):
    with open("told", "a") as file:
        file.write(f"{sys.argv[1]} {run.status}\\n")
    if sys.argv[1] == "dies":
        os.kill(os.getpid(), 9)

@flow
def fails():
    raise ValueError

@flow
def other():
    pass

iron.use("journal.db")
if sys.argv[1] == "dies":
    try:
        fails()
    except ValueError:
        pass
    import threading
    threading.Event().wait(60)
else:
    other()
"""


@pytest.mark.crash
def test_another_process_that_defines_the_function_calls_it_after_a_death(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)

    def run(how: str) -> int:
        own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        environment = own | {"PYTHONPATH": str(Path(__file__).parents[2])}
        command = [sys.executable, "program.py", how]
        return subprocess.run(command, cwd=tmp_path, env=environment, timeout=LIMIT_S, check=False).returncode

    assert run("dies") == -9
    assert run("lives") == 0
    assert (tmp_path / "told").read_text().splitlines() == ["dies failed", "lives failed"]


def test_what_can_not_be_told_is_refused(lab: Lab) -> None:
    with pytest.raises(ValueError, match=r"event is \"run.completed\" or .*, not 'run.begun'"):
        iron.on("run.begun")
    with pytest.raises(DefinitionError, match="is called with the run"):
        iron.on("run.failed")(lambda: None)
    with pytest.raises(DuplicateName, match="lambda"):
        iron.on("run.failed")(lambda run: None)
    with pytest.raises(DefinitionError, match="takes a function"):
        iron.on("run.failed")(3)  # type: ignore[type-var]
