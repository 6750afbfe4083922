"""A script with a sequential, a mapped and an async flow, to be killed and interrupted at random moments.

Bodies and flows append to a ledger file: ``start <step>`` when a body begins, ``ack <step>`` when the flow has got its
result. A step that starts after it was acknowledged has run twice.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from itertools import count
from pathlib import Path

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.home import HOME
from ironflow_nb.journal import sqlite_log
from ironflow_nb.journal.ports import Durability
from ironflow_nb.journal.sqlite import SqliteJournal

sqlite_log.CHANGES_BETWEEN = 30  # so that many a death falls into the writing back of the log
N_STEPS = int(os.environ.get("N_STEPS", "60"))
LEDGER = Path(os.environ["LEDGER"])
WORD = os.environ.get("WORD", "")


def note(*words: object) -> None:
    descriptor = os.open(LEDGER, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(descriptor, (" ".join(map(str, words)) + "\n").encode())
    finally:
        os.close(descriptor)


@step
def work(word: str, n: int) -> dict[str, int]:
    note("start", f"{word}-work-{n}")
    time.sleep(0.001)
    return {"n": n}


@step
async def async_work(word: str, n: int) -> int:
    note("start", f"{word}-async-{n}")
    await asyncio.sleep(0.001)
    return n


@flow
def sequential(word: str) -> int:
    total = 0
    for n in range(N_STEPS):
        total += work(word, n)["n"]
        note("ack", f"{word}-work-{n}")
    return total


@flow
def mapped(word: str) -> int:
    total = 0
    for n, result in enumerate(work.map([word] * N_STEPS, range(N_STEPS), concurrency=4)):
        total += result["n"]
        note("ack", f"{word}-work-{n}")
    return total


@flow
async def gathered(word: str) -> int:
    async def one(n: int) -> int:
        value = await async_work(word, n)
        note("ack", f"{word}-async-{n}")
        return value

    total = 0
    for start in range(0, N_STEPS, 10):
        total += sum(await asyncio.gather(*[one(n) for n in range(start, min(start + 10, N_STEPS))]))
    return total


FLOWS = {flow.name: flow for flow in (sequential, mapped, gathered)}
EXPECTED = sum(range(N_STEPS))


def main() -> None:
    """Run one flow to its end: ``program.py FLOW DURABILITY JOURNAL``."""
    name, durability, path = sys.argv[1:4]
    iron.use(path, durability=durability)
    chosen = FLOWS[name]
    result = asyncio.run(chosen(WORD)) if chosen is gathered else chosen(WORD)
    assert result == EXPECTED, result
    sys.stdout.write(f"completed {chosen.last.id}\n")


class Keyboard:
    """The user's own SIGINT handler: an interrupt outside of the cell is nobody's business."""

    def __init__(self) -> None:
        self.is_in_cell = False
        signal.signal(signal.SIGINT, self.handle)

    def handle(self, *_: object) -> None:
        if self.is_in_cell:
            raise KeyboardInterrupt

    def completed(self, flow: iron.Flow, n_run: int) -> int:
        """Call the flow, as a cell that is run again and again, until its run has completed; count the interrupts."""
        n_seen = 0
        # An interrupt may also come after the last commit and before the cell has its value.
        while len(iron.runs(flow, status="completed")) <= n_run:
            try:
                self.is_in_cell = True
                assert flow(f"run{n_run}") == EXPECTED
                self.is_in_cell = False
            except KeyboardInterrupt:
                self.is_in_cell = False
                n_seen += 1
        return n_seen


def interrupted(n_interrupts: int) -> None:
    """Run flows again and again, each until it completes, through so many interrupts: a notebook in one process."""
    name, durability, path = sys.argv[2:5]
    cells = count()
    engine = Engine(
        SqliteJournal(Path(path)), durability=Durability(durability), execution=lambda: f"{os.getpid()} {next(cells)}"
    )
    HOME.use(HOME.adopt(engine))
    keyboard = Keyboard()
    n_seen = 0
    for n_run in count():
        n_seen += keyboard.completed(FLOWS[name], n_run)
        if n_seen >= n_interrupts:
            break
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    note("end", n_seen, n_run + 1)


if __name__ == "__main__":
    if sys.argv[1] == "interrupted":
        interrupted(int(os.environ["N_INTERRUPTS"]))
    else:
        main()
