"""Which cases of each test function are run: by the fast loop, by `make test`, and by `make proof`, which runs all."""

from __future__ import annotations

import hashlib
import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping

N_IN_MEMORY = 4
"""One in so many of the cases on a journal in memory is run, if the same one on a file is run: it has its own suite."""


def draw(node_id: str, seed: int) -> bytes:
    """Return where the case stands in the order of that seed."""
    return hashlib.sha256(f"{seed} {node_id}".encode("utf-8", "backslashreplace")).digest()


def sampled(node_ids: Iterable[str], n_most: int | Mapping[str, int], seed: int) -> set[str]:
    """Return at most so many cases of each function. Which, depends on its cases and the seed, and on nothing else.

    Of a mapping these are the functions that have a limit, and of the others all cases are returned.
    """
    cases: dict[str, list[str]] = defaultdict(list)
    for each in node_ids:
        cases[each.partition("[")[0]].append(each)

    def drawn(function: str, of: list[str]) -> list[str]:
        n = n_most if isinstance(n_most, int) else n_most.get(function, len(of))
        return heapq.nsmallest(n, of, key=lambda node_id: draw(node_id, seed))

    return {chosen for function, of in cases.items() for chosen in drawn(function, of)}


def without_repetitions(node_ids: Iterable[str], on_memory: set[str], seed: int) -> set[str]:
    """Return the cases without most of those that are run on a journal in a file and in memory, of the latter."""
    whole = {*node_ids}

    def is_repeated(node_id: str) -> bool:
        function, _, case = node_id.partition("[")
        on_file = f"{function}[{case.replace('memory', 'sqlite', 1)}"
        return on_file in whole and draw(node_id, seed)[0] % N_IN_MEMORY > 0

    return whole - {node_id for node_id in on_memory if is_repeated(node_id)}
