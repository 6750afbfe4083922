"""Processes that use one journal at once: ``python -m tests.hostile.crowd WHAT PATH ...``."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from pathlib import Path

import ironflow_nb as iron
from ironflow_nb import flow, step


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


@step
def add(name: str, n: int) -> int:
    return n + 1


@flow
def counting(name: str, n_steps: int) -> int:
    total = 0
    for _ in range(n_steps):
        total = add(name, total)
    return total


@flow
def mapped(name: str, n_steps: int) -> int:
    return len(list(add.map([name] * n_steps, range(n_steps), concurrency=4)))


def hold(path: Path, for_s: float) -> None:
    """Hold the right to write for some seconds, or until nobody listens any more."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    say("holding")
    if for_s:
        time.sleep(for_s)
        connection.execute("ROLLBACK")
    else:
        sys.stdin.read()


def read(path: Path) -> None:
    """Hold a read transaction until nobody listens any more, and tell what was seen."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN")
    before = connection.execute("SELECT count(*) FROM events").fetchone()
    say("reading")
    sys.stdin.read()
    after = connection.execute("SELECT count(*) FROM events").fetchone()
    say("the same" if before == after else "another moment")


def hammer(path: Path, n_runs: int, n_steps: int) -> None:
    """Run flows, one after the other, waiting until all of the crowd are there."""
    iron.use(path, durability="process")
    say("ready")
    sys.stdin.readline()
    for n in range(n_runs):
        name = f"{os.getpid()} {n}"
        total = counting(name, n_steps) if n % 2 else mapped(name, n_steps)
        assert total == n_steps


if __name__ == "__main__":
    what, path, *numbers = sys.argv[1:]
    {"hold": hold, "read": read, "hammer": hammer}[what](Path(path), *map(int, numbers))
