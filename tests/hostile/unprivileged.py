"""Read and write a journal as a user without rights: ``python -m tests.hostile.unprivileged PATH``; told as JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable

import ironflow_nb as iron
from ironflow_nb import flow, step

NOBODY = 65534


@step
def work(n: int) -> bytes:
    return b"x" * n


@flow
def main(n: int) -> int:
    return len(work(n))


def told(ask: Callable[[], object]) -> object:
    try:
        return ask()
    except Exception as error:
        return {"kind": type(error).__name__, "text": str(error)}


def read() -> object:
    return {"statuses": iron.runs()["status"].tolist(), "steps": len(iron.steps()), "events": len(iron.events())}


def use(path: str) -> dict[str, object]:
    found: dict[str, object] = {}
    with iron.open(path):
        found["read"] = told(read)
        found["write"] = told(lambda: main(10))
        found["write a file"] = told(lambda: main(100_000))
        found["read again"] = told(read)
    with iron.open(path, read_only=True):
        found["read only"] = told(read)
    return found


if __name__ == "__main__":
    use(":memory:")  # loads every module, for what lies in root's home can't be loaded afterwards
    import sqlite3  # noqa: F401

    import ironflow_nb.journal.sqlite_journal

    assert ironflow_nb.journal.sqlite_journal
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    sys.stdout.write(json.dumps(use(sys.argv[1])))
