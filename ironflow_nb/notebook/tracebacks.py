"""Tracebacks in a notebook without the frames of the package, in every mode of the shell."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from traceback import walk_tb
from types import TracebackType
from typing import Any, Final

from ironflow_nb.code_identity.source import is_user_file
from ironflow_nb.core.status import RunStatus
from ironflow_nb.errors import RunInterrupted
from ironflow_nb.values.failures import set_attribute

_PACKAGE: Final = f"{Path(__file__).parent.parent}{os.sep}"
_METHOD: Final = "showtraceback"


def attach(shell: Any) -> None:
    """Make the shell show tracebacks with the frames of the user only."""
    original = getattr(shell, _METHOD)

    def showtraceback(exc_tuple: Any = None, *args: Any, **options: Any) -> Any:
        error = sys.exc_info()[1] if exc_tuple is None else exc_tuple[1]
        if isinstance(error, RunInterrupted) and error.status == RunStatus.WAITING:
            # The person has left the run waiting, so nothing is wrong: the message says how it goes on.
            return shell._showtraceback(type(error), error, [str(error)])  # noqa: SLF001 -- it has no other name
        if isinstance(error, SyntaxError) and _is_raised_inside(error.__traceback__):
            options["running_compiled_code"] = False  # it is shown as that of any cell is, without frames
        with own_frames_only(error):
            # Since Python 3.11 the traceback of sys.exc_info() is that of the exception.
            given = None if exc_tuple is None else (*exc_tuple[:2], getattr(error, "__traceback__", None))
            return original(given, *args, **options)

    setattr(shell, _METHOD, showtraceback)


def detach(shell: Any) -> None:
    """Make the shell show all frames again."""
    vars(shell).pop(_METHOD, None)


@contextmanager
def own_frames_only(error: BaseException | None) -> Iterator[None]:
    """Remove the frames of the package from the error and its chain within the context."""
    before = [(each, each.__traceback__) for each in _chain(error)]
    for each, frames in before:
        each.with_traceback(without_package(frames))
    try:
        yield
    finally:
        for each, frames in before:
            each.with_traceback(frames)


def without_package(frames: TracebackType | None) -> TracebackType | None:
    """Return the frames without those of the package and of libraries that the package called."""
    kept: list[TracebackType] = []
    is_inside = False
    while frames is not None:
        file = frames.tb_frame.f_code.co_filename
        is_inside = file.startswith(_PACKAGE) or (is_inside and not is_user_file(file))
        if not is_inside:
            kept.append(frames)
        frames = frames.tb_next
    found: TracebackType | None = None
    for each in reversed(kept):
        found = TracebackType(found, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return found


def _is_raised_inside(frames: TracebackType | None) -> bool:
    """Return True if the package raised the error, or a library that it called: the user's code was not running."""
    files = [frame.f_code.co_filename for frame, _ in walk_tb(frames)]
    inside = [place for place, file in enumerate(files) if file.startswith(_PACKAGE)]
    return bool(inside) and not any(map(is_user_file, files[inside[-1] + 1 :]))


def _chain(error: BaseException | None) -> list[BaseException]:
    """Return the error, its causes and contexts, and the parts of groups among them, each once."""
    found: list[BaseException] = []
    waiting = [error]
    while waiting:
        each = waiting.pop()
        if each is not None and all(each is not other for other in found):
            found.append(each)
            waiting += [each.__cause__, each.__context__]
            waiting += each.exceptions if isinstance(each, BaseExceptionGroup) else ()
    return found


def show_own_frames(shell: Any, error: BaseException, file: str) -> None:
    """Make IPython show the traceback of the error from the cell on, without the frames that called the cell."""
    if own_frames(error, file) is not None:
        with suppress(AttributeError):  # a class with __slots__
            # IPython calls this method of an error, if it has one.
            set_attribute(error, "_render_traceback_", partial(render_traceback, shell, error, file))


def render_traceback(shell: Any, error: BaseException, file: str) -> list[str]:
    """Return the traceback of the error from the cell on, as IPython shows it."""
    with own_frames_only(error):
        frames = own_frames(error, file) or error.__traceback__
        lines: list[str] = shell.InteractiveTB.structured_traceback(type(error), error, frames, tb_offset=0)
    return lines


def own_frames(error: BaseException, file: str) -> TracebackType | None:
    """Return the frames of the error from the body of the cell on.

    A cell that ends with an empty line has the text, and so the file, of the call of the magic, which is outside of it.
    """
    found = None
    frames = error.__traceback__
    while frames is not None:
        code = frames.tb_frame.f_code
        if code.co_filename == file and (found is None or code.co_name == "<module>"):
            found = frames
        frames = frames.tb_next
    return found
