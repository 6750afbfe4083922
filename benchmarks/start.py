"""How long a new process needs: to import the package, and to have its first step durable."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from benchmarks.samples import Figures

IMPORT: Final = "import ironflow_nb; ironflow_nb.flow, ironflow_nb.step"
FIRST_STEP: Final = """
import linecache
source = '''
@step
def work(n):
    return n

@flow
def main():
    print(work(1), flush=True)
'''
linecache.cache["cell"] = (len(source), None, source.splitlines(True), "cell")
from ironflow_nb import flow, step
exec(compile(source, "cell", "exec"))
main.options(fresh=True)()
"""


def a_process(folder: Path, program: str) -> float:
    """Return the seconds from the start of a Python process until its program writes its first byte, or ends."""
    # As for whoever installed the package: pip compiles what it installs.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", program]
    begun = time.perf_counter()
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        spent = time.perf_counter() - begun
        process.stdout.read()  # a closed pipe would fail its program
    assert process.returncode == 0
    return spent


def importing(folder: Path) -> Figures:
    """Measure the import of the package beyond the start of Python."""
    python = a_process(folder, "pass")
    return {"import": a_process(folder, IMPORT) - python}


def first_step(folder: Path) -> Figures:
    """Measure the first durable step of a process, on a journal that is made for it and on one that is there."""
    return {
        "python before a step": a_process(folder, "pass"),
        "first step, new journal": a_process(folder, FIRST_STEP),
        "first step, existing journal": a_process(folder, FIRST_STEP),
    }
