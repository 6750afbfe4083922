"""The workloads on LangGraph: tasks of its functional interface with its SQLite saver, each written before the next."""

# mypy: disable-error-code="untyped-decorator, no-any-return"
from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.func import entrypoint, task

from benchmarks.samples import Figures, Sample

N_STEPS: Final = 1000
N_AT_ONCE: Final = 10
_TEXT: Final = "x" * 180

is_broken = True


@task
def work(n: int) -> Sample:
    """Return some 200 bytes."""
    return {"n": n, "text": _TEXT}


def _settings(thread: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": thread}, "max_concurrency": N_AT_ONCE}


def peer_langgraph(folder: Path) -> Figures:
    """Measure sequential tasks, ten at once, and tasks that a resumed run is answered from what is recorded."""
    global is_broken  # noqa: PLW0603
    with SqliteSaver.from_conn_string(str(folder / "langgraph.db")) as saver:

        @entrypoint(checkpointer=saver)
        def sequential(n_steps: int) -> int:
            total = sum(work(n).result()["n"] for n in range(n_steps))
            if is_broken and n_steps > 3:
                raise RuntimeError
            return total

        @entrypoint(checkpointer=saver)
        def beside(n_steps: int) -> int:
            return sum(found.result()["n"] for found in [work(n) for n in range(n_steps)])

        sequential.invoke(3, _settings("warm"), durability="sync")
        begun = time.perf_counter()
        try:
            sequential.invoke(N_STEPS, _settings("steps"), durability="sync")
        except RuntimeError:
            is_broken = False
        step = (time.perf_counter() - begun) / N_STEPS
        begun = time.perf_counter()
        sequential.invoke(None, _settings("steps"), durability="sync")
        replayed = (time.perf_counter() - begun) / N_STEPS
        begun = time.perf_counter()
        beside.invoke(N_STEPS, _settings("beside"), durability="sync")
        spent = (time.perf_counter() - begun) / N_STEPS
    return {"langgraph: step": step, "langgraph: beside": spent, "langgraph: replayed": replayed}
