"""A sweep whose process is killed three times: what was recorded is done once, and the last frame is complete."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

pytestmark = pytest.mark.crash

N_ROWS = 60
LIMIT_S = 60.0

SCRIPT = """
import sys
from pathlib import Path
import ironflow_nb as iron
from ironflow_nb import flow, step
log = Path("log.txt")

@step(retries=iron.Retry(attempts=9, delay_s=0.001))
def order(n: int) -> int:
    with log.open("a") as file:
        file.write(f"{n}\\n")
    if n % 7 == 3 and log.read_text().split().count(str(n)) % 2:
        raise ConnectionError(n)
    return n

@step
def note(n: int) -> int:
    return -n

@flow
def one(n: int) -> dict:
    return {"noted": note(order(n))}

with iron.open("journal.db", durability="process"):
    sweep = one.sweep(range(int(sys.argv[1])), concurrency=4).wait()
    frame = sweep.frame()
    assert set(frame.status) == {"completed"}, frame
    assert frame["noted"].tolist() == [-n for n in frame["n"]]
    print("complete")
"""


def recorded(folder: Path) -> set[int]:
    """Return the rows whose order is recorded as done."""
    if not (folder / "journal.db").exists():
        return set()
    connection = sqlite3.connect(folder / "journal.db")
    try:
        found = connection.execute("SELECT output FROM steps WHERE name = 'order' AND status = 'completed'")
        return {int(content) for (content,) in found}
    except sqlite3.OperationalError:  # it has no tables yet
        return set()
    finally:
        connection.close()


def test_what_was_recorded_of_its_rows_is_done_once(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    log, done = tmp_path / "log.txt", set[int]()
    for n_kill in range(3):
        process = subprocess.Popen([sys.executable, str(script), str(N_ROWS)], cwd=tmp_path, env=env)
        end_s = time.monotonic() + LIMIT_S
        while len(recorded(tmp_path)) < 10 * (n_kill + 1) and process.poll() is None and time.monotonic() < end_s:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        done = recorded(tmp_path)
        before = Counter(log.read_text().split())
    last = subprocess.run(
        [sys.executable, str(script), str(N_ROWS)],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert last.stdout == "complete\n", last.stderr
    after = Counter(log.read_text().split())
    assert [n for n in done if after[str(n)] != before[str(n)]] == []
    assert recorded(tmp_path) == set(range(N_ROWS))
