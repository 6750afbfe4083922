"""Code that runs as a notebook cell does, and a world that steps may act on without being identified by it."""

from __future__ import annotations

import itertools
import linecache
from collections.abc import Callable, MutableMapping
from typing import Any, NoReturn

_NUMBERS = itertools.count()


class World:
    """What bodies leave behind and look at; the same argument to every step, whatever happens in it."""

    def __init__(self, die: Callable[[], NoReturn]) -> None:
        self.die = die
        self.log: list[Any] = []
        self.plan: list[Any] = []
        self.is_broken = True

    def did(self, *what: Any) -> None:
        self.log.append(what[0] if len(what) == 1 else what)

    def __ironflow_digest__(self) -> bytes:
        return b"the world"

    def __reduce__(self) -> str:
        raise TypeError("a world can't be stored")


def run_cell(source: str, namespace: MutableMapping[str, Any]) -> None:
    """Execute source under a file name of its own, where ``inspect`` finds it, as IPython does."""
    name = f"<cell {next(_NUMBERS)}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    exec(compile(source, name, "exec", dont_inherit=True), namespace)  # type: ignore[arg-type]
