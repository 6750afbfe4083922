"""Flows, deciders and their care on DynamoDB, on several machines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.errors import JournalError
from tests.dynamodb.conftest import Machine

ROOT = Path(__file__).parents[2]
LIMIT_S = 60
CALLS: list[int] = []
TROUBLE: list[bool] = []


def until(is_done: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not is_done():
        assert time.monotonic() < end
        time.sleep(0.01)


@step
def fetch(n: int) -> int:
    CALLS.append(n)
    if n == 2 and TROUBLE:
        raise OSError("down")
    return 10 * n


@flow
def report(n: int) -> int:
    return fetch(7) + sum(fetch.map(range(n)))


@flow
def large() -> str:
    return "x" * 1_000_000


@flow
def paying() -> str:
    return str(iron.wait_for("paid")) + str(fetch(1))


@pytest.fixture(autouse=True)
def nothing_called() -> None:
    CALLS.clear()
    TROUBLE.clear()


def test_a_run_that_failed_on_one_machine_is_continued_on_another(on_machine: Machine) -> None:
    TROUBLE.append(True)
    with iron.open(on_machine("one")), pytest.raises(OSError, match="down"):
        report(3)
    TROUBLE.clear()
    CALLS.clear()
    with iron.open(on_machine("two")):
        assert iron.get_run(iron.runs()["run_id"][0]).resume().result() == 100
        assert CALLS == [2]
        assert iron.runs()["status"].to_list() == ["completed"]
        assert len(iron.steps()) == 4
        assert iron.verify().ok


def test_a_wait_is_ended_by_a_signal_of_another_machine(on_machine: Machine) -> None:
    with iron.open(on_machine("one")) as one, iron.open(on_machine("two")) as two:
        with one:
            run = paying.start()
        with two:
            until(lambda: iron.runs()["status"].to_list() == ["waiting"])
            iron.get_run(run.id).signal("paid", "yes ")
            until(lambda: iron.runs()["status"].to_list() == ["completed"])
        assert run.result() == "yes 10"


def test_a_run_goes_from_a_file_to_dynamodb(url: str) -> None:
    TROUBLE.append(True)
    with iron.open("journal.db"), iron.open(url) as there:
        with iron.open("journal.db"):
            with pytest.raises(OSError, match="down"):
                report(3)
            moved = iron.copy(report.last, there)
        TROUBLE.clear()
        assert moved.resume().result() == 100
        assert iron.doctor(engine=there)["state"].isin(["ok", "notice"]).all()
        with pytest.raises(JournalError, match="tables in AWS"):
            iron.backup("copy.db", engine=there)
        with pytest.raises(JournalError, match="keeps all"):
            iron.vacuum(engine=there)


def test_large_values_may_lie_elsewhere(on_machine: Machine, tmp_path: Path) -> None:
    with iron.open(on_machine("one"), values=tmp_path / "shared"):
        assert len(large()) == 1_000_000
    assert [each.stat().st_size > 1000 for each in (tmp_path / "shared").rglob("*") if each.is_file()] == [True]
    with iron.open(on_machine("two")):
        assert len(iron.get_run(iron.runs()["run_id"][0]).result()) == 1_000_000


def started(url: str, marks: Path, what: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.dynamodb.program", url, str(marks), what],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    path = tmp_path / "marks"
    path.touch()
    return path


@pytest.mark.crash
def test_of_two_processes_that_continue_a_killed_run_one_does(on_machine: Machine, marks: Path) -> None:
    with started(on_machine("one"), marks, "begin") as killed:
        until(lambda: "stall 3" in marks.read_text() or killed.poll() is not None)
        assert killed.poll() is None, killed.communicate()
        killed.send_signal(signal.SIGKILL)
    others = [started(on_machine(name), marks, name) for name in ("one", "two")]
    until(lambda: marks.read_text().count("ready") == 2 or any(each.poll() is not None for each in others))
    marks.with_name("marks.go").touch()
    answers = [each.communicate(timeout=LIMIT_S) for each in others]
    lines = marks.read_text().splitlines()
    assert "result 6" in lines, answers
    assert [lines.count(each) for each in ("work 1", "work 2", "stall 3")] == [1, 1, 2]
    with iron.open(on_machine("three")):
        assert iron.runs()["status"].to_list() == ["completed"]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("dynamodb://", "names the tables"),
        ("dynamodb://a/b", "names the tables"),
        ("dynamodb://a?table=b", "option 'table'"),
    ],
)
def test_a_url_that_can_not_be_read_is_refused(bad: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        iron.open(bad)


def test_what_is_missing_to_reach_aws_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with iron.open("dynamodb://a"), pytest.raises(JournalError, match=r"\?region="):
        report(1)
    with iron.open("dynamodb://a?region=eu-central-1&profile=nobody"), pytest.raises(JournalError, match="nobody"):
        report(1)
