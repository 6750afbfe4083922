"""Processes of the tests: ``python -m tests.dynamodb.program URL MARKS WHAT``; a line of MARKS is a body that ran."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.errors import IronflowError

MARKS = Path(sys.argv[2]) if len(sys.argv) > 2 else Path("marks")


def mark(what: str) -> None:
    with MARKS.open("a") as file:
        file.write(f"{what}\n")


@step
def work(n: int) -> int:
    mark(f"work {n}")
    return n


@step
def stall(n: int) -> int:
    """Stand still as long as the process lives."""
    mark(f"stall {n}")
    if sys.argv[3] == "begin":
        time.sleep(600)
    return n


@flow
def main() -> int:
    return work(1) + work(2) + stall(3)


def act(what: str) -> None:
    if what == "begin":
        main()
    else:
        run = iron.get_run(iron.runs()["run_id"][0])
        mark(f"ready {what}")
        while not Path(f"{MARKS}.go").exists():
            time.sleep(0.001)
        try:
            mark(f"result {run.resume().result()}")
        except IronflowError as error:
            mark(type(error).__name__)


if __name__ == "__main__":
    with iron.open(sys.argv[1]):
        act(sys.argv[3])
