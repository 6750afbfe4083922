"""The plugin as a project that uses it sees it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = """
import datetime

import ironflow_nb as iron

calls = []


@iron.step
def work(n):
    calls.append(n)
    if len(calls) < 3:
        raise RuntimeError("not yet")
    return n


@iron.flow
def main():
    return work(1)


def test_a_flow_runs_in_memory(iron_engine, tmp_path):
    assert main.fn.__name__ == "main"
    for _ in range(2):
        try:
            main()
        except RuntimeError:
            pass
    assert main() == 1
    assert list(iron.runs()["status"]) == ["completed", "failed", "failed"]
    assert iron.engine() is iron_engine


def test_every_test_has_a_journal_of_its_own(iron_engine):
    assert iron.runs().empty


def test_time_is_what_the_test_says(iron_engine):
    main()
    iron_engine.ledger.clock.advance(3600)
    main()
    started = iron.runs()["started_at"]
    assert started[0] - started[1] == datetime.timedelta(hours=1)
"""


def test_a_project_gets_an_engine_for_each_of_its_tests(tmp_path: Path) -> None:
    (tmp_path / "test_project.py").write_text(TESTS)
    environment = os.environ | {"PYTEST_ADDOPTS": ""}
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "test_project.py"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert "3 passed" in found.stdout, found.stdout + found.stderr
    assert not (tmp_path / ".ironflow").exists()
