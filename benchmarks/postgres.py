"""Many workers on one PostgreSQL: ``python -m benchmarks.postgres [--write docs/postgresql.md]``.

Each worker is a process that calls the steps of a run one after the other; each is committed durably before the next
one begins. Beside it stand plain rows, each of which is a commit, and DBOS on the same server, if it is installed. The
server runs on this machine, on a socket, with the settings that PostgreSQL has when it is installed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import ironflow_nb as iron
from benchmarks.machine import machine
from benchmarks.run import publish, tell
from tests.postgres.server import Server, running_server

N_WORKERS: Final = (1, 4, 16)
N_STEPS: Final = 200
N_SIGNALS: Final = 20
PAUSE_S: Final = 0.3
"""So long after a signal the next one is sent."""
_SETTINGS: Final = ("listen_addresses=", "max_connections=200", "log_min_messages=error")
_ROOT: Final = Path(__file__).parent.parent


class Worker:
    """A process of `benchmarks.postgres_worker`, which is ready."""

    def __init__(self, kind: str, url: str, number: int) -> None:
        command = [sys.executable, "-m", "benchmarks.postgres_worker", kind, url, str(number)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=_ROOT
        )
        self._kind = kind

    def wait_until_ready(self) -> None:
        """Wait until it can begin."""
        self._line()

    def begin(self) -> None:
        """Have it begin."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def found(self) -> dict[str, Any]:
        """Return what it has measured."""
        measured: dict[str, Any] = json.loads(self._line())
        return measured

    def _line(self) -> str:
        """Return the next line that it prints.

        Raises:
            RuntimeError: it has ended.
        """
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return line
        assert self._process.stderr is not None
        raise RuntimeError(f"a worker of {self._kind} failed:\n{self._process.stderr.read()}")

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def steps_a_second(kind: str, url: str, n_workers: int) -> float:
    """Return how many steps so many workers do in a second, all together."""
    with Worker(kind, url, 1) as first:  # which makes the tables
        first.wait_until_ready()
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(kind, url, N_STEPS)) for _ in range(n_workers)]
        for worker in workers:
            worker.wait_until_ready()
        for worker in workers:
            worker.begin()
        found = [worker.found() for worker in workers]
    took_s: float = max(each["ended"] for each in found) - min(each["begun"] for each in found)
    return n_workers * N_STEPS / took_s


def seconds_to_wake(url: str) -> list[float]:
    """Return the seconds from each signal to the step after the wait, which is in another process."""
    with Worker("signals", url, N_SIGNALS) as worker:
        worker.wait_until_ready()
        worker.begin()
        with iron.open(url):
            while not len(iron.runs("woken", status="waiting")):
                time.sleep(0.05)
            run, sent = iron.get_run(iron.runs("woken")["run_id"][0]), []
            for n in range(N_SIGNALS):
                time.sleep(PAUSE_S)
                sent.append(time.time())
                run.signal(f"go{n}")
            return [at - before for at, before in zip(worker.found()["found"], sent, strict=True)]


def seconds_to_wake_dbos(url: str) -> list[float]:
    """Return the same of DBOS."""
    from benchmarks import with_dbos

    with Worker("dbos_signals", url, N_SIGNALS) as worker:
        worker.wait_until_ready()
        worker.begin()
        sent = []
        for n in range(N_SIGNALS):
            time.sleep(PAUSE_S)
            sent.append(time.time())
            with_dbos.send(url, n)
        return [at - before for at, before in zip(worker.found()["found"], sent, strict=True)]


def table(server: Server, kinds: Sequence[str], n_repeat: int) -> str:
    """Return what was measured as a Markdown table."""
    heads = ["steps a second", *(f"{n} worker{'s' if n > 1 else ''}" for n in N_WORKERS)]
    lines = [f"| {' | '.join(heads)} |", f"| --- {'| --: ' * len(N_WORKERS)}|"]
    found: dict[tuple[str, int], list[float]] = {}
    for number in range(n_repeat):
        for n_workers in N_WORKERS:
            for kind in kinds:
                tell(f"{number + 1} of {n_repeat}: {n_workers} of {kind}")
                url = server.new_url() if kind == "ironflow_nb" else server.url()
                found.setdefault((kind, n_workers), []).append(steps_a_second(kind, url, n_workers))
    names = {"rows": "rows, each a commit", "ironflow_nb": f"ironflow_nb {version('ironflow-nb')}"}
    for kind in kinds:
        shown = [f"{statistics.median(found[kind, n]):,.0f}" for n in N_WORKERS]
        lines.append(f"| {names.get(kind) or f'{kind} {version(kind)}'} | {' | '.join(shown)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3, help="how often each is measured (3)")
    parser.add_argument("--write", metavar="PAGE", type=Path, nargs="+", default=(), help="put it into these pages")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="on which disk to measure")
    given = parser.parse_args()
    kinds = ["rows", "ironflow_nb", *(["dbos"] if find_spec("dbos") else [])]
    with running_server(_SETTINGS, given.folder) as server:
        [(number,)] = server.execute("SHOW server_version")
        text = table(server, kinds, given.repeat)
        waits = {"ironflow_nb": statistics.median(seconds_to_wake(server.new_url()))}
        if "dbos" in kinds:
            waits["DBOS"] = statistics.median(seconds_to_wake_dbos(server.url()))
    tell("")
    told = " and ".join(f"{seconds * 1000:.0f} ms ({name})" for name, seconds in waits.items())
    about = f"PostgreSQL {number}, on the machine of the workers: {machine(given.folder)}; medians of {given.repeat}."
    woken = f"From a signal to the step after the wait, in another process: {told}."
    publish("postgres", f"{text}\n\n{woken} {about}", given.write)


if __name__ == "__main__":
    main()
