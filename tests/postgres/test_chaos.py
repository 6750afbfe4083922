"""Workers of one server are killed, frozen and cut off at random: nothing is lost, nothing acknowledged runs again."""

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
from tests.postgres import program
from tests.postgres.server import Server

pytestmark = pytest.mark.crash

ROOT = Path(__file__).parents[2]
N_WORKERS = 4 if FULL_PROOF else 2
N_RUNS = 48 if FULL_PROOF else 18
"""So many go on at the same moment."""
CHAOS_S = 600 if FULL_PROOF else 0
"""So long new runs begin in the place of those that have ended."""
LIMIT_S = CHAOS_S + 300
DEEDS = ("kill", "kill", "freeze", "cut", "restart", "nothing")


class Workers:
    """Processes that work on one journal."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.processes = [self._started() for _ in range(N_WORKERS)]

    def _started(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "ironflow_nb", "work", "tests.postgres.program", "--journal", self._url]
        log = Path(os.environ["LEDGER"]).with_name("log").open("ab")
        with log:
            return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)

    def replace(self, n: int) -> None:
        """Kill a worker, and start another one."""
        self.processes[n].kill()
        self.processes[n].wait()
        self.processes[n] = self._started()

    def freeze(self, n: int, for_s: float) -> None:
        """Have a worker stand still for a while."""
        self.processes[n].send_signal(signal.SIGSTOP)
        time.sleep(for_s)
        self.processes[n].send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Kill all."""
        for process in self.processes:
            process.kill()
            process.wait()


def answer_questions() -> None:
    """Send the signal that a run waits for; one id is one signal, however often it is sent."""
    for run_id in iron.runs(flow="asked", status="waiting")["run_id"]:
        iron.get_run(run_id).signal("go", 100, id="once")


def begin_more(runs: list[iron.Run[int]], *, is_over: bool) -> int:
    """Hand runs over until enough go on, at least once, and until the time is over; return how many go on."""
    statuses = iron.runs()["status"]
    assert "failed" not in set(statuses), iron.runs(status="failed")["error"].to_list()
    n_open = int((statuses != "completed").sum())
    for _ in range(0 if is_over and runs else N_RUNS - n_open):
        runs.append(program.FLOWS[len(runs) % 3].start(f"word{len(runs)}", detach=True))
        n_open += 1
    return n_open


def test_workers_that_are_killed_frozen_and_cut_off_lose_nothing(
    server: Server, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: Callable[[str, int], None]
) -> None:
    dice = random.Random(SEED)
    ledger = tmp_path / "ledger"
    monkeypatch.setenv("LEDGER", str(ledger))
    begun = time.monotonic()
    runs: list[iron.Run[int]] = []
    with iron.open(url) as engine:
        workers = Workers(url)
        try:
            while (n_open := begin_more(runs, is_over=time.monotonic() > begun + CHAOS_S)) > 0:
                assert time.monotonic() < begun + LIMIT_S, (n_open, iron.runs()[["name", "status"]].value_counts())
                deed = dice.choice(DEEDS)
                chosen = dice.randrange(N_WORKERS)
                if deed == "kill":
                    workers.replace(chosen)
                elif deed == "freeze":
                    workers.freeze(chosen, dice.uniform(0, 2))
                elif deed == "cut":
                    server.cut_connections()
                elif deed == "restart":
                    server.stop(dice.choice([signal.SIGQUIT, signal.SIGINT]))
                    server.start()
                counted(f"times on PostgreSQL: {deed}", 1)
                time.sleep(dice.uniform(0, 2))
                answer_questions()
        finally:
            workers.end()
        check(ledger)
        attempts = check_attempts()
        counted("runs on PostgreSQL", len(runs))
        counted("attempts on PostgreSQL", len(attempts))
        counted("attempts on PostgreSQL that died with their workers", int((attempts["status"] != "completed").sum()))
        assert [run.result() for run in runs] == [program.RESULT + 100 * (n % 3 == 2) for n in range(len(runs))]
        assert iron.verify().ok
        engine.close()
