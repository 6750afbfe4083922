"""The floor: the same rows written with nothing but ``sqlite3``, in the same mode, on the same disk."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

PAYLOAD = 220  # bytes of one step's inline value


def connect(path: Path, durability: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, cached_statements=256)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={'FULL' if durability == 'power' else 'NORMAL'}")
    connection.execute("CREATE TABLE rows (position INTEGER PRIMARY KEY, step TEXT, data BLOB)")
    return connection


def committed_rows(folder: Path, durability: str, n_rows: int) -> float:
    """Return the seconds for so many rows of one transaction each."""
    connection = connect(folder / "floor.db", durability)
    payload = os.urandom(PAYLOAD)
    begun = time.perf_counter()
    for n in range(n_rows):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO rows (step, data) VALUES (?, ?)", (f"step[{n}]", payload))
        connection.execute("COMMIT")
    spent = time.perf_counter() - begun
    connection.close()
    return spent
