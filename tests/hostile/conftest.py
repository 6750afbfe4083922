"""Places that run full, and labs on journals that lie there."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from tests.conftest import Lab


class Disk:
    """A small file system of its own; `fill` leaves no byte of it, `free` makes space again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        with self._ballast.open("ab", buffering=0) as file:
            for size in (64 * 1024, 4096, 1):
                try:
                    while file.write(b"x" * size) == size:
                        pass
                except OSError:
                    continue

    def free(self) -> None:
        self._ballast.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Return a disk of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False)
    except OSError as error:
        pytest.skip(f"nothing can be mounted here: {error}")
    if mounted.returncode:
        pytest.skip(f"nothing may be mounted here: {mounted.stderr.decode().strip()}")
    yield Disk(folder)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def new_lab() -> Iterator[Callable[[Path], Lab]]:
    """Return what makes a lab on the journal at a path."""
    made: list[Lab] = []
    before = REGISTRY._engine

    def make(path: Path) -> Lab:
        lab = Lab(lambda: SqliteJournal(path))
        made.append(lab)
        lab.begin()
        lab.cell()
        return lab

    yield make
    for lab in made:
        lab.close()
    engines = [engine for lab in made for engine in lab.engines]
    REGISTRY._engine = None if before in engines else before
