"""On what was measured."""

from __future__ import annotations

import os
import platform
import sqlite3
import time
from pathlib import Path


def machine(place: Path) -> str:
    """Return the sentence that says on what was measured, and when."""
    shared = f", load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores{shared}; "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {file_system(place)}; "
        f"{time.strftime('%Y-%m-%d')}"
    )


def file_system(place: Path) -> str:
    """Return the kind of the file system that the folder lies on, if the system tells."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return "an unknown file system"
    # /dev/vda / ext4 rw,relatime 0 0
    fields = [line.split() for line in mounts.read_text().splitlines()]
    kinds = {Path(field[1]): field[2] for field in fields}
    here = place.resolve()
    return next(kinds[folder] for folder in (here, *here.parents) if folder in kinds)
