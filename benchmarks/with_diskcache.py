"""The workloads on DiskCache: results of a function by its arguments in SQLite, which a power cut may take away."""

# mypy: disable-error-code="import-not-found, untyped-decorator, no-any-return"
from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from diskcache import Cache

from benchmarks.samples import Figures

N_STEPS: Final = 1000
N_AT_ONCE: Final = 10
_TEXT: Final = "x" * 180


def _remembered(folder: Path) -> Callable[[int], Any]:
    @Cache(str(folder)).memoize(name="work")
    def work(n: int) -> dict[str, Any]:
        """Return some 200 bytes."""
        return {"n": n, "text": _TEXT}

    return work


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) / N_STEPS


def peer_diskcache(folder: Path) -> Figures:
    """Measure calls one after the other, ten at once, and answered by a new cache on the same folder."""

    def calls(work: Callable[[int], Any]) -> int:
        return sum(work(n)["n"] for n in range(N_STEPS))

    def beside(work: Callable[[int], Any]) -> int:
        with ThreadPoolExecutor(N_AT_ONCE) as pool:
            return sum(found["n"] for found in pool.map(work, range(N_STEPS)))

    return {
        "diskcache: step": _timed(lambda: calls(_remembered(folder / "sequential"))),
        "diskcache: beside": _timed(lambda: beside(_remembered(folder / "beside"))),
        "diskcache: replayed": _timed(lambda: calls(_remembered(folder / "sequential"))),
    }
