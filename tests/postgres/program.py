"""Flows for workers that are killed, frozen and cut off. Their bodies and flows note what they do in a ledger."""

from __future__ import annotations

import os
import time

import ironflow_nb as iron
from ironflow_nb import flow, step

N_STEPS = 12


def note(*words: object) -> None:
    """Append a line to the ledger; see `tests.crash.program`."""
    descriptor = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(descriptor, (" ".join(map(str, words)) + "\n").encode())
    finally:
        os.close(descriptor)


def acknowledged(word: str, n: int, value: int) -> int:
    note("ack", f"{word}-{n}")
    return value


@step
def work(word: str, n: int) -> int:
    note("start", f"{word}-{n}")
    time.sleep((n * 7919 % 41) ** 2 / 40_000)
    return n


@flow
def chain(word: str) -> int:
    return sum(acknowledged(word, n, work(word, n)) for n in range(N_STEPS))


@flow
def fan(word: str) -> int:
    first = sum(acknowledged(word, n, value) for n, value in enumerate(work.map([word] * 6, range(6), concurrency=3)))
    iron.sleep(0.3)
    return first + sum(acknowledged(word, n, work(word, n)) for n in range(6, N_STEPS))


@flow
def asked(word: str) -> int:
    first = acknowledged(word, 0, work(word, 0))
    answer: int = iron.wait_for("go")
    return first + sum(acknowledged(word, n, work(word, n)) for n in range(1, N_STEPS)) + answer


FLOWS = (chain, fan, asked)
RESULT = sum(range(N_STEPS))
