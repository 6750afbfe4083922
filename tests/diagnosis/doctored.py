"""Asking the doctor, and processes that give it something to find."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

import ironflow_nb as iron
from ironflow_nb.execution.engine import Engine
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from ironflow_nb.testing.clock import SimClock

LINUX = sys.platform == "linux"
LARGE = 100_000


@iron.step
def work(n: int) -> bytes:
    return bytes([n]) * LARGE if n == 0 else b"small"


@iron.flow
def report(n: int) -> int:
    return sum(len(work(number)) for number in range(n))


def found(path: Path, *, clock: SimClock | None = None) -> pd.DataFrame:
    """Ask the doctor of a process that has done nothing yet."""
    return iron.doctor(engine=Engine(SqliteJournal(path), clock=clock))


def row(report: pd.DataFrame, what: str) -> tuple[str, str, str]:
    """Return state, found and advice of the one finding on that."""
    rows = report[report["what"] == what]
    assert len(rows) == 1, report
    return rows["state"].iloc[0], rows["found"].iloc[0], rows["advice"].iloc[0]


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(file.relative_to(folder)): (file.read_bytes(), file.stat().st_mtime_ns)
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@contextmanager
def process(source: str, path: Path, *, until: str = "ready") -> Iterator[subprocess.Popen[str]]:
    """Run another process on the journal, from when it says so; in the end it is killed."""
    environment = os.environ | {"IRONFLOW_DB": str(path)}
    environment.pop("PYTEST_CURRENT_TEST", None)
    other = subprocess.Popen([sys.executable, "-c", source], env=environment, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    try:
        assert other.stdout.readline().strip() == until
        yield other
    finally:
        other.kill()
        other.wait()
        other.stdout.close()


def using_sqlite(path: Path, *lines: str) -> str:
    begin = f"import sqlite3, time\nconnection = sqlite3.connect({str(path)!r}, isolation_level=None)"
    return "\n".join([begin, *lines, 'print("ready", flush=True)', "time.sleep(60)"])
