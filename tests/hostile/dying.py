"""Make journals in processes that die at each statement of it: ``python -m tests.hostile.dying FOLDER``.

The n-th journal lies in FOLDER/n; the last process lived to the end.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from itertools import count
from pathlib import Path
from typing import Any

from ironflow_nb.journal.ports import Durability
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from tests.contracts.histories import A, one_run


class Deadly(sqlite3.Connection):
    """A connection whose process is killed at one of its statements."""

    n_left = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.set_trace_callback(self._trace)

    def _trace(self, _statement: str) -> None:
        Deadly.n_left -= 1
        if Deadly.n_left < 0:
            os.kill(os.getpid(), signal.SIGKILL)


def make(path: Path, n_statements: int) -> None:
    connect = sqlite3.connect
    Deadly.n_left = n_statements
    sqlite3.connect = lambda *args, **kwargs: connect(*args, factory=Deadly, **kwargs)  # type: ignore[assignment]
    journal = SqliteJournal(path)
    journal.append([one_run(A)], durability=Durability.POWER)
    os._exit(0)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for n in count():
        child = os.fork()
        if child == 0:
            make(folder / f"{n}" / "journal.db", n)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            break
