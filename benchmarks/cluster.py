"""A cluster of Dask on this machine: ``python -m benchmarks.cluster [--write docs/executors.md]``.

A sweep of many runs, each of one step that a worker performs, beside the same bodies in `client.map` of Dask alone. And
a step that gets a large frame, the result of another one, and returns one: what goes through the scheduler, and how
long it takes, without a place for values and with one.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, Final

import distributed
import numpy as np
import pandas as pd

import ironflow_nb as iron
from benchmarks.machine import machine
from benchmarks.run import publish, tell
from ironflow_nb import flow, step

N_WORKERS: Final = 2
N_ROWS: Final = 6_250_000
"""Of a frame of 100 MB."""


def body(n: int) -> int:
    """Do next to nothing, so that what is measured is all else."""
    return n * n


@step
def work(n: int) -> int:
    """Do that as a step."""
    return body(n)


@flow
def trial(n: int) -> int:
    """Be one run of the sweep."""
    return work(n)


@step
def load() -> pd.DataFrame:
    """Return a large frame that can't be compressed."""
    return pd.DataFrame({"a": np.random.default_rng(1).random(N_ROWS), "b": np.random.default_rng(2).random(N_ROWS)})


@step
def change(frame: pd.DataFrame) -> pd.DataFrame:
    """Return another one."""
    return frame + 1


class Weighing(Executor):
    """Counts the bytes that go to an executor and come back."""

    def __init__(self, inner: Executor) -> None:
        self._inner = inner
        self.n_bytes = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Submit it."""
        self.n_bytes += len(fn.content)
        future = self._inner.submit(fn, *args, **kwargs)
        future.add_done_callback(self._weigh)
        return future

    def _weigh(self, future: Future[Any]) -> None:
        self.n_bytes += len(future.result())


def sweep_s(client: Any, n: int, folder: str) -> tuple[float, float]:
    """Return the seconds of the sweep, and of Dask alone."""
    began = time.perf_counter()
    found = client.gather(client.map(body, range(n)))
    alone_s = time.perf_counter() - began
    with iron.open(Path(folder) / "sweep.db") as engine:
        began = time.perf_counter()
        sweep = trial.options(executor=client.get_executor()).sweep([{"n": each} for each in range(n)], concurrency=64)
        sweep.wait()
        took_s = time.perf_counter() - began
        assert list(sweep.frame()["result"]) == found
        engine.close()
    return took_s, alone_s


def frame_through(client: Any, folder: str, values: str | None) -> tuple[float, int]:
    """Return the seconds of a step that gets and returns a large frame, and the bytes that travelled for it."""
    with iron.open(Path(folder) / f"frames {values is None}.db", values=values) as engine:
        weighing = Weighing(client.get_executor())
        taken: list[float] = []

        def main() -> int:
            frame = load()
            began = time.perf_counter()
            there = change.options(executor=weighing)(frame)
            taken.append(time.perf_counter() - began)
            return len(there)

        assert flow(main, name="main")() == N_ROWS
        engine.close()
    return taken[0], weighing.n_bytes


def main() -> None:
    """Measure, and print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000, help="of the sweep (10,000)")
    parser.add_argument("--write", metavar="PAGE", type=Path, nargs="+", default=(), help="put it into these pages")
    given = parser.parse_args()
    options = {"n_workers": N_WORKERS, "threads_per_worker": 1, "dashboard_address": None}
    with (
        tempfile.TemporaryDirectory() as folder,
        distributed.LocalCluster(**options) as cluster,
        distributed.Client(cluster) as client,
    ):
        tell("frames")
        sent_s, n_sent = frame_through(client, folder, None)
        placed_s, n_placed = frame_through(client, folder, f"{folder}/values")
        tell("the sweep")
        took_s, alone_s = sweep_s(client, given.runs, folder)
        text = "\n".join(
            [
                "| on two workers of Dask | seconds | through the scheduler |",
                "| --- | --: | --: |",
                f"| {given.runs:,} bodies that do nothing, `client.map` alone | {alone_s:.1f} | |",
                f"| a sweep of as many runs, each with such a step | {took_s:.1f} | |",
                f"| a step that gets 100 MB and returns 100 MB | {sent_s:.1f} | {n_sent:,} bytes |",
                f"| the same, with `values=` a folder that the workers reach | {placed_s:.1f} | {n_placed:,} bytes |",
            ]
        )
        about = f"Dask {distributed.__version__}; {machine(Path(folder))}; one repetition."
    publish("cluster", f"{text}\n\n{about}", given.write)


if __name__ == "__main__":
    main()
