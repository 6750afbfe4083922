"""A script with flows of every kind, to be killed and interrupted at random moments.

Bodies and flows append to a ledger file: ``start <step>`` when a body begins, ``ack <step>`` when the flow has got its
result, ``key <step> <key>`` with what a body was given to act on. A step that starts after it was acknowledged has run
twice, and so has one with two keys. Bodies take from no time to 20 ms, so that some end while a run is continued.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import sys
import time
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import ironflow_nb as iron
from ironflow_nb import flow, gather, step
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.journal import write_ahead_log
from ironflow_nb.journal.ports import Durability
from ironflow_nb.journal.sqlite_journal import SqliteJournal

write_ahead_log.CHANGES_BETWEEN = 30  # so that many a death falls into the writing back of the log
N_STEPS = int(os.environ.get("N_STEPS", "60"))
LEDGER = Path(os.environ["LEDGER"])
WORD = os.environ.get("WORD", "")
N_BRANCHES = 4


def note(*words: object) -> None:
    descriptor = os.open(LEDGER, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(descriptor, (" ".join(map(str, words)) + "\n").encode())
    finally:
        os.close(descriptor)


def duration_s(n: int) -> float:
    return (n * 7919 % 41) ** 2 / 80_000


@step
def work(word: str, n: int) -> dict[str, int]:
    note("start", f"{word}-work-{n}")
    time.sleep(duration_s(n))
    return {"n": n}


@step
async def async_work(word: str, n: int) -> int:
    note("start", f"{word}-async-{n}")
    await asyncio.sleep(duration_s(n))
    return n


@step
def pay(word: str, n: int, key: object) -> int:
    note("start", f"{word}-pay-{n}")
    note("key", f"{word}-pay-{n}", key)
    time.sleep(duration_s(n))
    return n


def acknowledged(word: str, n: int, value: int, what: str = "work") -> int:
    note("ack", f"{word}-{what}-{n}")
    return value


def worked(word: str, n: int) -> int:
    return acknowledged(word, n, work(word, n)["n"])


@flow
def sequential(word: str) -> int:
    return sum(worked(word, n) for n in range(N_STEPS))


@flow
def mapped(word: str) -> int:
    results = work.map([word] * N_STEPS, range(N_STEPS), concurrency=4)
    return sum(acknowledged(word, n, result["n"]) for n, result in enumerate(results))


@flow
def submitted(word: str) -> int:
    futures = [work.submit(word, n) for n in range(N_STEPS)]
    return sum(acknowledged(word, n, future.result()["n"]) for n, future in enumerate(futures))


def part(word: str, place: int) -> int:
    return sum(worked(word, n) for n in range(place, N_STEPS, N_BRANCHES))


@flow
def branched(word: str) -> int:
    return sum(gather(*(partial(part, word, place) for place in range(N_BRANCHES))))


@flow
def child(word: str, place: int) -> int:
    return part(word, place)


@flow
def children(word: str) -> int:
    beside = gather(*(partial(child, word, place) for place in range(N_BRANCHES - 1)))
    return sum(beside) + child(word, N_BRANCHES - 1)


@flow
def keyed(word: str) -> int:
    total = 0
    for n in range(N_STEPS):
        total += acknowledged(word, n, pay(word, n, iron.uuid4()), "pay")
    return total


@flow
async def gathered(word: str) -> int:
    async def one(n: int) -> int:
        return acknowledged(word, n, await async_work(word, n), "async")

    total = 0
    for start in range(0, N_STEPS, 10):
        total += sum(await asyncio.gather(*[one(n) for n in range(start, min(start + 10, N_STEPS))]))
    return total


@flow
async def async_mapped(word: str) -> int:
    half = N_STEPS // 2
    futures = [work.submit(word, n) for n in range(half, N_STEPS)]
    total = 0
    for n, value in enumerate(await async_work.map([word] * half, range(half), concurrency=4)):
        total += acknowledged(word, n, value, "async")
    for n, future in enumerate(futures, half):
        total += acknowledged(word, n, (await future)["n"])
    return total


def graph_work(word: str, n: int) -> int:
    note("start", f"{word}-work-{n}")
    time.sleep(duration_s(n))
    return n


def graph_seen(word: str, n: int) -> int:
    return acknowledged(word, n, n)


graph = iron.Graph.from_dict(
    {
        "graph": "graphed",
        "allow": True,
        "nodes": [
            {
                "id": "each",
                "loop": list(range(N_STEPS)),
                "concurrency": 4,
                "do": [
                    {"id": "a", "python": "graph_work", "with": {"word": "{{ input.word }}", "n": "{{ item }}"}},
                    {"id": "b", "python": "graph_seen", "with": {"word": "{{ input.word }}", "n": "{{ a }}"}},
                ],
            }
        ],
        "output": "{{ sum(each[].b) }}",
    },
    functions={"graph_work": graph_work, "graph_seen": graph_seen},
)


def graphed(word: str) -> Any:
    return graph(word=word)


CALLS: dict[str, Any] = {
    **{
        # A run that is interrupted may still complete: then the cell that is executed again takes its result.
        each.name: each.options(on_rerun="reuse")
        for each in (sequential, mapped, submitted, branched, children, keyed, gathered, async_mapped)
    },
    "graphed": graphed,
}
FLOWS: dict[str, Any] = CALLS | {"graphed": graph}
EXPECTED = sum(range(N_STEPS))


def is_async(name: str) -> bool:
    return inspect.iscoroutinefunction(getattr(CALLS[name], "fn", None))


def main() -> None:
    """Run one flow to its end: ``program.py FLOW DURABILITY JOURNAL``."""
    name, durability, path = sys.argv[1:4]
    iron.use(path, durability=durability)
    result = asyncio.run(CALLS[name](WORD)) if is_async(name) else CALLS[name](WORD)
    assert result == EXPECTED, result
    sys.stdout.write(f"completed {FLOWS[name].last.id}\n")


class Keyboard:
    """The user's own SIGINT handler: an interrupt outside of the cell is nobody's business.

    It ends a cell once. In an async cell it cancels the task, as a kernel does, or is raised in the loop. The bytes
    that Python writes when a signal comes, whoever handles it, tell whether one came in this cell or in an earlier one.
    """

    def __init__(self) -> None:
        self.is_in_cell = False
        self.task: asyncio.Task[Any] | None = None
        self.n_cells = 0
        self._heard, heard = os.pipe()
        for end in (self._heard, heard):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(heard, warn_on_full_buffer=False)
        signal.signal(signal.SIGINT, self.handle)

    def handle(self, *_: object) -> None:
        if self.is_in_cell:
            self.is_in_cell = False
            if self.task is None:
                raise KeyboardInterrupt
            self.task.cancel()

    def n_heard(self) -> int:
        """Return how many interrupts came since it was asked last."""
        with suppress(BlockingIOError):
            return len(os.read(self._heard, 1 << 16))
        return 0

    async def awaited(self, call: Any, word: str) -> Any:
        self.task = asyncio.current_task() if self.n_cells % 2 else None
        return await call(word)

    def execute(self, name: str, word: str) -> bool:
        """Execute a cell that calls the flow; tell whether it was interrupted."""
        self.n_cells += 1
        self.n_heard()
        try:
            self.is_in_cell = True
            call = CALLS[name]
            result = asyncio.run(self.awaited(call, word)) if is_async(name) else call(word)
            self.is_in_cell = False
        except (KeyboardInterrupt, asyncio.CancelledError):
            self.task = None
            if not self.n_heard():
                note("stale", name)
            return True
        self.task = None
        assert result == EXPECTED, result
        return False

    def completed(self, name: str, n_run: int) -> int:
        """Call the flow, as a cell that is run again and again, until its run has completed; count the interrupts."""
        n_seen = 0
        # An interrupt may also come after the last commit and before the cell has its value.
        while len(iron.runs(FLOWS[name], status="completed")) <= n_run:
            n_seen += self.execute(name, f"run{n_run}")
        return n_seen


def interrupted(n_interrupts: int) -> None:
    """Run flows again and again, each until it completes, through so many interrupts: a notebook in one process."""
    name, durability, path = sys.argv[2:5]
    cells = count()
    engine = Engine(
        SqliteJournal(Path(path)), durability=Durability(durability), execution=lambda: f"{os.getpid()} {next(cells)}"
    )
    REGISTRY.use(REGISTRY.adopt(engine))
    keyboard = Keyboard()
    n_seen = 0
    for n_run in count():
        n_seen += keyboard.completed(name, n_run)
        if n_seen >= n_interrupts:
            break
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    note("end", n_seen, n_run + 1)


if __name__ == "__main__":
    if sys.argv[1] == "interrupted":
        interrupted(int(os.environ["N_INTERRUPTS"]))
    else:
        main()
