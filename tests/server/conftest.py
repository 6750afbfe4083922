"""``ironflow-nb serve`` as a process of its own, and a client."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import ironflow_nb as iron
from ironflow_nb.access.access_keys import make_key
from tests.waits.conftest import LIMIT_S, until

JOB = """
from dataclasses import dataclass
from datetime import date
from pathlib import Path
import time
import ironflow_nb as iron
from ironflow_nb import flow, step

def note(text):
    with Path("bodies.txt").open("a") as file:
        file.write(f"{text}\\n")

@step
def work(n):
    note(f"work {n}")
    return n * n

@step
def gate(n):
    note(f"gate {n}")
    while not Path("open").exists():
        time.sleep(0.01)
    return n

@flow
def squares(n: int):
    "Square some numbers."
    return [work(each) for each in range(n)]

@flow
async def squares_async(n: int):
    return {"squares": (work(n), work(n + 1))}

@flow
def gated(n: int):
    return work(n), gate(n), work(n + 1)

@flow
def bad():
    raise LookupError("no such page")

class Odd(Exception):
    def __repr__(self):
        raise RuntimeError("no repr")

    __str__ = __repr__

@flow
def odd(is_raised: bool):
    if is_raised:
        raise Odd
    around = [Odd()]
    around.append(around)
    return around

@flow
def asks(question: str):
    return iron.approve(question)

@flow
def waits():
    return work(1), iron.wait_for("go"), work(2)

@dataclass
class Order:
    n: int
    at: date

@flow
def typed(order: Order, path: Path, some: "unknown" = None):
    return repr(order), repr(path)

@flow(on="order.placed")
def ordered(data):
    return work(data["n"])
"""
HOOKS = """
import os
import ironflow_nb as iron
from ironflow_nb import flow

SECRET = os.environ["SENDER"]

@flow(on="order.placed")
def ordered(data):
    return data["n"]

@flow
def plain(n: int):
    return n

hook = iron.webhook("orders", secret=SECRET, emit="order.placed")
iron.webhook("runs", secret=SECRET, flow=plain)
hook.deliver({"n": 1})
"""
GRAPH = "graph: shout\nnodes:\n  - id: loud\n    transform: '{{ upper(input.text) }}'\n"


class Service:
    """A folder with definitions and a journal, its server processes, and a client of the newest one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "job.py").write_text(JOB)
        (folder / "shout.yaml").write_text(GRAPH)
        left_out = {"IRONFLOW_DB", "IRONFLOW_TOKEN", "PYTEST_CURRENT_TEST"}
        self.environment = {name: value for name, value in os.environ.items() if name not in left_out}
        self.processes: list[subprocess.Popen[str]] = []
        self.client = httpx.Client()

    def begin(self, *words: str, files: tuple[str, ...] = ("job.py", "shout.yaml"), **environment: str) -> None:
        """Begin a server and wait until it answers."""
        command = [sys.executable, "-m", "ironflow_nb", "serve", *files, "--port", "0", *words]
        number = len(self.processes)
        with self._log(number).open("w") as log, self._output(number).open("w") as output:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self.environment | environment, stderr=log, stdout=output, text=True
            )
        self.processes.append(process)
        until(lambda: process.poll() is not None or re.search(" on https?://", self.said()) is not None)
        assert process.poll() is None, self.said()
        found = re.search(r" on (https?://\S+)", self.said())
        assert found is not None
        self.client.close()
        self.client = httpx.Client(base_url=found[1], timeout=LIMIT_S, verify=False)

    def _log(self, number: int) -> Path:
        return self.folder / f"server {number}.log"

    def _output(self, number: int) -> Path:
        return self.folder / f"server {number}.out"

    def printed(self) -> str:
        return self._output(len(self.processes) - 1).read_text()

    def command(self, *words: str) -> str:
        """Run another command of the command line in the folder; return what it prints."""
        found = subprocess.run(
            [sys.executable, "-m", "ironflow_nb", *words], cwd=self.folder, capture_output=True, text=True, check=False,
            env=self.environment, timeout=LIMIT_S,
        )  # fmt: skip
        assert found.returncode == 0, found.stderr
        return found.stdout

    def key(self, name: str, role: str, **options: Any) -> dict[str, str]:
        """Make a key, as another process does; return the headers with it."""
        with iron.open(self.folder / ".ironflow" / "journal.db") as engine:
            return {"Authorization": f"Bearer {make_key(engine, name, role, **options)}"}

    def said(self) -> str:
        return self._log(len(self.processes) - 1).read_text()

    def bodies(self) -> list[str]:
        path = self.folder / "bodies.txt"
        return path.read_text().splitlines() if path.exists() else []

    def open(self) -> None:
        (self.folder / "open").touch()

    def start(self, flow: str, *, status: int | None = None, **more: Any) -> Any:
        """Ask for a run; return the answer. Without a status it is 202, or 200 if the run has ended already."""
        found = self.client.post("/runs", json={"flow": flow, **more})
        assert found.status_code in ({200, 202} if status is None else {status}), found.text
        return found.json()

    def run(self, run_id: str) -> Any:
        found = self.client.get(f"/runs/{run_id}")
        assert found.status_code == 200, found.text
        return found.json()

    def until_status(self, run_id: str, status: str) -> Any:
        until(lambda: self.run(run_id)["status"] == status)
        return self.run(run_id)

    def end(self, number: int = signal.SIGTERM) -> int:
        """End the newest server by a signal; return its exit code."""
        self.processes[-1].send_signal(number)
        return self.processes[-1].wait(LIMIT_S)

    def close(self) -> None:
        self.client.close()
        for process in self.processes:
            process.kill()
            process.wait(LIMIT_S)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """Return a service that has not begun."""
    service = Service(tmp_path)
    yield service
    service.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Return a service for all tests of a module, which do not end it."""
    service = Service(tmp_path_factory.mktemp("served"))
    service.begin()
    yield service
    service.close()
