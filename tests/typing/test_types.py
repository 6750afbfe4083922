"""What type checkers see is checked by one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def test_the_public_types_are_what_they_should_be() -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", str(HERE / "public_types.py")]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout
