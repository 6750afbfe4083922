"""Interrupts at random moments: every run continues, nothing committed runs again, none is stale, nothing hangs."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import ironflow_nb as iron
from tests.conftest import FULL_PROOF, SEED
from tests.crash.ledger import check, check_attempts
from tests.crash.test_sigkill import PROGRAM, ROOT

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process"),
]

WAYS = [
    "sequential", "mapped", "submitted", "branched", "children", "keyed", "gathered", "async_mapped", "graphed",
]  # fmt: skip
N_INTERRUPTS = 560 if FULL_PROOF else 12
TWICE = 0.3
"""How often stop is pressed twice."""


@pytest.mark.sampled(8)
@pytest.mark.parametrize("durability", ["power", "process"])
@pytest.mark.parametrize("way", WAYS)
def test_interrupts_break_nothing(
    way: str, durability: str, tmp_path: Path, counted: Callable[[str, int], None]
) -> None:
    journal, ledger, trouble = tmp_path / "journal.db", tmp_path / "ledger", tmp_path / "stderr"
    environment = os.environ | {"LEDGER": str(ledger), "N_INTERRUPTS": str(N_INTERRUPTS)}
    environment.pop("PYTEST_CURRENT_TEST", None)
    with trouble.open("w") as stderr:
        process = subprocess.Popen(
            [*PROGRAM, "interrupted", way, durability, str(journal)], env=environment, cwd=ROOT, stderr=stderr
        )
        try:
            n_sent = interrupt(process, ledger, trouble, random.Random(f"{SEED} {way} {durability}"))
        finally:
            process.kill()
    assert process.returncode == 0, trouble.read_text()
    end = ledger.read_text().splitlines()[-1].split()
    assert end[0] == "end"
    assert int(end[1]) >= N_INTERRUPTS
    check(ledger)
    with iron.open(journal):
        runs = iron.runs()
        assert set(runs["status"]) == {"completed"}
        assert runs["n_sessions"].sum() > len(runs)
        attempts = check_attempts()
    counted("cells interrupted", int(end[1]))
    counted("SIGINTs sent to them", n_sent)
    counted("attempts of steps recorded meanwhile", len(attempts))


def interrupt(process: subprocess.Popen[bytes], ledger: Path, trouble: Path, dice: random.Random) -> int:
    """Interrupt the program until it ends by itself; return how often."""
    while not (ledger.exists() and "start" in ledger.read_text()):
        assert process.poll() is None, trouble.read_text()
        time.sleep(0.01)
    deadline = time.monotonic() + 120 + N_INTERRUPTS
    n_sent = 0
    while process.poll() is None:
        assert time.monotonic() < deadline, f"the program hangs after {n_sent} interrupts"
        for pause_s in [0.0, dice.uniform(0, 0.004)] if dice.random() < TWICE else [0.0]:
            time.sleep(pause_s)
            process.send_signal(signal.SIGINT)
            n_sent += 1
        time.sleep(dice.uniform(0.001, 0.06))
    return n_sent
