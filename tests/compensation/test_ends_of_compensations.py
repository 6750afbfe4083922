"""How a run ends that is undone, and what stops its compensation: time, requests, interrupts, deaths."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.core.status import RunStatus
from ironflow_nb.errors import RunFinished
from tests.compensation.effects import BROKEN, LOG, act, child, fail, outcome, statuses, undo
from tests.conftest import Lab
from tests.waits.conftest import LIMIT_S, until


def test_a_run_whose_time_is_up_is_undone(lab: Lab) -> None:
    clock = lab.simulate_time()

    @step
    def slow() -> None:
        clock.advance(11)

    @flow(timeout_s=10)
    def main() -> None:
        act(1)
        slow()

    with pytest.raises(TimeoutError):
        main()
    assert LOG == [1]
    assert main.last.status is RunStatus.FAILED


@pytest.mark.parametrize("is_asked", [True, False])
def test_a_cancelled_run_is_undone_if_the_flow_asks_for_it(lab: Lab, is_asked: bool) -> None:
    @flow(compensate_on_cancel=is_asked)
    def main() -> None:
        act(1)
        iron.wait_for("go")

    run = main.start()
    until(lambda: "waiting" in statuses(run).values())
    run.cancel().wait(LIMIT_S)
    assert run.status is RunStatus.CANCELLED
    assert ([1] if is_asked else []) == LOG


def test_a_run_without_an_owner_is_undone_when_it_is_cancelled(lab: Lab) -> None:
    @flow(compensate_on_cancel=True)
    def main() -> None:
        act(1)
        child(2)
        if "kernel" in BROKEN:
            raise KeyboardInterrupt

    BROKEN.add("kernel")
    with pytest.raises(KeyboardInterrupt):
        main()
    run = main.last
    run.cancel().wait(LIMIT_S)
    assert run.status is RunStatus.CANCELLED
    assert LOG == [3, 2, 1]
    with pytest.raises(RunFinished):
        run.resume(retry="failed")


def test_an_interrupted_run_is_not_undone_and_an_interrupted_compensation_goes_on(lab: Lab) -> None:
    is_interrupted: list[int] = []

    @step
    def unpack(result: int) -> None:
        LOG.append(result)
        if result == 2 and not is_interrupted:
            is_interrupted.append(1)
            raise KeyboardInterrupt

    effect = act.options(compensate=unpack)

    @flow
    def main() -> None:
        effect(1)
        effect(2)
        effect(3)
        fail()

    run = main.start()
    until(lambda: run.status is RunStatus.INTERRUPTED or (is_interrupted and lab.engine.is_running_here(run.id)))
    until(lambda: run.status in {RunStatus.INTERRUPTED, RunStatus.FAILED})
    if run.status is RunStatus.INTERRUPTED:
        assert not {"retry", "redo"} & set(run.plan()["action"][run.plan()["step"].str.contains("unpack")])
        with pytest.raises(ValueError, match="0"):
            run.resume().result(LIMIT_S)
    assert LOG == ["fails", 3, 2, 2, 1]


def test_a_request_to_cancel_or_pause_does_not_stop_a_compensation(lab: Lab) -> None:
    is_free, has_begun = threading.Event(), threading.Event()

    def release() -> None:
        has_begun.set()
        is_free.wait(LIMIT_S)
        LOG.append("released")

    @flow
    def main() -> None:
        iron.on_failure(undo, 1)
        iron.on_failure(release)
        fail()

    run = main.start()
    assert has_begun.wait(LIMIT_S)
    assert run.status is RunStatus.COMPENSATING
    run.cancel()
    run.pause()
    is_free.set()
    outcome(lambda: run.result(LIMIT_S))
    assert run.status is RunStatus.FAILED
    assert LOG == ["fails", "released", 1]


def test_arguments_that_no_journal_can_store_are_kept_in_the_process(lab: Lab) -> None:
    lock = threading.Lock()

    def unlock(held: Any) -> None:
        LOG.append(type(held).__name__)

    @flow
    def main() -> None:
        iron.on_failure(unlock, lock)
        fail()

    outcome(main)
    assert LOG == ["fails", "lock"]


PROGRAM = """
import os, sys
import ironflow_nb as iron
from ironflow_nb import flow, step

def write(line):
    with open("log", "a") as file:
        file.write(line + "\\n")

def undo(result, n):
    write(f"undo {n}")
    if str(n) in os.environ.get("DIE_AT", ""):
        os.kill(os.getpid(), 9)

def release(name):
    write(f"release {name}")

@step(compensate=undo)
def act(n):
    write(f"act {n}")
    return n

@step
def fail():
    write("fail")
    raise ValueError("no")

@flow
def child(n):
    act(n)

@flow
def main():
    act(1)
    child(2)
    iron.on_failure(release, "room")
    act(3)
    fail()

iron.use("journal.db")
try:
    main() if sys.argv[1] == "call" else iron.resume(main.last.id).result()
except ValueError:
    print("failed")
"""


@pytest.mark.crash
@pytest.mark.parametrize("how", ["call", "resume"])
def test_another_process_goes_on_with_a_compensation_and_repeats_nothing(tmp_path: Path, how: str) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)

    def run(how: str, die_at: str) -> subprocess.CompletedProcess[str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        environment = own | {"PYTHONPATH": str(Path(__file__).parents[2]), "DIE_AT": die_at}
        command = [sys.executable, "program.py", how]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )

    assert run("call", "2").returncode == -9
    assert run(how, "1").returncode == -9
    ended = run(how, "")
    assert ended.stdout.splitlines()[-1:] == ["failed"], ended.stderr
    log = (tmp_path / "log").read_text().splitlines()
    assert log == ["act 1", "act 2", "act 3", "fail", "undo 3", "release room", "undo 2", "undo 2", "undo 1", "undo 1"]


def test_an_interrupted_compensation_can_not_be_cancelled(lab: Lab) -> None:
    BROKEN.add("kernel")

    def die() -> None:
        if "kernel" in BROKEN:
            lab.engine.access.close("its process died", abandon=True)

    @flow
    def main() -> None:
        iron.on_failure(undo, 1)
        iron.on_failure(die)
        fail()

    run = main.start()
    until(lambda: lab.engine.access.is_closed)
    until(lambda: not lab.engine.is_running_here(run.id))
    BROKEN.clear()
    lab.die()
    again = iron.get_run(run.id)
    assert again.status is RunStatus.INTERRUPTED
    with pytest.raises(RunFinished, match="half undone"):
        again.cancel()
    outcome(lambda: again.resume().result(LIMIT_S))
    assert LOG[-1] == 1
