"""Reading what happened: a million events as a frame, and the state of a long run."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Final

import ironflow_nb as iron
from benchmarks.samples import Figures
from benchmarks.steps import sequential
from ironflow_nb.core.events import Fact, decode_event
from ironflow_nb.core.fold import fold
from ironflow_nb.core.ids import RunId
from ironflow_nb.journal.ports import Select

N_EVENTS: Final = 10_000
N_COPIES: Final = 499

_COPY_EVENTS: Final = """
INSERT INTO events (run_id, version, at, type, step, attempt, data)
SELECT :copy, version, at, type, step, attempt, data FROM events WHERE run_id = :run
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
            Fact(row.version, row.at, decode_event(row.type, row.data), row.step, row.attempt)
            for row in events[:N_EVENTS]
        ]
        state = fold(RunId(run.id), facts)
        spent = time.perf_counter() - begun
    assert len(state.steps) == N_EVENTS // 2
    return {"state after 10,000 events": spent}
