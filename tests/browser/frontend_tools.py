"""The tools that check the modules of the front end: installed once from the lock of `tests/frontend`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import IN_CI

FOLDER = Path(__file__).parent.parent / "frontend"
TIMEOUT_S = 300


def installed(tool: str) -> Path:
    """Return the folder of an installed tool; where it can't be installed, fail in CI and skip elsewhere."""
    place = FOLDER / "node_modules" / tool
    if not place.exists():
        npm = shutil.which("npm")
        if npm is None:
            _missing("there is no npm on this machine; install Node.js to check the front end")
        command = [str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        if done.returncode != 0:
            _missing(f"npm ci failed in {FOLDER}: {done.stderr.strip()[-300:]}")
    return place


def _missing(why: str) -> None:
    if IN_CI:
        pytest.fail(why)
    pytest.skip(why)
