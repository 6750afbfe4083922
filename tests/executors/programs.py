"""Scripts that run steps in worker processes: their functions are of ``__main__``, as those of cells are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.waits.conftest import until

BEGIN = """
import asyncio, multiprocessing, os, sys, time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
import ironflow_nb as iron
from ironflow_nb import flow, step

HERE = Path(__file__).parent

def pool(kind="spawn", n=2):
    return ProcessPoolExecutor(n, mp_context=multiprocessing.get_context(kind))

def note(word):
    with (HERE / "bodies").open("a") as log:
        log.write(f"{word}\\n")

def wait_for(name):
    while not (HERE / name).exists():
        time.sleep(0.01)
"""


class Program:
    """A script in a folder of its own."""

    def __init__(self, folder: Path, source: str) -> None:
        self.folder = folder
        self.script = folder / "program.py"
        self.script.write_text(f'{BEGIN}\n{source}\n\nif __name__ == "__main__":\n    main_program()\n')

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.Popen(
            [sys.executable, str(self.script), *arguments], cwd=self.folder, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *arguments: str) -> str:
        """Run it to its end and return what it printed; fail if it fails, or says something else."""
        process = self.start(*arguments)
        out, said = process.communicate(timeout=120)
        assert (process.returncode, said) == (0, ""), said
        return out

    def bodies(self) -> list[str]:
        log = self.folder / "bodies"
        return log.read_text().split() if log.exists() else []

    def await_bodies(self, *words: str) -> None:
        until(lambda: set(words) <= set(self.bodies()))

    def go(self, name: str) -> None:
        (self.folder / name).touch()


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()
