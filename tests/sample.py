"""Which cases of each test function the fast loop runs."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable


def sampled(node_ids: Iterable[str], n_most: int, seed: int) -> set[str]:
    """Return at most so many cases of each function. Which, depends on its cases and the seed, and on nothing else."""
    cases: dict[str, list[str]] = {}
    for each in node_ids:
        cases.setdefault(each.partition("[")[0], []).append(each)

    def draw(node_id: str) -> bytes:
        return hashlib.sha256(f"{seed} {node_id}".encode("utf-8", "backslashreplace")).digest()

    return {chosen for each in cases.values() for chosen in heapq.nsmallest(n_most, each, key=draw)}
