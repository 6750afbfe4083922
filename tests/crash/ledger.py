"""Reading what the program noted."""

from __future__ import annotations

from pathlib import Path


def check(ledger: Path) -> None:
    """Assert that no body began after the flow had got its result."""
    acknowledged: set[str] = set()
    n_starts = 0
    for line in ledger.read_text().splitlines():
        kind, _, name = line.partition(" ")
        if kind == "ack":
            acknowledged.add(name)
        elif kind == "start":
            n_starts += 1
            assert name not in acknowledged, f"{name} ran again after it was acknowledged"
    assert n_starts >= len(acknowledged) > 0
