"""A process that runs flows in a lane, and writes into a file when its bodies come and go."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import ironflow_nb as iron
from ironflow_nb import flow, step

LANE = iron.Lane("two", limit=2)


def note(what: str, n: int) -> None:
    with Path("log").open("a") as log:
        log.write(f"{what} {n} {os.getpid()} {time.monotonic_ns()}\n")


@step(lane=LANE)
def work(n: int) -> int:
    note("begin", n)
    time.sleep(0.03)
    note("end", n)
    return n


@flow
def main(first: int) -> list[int]:
    return list(work.map(range(first, first + 8), concurrency=4))


if __name__ == "__main__":
    iron.use("journal.db", durability="process")
    first = int(sys.argv[1])
    sys.stdout.write(f"{main.options(key=f'from {first}')(first)}\n")
