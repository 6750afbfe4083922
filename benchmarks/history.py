"""Reading what happened: a million events as a frame, the state of a long run, and the newest of many runs."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Final

import ironflow_nb as iron
from benchmarks.samples import Figures
from benchmarks.steps import sequential
from ironflow_nb.core.event_codec import decode_event
from ironflow_nb.core.events import RecordedEvent
from ironflow_nb.core.identity import RunId
from ironflow_nb.core.run_state import fold
from ironflow_nb.journal.ports import Select

N_EVENTS: Final = 10_000
N_COPIES: Final = 499

_COPY_EVENTS: Final = """
INSERT INTO events (run_id, version, at, type, step, attempt, data)
SELECT :copy, version, at, type, step, attempt, data FROM events WHERE run_id = :run
"""

N_RUNS: Final = 60_000
_COPY: Final = """
WITH RECURSIVE copies(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM copies WHERE n < :n_copies)
INSERT INTO {table} ({columns}) SELECT {values} FROM copies, {table} WHERE run_id = :run ORDER BY n
"""


def events_of_many_runs(folder: Path) -> Figures:
    """Measure a million events, those of 500 runs of 1,000 steps, as a frame, and as what sqlite3 fetches."""
    path = folder / "events.db"
    with iron.open(path, durability="process"):
        sequential.options(fresh=True)(1000)
        run = sequential.last
        assert run is not None
    connection = sqlite3.connect(path)
    for number in range(N_COPIES):
        connection.execute(_COPY_EVENTS, {"copy": f"copy{number:08}", "run": run.id})
    connection.commit()
    begun = time.perf_counter()
    fetched = connection.execute("SELECT * FROM events ORDER BY position").fetchall()
    floor = time.perf_counter() - begun
    connection.close()
    assert len(fetched) >= 1_000_000
    n_events = len(fetched)
    del fetched
    with iron.open(path, read_only=True) as engine:
        iron.events(limit=10, engine=engine)  # pandas is imported
        begun = time.perf_counter()
        frame = iron.events(engine=engine)
        spent = time.perf_counter() - begun
    assert len(frame) == n_events
    return {"events fetched": floor * 1e6 / n_events, "events as a frame": spent * 1e6 / n_events}


def state_of_a_run(folder: Path) -> Figures:
    """Measure the state of a run after its 10,000th event, read and folded from its events."""
    with iron.open(folder / "state.db", durability="process") as engine:
        sequential.options(fresh=True)(N_EVENTS // 2)
        run = sequential.last
        assert run is not None
        begun = time.perf_counter()
        with engine.reading() as reader:
            events = reader.events(Select(run_ids=[run.id], limit=None))
        facts = [
            RecordedEvent(row.version, row.at, decode_event(row.type, row.data), row.step, row.attempt)
            for row in events[:N_EVENTS]
        ]
        state = fold(RunId(run.id), facts)
        spent = time.perf_counter() - begun
    assert len(state.steps) == N_EVENTS // 2
    return {"state after 10,000 events": spent}


def newest_of_many_runs(folder: Path) -> Figures:
    """Measure what is asked most of a journal of 60,000 runs of three steps: the last one, and the newest steps."""
    path = folder / "many.db"
    with iron.open(path, durability="process"):
        sequential.options(fresh=True)(3)
        copy_run(path, sequential.last.id, N_RUNS - 1)
        iron.steps(limit=10)  # pandas is imported
        begun = time.perf_counter()
        last = sequential.last
        asked = time.perf_counter()
        newest = iron.steps(limit=10)
        listed = time.perf_counter()
    assert len(newest) == 10
    assert last.id == newest["run_id"][0]
    return {"last of many runs": asked - begun, "newest steps of many": listed - asked}


def copy_run(path: Path, run_id: str, n_copies: int) -> None:
    """Put so many copies of a run beside it."""
    with closing(sqlite3.connect(path)) as connection:
        for table in ("runs", "steps", "events"):
            described = connection.execute(f"PRAGMA table_info({table})")
            names = [f'"{name}"' for _, name, *_ in described if name not in {"run_id", "position"}]
            columns, values = ", ".join(["run_id", *names]), ", ".join(["printf('%012d', n)", *names])
            query = _COPY.format(table=table, columns=columns, values=values)
            connection.execute(query, {"n_copies": n_copies, "run": run_id})
        connection.commit()
