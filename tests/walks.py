"""The way of one call through the package: which files and functions it enters. The counts are the same everywhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType

import ironflow_nb

_PREFIX = f"{Path(ironflow_nb.__file__).parent}{os.sep}"


class Walk:
    """The calls of functions of the package in the calling thread, in their order."""

    def __init__(self) -> None:
        self._codes: list[CodeType] = []

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        """Note a call, as `sys.setprofile` reports it."""
        if event == "call" and frame.f_code.co_filename.startswith(_PREFIX):
            self._codes.append(frame.f_code)

    @property
    def entered(self) -> list[tuple[str, str]]:
        """Return the file and the qualified name of each."""
        return [(Path(code.co_filename.removeprefix(_PREFIX)).as_posix(), code.co_qualname) for code in self._codes]

    @property
    def n_calls(self) -> int:
        """How many functions were called."""
        return len(self._codes)

    @property
    def files(self) -> set[str]:
        """Return the files that were entered, relative to the package."""
        return {file for file, _ in self.entered}

    @property
    def n_file_changes(self) -> int:
        """How often the next call was in another file."""
        return sum(one[0] != other[0] for one, other in pairwise(self.entered))


@contextmanager
def walked() -> Iterator[Walk]:
    """Collect the calls that are made inside."""
    walk = Walk()
    sys.setprofile(walk)
    try:
        yield walk
    finally:
        sys.setprofile(None)


def walk_of(call: Callable[[], object], *, warm_up: Callable[[], object]) -> Walk:
    """Return the way of a call that is made after three others, so that nothing of it is done for the first time."""
    for _ in range(3):
        warm_up()
    with walked() as walk:
        call()
    return walk
