"""Flows whose runs have all that a run can consist of, and a look at what a journal file has of them."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import ironflow_nb as iron
from ironflow_nb import flow, step

TABLES = ("runs", "steps", "work", "signals", "signal_ids", "logs", "metrics", "progress")


@step
def large(n: int) -> bytes:
    """Of 100 kB, so it lies in a file."""
    return bytes([n % 256]) * 100_000


@step
def middle(n: int) -> str:
    return f"{n} " * 2000


@step(cache=True)
def shared(n: int) -> str:
    return f"{n} " * 3000


@step
def used(text: str) -> int:
    """Whose argument is a value of its own."""
    sys.stdout.write(f"{len(text)}\n")
    iron.metric("length", len(text))
    return len(text)


@flow
def child(n: int) -> int:
    return len(middle(n))


@flow
def whole(n: int) -> int:
    sizes = [used(middle(n)), len(large(n)), len(shared(n % 2)), child(n)]
    return sum([*sizes, *used.map([middle(n + 1), "short"])])


@step
async def middle_too(n: int) -> str:
    return f"{n} " * 2000


@flow
async def child_too(n: int) -> int:
    return len(await middle_too(n))


@flow
async def whole_too(n: int) -> int:
    texts = await iron.aio.gather(middle_too(n), middle_too(n + 1))
    return len(large(n)) + len(texts) + used(texts[0]) + await child_too(n)


WHOLE: dict[str, Any] = {"def": whole, "async": whole_too}


def call(of: Any, n: int) -> iron.Run[Any]:
    run: iron.Run[Any] = of.start(n)
    run.result(timeout_s=60)
    return run


def rows(path: Path) -> dict[str, int]:
    """Return the number of rows of each table that has rows of runs."""
    with closing(sqlite3.connect(path)) as connection:
        return {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES}


def values_of(path: Path) -> set[bytes]:
    """Return the ids of the values that have a row, without signatures."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT value_id FROM \"values\" WHERE codec NOT LIKE 'signed %'")
        return {value_id for (value_id,) in found}


def files_of(path: Path) -> set[str]:
    return {file.name for file in (path.parent / "values").rglob("*") if file.is_file()}


def everything() -> dict[str, Any]:
    """Return the recorded values of all steps that are readable; a missing one would raise."""
    found: dict[str, Any] = {}
    for run_id in iron.runs()["run_id"]:
        run = iron.get_run(run_id)
        for ref, reason in run.steps().query("status == 'completed'")[["step", "reason"]].itertuples(index=False):
            found[f"{run_id} {ref}"] = run.value(ref)
            if reason != "reused":  # whose arguments nobody has recorded
                found[f"{run_id} {ref} inputs"] = run.inputs(ref)
    return found
