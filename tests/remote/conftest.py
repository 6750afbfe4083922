"""A server that executes nothing, and workers that reach it over HTTP only, each a process in a folder of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.conftest import JOB, Service
from tests.waits.conftest import LIMIT_S, until

MORE = """
@step
def slow(n):
    note(f"slow {n}")
    time.sleep(0.02)
    return {"n": n, "text": "x" * 2000}

@flow
def chain(n: int):
    return sum(slow(each)["n"] for each in range(n))

@flow
def two(n: int):
    return [work(n), work(n + 1)]

@step
async def work_async(n):
    note(f"work {n}")
    return n * n

@flow
async def two_async(n: int):
    return [await work_async(n), await work_async(n + 1)]

@flow
def mapped(n: int):
    return [each["n"] for each in slow.map(range(n), concurrency=4)]

@flow
async def mapped_async(n: int):
    return [each["n"] for each in await slow.map(range(n), concurrency=4)]

@flow
def with_child(n: int):
    return chain(n) + gate(n)

@flow
def emits(n: int):
    iron.emit("order.placed", {"n": n})
    return n

@flow
def large(n: int):
    return len(big(n))

@step
def big(n):
    return "y" * n

@flow
def tells(run_id: str):
    iron.get_run(run_id)

@flow
def sleeps(s: float):
    work(1)
    iron.sleep(s)
    return work(2)

@flow
def reports(n: int):
    print("hello from afar")
    for each in iron.progress(range(n)):
        iron.metric("loss", each)
    return reported(n)

@step
def reported(n):
    print("in the step")
    return n

@flow
def fails(n: int):
    work(n)
    raise LookupError("no such page")
"""


class RemoteService(Service):
    """A service with workers over HTTP."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / "job.py").write_text(JOB + MORE)
        self.environment["IRONFLOW_KEY"] = "the key of server and workers"
        self.workers: list[subprocess.Popen[str]] = []

    def begin_work(self, target: str = "job.py", *words: str, **environment: str) -> int:
        """Begin a worker; return its number."""
        number = len(self.workers)
        command = [sys.executable, "-m", "ironflow_nb", "-v", "work", target, "--url", str(self.client.base_url)]
        with (self.folder / f"worker {number}.log").open("w") as log:
            self.workers.append(
                subprocess.Popen(
                    [*command, *words], cwd=self.folder, env=self.environment | environment, stderr=log, text=True
                )
            )
        until(lambda: self.workers[number].poll() is not None or "defined here" in self.worker_said(number))
        return number

    def worker_said(self, number: int) -> str:
        return (self.folder / f"worker {number}.log").read_text()

    def end_work(self, number: int, how: int = signal.SIGKILL) -> int:
        """End a worker by a signal; return its exit code."""
        self.workers[number].send_signal(how)
        return self.workers[number].wait(LIMIT_S)

    def close(self) -> None:
        for process in self.workers:
            process.kill()
            process.wait(LIMIT_S)
        super().close()


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[RemoteService]:
    """Return a service that has begun, without workers."""
    service = RemoteService(tmp_path)
    service.begin("--no-work", files=("job.py",))
    yield service
    service.close()


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RemoteService]:
    """Return a service with one worker, for all tests of a module, which end neither."""
    service = RemoteService(tmp_path_factory.mktemp("worked"))
    service.begin("--no-work", files=("job.py",))
    service.begin_work()
    yield service
    service.close()


pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
