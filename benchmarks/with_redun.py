"""The workloads on redun: tasks on its local executor with threads, and its SQLite backend."""

# mypy: disable-error-code="untyped-decorator, no-any-return"
from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any, Final

from redun import Scheduler, task
from redun.config import Config

from benchmarks.samples import Figures, Sample

N_STEPS: Final = 100
N_AT_ONCE: Final = 10
_TEXT: Final = "x" * 180


@task(namespace="bench")
def work(n: int, before: Sample | None = None) -> Sample:  # noqa: ARG001 -- what a step waits for
    """Return some 200 bytes."""
    return {"n": n, "text": _TEXT}


@task(namespace="bench")
def sequential(n_steps: int) -> Any:
    """Call a task so many times, each after the one before."""
    last = work(0)
    for n in range(1, n_steps):
        last = work(n, last)
    return last


@task(namespace="bench")
def beside(first: int, n_steps: int) -> Any:
    """Call a task so many times, independently."""
    return [work(n) for n in range(first, first + n_steps)]


def _scheduler(folder: Path) -> Scheduler:
    settings = {
        "backend": {"db_uri": f"sqlite:///{folder / 'redun.db'}"},
        "executors.default": {"type": "local", "mode": "thread", "max_workers": N_AT_ONCE},
    }
    scheduler = Scheduler(config=Config(settings))
    scheduler.load()
    return scheduler


def _timed(scheduler: Scheduler, expression: Any) -> float:
    begun = time.perf_counter()
    scheduler.run(expression)
    return (time.perf_counter() - begun) / N_STEPS


def peer_redun(folder: Path) -> Figures:
    """Measure tasks one after the other, ten at once, and tasks that are answered from the cache."""
    logging.getLogger("redun").setLevel(logging.ERROR)
    scheduler = _scheduler(folder)
    scheduler.run(sequential(3))
    step = _timed(scheduler, sequential(N_STEPS))
    spent = _timed(scheduler, beside(1000, N_STEPS))
    replayed = _timed(_scheduler(folder), sequential(N_STEPS))
    return {"redun: step": step, "redun: beside": spent, "redun: replayed": replayed}
