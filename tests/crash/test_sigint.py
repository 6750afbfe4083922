"""Interrupts at random moments: no broken state, every run continues, nothing acknowledged runs again."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import ironflow_nb as iron
from tests.conftest import FULL_PROOF, SEED
from tests.crash.ledger import check
from tests.crash.test_sigkill import PROGRAM, ROOT

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process"),
]

N_INTERRUPTS = 250 if FULL_PROOF else 30


@pytest.mark.parametrize("durability", ["power", "process"])
@pytest.mark.parametrize("flow", ["sequential", "mapped"])
def test_interrupts_break_nothing(flow: str, durability: str, tmp_path: Path) -> None:
    dice = random.Random(f"{SEED} {flow} {durability}")
    journal, ledger = tmp_path / "journal.db", tmp_path / "ledger"
    environment = os.environ | {"LEDGER": str(ledger), "N_INTERRUPTS": str(N_INTERRUPTS)}
    environment.pop("PYTEST_CURRENT_TEST", None)
    trouble = tmp_path / "stderr"
    with trouble.open("w") as stderr:
        process = subprocess.Popen(
            [*PROGRAM, "interrupted", flow, durability, str(journal)], env=environment, cwd=ROOT, stderr=stderr
        )
        deadline = time.monotonic() + 5 * N_INTERRUPTS
        while not (ledger.exists() and "start" in ledger.read_text()):
            assert process.poll() is None, trouble.read_text()
            time.sleep(0.01)
        while process.poll() is None:
            assert time.monotonic() < deadline, "the program hangs"
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(dice.uniform(0.001, 0.06))
    assert process.returncode == 0, trouble.read_text()
    end = ledger.read_text().splitlines()[-1].split()
    assert end[0] == "end"
    assert int(end[1]) >= N_INTERRUPTS
    check(ledger)
    with iron.open(journal):
        runs = iron.runs()
        assert set(runs["status"]) == {"completed"}
        assert runs["n_sessions"].sum() > len(runs)
