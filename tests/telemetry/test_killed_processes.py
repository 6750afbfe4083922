"""What attempts had reported a second before their process was killed is there, and a later process goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ironflow_nb as iron
from tests.waits.conftest import LIMIT_S, until

pytestmark = [
    pytest.mark.crash,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is of other systems"),
]

PROGRAM = """
import asyncio, sys, time
from pathlib import Path
import ironflow_nb as iron
from ironflow_nb import flow, step

def body(kind):
    print(kind, "began")
    for n in iron.progress(range(100)):
        iron.metric("n", n)
        if n == 41 and not Path("go").exists():
            print("half a line", end="")
            yield
    print(kind, "ended")

@step
def train(n):
    for _ in body("def"):
        while not Path("go").exists():
            time.sleep(0.01)

@step
async def train_async(n):
    for _ in body("async"):
        while not Path("go").exists():
            await asyncio.sleep(0.01)

@flow(name="work")
def work():
    print("flow began")
    train(1)

@flow(name="work_async")
async def work_async():
    print("flow began")
    await train_async(1)

run = {"def": work, "async": work_async}[sys.argv[1]].options(key="one").start()
run.result()
"""


@pytest.fixture(params=["def", "async"])
def killed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    (tmp_path / "program.py").write_text(PROGRAM)
    process = subprocess.Popen([sys.executable, "program.py", request.param], cwd=tmp_path, env=environment())
    with iron.open(tmp_path / ".ironflow" / "journal.db"):
        try:
            until(lambda: 41 in iron.metrics()["value"].to_numpy())
            run = iron.get_run(iron.runs()["run_id"][0])
            until(lambda: list(run.log()["text"]) == ["flow began", f"{request.param} began"])
            until(lambda: "running, 41 of 100 (41%)" in run.diagram().text)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        yield request.param


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


def test_it_is_there_after_the_death_and_a_later_process_goes_on(killed: str, tmp_path: Path) -> None:
    run = iron.get_run(iron.runs()["run_id"][0])
    assert run.status == "interrupted"
    assert list(run.log()["text"]) == ["flow began", f"{killed} began"]
    assert list(run.metrics()["value"]) == list(range(42))
    assert list(run.steps()["progress"]) == ["41 of 100"]
    assert "of 100" not in run.diagram().text  # it is no news of what nobody does
    (tmp_path / "go").touch()
    subprocess.run([sys.executable, "program.py", killed], cwd=tmp_path, env=environment(), check=True, timeout=LIMIT_S)
    log = run.log()
    expected = ["flow began", f"{killed} began", "flow began", f"{killed} began", f"{killed} ended"]
    assert list(log["text"]) == expected
    assert list(log["attempt"]) == [1, 1, 2, 2, 2]
    metrics = run.metrics()
    assert list(metrics[metrics["attempt"] == 1]["value"]) == list(range(42))
    assert list(metrics[metrics["attempt"] == 2]["value"]) == list(range(100))
    assert list(run.attempts()["progress"]) == ["41 of 100", "100 of 100"]
