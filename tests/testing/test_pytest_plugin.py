"""The plugin as a project that uses it sees it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

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
    iron_engine.clock.advance(3600)
    main()
    started = iron.runs()["started_at"]
    assert started[0] - started[1] == datetime.timedelta(hours=1)
"""

BYSTANDER = """
import sys


def test_nothing_of_the_package_is_loaded_for_who_does_not_use_it():
    assert [name for name in sys.modules if name.startswith(("ironflow_nb.", "msgspec", "cloudpickle"))] == [
        "ironflow_nb._version", "ironflow_nb.testing", "ironflow_nb.testing.pytest_plugin"
    ]
"""
STRICT = """
import pytest

import ironflow_nb as iron


@iron.step
def work(n):
    return n


@iron.flow
def main():
    raise KeyboardInterrupt if work(1) else None


def test_nothing_continues_by_itself(iron_engine):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            main()
    assert iron.runs()["n_sessions"].tolist() == [1, 1]


def test_the_engine_of_a_test_is_closed_after_it(iron_engine):
    with iron.open(":memory:") as other:
        assert iron.engine() is other
    assert iron.engine() is iron_engine
    test_the_engine_of_a_test_is_closed_after_it.engine = iron_engine


def test_so_it_can_not_be_used_any_more():
    engine = test_the_engine_of_a_test_is_closed_after_it.engine
    assert iron.engine() is not engine
    with pytest.raises(iron.errors.EngineClosed), engine.access.current():
        pass
"""


def run_pytest(folder: Path, source: str) -> str:
    """Run a test file as a project of a user does, and return what pytest says."""
    (folder / "test_project.py").write_text(source)
    environment = os.environ | {"PYTEST_ADDOPTS": ""}
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "test_project.py"],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    return found.stdout + found.stderr


def test_a_project_gets_an_engine_for_each_of_its_tests(tmp_path: Path) -> None:
    said = run_pytest(tmp_path, TESTS)
    assert "3 passed" in said, said
    assert not (tmp_path / ".ironflow").exists()


def test_the_plugin_costs_nothing_where_it_is_not_used(tmp_path: Path) -> None:
    said = run_pytest(tmp_path, BYSTANDER)
    assert "1 passed" in said, said


def test_tests_are_separate_from_each_other_and_from_the_past(tmp_path: Path) -> None:
    said = run_pytest(tmp_path, STRICT)
    assert "3 passed" in said, said
    assert not (tmp_path / ".ironflow").exists()
