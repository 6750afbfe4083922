"""Processes that are killed at random moments: each next one continues, and nothing acknowledged runs again."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import ironflow_nb as iron
from tests.conftest import FULL_PROOF, SEED
from tests.crash.ledger import check, check_attempts

pytestmark = pytest.mark.crash

PROGRAM = [sys.executable, "-m", "tests.crash.program"]
ROOT = Path(__file__).parent.parent.parent
N_KILLS = 56 if FULL_PROOF else 3
FIRST_STEP_S = 0.2


@pytest.mark.sampled(8)
@pytest.mark.parametrize("durability", ["power", "process"])
@pytest.mark.parametrize(
    "flow",
    ["sequential", "mapped", "submitted", "branched", "children", "keyed", "gathered", "async_mapped", "graphed"],
)
def test_a_killed_process_is_continued_by_the_next(
    flow: str, durability: str, tmp_path: Path, counted: Callable[[str, int], None]
) -> None:
    dice = random.Random(f"{SEED} {flow} {durability}")
    journal, ledger = tmp_path / "journal.db", tmp_path / "ledger"
    environment = os.environ | {"LEDGER": str(ledger), "N_STEPS": "150"}
    environment.pop("PYTEST_CURRENT_TEST", None)
    n_kills = n_rounds = 0
    while n_kills < N_KILLS:
        n_rounds += 1
        assert n_rounds < 20 * N_KILLS, "processes end before they can be killed"
        environment["WORD"] = f"round{n_rounds}"
        while status(journal, n_rounds) != "completed":
            command = [*PROGRAM, flow, durability, str(journal)]
            if n_kills < N_KILLS:
                was_killed = killed_at_random(command, environment, ledger, dice)
                n_kills += was_killed and status(journal, n_rounds) == "interrupted"
            else:  # a slow machine would else be killed for ever
                subprocess.run(command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    check(ledger)
    with iron.open(journal):
        runs = iron.runs()
        assert set(runs["status"]) == {"completed"}
        assert runs["parent_run_id"].isna().sum() == n_rounds
        assert runs["n_sessions"].sum() > n_rounds
        check_attempts()
    counted("processes killed", n_kills)


def killed_at_random(command: list[str], environment: dict[str, str], ledger: Path, dice: random.Random) -> bool:
    """Start the program, and kill it some time after it has begun to work; tell whether it had to be killed."""
    before = size(ledger)
    with subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and size(ledger) == before:
            time.sleep(0.002)
        try:
            assert process.wait(dice.uniform(0, 0.3) * dice.random()) == 0
        except subprocess.TimeoutExpired:
            process.kill()
            return True
    return False


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def status(journal: Path, n_runs: int) -> str | None:
    """Return the status of the run of this round; None before anything of it is recorded."""
    with iron.open(journal):
        runs = iron.runs()
    statuses = runs["status"][runs["parent_run_id"].isna()]
    return str(statuses.iloc[0]) if len(statuses) == n_runs else None
