"""The front end of the process: a notebook, an IPython shell, a plain script or a test run.

Nothing is imported to find out. The notebook extension is an attribute of the shell. Without the extension, the
execution count of the shell identifies a cell execution.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from ironflow_nb.core.plain_text import plain

if TYPE_CHECKING:
    from logging import Logger, LogRecord

EXTENSION_ATTRIBUTE: Final = "_ironflow_extension"
"""The attribute of the IPython shell that has the notebook extension."""


class Frontend(Protocol):
    """What the notebook extension does for the engine."""

    def cell(self) -> int | None:
        """Return the number of the cell that is being executed by the calling thread, or None."""

    def say(self, line: str, *, is_awaited: bool = False) -> None:
        """Show one line above the output of the cell, also from another thread if a cell awaits its work."""

    def began(self, engine: Any, run_id: str) -> None:
        """Show the picture of a run that was called directly."""


def shell() -> Any | None:
    """Return the IPython shell of this process, if it runs in one."""
    ipython = sys.modules.get("IPython")
    get_ipython = getattr(ipython, "get_ipython", None)
    return None if get_ipython is None else get_ipython()


def frontend() -> Frontend | None:
    """Return the notebook extension, if it is loaded."""
    found: Frontend | None = getattr(shell(), EXTENSION_ATTRIBUTE, None)
    return found


def is_interactive() -> bool:
    """Return True if a person can answer: in a terminal, or in a front end that lets cells ask for input."""
    here = shell()
    if here is None:
        return False
    kernel = getattr(here, "kernel", None)
    # Batch execution (nbclient, nbconvert) sends its cells without it.
    return kernel is None or bool(getattr(kernel, "_allow_stdin", False))


def can_read_line() -> bool:
    """Return True if a person can be asked for a line: in a terminal, or in a front end that lets cells ask."""
    here = shell()
    kernel = getattr(here, "kernel", None)
    if kernel is not None:
        return bool(getattr(kernel, "_allow_stdin", False))
    return not is_under_pytest() and sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()


def run_again() -> str | None:
    """Return what the user does to make an equal call continue the run; None if that takes another process."""
    if shell() is not None:
        return "run the cell"
    return None if sys.flags.interactive or hasattr(sys, "ps1") else "start the script"


_IN_AWAITING_CELL: ContextVar[bool] = ContextVar("ironflow_in_awaiting_cell", default=False)
"""True in a task of the engine's loop that a cell awaits: lines of the task are printed into the cell."""


@contextmanager
def heard_by_cell() -> Iterator[None]:
    """Print the lines of tasks that begin inside into the cell that the calling thread executes, if it does."""
    notebook = frontend()
    token = _IN_AWAITING_CELL.set(notebook is not None and notebook.cell() is not None)
    try:
        yield
    finally:
        _IN_AWAITING_CELL.reset(token)


def say(line: str) -> None:
    """Show the line in the notebook, or log it in a script."""
    notebook = frontend()
    if notebook is not None:
        notebook.say(plain(line), is_awaited=_IN_AWAITING_CELL.get())
    else:
        logger().info(line)


def logger() -> Logger:
    """Return the logger of the package, whose lines hold no character that a terminal obeys."""
    import logging

    found = logging.getLogger("ironflow_nb")
    found.addFilter(_with_plain_text)  # which adds nothing twice
    return found


def _with_plain_text(record: LogRecord) -> bool:
    record.msg, record.args = plain(record.getMessage()), None
    return True


def notebook_path() -> str | None:
    """Return the path of the notebook of this kernel, or None if the front end does not give it."""
    found = getattr(shell(), "user_ns", {}).get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME")
    return found if isinstance(found, str) and found.endswith(".ipynb") else None


def notebook_exists(path: str | None) -> bool:
    """Return True if a notebook is still there."""
    return path is not None and Path(path).exists()


def is_under_pytest() -> bool:
    """Return True if a test is being run: there nothing continues by itself."""
    return "PYTEST_CURRENT_TEST" in os.environ


class CellExecution:
    """Returns the name of the cell execution of the calling thread; in a script the whole process is one.

    A widget callback, and any thread but the main one, is an execution of its own each time.
    """

    def __init__(self, process: str, unique: Callable[[], str], is_main_thread: Callable[[], bool]) -> None:
        self._process = process
        self._unique = unique
        self._is_main_thread = is_main_thread

    def __call__(self) -> str:
        """Return the name of the execution."""
        here = shell()
        if here is None:
            return self._process
        notebook = frontend()
        if notebook is not None:
            cell = notebook.cell()
        else:
            cell = here.execution_count if self._is_main_thread() else None
        return f"{self._process}:{cell}" if cell is not None else f"{self._process}:{self._unique()}"
