"""One workload in a process and a folder of its own: ``python -m benchmarks.isolated MODULE FUNCTION``."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks.samples import Figures

Workload = Callable[[Path], Figures]

_ROOT: Final = Path(__file__).parent.parent


class WorkloadFailed(RuntimeError):
    """A workload ended with an error, whose traceback is the message."""


def isolated(workload: Workload, place: Path | None = None) -> Figures:
    """Return what the workload measures in a new process, in a new folder below `place`.

    Raises:
        WorkloadFailed: it did not come to its end.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-m", "benchmarks.isolated", workload.__module__, workload.__name__]
    with tempfile.TemporaryDirectory(prefix="ironflow-bench-", dir=place, ignore_cleanup_errors=True) as folder:
        ended = subprocess.run(
            [*command, folder], cwd=_ROOT, env=environment, capture_output=True, text=True, check=False
        )
    if ended.returncode:
        raise WorkloadFailed(f"{workload.__name__} failed:\n{ended.stderr}")
    found: Figures = json.loads(ended.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure the workload that the command line names."""
    module, name, folder = sys.argv[1:]
    os.chdir(folder)
    workload: Workload = getattr(importlib.import_module(module), name)
    print(json.dumps(workload(Path(folder))))


if __name__ == "__main__":
    main()
