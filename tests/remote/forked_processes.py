"""Processes that are forked from one which has imported everything: each begins in milliseconds, and can be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.waits.conftest import until

FORKING: Final = """
import os, signal, sys
from ironflow_nb.cli.command_line import command_line
import httpx, ironflow_nb.remote.remote_run, starlette.applications, starlette.routing, uvicorn

signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        exec(line)
        break
    print(child, flush=True)
"""


class ForkedProcess:
    """A child of a `ForkingProcess`."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    @property
    def is_alive(self) -> bool:
        try:
            os.kill(self._pid, 0)
        except ProcessLookupError:
            return False
        return True

    def kill(self) -> None:
        """Kill it, and return when it is dead."""
        if self.is_alive:
            os.kill(self._pid, signal.SIGKILL)
        until(lambda: not self.is_alive)


class ForkingProcess:
    """Executes lines of Python, each in a process of its own."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        with (folder / "forked.log").open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", FORKING], cwd=folder, env=environment, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        self._children: list[ForkedProcess] = []

    def begin(self, line: str) -> ForkedProcess:
        """Execute the line in a new process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        self._children.append(ForkedProcess(int(self._process.stdout.readline())))
        return self._children[-1]

    def close(self) -> None:
        """End it and its children."""
        for each in self._children:
            each.kill()
        self._process.communicate()
