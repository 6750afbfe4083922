"""Reading what the program noted, and what the journal has of it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

import ironflow_nb as iron


def check(ledger: Path) -> None:
    """Assert that no body began after the flow had got its result, none acted on two keys, no interrupt was stale."""
    acknowledged: set[str] = set()
    keys: dict[str, str] = {}
    n_starts = 0
    for line in ledger.read_text().splitlines():
        kind, _, name = line.partition(" ")
        assert kind != "stale", "an interrupt ended a cell in which none had come"
        if kind == "ack":
            acknowledged.add(name)
        elif kind == "key":
            name, _, key = name.partition(" ")
            assert keys.setdefault(name, key) == key, f"{name} was begun with two keys"
        elif kind == "start":
            n_starts += 1
            assert name not in acknowledged, f"{name} ran again after it was acknowledged"
    assert n_starts >= len(acknowledged) > 0


def check_attempts() -> pd.DataFrame:
    """Assert that no step has an attempt after one that was committed, and none was recorded twice; return them all."""
    attempts = iron.attempts()
    completed = attempts[attempts["status"] == "completed"]
    later = attempts.merge(completed, on=["run_id", "step"], suffixes=("", "_done"))
    again = later[later["attempt"] > later["attempt_done"]]
    assert again.empty, f"committed, and begun again:\n{again[['run_id', 'step', 'attempt', 'status']]}"
    assert not completed.duplicated(["run_id", "step"]).any()
    return attempts
