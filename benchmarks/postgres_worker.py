"""One of the workers of `benchmarks.postgres`: ``python -m benchmarks.postgres_worker KIND URL NUMBER``.

It says when it is ready, begins when a line comes, and prints what it has measured as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import psycopg

import ironflow_nb as iron
from benchmarks.steps import sequential
from ironflow_nb import flow, step

_TEXT: Final = "x" * 180

Work = Callable[[int], Any]


@step
def instant() -> float:
    """Return the time at which it is called."""
    return time.time()


def waited(n: int) -> float:
    """Wait for a signal; return when the run went on."""
    iron.wait_for(f"go{n}")
    return instant()


@flow
def woken(n_signals: int) -> list[float]:
    """Wait for so many signals, one after the other; return when the run went on after each."""
    return [waited(n) for n in range(n_signals)]


def rows(url: str) -> Work:
    """Return what writes rows, each in a commit of its own."""
    connection = psycopg.connect(url, autocommit=True)
    connection.execute("CREATE TABLE IF NOT EXISTS rows (id BIGINT GENERATED ALWAYS AS IDENTITY, text TEXT)")

    def write(n_rows: int) -> None:
        for _ in range(n_rows):
            connection.execute("INSERT INTO rows (text) VALUES (%s)", (_TEXT,))

    return write


def ironflow_nb(url: str) -> Work:
    """Return what calls steps of a run."""
    iron.use(url)
    return sequential.options(fresh=True)


def signals(url: str) -> Work:
    """Return what waits for signals."""
    iron.use(url)
    return woken.options(fresh=True)


def dbos(url: str) -> Work:
    """Return what calls steps of DBOS."""
    from benchmarks import with_dbos

    with_dbos.launch(url)
    return with_dbos.sequential


def dbos_signals(url: str) -> Work:
    """Return what waits for signals of DBOS."""
    from benchmarks import with_dbos

    with_dbos.launch(url)
    return with_dbos.woken


KINDS: Final[Mapping[str, Callable[[str], Work]]] = {
    each.__name__: each for each in (rows, ironflow_nb, signals, dbos, dbos_signals)
}


def main() -> None:
    """Prepare, wait, work."""
    kind, url, number = sys.argv[1:]
    work = KINDS[kind](url)
    if "signals" not in kind:
        work(3)
    print("ready", flush=True)
    sys.stdin.readline()
    begun = time.time()
    found = work(int(number))
    print(json.dumps({"begun": begun, "ended": time.time(), "found": found}), flush=True)


if __name__ == "__main__":
    main()
