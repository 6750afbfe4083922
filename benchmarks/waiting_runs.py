"""A journal with a million waiting runs: ``python -m benchmarks.waiting_runs [--write docs/sizes.md]``.

Three true runs wait: for a signal, for a time, for the answer of a person. The journal, a file or PostgreSQL on this
machine, is filled with copies of their rows; each is signed as a run of this user is. Then everything that looks at
such a journal is measured. With PostgreSQL it is also measured what more listening connections cost a commit.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import psycopg

import ironflow_nb as iron
from benchmarks.machine import machine
from benchmarks.run import publish, tell
from ironflow_nb import flow, step
from ironflow_nb.core.identity import RunId
from ironflow_nb.core.status import RunStatus
from ironflow_nb.execution import REGISTRY, Engine, RunWorker, missing_signatures
from ironflow_nb.execution.runs.waker import Waker
from ironflow_nb.journal.ports import RunCommit, Select
from ironflow_nb.notebook.unfinished_card import unfinished
from tests.postgres.server import Server, running_server

SIZES: Final = (1_000, 100_000, 1_000_000)
N_LISTENERS: Final = (0, 100, 300, 1000)
N_DUE: Final = 1000
N_COMMITS: Final = 200
_STEP_US: Final = 86_400_000_000 // 100_000
_FAR_US: Final = 4_000_000_000_000_000
_SETTINGS: Final = ("listen_addresses=", "max_connections=1100", "shared_buffers=512MB", "log_min_messages=error")
_TABLES: Final = ("runs", "steps", "events", "work")
_NUMBERED: Final = frozenset({"position", "work_id", "rowid", "step"})
"""Columns that a store fills itself; ``step`` is computed in the table of steps."""
_COPY: Final = """
WITH RECURSIVE copies(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM copies WHERE n < {n_copies})
INSERT INTO {table} ({columns}) SELECT {values} FROM copies CROSS JOIN {table} t WHERE t.run_id = {run} ORDER BY n
"""


@step
def charge(n: int) -> int:
    """Do something before the wait."""
    return n


@flow
def order(n: int) -> int:
    """Wait for a signal."""
    charge(n)
    iron.wait_for("paid")
    return charge(n + 1)


@flow
def reminder(n: int) -> int:
    """Wait for a time."""
    charge(n)
    iron.sleep("30d")
    return charge(n + 1)


@flow
def review(n: int) -> int:
    """Wait for a person."""
    charge(n)
    iron.approve(f"Is {n} right?")
    return charge(n + 1)


FLOWS: Final = {"order": order, "reminder": reminder, "review": review}


def _chosen(order: str, reminder: str, review: str) -> str:
    """Return which of three texts a copy has, in SQL: six tenths are orders, three reminders."""
    return f"CASE WHEN n % 10 < 6 THEN '{order}' WHEN n % 10 < 9 THEN '{reminder}' ELSE '{review}' END"


class Store:
    """The journal at an address, and a connection of its own to it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._is_file = not address.startswith("postgresql")

    @contextmanager
    def connection(self) -> Iterator[Any]:
        """Yield a connection that sees the tables; it commits in the end."""
        if self._is_file:
            with closing(sqlite3.connect(self.address)) as of_file, of_file:
                yield of_file
            return
        schema = self.address.rpartition("schema=")[2]
        with psycopg.connect(self.address.rpartition("&")[0]) as connection:
            connection.execute(f"SET search_path = {schema}")
            yield connection

    def fill(self, templates: Sequence[str], n_copies: int) -> None:
        """Put copies of three waiting runs beside them, mixed; their due times are spread over a day."""
        number = "printf('%011d', n)" if self._is_file else "lpad(CAST(n AS TEXT), 11, '0')"
        changed = {
            "run_id": f"{_chosen('d', 'm', 'v')} || {number}",
            "ordinal": "n",
            "due_at": f"CASE WHEN t.due_at < {_FAR_US} THEN t.due_at + CAST(n % 100000 AS BIGINT) * {_STEP_US} "
            "ELSE t.due_at END",
        }
        with self.connection() as connection:
            for table in _TABLES:
                names = [
                    name for name in self._columns(connection, table)
                    if name not in _NUMBERED or (name == "step" and table == "events")
                ]  # fmt: skip
                columns = [f'"{name}"' for name in names]
                values = [changed.get(name, f't."{name}"') for name in names]
                if table == "events" and not self._is_file:  # a position for each row would be asked one by one
                    columns.append("position")
                    values.append("row_number() OVER () + (SELECT max(position) FROM events)")
                connection.execute(
                    _COPY.format(
                        n_copies=n_copies, table=table, columns=", ".join(columns), values=", ".join(values),
                        run=_chosen(*templates),
                    )
                )  # fmt: skip

    def _columns(self, connection: Any, table: str) -> list[str]:
        return [each[0] for each in connection.execute(f"SELECT * FROM {table} LIMIT 0").description]

    def analyse(self) -> None:
        """Have the store know how many rows there are, as autovacuum does."""
        if not self._is_file:
            with self.connection() as connection:
                connection.execute("ANALYZE")

    def n_bytes(self) -> int:
        """Return the size of the journal."""
        if self._is_file:
            return os.path.getsize(self.address)  # noqa: PTH202 -- one call
        with self.connection() as connection:
            found: int = connection.execute("SELECT pg_database_size(current_database())").fetchone()[0]
            return found

    def make_due(self, n_runs: int | None = None) -> None:
        """Let the time of so many of the waits come, or of all."""
        first = f"SELECT run_id FROM work WHERE kind = 'sleep' ORDER BY run_id LIMIT {n_runs}"
        chosen = "" if n_runs is None else f" AND run_id IN ({first})"
        with self.connection() as connection:
            connection.execute(f"UPDATE work SET due_at = 1 WHERE kind = 'sleep'{chosen}")
            connection.execute(f"UPDATE steps SET due_at = 1 WHERE status = 'waiting' AND name = 'iron.sleep'{chosen}")


def begin(store: Store, n_runs: int) -> None:
    """Have one run of each flow wait, and copy it."""
    with iron.open(store.address, park_s=0.05):
        runs = {name: each.start(0) for name, each in FLOWS.items()}
        while len(iron.runs(status="waiting")) < len(runs) or REGISTRY.engine().sessions:
            time.sleep(0.02)
        REGISTRY.engine().close()
    store.fill([run.id for run in runs.values()], n_runs - len(runs))
    store.analyse()


def seconds(act: Callable[[], object], n_times: int = 3) -> float:
    """Return the median of the seconds that it takes."""
    found = []
    for _ in range(n_times):
        begun = time.perf_counter()
        act()
        found.append(time.perf_counter() - begun)
    return statistics.median(found)


@contextmanager
def undefined() -> Iterator[None]:
    """Let this process know none of the flows."""
    for each in FLOWS.values():
        REGISTRY.forget(each.kind, each.name)
    try:
        yield
    finally:
        for each in FLOWS.values():
            REGISTRY.define(each)


def looks(engine: Engine) -> dict[str, float]:
    """Measure the searches for runs that can go on, while none can."""
    found = {"first look of a process": seconds(lambda: Waker(engine).look(is_new=True), 1)}
    for name, kind in (("notebook", Waker), ("worker", RunWorker)):
        searching = kind(engine)
        searching.look(is_new=True)
        found[f"look of a {name} after a commit"] = seconds(partial(searching.look, is_new=True))
        with undefined():
            other = kind(engine)
            other.look(is_new=True)
            found[f"the same, without these flows ({name})"] = seconds(partial(other.look, is_new=True))
    return found


def views(engine: Engine) -> dict[str, float]:
    """Measure what a person asks for."""
    return {
        "a new run with a step": seconds(lambda: order.start(1), 3),
        "`iron.runs(limit=20)`": seconds(lambda: iron.runs(limit=20)),
        "`iron.runs(review, status='waiting', limit=20)`": seconds(
            lambda: iron.runs(review, status="waiting", limit=20)
        ),
        "`%load_ext ironflow_nb`": seconds(lambda: unfinished(engine), 1),
        "`iron.dashboard()`": seconds(lambda: iron.dashboard().view(), 1),
        "`iron.waiting()`, a question in ten runs": seconds(iron.waiting, 1),
    }


def sign(engine: Engine, n_runs: int) -> None:
    """Sign the runs that are to be woken, as those of this user are."""
    with engine.reading() as reader:
        ids = [f"{'d' if n % 10 < 6 else 'm'}{n:011}" for n in range(1, n_runs) if n % 10 < 9]
        missing = missing_signatures(engine.signer, reader, reader.runs(Select(run_ids=ids)))
    engine.access.append([RunCommit(run_id=RunId(""), events=(), values=tuple(missing))], engine.durability)


def until_completed(engine: Engine, n_runs: int, began_s: float) -> float:
    """Return the seconds since then in which so many runs were completed."""
    while True:
        with engine.reading() as reader:
            if len(reader.runs(Select(statuses=[RunStatus.COMPLETED]))) >= n_runs:
                return time.perf_counter() - began_s
        time.sleep(0.05)


def wakes(store: Store, n_runs: int) -> dict[str, float]:
    """Measure how soon runs go on: one that gets a signal, some that are due at once, the first of all that are due."""
    found, n_due = dict[str, float](), min(N_DUE, n_runs // 10)
    with iron.open(store.address, park_s=0.05) as engine:
        engine.wake_with(RunWorker, replaces=True)
        engine.watch()
        time.sleep(1)
        begun = time.perf_counter()
        iron.get_run("d00000000010").signal("paid")
        found["from a signal to the end of the run"] = until_completed(engine, 1, begun)
        store.make_due(n_due)
        begun = time.perf_counter()
        engine.watch()
        found["each of many runs that are due at once"] = until_completed(engine, n_due + 1, begun) / n_due
        store.make_due()
        begun = time.perf_counter()
        engine.watch()
        found["the first 100 when all sleeps are over"] = until_completed(engine, n_due + 101, begun)
    return found


def listeners(server: Server, address: str) -> dict[int, float]:
    """Return the seconds of a commit while so many other connections listen."""
    found: dict[int, float] = {}
    schema = address.rpartition("schema=")[2]
    with ExitStack() as stack, iron.open(address):
        others: list[psycopg.Connection[Any]] = []
        for n_listeners in N_LISTENERS:
            while len(others) < n_listeners:
                other = stack.enter_context(closing(psycopg.connect(server.url(), autocommit=True)))
                other.execute(f"LISTEN {schema}_commits")
                others.append(other)
            begun = time.perf_counter()
            commits(N_COMMITS)
            found[n_listeners] = (time.perf_counter() - begun) / N_COMMITS
    return found


@flow
def commits(n: int) -> None:
    """Record so many steps."""
    for number in range(n):
        charge(number)


def measured(store: Store, n_runs: int) -> dict[str, float]:
    """Fill the journal and measure it."""
    begun = time.perf_counter()
    begin(store, n_runs)
    found = {"filled in": time.perf_counter() - begun, "bytes a run": store.n_bytes() / n_runs}
    tell(f"{n_runs}: {found}")
    with iron.open(store.address) as engine:
        sign(engine, 10 * N_DUE)
    with iron.open(store.address) as engine:
        with engine.reading() as reader:
            assert len(reader.runs(Select(limit=n_runs))) == n_runs
        found |= looks(engine)
        tell(f"{n_runs}: {found}")
        found |= views(engine)
        tell(f"{n_runs}: {found}")
    found |= wakes(store, n_runs)
    tell(f"{n_runs}: {found}")
    return found


def shown(name: str, value: float) -> str:
    """Return seconds, or a number of bytes, as text."""
    if name.startswith("bytes"):
        return f"{value:,.0f}"
    return f"{value:,.1f} s" if value >= 1 else f"{value * 1000:.1f} ms" if value < 0.1 else f"{value * 1000:.0f} ms"


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    """Return the figures as a Markdown table, one column for each journal."""
    lines = [f"| | {' | '.join(found)} |", f"| --- {'| --: ' * len(found)}|"]
    for name in next(iter(found.values())):
        lines += [f"| {name} | {' | '.join(shown(name, each[name]) for each in found.values())} |"]
    return "\n".join(lines)


def main() -> None:
    """Measure, and print or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=SIZES, help="how many runs wait")
    parser.add_argument("--only", choices=["file", "server"], help="measure one of the two stores")
    parser.add_argument(
        "--write", metavar="PAGE", type=Path, nargs="+", default=[], help="put the tables into this page"
    )
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="on which disk to measure")
    given = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    about = machine(given.folder)
    heard: dict[int, float] = {}
    with tempfile.TemporaryDirectory(dir=given.folder) as folder, ExitStack() as stack:
        for n_runs in given.runs if given.only != "server" else ():
            found[f"a file, {n_runs:,}"] = measured(Store(f"{folder}/{n_runs}.db"), n_runs)
        if given.only != "file":
            server = stack.enter_context(running_server(_SETTINGS, given.folder))
            for n_runs in given.runs:
                found[f"PostgreSQL, {n_runs:,}"] = measured(Store(server.new_url()), n_runs)
            heard = listeners(server, server.new_url())
    lines = [table(found), ""]
    if heard:
        lines.append("Steps a second of one worker while other connections listen: ")
        lines[-1] += ", ".join(f"{n:,}: {1 / spent_s:,.0f}" for n, spent_s in heard.items()) + "."
    publish("waiting runs", "\n".join([*lines, "", f"{about}."]), given.write)


if __name__ == "__main__":
    main()
